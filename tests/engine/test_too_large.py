# SPDX-License-Identifier: Apache-2.0
"""A store that has more to say of all runs, or of one of them, than is taken in at once."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from controller.adapters.clock import LoopClock
from controller.core.evidence.judge import Outcome
from controller.core.evidence.reasons import Code
from controller.core.evidence.series import ServiceKey
from controller.core.lifecycle.memory import Memory, Run, encode, recalled
from controller.core.lifecycle.table import Event
from controller.core.values import TargetRef
from controller.engine.feed import Feed
from controller.engine.meters import Meters
from controller.engine.parting import ALONE_SECONDS, TOGETHER_SECONDS
from controller.sim import clock
from tests.engine.tails import BEGIN, CANARY, EVERY, STABLE, Daemon, Store, Target, judged, sums

OPENS = {4.25: Event.IN_FORCE}
SHOPS = [f"shop-{number}" for number in range(20)]
KEYS = 2 * (len(SHOPS) + 1)
LARGE = ServiceKey("shop", "shop-7-canary")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One process that follows many runs, each with two keys, beside the one of the daemon."""

    daemon: Daemon
    store: Store
    feed: Feed
    runs: list[Run]

    def counted(self, run: Run) -> float:
        """Until when a run's counts reach, in seconds of the story; they have no gap."""
        found = self.feed.reading(run).intervals
        assert [one.at for one in found[:-1]] == [one.begins for one in found[1:]]
        return found[-1].at - BEGIN if found else 0.0


def followed(body: Callable[[Scene], Coroutine[Any, Any, None]], *, tails: bool = False) -> None:
    """A minute after all began, whose tails have been read where they are not kept."""

    async def main() -> None:
        names = [(CANARY, STABLE), *map(keys, SHOPS)]
        store = Store([Target(key=key) for pair in names for key in pair], 900.0)
        daemon = Daemon(store, pods=False)
        await judged(daemon, 60.0, events=OPENS)
        memory = recalled(encode(daemon.told.memory.run), 0.0)
        runs = [memory.run, *(named(memory, shop) for shop in SHOPS)]
        feed = daemon.feed = Feed(metrics=store, clock=LoopClock(), meters=Meters())
        for run in runs:
            feed.follow(replace(memory, run=run))
        task = asyncio.ensure_future(feed.run())
        if not tails:
            await asyncio.sleep(10.0)
        await body(Scene(daemon=daemon, store=store, feed=feed, runs=runs))
        assert not task.done()
        task.cancel()

    clock.run(main(), limit=1000.0)


def keys(shop: str) -> tuple[ServiceKey, ServiceKey]:
    return ServiceKey("shop", f"{shop}-canary"), ServiceKey("shop", shop)


def named(memory: Memory, shop: str) -> Run:
    lane = replace(memory.run.lanes[0], service=shop)
    return replace(memory.run, name=f"{shop}-1", target=TargetRef("shop", shop), lanes=(lane,))


def test_more_than_one_look_takes_in_is_asked_for_in_parts_and_in_one_when_it_fits_again() -> None:
    async def body(scene: Scene) -> None:
        assert scene.store.asked[-1] == KEYS
        scene.store.most_keys = 15
        await asyncio.sleep(30.0)
        for run in scene.runs:
            assert scene.counted(run) >= scene.store.now() - 2 * EVERY
            assert not scene.feed.reading(run).too_large
        scene.store.most_keys = KEYS
        await asyncio.sleep(TOGETHER_SECONDS + 2 * EVERY)
        scene.store.asked.clear()
        await asyncio.sleep(5 * EVERY)
        assert set(scene.store.asked) == {KEYS}

    followed(body)


def test_a_run_that_is_too_large_by_itself_is_alone_with_that() -> None:
    async def body(scene: Scene) -> None:
        large = scene.runs[1 + SHOPS.index("shop-7")]
        scene.store.large = {LARGE}
        began = scene.store.now()
        await asyncio.sleep(100.0)
        for run in scene.runs:
            told = scene.feed.reading(run)
            age = told.age_seconds or 0.0
            assert bool(told.too_large) == (run is large)
            assert (age >= 90.0) == (run is large)
        scene.store.asked.clear()
        await asyncio.sleep(10 * EVERY)
        lonely = scene.store.asked.count(2)
        assert lonely <= 5, "all others wait for each answer that is too large"
        assert scene.store.asked.count(KEYS - 2) >= 9, "the others are asked for together"
        for run in scene.runs:
            if run is not large:
                assert scene.counted(run) >= scene.store.now() - 2 * EVERY

        scene.store.large = set()
        await asyncio.sleep(30.0)
        assert not scene.feed.reading(large).too_large
        assert scene.store.asked[-1] == KEYS
        assert scene.store.now() - began > 150.0

    followed(body)


def test_the_verdict_says_why_there_are_no_counts_and_nothing_is_counted_twice() -> None:
    async def body(scene: Scene) -> None:
        daemon = scene.daemon
        daemon.tick()
        scene.store.large = {CANARY}
        await asyncio.sleep(40.0)
        verdict = daemon.tick()
        assert verdict.outcome is Outcome.HOLD
        assert {reason.code for reason in verdict.reasons} == {Code.METRICS_STALE}
        assert any("too many (more than it may be)" in one.message for one in verdict.reasons)
        scene.store.large = set()
        await asyncio.sleep(30.0)
        assert daemon.tick().outcome is Outcome.PASS
        found = daemon.told.intervals
        for place, key in ((0, CANARY), (2, STABLE)):
            answered = scene.store.answered(key, found[0].begins - BEGIN, found[-1].at - BEGIN)
            assert tuple(sums(found)[place : place + 2]) == answered

    followed(body)


def test_a_tail_that_is_too_large_says_so_too() -> None:
    async def body(scene: Scene) -> None:
        scene.store.large = {CANARY}
        await asyncio.sleep(60.0)
        large, *others = scene.runs
        assert scene.feed.reading(large).too_large
        for run in others:
            assert scene.counted(run) >= scene.store.now() - 2 * EVERY
        # All others wait for each refusal.
        halvings = len(SHOPS).bit_length()
        assert scene.store.refusals <= halvings + 60.0 / ALONE_SECONDS + 1
        scene.store.large = set()
        await asyncio.sleep(10.0)
        assert not scene.feed.reading(large).too_large

    followed(body, tails=True)
