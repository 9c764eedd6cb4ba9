# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus that scrapes what a test exposes, read through the product's own adapter."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.providers import choose
from controller.core.evidence.samples import Cursor, difference
from controller.core.evidence.series import TrackKey, TrackSeries
from controller.core.evidence.tally import Tally
from controller.demo import binaries, parts
from controller.demo.errors import DemoError

SEEN_SECONDS = 30.0
"""From an answer to its count at the latest; scrapes come every second."""

POLL_SECONDS = 0.2
WINDOW_SECONDS = 30.0

PLAIN = "text/plain; version=0.0.4"


@contextlib.contextmanager
def needed(what: str) -> Iterator[None]:
    """Where a program cannot be had, its test is left out and says so; in CI it fails."""
    try:
        yield
    except DemoError as error:
        message = f"NOT TESTED AGAINST A REAL {what}: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


@contextlib.asynccontextmanager
async def exposed(text: Callable[[], str | bytes], kind: str = PLAIN) -> AsyncIterator[str]:
    """The address at which `text` is told, anew for each who asks."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        said = text()
        body = said.encode() if isinstance(said, str) else said
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@contextlib.asynccontextmanager
async def scraping(
    folder: Path,
    targets: Mapping[str, Mapping[str, str]],
    providers: Sequence[str],
    *options: str,
) -> AsyncIterator[Prometheus]:
    """Prometheus with these targets, their labels and options, as the daemon would read it."""
    async with stored(folder, targets, *options) as url, reading(url, providers) as client:
        yield client


@contextlib.asynccontextmanager
async def stored(
    folder: Path, targets: Mapping[str, Mapping[str, str]], *options: str
) -> AsyncIterator[str]:
    """The address of such a Prometheus."""
    with needed("PROMETHEUS"):
        program = binaries.find_prometheus()
    store = await parts.prometheus(program, targets, folder, *options)
    try:
        yield store.url
    finally:
        await store.child.stop()


@contextlib.asynccontextmanager
async def reading(url: str, providers: Sequence[str]) -> AsyncIterator[Prometheus]:
    """The daemon's client of the Prometheus at `url`."""
    client = Prometheus(url, choose(providers), now=time.time)
    try:
        yield client
    finally:
        await client.close()


@dataclass(slots=True)
class Counts:
    """What a run would count of both tracks, look by look."""

    client: Prometheus
    canary_key: TrackKey
    stable_key: TrackKey
    newborn: bool = False
    """Whether the canary's pods were born in the run, so that all they have answered counts."""
    canary: Tally = field(default_factory=Tally)
    stable: Tally = field(default_factory=Tally)
    _cursor: Cursor = field(default_factory=Cursor)

    async def begin(self, *, canary: int | None, stable: int) -> None:
        """Count from here on, once so many answers of each are in the store; None: no series."""
        wanted = [canary, stable]
        deadline = time.monotonic() + SEEN_SECONDS
        while (stored := [_newest(one) for one in await self._series()]) != wanted:
            assert time.monotonic() < deadline, stored
            await asyncio.sleep(POLL_SECONDS)
        await self.look()

    async def look(self) -> None:
        """Add what is new in the store."""
        found = difference(self._cursor, *await self._series(), newborn=self.newborn)
        self._cursor = found.cursor
        for interval in found.intervals:
            self.canary = self.canary.plus(interval.canary)
            self.stable = self.stable.plus(interval.stable)

    async def _series(self) -> tuple[TrackSeries | None, TrackSeries | None]:
        """Those of canary and stable, of which nothing is odd."""
        batch = await self.client.samples(WINDOW_SECONDS, [self.canary_key, self.stable_key])
        assert batch.warnings == ()
        return batch.series.get(self.canary_key), batch.series.get(self.stable_key)

    async def reach(self, *, canary: int, stable: int) -> None:
        """Look until that many are counted, and timed where anything is.

        What comes too late, or twice, shows in one more scrape.
        """
        deadline = time.monotonic() + SEEN_SECONDS
        while not (_has(self.canary, canary) and _has(self.stable, stable)):
            assert time.monotonic() < deadline, (self.canary, self.stable)
            await asyncio.sleep(POLL_SECONDS)
            await self.look()
        at = self._cursor.at
        while self._cursor.at == at:
            assert time.monotonic() < deadline, "nothing is scraped any more"
            await asyncio.sleep(POLL_SECONDS)
            await self.look()


def _has(tally: Tally, requests: int) -> bool:
    return tally.requests >= requests and (not tally.buckets or tally.timed >= requests)


def _newest(series: TrackSeries | None) -> float | None:
    """All answers that are counted by now."""
    return sum(one.samples[-1].value for one in series.requests) if series else None
