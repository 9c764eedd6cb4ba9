# SPDX-License-Identifier: Apache-2.0
"""Clients in a process of their own, and what they saw."""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controller.demo.counts import Seen, Slot, Track, decode, total
from controller.demo.process import Child
from tests.cluster.lab.api import SERVER
from tests.cluster.lab.application import App, until

LEAST_SENT: Final = 0.9
"""Of what is due this part is sent at least. It was all, to a tenth of a percent, on two busy
cores; the rest is for a machine that stands still for seconds."""

LATE_SECONDS: Final = 1.0
"""What is due in that may be missing as well: the last slot is, and all of a short test may fall
into one stall of the machine."""


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Counts so far, slot by slot; a slot is a tenth of a second."""

    child: Child
    rate: float
    """Requests per second that are due through the data plane."""
    seen: Seen = field(default_factory=Seen)
    _stopped: float | None = None

    @property
    def slots(self) -> list[Slot]:
        """All slots, oldest first."""
        return list(self.seen.slots)

    @property
    def failures(self) -> Counter[str]:
        """Requests that nobody answered well or badly, by what went wrong."""
        return self.seen.failures()

    @property
    def sent(self) -> int:
        """Requests through the data plane."""
        return sum(slot.sent for slot in self.seen.slots)

    def kept_its_rate(self) -> None:
        """Nearly all was sent that was due since the first slot; raises AssertionError.

        A generator that hangs or has died fails nothing, nor does a gateway that hangs, because
        hardly anything is sent.
        """
        assert self.seen.slots, "no request was ever sent"
        seconds = (self._stopped or time.time()) - self.seen.slots[0].end
        due = self.rate * seconds
        skipped = sum(slot.skipped for slot in self.seen.slots)
        told = f"{self.sent} requests sent in {seconds:.1f} s at {self.rate:g} per second"
        sys.stderr.write(f"{told}: {self.sent / max(due, 1.0):.1%}\n")
        assert self.sent >= LEAST_SENT * due - self.rate * LATE_SECONDS, f"{told}; {skipped=}"

    def answers(self, version: str, since: float = 0.0) -> Track:
        """Answers of a version through the data plane in slots that end after a time."""
        return total((slot for slot in self.seen.slots if slot.end > since), version)

    def direct(self) -> Counter[str]:
        """Answers by version to the client that calls the Service's endpoints itself."""
        found: Counter[str] = Counter()
        for slot in self.seen.slots:
            found.update({version: track.total for version, track in slot.direct.items()})
        return found

    def failed_at(self) -> list[float]:
        """The ends of all slots in which something failed, as seconds since 1970."""
        return [s.end for s in self.seen.slots if s.failures or s.direct_failures]

    async def until_answered(self, count: int, within: float = 30.0) -> None:
        """Wait until so many requests have been answered from now on."""
        before = self._answered()

        async def enough() -> bool:
            return self._answered() - before >= count

        await until(enough, within, f"{count} answers; failures: {self.failures}")

    async def quiet(self, seconds: float = 3.0, within: float = 30.0) -> None:
        """Wait until nothing has failed for so many seconds.

        As when a gateway has forgotten the last pod of a roll that is over. Time is the clients':
        what they have seen until now may be told late.
        """
        asked = time.time()

        async def forgotten() -> bool:
            told, failed = self.slots[-1].end if self.seen.slots else 0.0, self.failed_at()
            return told >= asked and (not failed or told - failed[-1] > seconds)

        await until(forgotten, within, lambda: f"it costs nothing any more: {self.failures}")

    def _answered(self) -> int:
        return sum(track.total for slot in self.seen.slots for track in slot.tracks.values())

    async def stop(self) -> None:
        """No further request."""
        if self._stopped is None:
            self._stopped = time.time()
        await self.child.stop()

    async def collect(self) -> None:
        """Read the counts until the process ends."""
        async for line in self.child.lines():
            self.seen.add(decode(line))


@contextlib.asynccontextmanager
async def running(
    app: App, *, address: str, pki: Path, log: Path, rate: float, direct_rate: float
) -> AsyncIterator[Traffic]:
    """Requests at a rate through the data plane at `address`, and past it, until the block ends.

    A block that ends well fails where the rate was not kept. The client that goes past it follows
    the Service's endpoints, and knows them up to a second late, as clients behind a kube-proxy do.
    """
    child = await Child.start(
        "load",
        (
            *(sys.executable, "-m", "controller.demo.load"),
            *("--gateway", address),
            *("--name", app.host),
            *("--rate", str(rate)),
            *("--direct-rate", str(direct_rate)),
            *("--api", SERVER),
            *("--api-credentials", pki / "ca.crt", pki / "admin.crt", pki / "admin.key"),
            *("--namespace", app.namespace),
            *("--service", app.name),
        ),
        log=log,
        stdout=asyncio.subprocess.PIPE,
    )
    traffic = Traffic(child=child, rate=rate)
    reading = asyncio.ensure_future(traffic.collect())
    try:
        yield traffic
    finally:
        await traffic.stop()
        await reading
    traffic.kept_its_rate()
