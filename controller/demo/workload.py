# SPDX-License-Identifier: Apache-2.0
"""The application inside a pod: a small HTTP server whose faults are set by its environment.

One process per pod. It is run as a script, so that it imports nothing but the standard library and
starts in a tenth of a second. It deliberately does not drain: SIGTERM keeps its default action and
ends the process with whatever is open, since that is what many real applications do.

Environment: `POD_IP`, `PORT` (8080), `POD_NAME`, `VERSION`; `ERROR_RATE` (0..1, answered with 500),
`LATENCY_MS` (2, mean of an exponential distribution), `SLOW_RATE` (0..1) of answers that take
`SLOW_MS` (500) instead, `READY_SECONDS` (0) before it listens, `CRASH=1` to exit with code 1 at
start. It writes one line, `ready`, when it listens, and ends when its standard input does.
"""

import asyncio
import os
import random
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

MAX_HEAD = 16_384
"""Bytes of a request's head; longer ones come from nobody that this server is meant for."""

MAX_WAITING = 100
"""Pipelined requests of one connection that may wait; more ends the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What this version does to its callers."""

    version: str
    pod: str
    error_rate: float = 0.0
    latency: float = 0.002
    slow_rate: float = 0.0
    slow: float = 0.5

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Behaviour":
        """Read the environment; raises ValueError for a number that is none."""
        return cls(
            version=env.get("VERSION", "unknown"),
            pod=env.get("POD_NAME", "pod"),
            error_rate=float(env.get("ERROR_RATE", "0")),
            latency=float(env.get("LATENCY_MS", "2")) / 1000,
            slow_rate=float(env.get("SLOW_RATE", "0")),
            slow=float(env.get("SLOW_MS", "500")) / 1000,
        )

    def delay(self) -> float:
        """Seconds that the next answer takes."""
        if self.slow_rate and random.random() < self.slow_rate:  # noqa: S311 - faults, no secrets
            return self.slow
        # Capped at ten times the mean: a healthy version should have no accidental outliers.
        return min(random.expovariate(1.0), 10.0) * self.latency

    def answer(self) -> bytes:
        """The whole response of one request."""
        failing = random.random() < self.error_rate  # noqa: S311 - faults, no secrets
        status = b"500 Internal Server Error" if failing else b"200 OK"
        body = f"{self.version} {self.pod}\n".encode()
        return b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%b\r\n%b" % (
            status,
            len(body),
            f"X-Version: {self.version}\r\nX-Pod: {self.pod}\r\n".encode(),
            body,
        )


class Connection(asyncio.Protocol):
    """One client: requests are answered one after another, in the order in which they came."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting: deque[bool] = deque()
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take whole requests out of the stream; each waits for those before it."""
        self._buffer += data
        while (head := self._take()) is not None:
            self._waiting.append(b"\r\nconnection: close" in head)
        if len(self._buffer) > MAX_HEAD or len(self._waiting) > MAX_WAITING:
            self._close()
        elif not self._busy:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Answers under way are dropped."""
        del exc
        self._transport = None

    def _take(self) -> bytes | None:
        """The lower-case head of the next whole request, whose body is skipped."""
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return None
        head = head.lower()
        _, named, length = head.partition(b"\r\ncontent-length:")
        size = int(length.partition(b"\r\n")[0]) if named else 0
        if len(rest) < size:
            return None
        self._buffer = rest[size:]
        return head

    def _next(self) -> None:
        if self._waiting:
            self._busy = True
            loop = asyncio.get_running_loop()
            loop.call_later(self._behaviour.delay(), self._reply, self._waiting.popleft())

    def _reply(self, last: bool) -> None:  # noqa: FBT001 - called by a timer, which has no names
        self._busy = False
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(self._behaviour.answer())
        if last:
            self._close()
        else:
            self._next()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def serve(env: Mapping[str, str]) -> None:
    """Listen at the pod's address until the process ends; raises OSError if it is taken."""
    loop = asyncio.get_running_loop()
    behaviour = Behaviour.of(env)
    # The parent holds the other end: when it dies, however it dies, no server is left behind.
    loop.add_reader(sys.stdin.fileno(), lambda: os.read(0, 64) or os._exit(0))
    await asyncio.sleep(float(env.get("READY_SECONDS", "0")))
    server = await loop.create_server(
        lambda: Connection(behaviour), env["POD_IP"], int(env.get("PORT", "8080")), backlog=512
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    if os.environ.get("CRASH") == "1":
        sys.exit("starting, then failing as the environment asks")
    asyncio.run(serve(os.environ))
