# SPDX-License-Identifier: Apache-2.0
"""The whole street from raw counters to the verdict, with everything that counters do to one."""

import json
import math
import random
from collections.abc import Callable, Iterator

import pytest

from controller.core.evidence.judge import (
    Evidence,
    Gate,
    Outcome,
    Settings,
    Verdict,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.samples import Cursor, Sample, Series, TrackSeries, difference
from tests.core.evidence.traffic import binomial

Track = dict[str, list[Sample]]


class World:
    """A gateway that counts, may be restarted, and is scraped every second."""

    def __init__(self, canary_bad: float) -> None:
        self._source = random.Random(11)
        self._bad = {"canary": canary_bad, "stable": 0.001}
        self._rate = {"canary": 40, "stable": 360}
        self._totals: dict[tuple[str, str], float] = {}
        self.tracks: dict[str, Track] = {"canary": {}, "stable": {}}
        self.at = 0.0

    def second(self, *, weight: bool = True, restart: bool = False, lost: bool = False) -> None:
        self.at += 1
        if restart:
            self._totals.clear()
        for track in ("canary", "stable") if weight else ("stable",):
            bad = binomial(self._source, self._rate[track], self._bad[track])
            for code, amount in (("200", self._rate[track] - bad), ("500", bad)):
                if amount or (track, code) in self._totals:
                    self._totals[track, code] = self._totals.get((track, code), 0) + amount
        for (track, code), total in self._totals.items():
            if not lost:
                self.tracks[track].setdefault(code, []).append(Sample(self.at, total))

    def seen(self, track: str, window: float) -> TrackSeries | None:
        found = {
            code: Series(
                (("code", code), ("instance", "gw")),
                tuple(sample for sample in samples if sample.at > self.at - window),
            )
            for code, samples in self.tracks[track].items()
        }
        if not found:
            return None
        errors = tuple(one for code, one in found.items() if code == "500")
        return TrackSeries(requests=tuple(found.values()), errors=errors)


def verdicts(
    world: World, seconds: int, *, look_every: int = 1, window: float = 10.0,
    kept: Callable[[Evidence], Evidence] = lambda evidence: evidence,
    restart_at: int = 0, lost_at: int = 0,
) -> Iterator[Verdict]:  # fmt: skip
    settings = Settings()
    for _ in range(5):
        world.second(weight=False)
    cursor = difference(Cursor(), None, world.seen("stable", window)).cursor
    evidence = weight_changed(start(settings), world.at)
    for number in range(1, seconds + 1):
        world.second(restart=number == restart_at, lost=number == lost_at)
        if number % look_every:
            continue
        found = difference(cursor, world.seen("canary", window), world.seen("stable", window))
        cursor = found.cursor
        for interval in found.intervals:
            evidence = observe(evidence, settings, interval)
        evidence = kept(evidence)
        yield judge(evidence, settings, world.at, gate=Gate(dwell_seconds=20))


def written(evidence: Evidence) -> Evidence:
    """What a restart of the daemon finds of the evidence: text."""
    return Evidence.from_json(json.loads(json.dumps(evidence.to_json())))


@pytest.mark.parametrize(("restart_at", "lost_at"), [(0, 0), (7, 0), (0, 9)])
def test_a_healthy_canary_passes_through_restarts_and_lost_scrapes(
    restart_at: int, lost_at: int
) -> None:
    found = verdicts(World(0.001), 30, restart_at=restart_at, lost_at=lost_at)
    outcomes = [verdict.outcome for verdict in found]
    assert Outcome.FAIL not in outcomes
    assert outcomes[-1] is Outcome.PASS
    assert outcomes.index(Outcome.PASS) >= 19


def test_the_first_error_counts_though_it_creates_its_series() -> None:
    found = list(verdicts(World(0.5), 4))
    assert found[0].canary.requests == 40
    assert 10 <= found[0].canary.errors <= 30
    assert Outcome.FAIL in [verdict.outcome for verdict in found[:3]]


def test_daemon_restarts_change_no_verdict() -> None:
    straight = list(verdicts(World(0.02), 60))
    restarted = list(verdicts(World(0.02), 60, kept=written))
    assert straight == restarted


def test_a_pause_of_the_daemon_is_made_up_for_from_the_window() -> None:
    steady = list(verdicts(World(0.02), 60))[-1]
    paused = list(verdicts(World(0.02), 60, look_every=6))[-1]
    assert paused.canary == steady.canary
    assert paused.log10_evidence == steady.log10_evidence


def test_values_that_are_no_numbers_never_become_counts() -> None:
    """A counter read as NaN must neither look like a restart nor like an idle canary."""
    world = World(0.001)
    for _ in range(3):
        world.second()
    cursor = difference(Cursor(), world.seen("canary", 10), world.seen("stable", 10)).cursor
    before = world.tracks["canary"]["200"][-1].value
    for value in (math.nan, before + 40):
        world.at += 1
        world.tracks["canary"]["200"].append(Sample(world.at, value))
        world.tracks["stable"]["200"].append(Sample(world.at, 5000.0))
    found = difference(cursor, world.seen("canary", 10), world.seen("stable", 10))
    assert sum(interval.canary.requests for interval in found.intervals) == 40
    assert not found.intervals[0].canary.reported
