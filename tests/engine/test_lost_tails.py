# SPDX-License-Identifier: Apache-2.0
"""A tail that is gone: the run holds, nothing counts twice, and what comes afterwards counts."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from controller.adapters.clock import LoopClock
from controller.core.evidence.judge import Code, Interval, Outcome
from controller.core.evidence.series import ServiceKey, TrackKey
from controller.core.lifecycle.memory import Memory, Moments, Run, encode, recalled
from controller.core.lifecycle.table import Event
from controller.core.values import TargetRef
from controller.engine.feed import Feed
from controller.engine.follower import MOST_WINDOW
from controller.engine.meters import Meters
from controller.sim import clock
from tests.engine.tails import (
    BEGIN,
    CANARY,
    CANARY_PODS,
    EVERY,
    POLICY,
    STABLE,
    STABLE_PODS,
    Daemon,
    Store,
    Target,
    Told,
    judged,
    sums,
)

OPENS = {4.25: Event.IN_FORCE}
DIES = 40.25
DWELL = POLICY.steps[0].dwell_seconds

GATEWAY = (Target(key=CANARY), Target(key=STABLE, rate=100.0))
PODS = (
    Target(key=STABLE_PODS, name="old-a", past=5000, rate=60),
    Target(key=STABLE_PODS, name="old-b", past=9000, rate=60, phase=1.1),
    Target(key=CANARY_PODS, name="new-a", born=-20, phase=0.4),
    Target(key=CANARY_PODS, name="new-b", born=10, phase=3.1),
)
TRACKS: dict[bool, tuple[TrackKey, TrackKey]] = {
    False: (CANARY, STABLE),
    True: (CANARY_PODS, STABLE_PODS),
}

LOST = {
    "away for too long": (MOST_WINDOW + 200, ()),
    "away for nearly too long": (MOST_WINDOW - 10, ()),
    "the store is empty": (20.0, ((DIES, -math.inf, 61.0),)),
    "some pods are scraped again": (22.0, ((DIES, -math.inf, 60.5),)),
    "the store has a hole": (20.0, ((DIES, 30.5, 59.5),)),
    "it has a long one": (90.0, ((DIES, 30.5, 129.5),)),
}


def told(name: str, *, pods: bool) -> tuple[Told, Store, float]:
    """What becomes of a run whose daemon dies and finds that; and when it is back."""
    away, gone = LOST[name]
    back = DIES + away
    seconds = back + 100.0

    async def main() -> tuple[Told, Store, float]:
        store = Store(PODS if pods else GATEWAY, seconds)
        store.gone += gone
        daemon = Daemon(store, pods=pods)
        found = await judged(daemon, seconds, events=OPENS, away=(DIES, back))
        return found, store, back

    return clock.run(main(), limit=2 * seconds)


@pytest.mark.parametrize("pods", [False, True], ids=["gateway", "pods"])
@pytest.mark.parametrize("name", LOST)
def test_a_tail_that_is_gone_holds_and_counts_nothing_twice(name: str, pods: bool) -> None:
    found, store, back = told(name, pods=pods)
    after = [one for one in found.intervals if one.at > BEGIN + DIES]
    opened = after[0].begins - BEGIN
    assert opened >= back - EVERY
    # Of each target all is counted from the second scrape on that this process may know of.
    for place, key in enumerate(TRACKS[pods]):
        tallies = [(one.canary, one.stable)[place] for one in after]
        requests = sum(tally.requests for tally in tallies)
        ends = after[-1].at - BEGIN
        most = store.answered(key, opened - EVERY, ends)[0]
        assert store.answered(key, opened + 2 * EVERY, ends - EVERY)[0] <= requests <= most

    verdicts = {at: verdict for at, verdict in found.verdicts.items() if at >= back}
    until = after[0].at - BEGIN
    for at, verdict in verdicts.items():
        assert at >= until or verdict.outcome is Outcome.HOLD
        counted = sum(one.seconds for one in found.intervals if one.at <= BEGIN + at)
        assert verdict.evidence_seconds <= counted
    # Nobody was silent: whoever is followed again is counted from then on.
    assert max(silent for at, silent in found.silences.items() if at >= back) <= 3 * EVERY
    # What was seen before a short hole still counts; behind a long one the step begins anew.
    window = found.verdicts[max(found.verdicts)].window_at
    assert window is not None
    short = opened - DIES < 60
    assert window == (BEGIN + 4.25 if short else after[0].begins)
    passed = min(at for at, verdict in verdicts.items() if verdict.outcome is Outcome.PASS)
    seen = sum(
        one.seconds for one in found.intervals if one.begins >= window and one.at <= BEGIN + passed
    )
    assert seen >= DWELL
    assert passed <= back + DWELL + 4 * EVERY


@pytest.mark.parametrize("away", [math.inf, 80.0], ids=["one process", "another one"])
def test_a_run_of_which_the_store_has_nothing_any_more_is_not_heard_of(away: float) -> None:
    """Both versions' jobs were renamed: the store answers, and says nothing of either."""

    async def main() -> Told:
        store = Store(GATEWAY, 300.0)
        store.gone.append((40.0, -math.inf, math.inf))
        daemon = Daemon(store, pods=False)
        return await judged(daemon, 300.0, events=OPENS, away=(away, away + 10.0))

    silences = clock.run(main(), limit=600.0).silences
    assert silences[max(silences)] >= 300.0 - max(40.0, 90.0 if away < math.inf else 0.0) - EVERY


def test_a_pod_that_is_scraped_again_after_the_store_was_emptied_is_not_newborn() -> None:
    """All that it ever answered would count a second time."""
    found, store, back = told("some pods are scraped again", pods=True)
    after = [one for one in found.intervals if one.at > BEGIN + back]
    for one in after:
        assert one.canary.requests < 4 * 20 * EVERY
    assert store.answered(CANARY_PODS, -math.inf, back)[0] > 10 * 20 * EVERY


def test_nothing_passes_before_the_store_has_answered_the_new_process() -> None:
    """What the checkpoint has may suffice, but the tail after it has not been seen."""

    async def main() -> None:
        daemon = Daemon(Store(GATEWAY, 110.0), pods=False)
        await judged(daemon, 100.0, events=OPENS)
        assert daemon.tick().outcome is Outcome.PASS
        daemon.restart()
        for follow in (False, True):
            if follow:
                daemon.feed.follow(daemon.told.memory)
            verdict = daemon.tick()
            assert verdict.outcome is Outcome.HOLD
            assert {reason.code for reason in verdict.reasons} == {Code.METRICS_STALE}
        await daemon.look()
        assert daemon.tick().outcome is Outcome.PASS

    clock.run(main(), limit=200.0)


def other() -> Memory:
    """Another run, of which the store knows nothing."""
    daemon = Daemon(Store((), 0.0), pods=False)
    lane = replace(daemon.told.memory.run.lanes[0], service="cart")
    run = replace(
        daemon.told.memory.run, name="cart-1", target=TargetRef("shop", "cart"), lanes=(lane,)
    )
    return Memory(run=run, moments=Moments(entered=0.0))


def beside(
    targets: tuple[Target, ...],
    seconds: float,
    body: Callable[[Daemon, Feed], Coroutine[Any, Any, None]],
) -> None:
    """A run that was followed for so long is taken up by a process that follows another one."""

    async def main() -> None:
        pods = targets[0].key in TRACKS[True]
        daemon = Daemon(Store(targets, 10 * seconds), pods=pods)
        await judged(daemon, seconds, events=OPENS)
        feed = Feed(metrics=daemon.store, clock=LoopClock(), meters=Meters())
        feed.follow(other())
        await body(daemon, feed)

    clock.run(main(), limit=20 * seconds)


def continued(daemon: Daemon, feed: Feed) -> list[Interval]:
    """What the process has for the run, which goes on where its checkpoint ends."""
    found = list(feed.reading(daemon.told.memory.run).intervals)
    before = [one for one in daemon.told.intervals if one.at <= found[0].begins]
    assert before[-1].at == found[0].begins
    return before + found


def test_who_comes_while_a_look_is_under_way_still_has_his_tail() -> None:
    """The answer was not about him."""

    async def body(daemon: Daemon, feed: Feed) -> None:
        daemon.store.slow = 0.5
        look = asyncio.ensure_future(feed.look())
        await asyncio.sleep(0.1)
        feed.follow(recalled(encode(daemon.told.memory.run), 0.0))
        await look
        assert feed.reading(daemon.told.memory.run).clock == 0.0
        await asyncio.sleep(10.0)
        await feed.look()
        ends = continued(daemon, feed)[-1].at
        assert ends >= BEGIN + 68.0

    beside(GATEWAY, 60.0, body)


def test_the_tail_of_slow_scrapes_is_whole_though_quicker_ones_were_looked_at_before() -> None:
    """Pods that are scraped once a minute, at any second of it; all they answered counts once."""
    every = 60.0
    slow = tuple(
        replace(target, every=every, phase=15.0 * place, born=-200.0)
        for place, target in enumerate(PODS)
    )

    async def body(daemon: Daemon, feed: Feed) -> None:
        await feed.look()
        feed.follow(recalled(encode(daemon.told.memory.run), 0.0))
        for _ in range(30):
            await asyncio.sleep(7.0)
            await daemon.look()
            await feed.look()
        assert sums(continued(daemon, feed)) == sums(daemon.told.intervals)

    beside(slow, 600.0, body)


def test_a_look_that_reaches_far_back_brings_nothing_from_before_the_counting_began() -> None:
    """As a long silence of the store makes it: there were pods of an earlier version of the canary.

    Another run was followed meanwhile, and what it missed is asked for.
    """
    dead = Target(key=CANARY_PODS, name="earlier", born=-40.0, dies=60.0, bad=0.5)

    async def main() -> None:
        daemon = Daemon(Store((*PODS, dead), 170.0), pods=True)
        daemon.feed = Feed(metrics=daemon.store, clock=LoopClock(), meters=Meters())
        daemon.feed.follow(other())
        await daemon.feed.look()
        await asyncio.sleep(150.0)
        daemon.feed.follow(daemon.told.memory)
        await daemon.look()
        assert daemon.store.windows[-1] >= 150.0
        await asyncio.sleep(10.0)
        await daemon.look()
        requests, errors, *_ = sums(daemon.told.intervals)
        assert requests > 0
        assert errors < 0.1 * requests

    clock.run(main(), limit=200.0)


SHOPS = [f"shop-{number}" for number in range(40)]


def shops(daemon: Daemon, feed: Feed) -> list[Run]:
    """Runs beside the one of the daemon, each with its tail, that a process takes up."""
    memory = recalled(encode(daemon.told.memory.run), 0.0)
    found = []
    for name in SHOPS:
        lane = replace(memory.run.lanes[0], service=name)
        target = TargetRef("shop", name)
        found.append(replace(memory.run, name=f"{name}-1", target=target, lanes=(lane,)))
        feed.follow(replace(memory, run=found[-1]))
    return found


@pytest.mark.parametrize(
    ("most_keys", "most_seconds"),
    [(32, math.inf), (6, math.inf), (2, 300.0)],
    ids=["some", "few", "one, and not all of it"],
)
def test_many_runs_are_taken_up_some_at_a_time_and_each_from_its_own_tail(
    most_keys: int, most_seconds: float
) -> None:
    """What the store has of all of them may be more than it gives at once, or may give."""

    async def body(daemon: Daemon, feed: Feed) -> None:
        runs = shops(daemon, feed)
        evidence = recalled(encode(daemon.told.memory.run), 0.0).evidence
        assert evidence is not None
        checkpoint = evidence.last_at
        daemon.store.most_keys, daemon.store.most_seconds = most_keys, most_seconds
        task = asyncio.ensure_future(feed.run())
        # Those that have been taken up are more than it gives; what they miss is asked for later.
        await asyncio.sleep(150.0)
        daemon.store.most_keys = 1000
        await asyncio.sleep(5.0)
        task.cancel()
        for run in runs:
            found = feed.reading(run).intervals
            ends = [checkpoint, *(one.at for one in found)]
            assert [one.begins for one in found] == ends[:-1]
            assert ends[-1] >= BEGIN + 208.0

    lot = [
        replace(target, key=ServiceKey("shop", f"{name}{suffix}"))
        for name in SHOPS
        for target, suffix in zip(GATEWAY, ("-canary", ""), strict=True)
    ]
    beside((*GATEWAY, *lot), 60.0, body)


def test_a_store_that_cannot_be_reached_for_a_while_costs_no_tail() -> None:
    """Scrapes that are a minute apart: two minutes before the tail would not be enough."""
    every = 60.0
    slow = tuple(replace(target, every=every, born=-200.0) for target in GATEWAY)

    async def body(daemon: Daemon, feed: Feed) -> None:
        feed.follow(recalled(encode(daemon.told.memory.run), 0.0))
        daemon.store.refused = {CANARY}
        for _ in range(5):
            await feed.look()
            await asyncio.sleep(2.0)
        daemon.store.refused = set()
        for _ in range(40):
            await asyncio.sleep(7.0)
            await daemon.look()
            await feed.look()
        assert sums(continued(daemon, feed)) == sums(daemon.told.intervals)

    beside(slow, 600.0, body)


def test_what_is_heard_about_one_run_is_no_news_about_another() -> None:
    async def body(daemon: Daemon, feed: Feed) -> None:
        run = daemon.told.memory.run
        feed.follow(recalled(encode(run), 0.0))
        await feed.look()
        feed.forget(other().run)
        feed.follow(replace(other(), evidence=daemon.told.memory.evidence))
        daemon.store.refused = {CANARY}
        await asyncio.sleep(100.0)
        await feed.look()
        assert feed.reading(other().run).age_seconds == 0.0
        age = feed.reading(run).age_seconds
        assert age is not None
        assert age >= 100.0

    beside(GATEWAY, 60.0, body)
