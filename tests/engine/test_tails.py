# SPDX-License-Identifier: Apache-2.0
"""A restart at every scrape, and at every second, third...: the same verdicts, the same evidence.

One process judges a stream of scrapes from beginning to end. Others judge it one after another,
and each has nothing but the run document of the last one, whose checkpoint may be half a minute
old: it replays the tail from the store.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from controller.core.evidence.judge import Outcome
from controller.core.lifecycle.table import Event
from controller.core.policy.model import Policy
from controller.sim import clock
from tests.engine.tails import (
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

SECONDS = 120.0
LOOKED = 0.25
"""Looks are so long after the whole second."""

CHECKPOINT = 30.0
"""Seconds after which evidence is durable at the latest, with the next scrape."""

EACH = (1, 2, 3, 8)
"""The process dies after so many scrapes; eight take longer than a checkpoint gets old."""

OPENS = {4 + LOOKED: Event.IN_FORCE}


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What is scraped, and what the run does meanwhile."""

    targets: tuple[Target, ...]
    events: Mapping[float, Event] = field(default_factory=lambda: OPENS)
    policy: Policy = POLICY
    ends: Outcome = Outcome.PASS
    pods: bool = False

    def told(self, each: int | None = None) -> Told:
        """What becomes of it if the process dies after so many scrapes."""

        async def main() -> Told:
            daemon = Daemon(Store(self.targets, SECONDS), pods=self.pods, policy=self.policy)
            return await judged(
                daemon,
                SECONDS,
                events=self.events,
                restarts=lambda scrapes: each is not None and scrapes % each == 0,
            )

        return clock.run(main(), limit=2 * SECONDS)


def gateway(canary: Target, stable: Target, **more: object) -> Stream:
    """Both versions behind one gateway."""
    found = (replace(canary, key=CANARY), replace(stable, key=STABLE, rate=100.0))
    return Stream(targets=found, **more)  # type: ignore[arg-type]


PLAIN = Target(key=CANARY)
COMING_AND_GOING = (
    Target(key=STABLE_PODS, name="old-a", past=5000),
    Target(key=STABLE_PODS, name="old-b", phase=1.1, past=9000, dies=90),
    Target(key=STABLE_PODS, name="added", phase=2.7, born=50, past=400),
    Target(key=CANARY_PODS, name="new-a", phase=0.4, born=-20),
    Target(key=CANARY_PODS, name="new-b", phase=3.1, born=30, dies=100),
    Target(key=CANARY_PODS, name="new-c", phase=2.0, born=70, resets=(103,)),
)
ROLLED = {**OPENS, 34 + LOOKED: Event.LADDER_PASSED, 62 + LOOKED: Event.ROLLED}
NEARLY = {number: 0.003 * (number % 5) for number in range(-20, 30)}
"""As far as scrapes are off their times in any Prometheus."""

STREAMS = {
    "aligned": gateway(PLAIN, PLAIN),
    "a bad version": gateway(replace(PLAIN, bad=0.12), PLAIN, ends=Outcome.FAIL),
    "a budget": gateway(PLAIN, PLAIN, policy=replace(POLICY, budget=100.0)),
    "other phases": gateway(PLAIN, replace(PLAIN, phase=1.3)),
    "nearly on time": gateway(
        replace(PLAIN, moved=NEARLY), replace(PLAIN, phase=1.3, moved={7: 0.01, **NEARLY})
    ),
    "pods": Stream(targets=COMING_AND_GOING, pods=True),
    "resets": gateway(replace(PLAIN, resets=(41, 90)), replace(PLAIN, resets=(63,))),
    "late": gateway(
        replace(PLAIN, moved={9: 1.7, 17: 3.0}), replace(PLAIN, moved={9: 1.7, 22: 2.5})
    ),
    "twice": gateway(replace(PLAIN, twice=frozenset({9, 17})), PLAIN),
    "lost": gateway(replace(PLAIN, lost=((30, 36),)), replace(PLAIN, lost=((30, 36), (70, 74)))),
    "canary missing": gateway(replace(PLAIN, lost=((30, 50),)), PLAIN),
    "another weight": gateway(PLAIN, PLAIN, events={**OPENS, 58 + LOOKED: Event.PASSED}),
    "a roll by gateway": gateway(PLAIN, PLAIN, events=ROLLED, ends=Outcome.HOLD),
    "a roll by pods": Stream(targets=COMING_AND_GOING, pods=True, events=ROLLED, ends=Outcome.HOLD),
}


@pytest.mark.parametrize("name", STREAMS)
def test_restarts_change_no_verdict(name: str) -> None:
    stream = STREAMS[name]
    straight = stream.told()
    assert [*straight.verdicts.values()][-1].outcome is stream.ends
    assert len(straight.intervals) > 20
    assert EVERY <= straight.undurable <= CHECKPOINT + EVERY
    for each in EACH:
        found = stream.told(each)
        assert found.restarts == len(straight.intervals) // each
        assert found.verdicts == straight.verdicts, each
        assert found.memory.evidence == straight.memory.evidence
        assert found.intervals == straight.intervals
        assert found.tails >= len(straight.intervals) // 4 or each == 1


@pytest.mark.parametrize("each", EACH)
def test_what_the_store_shows_late_is_counted_once(each: int) -> None:
    """Whether the checkpoint came before or after it; only in which interval may differ."""
    late = {number: (1.0, 3.0, 5.0)[number % 3] for number in (9, 13, 17, 20, 25, 27)}
    stream = gateway(replace(PLAIN, unseen=late), PLAIN)
    straight, found = stream.told(), stream.told(each)
    assert sums(found.intervals) == sums(straight.intervals)
    assert found.memory.evidence is not None
    assert straight.memory.evidence is not None
    assert found.memory.evidence.window == straight.memory.evidence.window


@pytest.mark.parametrize(("seconds", "counts"), [(1.0, True), (3.0, False)])
def test_of_one_pod_among_many_a_scrape_that_is_shown_late_may_be_lost_but_never_counts_twice(
    seconds: float, counts: bool
) -> None:
    """The exception that `controller.engine.tail` tells of: a checkpoint just between. A scrape
    that is late by less than a quarter of the distance is waited for.
    """
    late = Target(key=CANARY_PODS, name="new-b", unseen={9: seconds})
    pods = (
        Target(key=STABLE_PODS, phase=1.5),
        Target(key=CANARY_PODS, name="new-a", phase=1.5),
        late,
    )
    stream = Stream(targets=pods, pods=True)
    straight, found = sums(stream.told().intervals), sums(stream.told(1).intervals)
    (scrape,) = [
        Store([late], SECONDS).answered(CANARY_PODS, at - EVERY, at) for at in (9 * EVERY,)
    ]
    assert scrape[0] > 0
    lost = [before - after for before, after in zip(straight, found, strict=True)]
    assert lost == ([0, 0, 0, 0] if counts else [*scrape, 0, 0])


HOLE = ((60.0, 100.0),)


@pytest.mark.parametrize(
    ("until", "stream"),
    [
        (107.0, gateway(replace(PLAIN, phase=3.3, lost=HOLE), replace(PLAIN, lost=HOLE))),
        (
            103.0,
            Stream(
                targets=(
                    Target(key=CANARY_PODS, name="new-a", born=-20, phase=2.3, lost=HOLE),
                    Target(key=CANARY_PODS, name="new-b", born=-20, phase=3.3, lost=HOLE),
                    Target(key=STABLE_PODS, name="old-a", rate=60, phase=0.3, lost=HOLE),
                    Target(key=STABLE_PODS, name="old-b", rate=60, phase=1.3, lost=HOLE),
                ),
                pods=True,
            ),
        ),
    ],
    ids=["gateway", "pods"],
)
def test_the_first_scrape_after_an_outage_makes_no_old_data_young(
    until: float, stream: Stream
) -> None:
    """One is scraped before the others; scrapes seem as far apart then as nothing came for."""
    told = stream.told().verdicts
    assert told[58 + LOOKED].outcome is Outcome.PASS
    seen = {at: verdict.outcome for at, verdict in told.items() if 80 < at < until}
    assert seen
    assert set(seen.values()) == {Outcome.HOLD}, seen
    assert told[112 + LOOKED].outcome is Outcome.PASS


def test_after_a_long_hole_only_the_distance_of_scrapes_looks_different() -> None:
    """It is told by the samples in the window, of which a replay has more."""
    hole = replace(PLAIN, lost=((54, 94),))
    stream = gateway(hole, hole)
    straight = stream.told()
    for each in EACH:
        found = stream.told(each)
        assert found.intervals == straight.intervals
        assert found.memory.evidence == straight.memory.evidence
        for at, verdict in straight.verdicts.items():
            assert found.verdicts[at].outcome is verdict.outcome
            assert found.verdicts[at].evidence == verdict.evidence
