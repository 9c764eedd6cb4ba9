# SPDX-License-Identifier: Apache-2.0
"""The clients: a bounded open-loop load through the gateway, and a slow one that goes past it.

Open loop, because a closed loop slows down exactly when the system does and so hides what users
would have felt. Bounded, because a gateway that hangs must not make this process grow: beyond the
limit of requests under way, due ones are counted as skipped. It runs as a process of its own, so
that drawing and measuring cannot delay it, and writes one line of counts each tenth of a second.
"""

import argparse
import asyncio
import os
import ssl
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from controller.demo.answer import REQUEST_SECONDS, Answer, count, parse
from controller.demo.counts import Slot, encode
from controller.demo.direct import Direct

SLOT_SECONDS = 0.1
TICK_SECONDS = 0.005
"""Requests are sent in groups this far apart: two at 400 per second."""

MAX_UNDER_WAY = 256
"""At 400 requests/s and answers of half a second 200 are under way; more means that it hangs."""

MAX_BURST = 40
"""Requests per tick after a stall of this process; the rest of a longer stall is skipped."""

MAX_ANSWER = 65_536
"""Bytes of one answer; the application sends a hundred."""


class Client(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, owner: "Load") -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self.sent_at: float | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for requests."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport

    def send(self, request: bytes) -> None:
        """Send the next request."""
        assert self._transport is not None  # noqa: S101 - only connected clients are handed out
        self.sent_at = time.monotonic()
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self._too_late)
        self._transport.write(request)

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def data_received(self, data: bytes) -> None:
        """Collect an answer and report it."""
        if self.sent_at is None:
            self._drop()  # An answer that nobody asked for, as gateways send before they close.
            return
        self._data += data
        try:
            answer = parse(self._data)
        except (ValueError, IndexError):
            self._fail("nonsense")
            return
        if answer is None:
            if len(self._data) > MAX_ANSWER:
                self._fail("too long")
            return
        waited = time.monotonic() - self.sent_at
        self._settle()
        if not answer.keep:
            self._drop()
        self._owner.answered(self, answer, waited)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends under a request is a failure; an idle one may go."""
        self._transport = None
        if self.sent_at is not None:
            self._settle()
            self._owner.failed("reset" if exc else "closed", under_way=True)

    def _too_late(self) -> None:
        self._fail("timeout")

    def _fail(self, what: str) -> None:
        self._settle()
        self._drop()
        self._owner.failed(what, under_way=True)

    def _settle(self) -> None:
        self.sent_at = None
        self._data = b""
        if self._deadline is not None:
            self._deadline.cancel()

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@dataclass(slots=True, kw_only=True)
class Load:
    """The load through the gateway and its counts."""

    host: str
    port: int
    rate: float
    slow_seconds: float
    name: str = ""
    """What clients call it; its address if empty."""
    under_way: int = 0
    slot: Slot = field(default_factory=lambda: Slot(end=0.0))
    _idle: deque[Client] = field(default_factory=deque)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def request(self) -> bytes:
        """The bytes of every request."""
        name = self.name or f"{self.host}:{self.port}"
        return f"GET / HTTP/1.1\r\nHost: {name}\r\nUser-Agent: demo\r\n\r\n".encode()

    async def run(self) -> None:
        """Send until cancelled."""
        start, due_before = time.monotonic(), 0
        request = self.request
        while True:
            await asyncio.sleep(TICK_SECONDS)
            due = int((time.monotonic() - start) * self.rate)
            for number in range(due - due_before):
                if number >= MAX_BURST or self.under_way >= MAX_UNDER_WAY:
                    self.slot.skipped += 1
                else:
                    self._send(request)
            due_before = due

    def _send(self, request: bytes) -> None:
        self.slot.sent += 1
        self.under_way += 1
        while self._idle:
            # Last in, first out: surplus connections of a burst stay idle and are closed in time.
            client = self._idle.pop()
            if client.usable:
                client.send(request)
                return
        task = asyncio.ensure_future(self._connect(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                _, client = await loop.create_connection(lambda: Client(self), self.host, self.port)
        except OSError:  # TimeoutError is one.
            self.failed("connect", under_way=True)
            return
        client.send(request)

    def answered(self, client: Client, answer: Answer, waited: float) -> None:
        """Count an answer and take the connection back."""
        if client.usable:
            self._idle.append(client)
        if not answer.version:
            self.failed(f"gateway {answer.status}", under_way=True)
            return
        self.under_way -= 1
        self.slot.last[answer.version] = time.time()
        count(self.slot.tracks, answer, slow=waited > self.slow_seconds)

    def failed(self, what: str, *, under_way: bool) -> None:
        """Count a failure."""
        self.under_way -= under_way
        self.slot.failures[what] = self.slot.failures.get(what, 0) + 1

    def cut(self) -> Slot:
        """End the slot and begin the next one."""
        done, self.slot = self.slot, Slot(end=0.0)
        done.end = time.time()
        return done


async def main(arguments: argparse.Namespace) -> None:
    """Run the clients and write slots until standard input ends."""
    host, _, port = arguments.gateway.rpartition(":")
    load = Load(
        host=host,
        port=int(port),
        rate=arguments.rate,
        slow_seconds=arguments.slow_ms / 1000,
        name=arguments.name,
    )
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), lambda: os.read(0, 64) or os._exit(0))
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        if arguments.api and arguments.direct_rate > 0:
            group.create_task(_direct(arguments, load).run())
        while True:
            await asyncio.sleep(SLOT_SECONDS)
            sys.stdout.buffer.write(encode(load.cut()))
            sys.stdout.buffer.flush()


def _direct(arguments: argparse.Namespace, load: Load) -> Direct:
    """The client that goes past the gateway; its counts go into the same slots."""
    return Direct(
        api=arguments.api,
        namespace=arguments.namespace,
        service=arguments.service,
        rate=arguments.direct_rate,
        slow_seconds=load.slow_seconds,
        slot=lambda: load.slot,
        tls=_tls(arguments.api_credentials) if arguments.api_credentials else None,
    )


def _tls(files: list[str]) -> ssl.SSLContext:
    """From the files of an authority, a certificate and its key."""
    authority, certificate, key = files
    context = ssl.create_default_context(cafile=authority)
    context.load_cert_chain(certificate, key)
    return context


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Bounded load, counted as clients see it.")
    parser.add_argument("--gateway", required=True, help="host:port of the gateway")
    parser.add_argument("--name", default="", help="what clients call it, in the Host header")
    parser.add_argument("--rate", type=float, default=400.0, help="requests per second")
    parser.add_argument("--slow-ms", type=float, default=300.0, help="answers above it are slow")
    parser.add_argument(
        "--api", default="", help="base URL of the API server; without it nobody passes the gateway"
    )
    parser.add_argument(
        "--api-credentials", nargs=3, metavar="FILE", help="authority, certificate and key"
    )
    parser.add_argument("--namespace", default="default", help="of the Service")
    parser.add_argument("--service", default="", help="whose endpoints are called directly")
    parser.add_argument("--direct-rate", type=float, default=20.0, help="direct calls per second")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(_arguments()))
