# SPDX-License-Identifier: Apache-2.0
"""The application inside a pod: a small HTTP server whose faults are set by its environment.

One process per pod. It is run as a script, so that it imports nothing but the standard library and
starts in a tenth of a second. Unless it is told to drain, SIGTERM ends the process at once with
whatever is open, since that is what many real applications do.

Environment: `POD_IP`, `PORT` (8080), `POD_NAME`, `VERSION`; `ERROR_RATE` (0..1, answered with 500),
`ERROR_SECONDS` (0) after its start from which on it errs, `LATENCY_MS` (2, mean of an exponential
distribution), `SLOW_RATE` (0..1) of answers that take `SLOW_MS` (500) instead, `READY_SECONDS` (0)
before it listens, `DRAIN_SECONDS` (0) for which it goes on serving after SIGTERM, `CRASH=1` to exit
with code 1 at start, `CRASH_SECONDS` to do so later, `OOM_SECONDS` after which it is killed as the
kernel kills whoever has no memory left, `UNREADY_SECONDS` after its start from which on `/healthz`
is answered with 500; `CPU_MS` (5) and `MEMORY_MB` (50) that it claims to use per request and at
all. It writes one line, `ready`, when it listens, and ends when its standard input does, if that is
a pipe. `/healthz` is well otherwise, `/metrics` tells requests, duration and use in Prometheus'
format; neither is counted.
"""

import asyncio
import bisect
import itertools
import math
import os
import random
import signal
import stat
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_HEAD = 16_384
"""Bytes of a request's head; longer ones come from nobody that this server is meant for."""

MAX_WAITING = 100
"""Pipelined requests of one connection that may wait; more ends the connection."""


BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds; Prometheus' client libraries have these."""


_CLOSE = "Connection: close\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What this version does to its callers."""

    version: str
    pod: str
    error_rate: float = 0.0
    errs_from: float = 0.0
    """Reading of the monotonic clock."""
    unready_from: float = math.inf
    """The same, of the moment from which it says of itself that it is not well."""
    latency: float = 0.002
    slow_rate: float = 0.0
    slow: float = 0.5
    cpu_seconds: float = 0.005
    memory_bytes: float = 5e7

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Behaviour":
        """Read the environment; raises ValueError for a number that is none."""
        begun = time.monotonic()
        return cls(
            version=env.get("VERSION", "unknown"),
            pod=env.get("POD_NAME", "pod"),
            error_rate=float(env.get("ERROR_RATE", "0")),
            errs_from=begun + float(env.get("ERROR_SECONDS", "0")),
            unready_from=begun + float(env.get("UNREADY_SECONDS", "inf")),
            latency=float(env.get("LATENCY_MS", "2")) / 1000,
            slow_rate=float(env.get("SLOW_RATE", "0")),
            slow=float(env.get("SLOW_MS", "500")) / 1000,
            cpu_seconds=float(env.get("CPU_MS", "5")) / 1000,
            memory_bytes=float(env.get("MEMORY_MB", "50")) * 1e6,
        )

    def delay(self) -> float:
        """Seconds that the next answer takes."""
        if self.slow_rate and random.random() < self.slow_rate:  # noqa: S311 - faults, no secrets
            return self.slow
        # Capped at ten times the mean: a healthy version should have no accidental outliers.
        return min(random.expovariate(1.0), 10.0) * self.latency

    def fails(self) -> bool:
        """Whether the next answer is an error."""
        if time.monotonic() < self.errs_from:
            return False
        return random.random() < self.error_rate  # noqa: S311 - faults, no secrets

    def health(self) -> bytes:
        """What a probe is told."""
        return self.answer("health\n", failing=time.monotonic() >= self.unready_from)

    def answer(self, body: str, *, failing: bool = False, last: bool = False) -> bytes:
        """The whole response of one request; the `last` one closes its connection."""
        status = b"500 Internal Server Error" if failing else b"200 OK"
        content = body.encode()
        return b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%b\r\n%b" % (
            status,
            len(content),
            f"X-Version: {self.version}\r\nX-Pod: {self.pod}\r\n{_CLOSE * last}".encode(),
            content,
        )


@dataclass(slots=True, kw_only=True)
class Meters:
    """What the application knows about itself while it runs."""

    draining: bool = False
    """Asked to end: connections are closed after the answer that is due."""
    codes: Counter[int] = field(default_factory=lambda: Counter({200: 0, 500: 0}))
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def count(self, code: int, seconds: float) -> None:
        """Add one answer."""
        self.codes[code] += 1
        self.buckets[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def text(self, behaviour: Behaviour) -> str:
        """All series; what it claims to use hangs on the requests that it answered."""
        used = sum(self.buckets) * behaviour.cpu_seconds
        name = "http_request_duration_seconds"
        bounds = (*map(str, BOUNDS), "+Inf")
        return "".join(
            (
                "# TYPE http_requests_total counter\n",
                *(f'http_requests_total{{code="{c}"}} {n}\n' for c, n in self.codes.items()),
                f"# TYPE {name} histogram\n",
                *(
                    f'{name}_bucket{{le="{bound}"}} {n}\n'
                    for bound, n in zip(bounds, itertools.accumulate(self.buckets), strict=True)
                ),
                f"{name}_sum {self.seconds}\n{name}_count {sum(self.buckets)}\n",
                f"# TYPE app_cpu_seconds_total counter\napp_cpu_seconds_total {used}\n",
                f"# TYPE app_memory_bytes gauge\napp_memory_bytes {behaviour.memory_bytes}\n",
            )
        )


class Connection(asyncio.Protocol):
    """One client: requests are answered one after another, in the order in which they came."""

    def __init__(self, behaviour: Behaviour, meters: Meters) -> None:
        self._behaviour = behaviour
        self._meters = meters
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting: deque[bytes] = deque()
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take whole requests out of the stream; each waits for those before it."""
        self._buffer += data
        while (head := self._take()) is not None:
            self._waiting.append(head)
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
        if not self._waiting:
            return
        head = self._waiting.popleft()
        self._busy = True
        if head.startswith(b"get /healthz "):
            self._reply(head, self._behaviour.health())
        elif head.startswith(b"get /metrics "):
            self._reply(head, self._behaviour.answer(self._meters.text(self._behaviour)))
        else:
            seconds = self._behaviour.delay()
            asyncio.get_running_loop().call_later(seconds, self._work, head, seconds)

    def _work(self, head: bytes, seconds: float) -> None:
        behaviour = self._behaviour
        failing = behaviour.fails()
        self._meters.count(500 if failing else 200, seconds)
        body = f"{behaviour.version} {behaviour.pod}\n"
        last = self._meters.draining
        self._reply(head, behaviour.answer(body, failing=failing, last=last))

    def _reply(self, head: bytes, answer: bytes) -> None:
        self._busy = False
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(answer)
        if self._meters.draining or b"\r\nconnection: close" in head:
            self._close()
        else:
            self._next()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def serve(env: Mapping[str, str]) -> None:
    """Listen at the pod's address until the process ends; raises OSError if it is taken."""
    loop = asyncio.get_running_loop()
    behaviour, meters = Behaviour.of(env), Meters()
    # The parent holds the other end: when it dies, however it dies, no server is left behind.
    # A container's is the null device, which says nothing of anybody.
    if not stat.S_ISCHR(os.fstat(0).st_mode):
        loop.add_reader(0, lambda: os.read(0, 64) or os._exit(0))
    if os.getpid() == 1:
        # The first process of a container has no default action, and would go on.
        loop.add_signal_handler(signal.SIGTERM, os._exit, 128 + signal.SIGTERM)
    await asyncio.sleep(float(env.get("READY_SECONDS", "0")))
    if "DRAIN_SECONDS" in env:
        loop.add_signal_handler(signal.SIGTERM, _drain, meters, float(env["DRAIN_SECONDS"]))
    for name, end in _ENDS.items():
        if name in env:
            loop.call_later(float(env[name]), end)
    server = await loop.create_server(
        lambda: Connection(behaviour, meters),
        env["POD_IP"],
        int(env.get("PORT", "8080")),
        backlog=512,
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


def _drain(meters: Meters, seconds: float) -> None:
    meters.draining = True
    asyncio.get_running_loop().call_later(seconds, os._exit, 0)


_ENDS = {
    "CRASH_SECONDS": lambda: os._exit(1),
    "OOM_SECONDS": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


if __name__ == "__main__":
    if os.environ.get("CRASH") == "1":
        sys.exit("starting, then failing as the environment asks")
    asyncio.run(serve(os.environ))
