# SPDX-License-Identifier: Apache-2.0
"""Each run is followed at the pace of its own scrapes, whatever its neighbours are scraped at."""

import asyncio
from collections.abc import Collection
from dataclasses import replace

from controller.adapters.clock import LoopClock
from controller.core.evidence.series import Sample, Series, ServiceKey, TrackKey, TrackSeries
from controller.core.lifecycle.memory import Lane, Memory, Moments, Run
from controller.core.lifecycle.table import Phase
from controller.core.values import RouteRef, TargetRef
from controller.engine.feed import Feed
from controller.engine.meters import Meters
from controller.ports.metrics import Batch
from controller.sim import clock

EVERY = {"quick": 1.0, "slow": 60.0}


def _run(name: str) -> Run:
    ref = RouteRef("HTTPRoute", "shop", name)
    return Run(
        name=f"{name}-1",
        target=TargetRef("shop", name),
        uid="u1",
        phase=Phase.JUDGING,
        stable_hash="h",
        stable_digest="d",
        digest="e",
        replicas=4,
        lanes=(Lane(route=ref, uid="r1", service=name, original=()),),
    )


class _Store:
    """Counters that grow by one a second, and are scraped every second or every minute."""

    def __init__(self) -> None:
        self.asked = 0
        self.stopped_at = float("inf")
        """From then on no scrape succeeds."""

    async def samples(self, since_seconds: float, keys: Collection[TrackKey]) -> Batch:
        """The samples of the window, as a store returns them."""
        self.asked += 1
        now = asyncio.get_running_loop().time()
        found: dict[TrackKey, TrackSeries] = {}
        for key in keys:
            assert isinstance(key, ServiceKey)
            every = EVERY[key.service.removesuffix("-canary")]
            stamps = [n * every for n in range(int(now / every) + 1)]
            begin, end = now - since_seconds, self.stopped_at
            samples = tuple(Sample(at, at) for at in stamps if begin < at < end)
            if samples:
                series = Series(labels=(("code", "200"),), samples=samples)
                found[key] = TrackSeries(requests=(series,))
        return Batch(evaluated_at=now, series=found)

    async def history(self, key: TrackKey, seconds: float) -> Batch:
        """Nobody asks."""
        raise AssertionError(f"{key} {seconds}")

    latency_history = history


def test_neighbours_do_not_set_the_pace() -> None:
    async def story() -> None:
        feed = Feed(metrics=_Store(), clock=LoopClock(), meters=Meters())
        quick, slow = _run("quick"), _run("slow")
        for run in (quick, slow):
            feed.follow(Memory(run=run, moments=Moments(entered=0.0)))
        task = asyncio.ensure_future(feed.run())
        await asyncio.sleep(200.0)
        assert feed.reading(quick).scrape_seconds == 1.0
        found = feed.reading(slow)
        assert found.scrape_seconds == 60.0
        assert sum(interval.stable.requests for interval in found.intervals) >= 120
        task.cancel()

    clock.run(story())


def test_it_asks_when_a_scrape_is_due_and_often_while_one_is_late() -> None:
    async def story() -> None:
        store = _Store()
        feed = Feed(metrics=store, clock=LoopClock(), meters=Meters())
        feed.follow(Memory(run=_run("quick"), moments=Moments(entered=0.0)))
        task = asyncio.ensure_future(feed.run())
        await asyncio.sleep(100.0)
        assert 95 <= store.asked <= 120
        store.stopped_at = asyncio.get_running_loop().time()
        asked = store.asked
        await asyncio.sleep(10.0)
        assert 45 <= store.asked - asked <= 51
        task.cancel()

    clock.run(story())


def test_who_joins_is_looked_for_at_once_and_many_are_together() -> None:
    """Else a run would wait for a store's first word until somebody else's next scrape is due."""

    async def story() -> None:
        store = _Store()
        feed = Feed(metrics=store, clock=LoopClock(), meters=Meters())
        feed.follow(Memory(run=_run("slow"), moments=Moments(entered=0.0)))
        task = asyncio.ensure_future(feed.run())
        # It is known how seldom it is scraped, and the next look is seconds away.
        await asyncio.sleep(200.0)
        asked = store.asked
        await asyncio.sleep(3.0)
        assert store.asked - asked <= 1
        asked = store.asked
        quick = _run("quick")
        for nth in range(20):
            joining = replace(quick, name=f"quick-{nth}")
            feed.follow(Memory(run=joining, moments=Moments(entered=0.0)))
            await asyncio.sleep(0.1)
        assert all(feed.reading(replace(quick, name=f"quick-{nth}")).clock for nth in range(9))
        assert store.asked - asked <= 4
        task.cancel()

    clock.run(story())
