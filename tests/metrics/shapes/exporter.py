# SPDX-License-Identifier: Apache-2.0
"""Pods that count, over HTTP as a Prometheus scrapes them, each of them spoilt as a test wants."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

RATE: Final = 100.0
"""Requests per second of each pod."""

GOOD: Final = 0.002
"""Share of failed answers where nothing is wrong with the version."""

BOUNDS: Final = ((0.1, 0.9), (0.5, 0.996), (2.5, 1.0))
"""Of the histogram, each with the share of answers within."""

POST: Final = "http_requests_total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of an exposition."""

    name: str
    labels: dict[str, str]
    value: float
    stamp: float | None = None

    def __str__(self) -> str:
        labels = ",".join(f'{key}="{value}"' for key, value in self.labels.items())
        stamp = "" if self.stamp is None else f" {round(self.stamp * 1000)}"
        return f"{self.name}{{{labels}}} {self.value!r}{stamp}"


@dataclass(slots=True, kw_only=True)
class Pod:
    """One pod, and what it has served."""

    born: float
    bad: float = GOOD
    lost: float = 0.0
    """Requests that a restart forgot."""

    def served(self, at: float) -> float:
        """Requests that it counts at a time."""
        return (at - self.born) * RATE - self.lost

    def lines(self, at: float) -> list[Line]:
        """What it would say if nothing were wrong."""
        requests = int(self.served(at))
        failed = int(requests * self.bad)
        found = [
            Line(name=POST, labels={"code": "200"}, value=float(requests - failed)),
            Line(name=POST, labels={"code": "500"}, value=float(failed)),
        ]
        for bound, share in (*BOUNDS, ("+Inf", 1.0)):
            found.append(
                Line(
                    name="http_request_duration_seconds_bucket",
                    labels={"le": f"{bound}"},
                    value=float(int(requests * share)),
                )
            )
        return found


@dataclass(frozen=True, slots=True)
class Down:
    """The scrape fails."""


@dataclass(frozen=True, slots=True)
class Late:
    """The answer takes a while, and then is this."""

    seconds: float
    lines: list[Line]


Said = list[Line] | Down | Late
Spoil = Callable[[Pod, list[Line], float, int], Said]
"""From a pod, what it would say, the time and the number of the pod in its track."""


@dataclass(slots=True, kw_only=True)
class Track:
    """The pods of one version in one namespace."""

    pods: list[Pod]
    spoil: Spoil | None = None
    """What is wrong with its scrapes for a while."""
    since: float = 0.0
    until: float = 0.0

    def say(self, number: int, at: float) -> Said:
        pod = self.pods[number]
        lines = pod.lines(at)
        if self.spoil is None or not self.since <= at < self.until:
            return lines
        return self.spoil(pod, lines, at, number)


@dataclass(slots=True, kw_only=True)
class Exporter:
    """All pods of a test behind one port; `/NAMESPACE/TRACK/NUMBER` is what one of them says."""

    tracks: dict[tuple[str, str], Track] = field(default_factory=dict)
    port: int = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer scrapes as long as the block lasts."""
        open_: set[asyncio.StreamWriter] = set()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_.add(writer)
            try:
                while await self._answer(reader, writer):
                    pass
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                open_.discard(writer)
                writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for writer in tuple(open_):
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        _, space, track, number = head.split(b" ", 2)[1].decode().split("?")[0].split("/")
        found = self.tracks.get((space, track))
        said: Said = Down() if found is None else found.say(int(number), time.time())
        if isinstance(said, Late):
            await asyncio.sleep(said.seconds)
            said = said.lines
        if isinstance(said, Down):
            writer.write(b"HTTP/1.1 503 down\r\nContent-Length: 0\r\n\r\n")
        else:
            body = ("\n".join(map(str, said)) + "\n").encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
        await writer.drain()
        return True
