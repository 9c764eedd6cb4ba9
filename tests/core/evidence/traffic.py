# SPDX-License-Identifier: Apache-2.0
"""Simulated traffic for the judge: seeded, so that every figure can be had again."""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from controller.core.evidence import replay
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.judge import (
    Gate,
    Interval,
    Outcome,
    Settings,
    Tally,
    Verdict,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.past import Past
from controller.core.evidence.replay import Planned

MANY = 400.0
"""Variance from which on a binomial count is drawn as a normal one: its tails differ by little."""

BOUND_SECONDS = 0.25
SLOW = 0.05
"""The share of answers that take longer than that, where they are timed."""


def binomial(source: random.Random, trials: int, chance: float) -> int:
    """Successes of so many trials, by jumping from success to success; of very many, nearly so."""
    if chance <= 0:
        return 0
    if chance >= 1:
        return trials
    spread = trials * chance * (1 - chance)
    if spread > MANY:
        return min(max(round(source.gauss(trials * chance, math.sqrt(spread))), 0), trials)
    hits, place, log_miss = 0, -1, math.log1p(-chance)
    while True:
        place += 1 + int(math.log(1 - source.random()) / log_miss)
        if place >= trials:
            return hits
        hits += 1


def around(source: random.Random, mean: float) -> int:
    """A Poisson count, by the normal approximation for large means."""
    if mean > 60:
        return max(round(source.gauss(mean, math.sqrt(mean))), 0)
    count, product, floor = 0, source.random(), math.exp(-mean)
    while product > floor:
        count += 1
        product *= source.random()
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What both tracks serve."""

    per_second: float = 400.0
    share: float = 0.10
    canary_bad: float = 0.005
    stable_bad: float = 0.005
    scrape: float = 1.0
    burst: int = 1
    timed: bool = False
    """Whether answers are timed: one in twenty takes longer than the only bound."""

    def intervals(self, source: random.Random, count: int, at: float = 0.0) -> Iterator[Interval]:
        """So many scrape intervals after `at`."""
        for number in range(1, count + 1):
            yield Interval(
                at=at + number * self.scrape,
                seconds=self.scrape,
                canary=self._tally(source, self.share, self.canary_bad),
                stable=self._tally(source, 1 - self.share, self.stable_bad),
            )

    def _tally(self, source: random.Random, share: float, bad: float) -> Tally:
        requests = around(source, self.per_second * self.scrape * share)
        bursts = binomial(source, requests, bad / self.burst)
        errors = min(bursts * self.burst, requests)
        if not self.timed:
            return Tally(requests=requests, errors=errors)
        quick = requests - binomial(source, requests, SLOW)
        buckets = ((BOUND_SECONDS, quick), (math.inf, requests))
        return Tally(requests=requests, errors=errors, buckets=buckets)


def tenth(seconds: float) -> Planned:
    """A run of so many seconds in a single step, with a tenth of the requests."""
    return Planned(settings=Settings(), steps=((0.1, seconds),), seconds=seconds)


def certified(found: Calibration, past: Past, planned: Planned) -> tuple[Calibration, int]:
    """What the replays make of a calibration, and how often they let other work through."""
    turns, number = replay.certified(found, past, planned), 0
    while True:
        try:
            next(turns)
        except StopIteration as ended:
            told: Calibration = ended.value
            return told, number
        number += 1


LADDER = (0.01, 0.05, 0.10, 0.25, 0.50)


def noticed(
    settings: Settings, intervals: Iterable[Interval], *, warm_up_seconds: float = 0.0
) -> float | None:
    """Scrape time at which a step has shown enough for FAIL; None if it never does."""
    evidence = weight_changed(start(settings), 0.0, warm_up_seconds=warm_up_seconds)
    for interval in intervals:
        evidence = observe(evidence, settings, interval)
        if evidence.trip is not None:
            return interval.at
    return None


def healthy_run(
    source: random.Random,
    settings: Settings,
    traffic: Traffic,
    looks: int,
    ladder: Sequence[float] = LADDER,
) -> bool:
    """Whether a whole ladder with so many looks on each step is rolled back."""
    evidence, at = start(settings), 0.0
    for share in ladder:
        evidence = weight_changed(evidence, at)
        step = replace(traffic, share=share)
        for interval in step.intervals(source, looks, at):
            evidence = observe(evidence, settings, interval)
            at = interval.at
        if evidence.trip is not None:
            return True
    return False


def detection(
    source: random.Random, settings: Settings, bad: Traffic, *, healthy: int = 0, limit: int = 120
) -> tuple[float, Verdict]:
    """Seconds from the scrape that first shows a canary error of the fault to FAIL.

    The fault begins at a random moment within a scrape interval, after so many healthy ones.

    Raises:
        AssertionError: Nothing was detected within `limit` scrapes.
    """
    evidence, at = weight_changed(start(settings), 0.0), 0.0
    good = replace(bad, canary_bad=bad.stable_bad)
    for interval in good.intervals(source, healthy):
        evidence, at = observe(evidence, settings, interval), interval.at
    visible: float | None = None
    onset = replace(bad, canary_bad=bad.canary_bad * source.random())
    for number in range(limit):
        phase = bad if number else onset
        (interval,) = phase.intervals(source, 1, at)
        evidence, at = observe(evidence, settings, interval), interval.at
        if visible is None and interval.canary.errors:
            visible = at
        verdict = judge(evidence, settings, at, gate=Gate(dwell_seconds=1e9))
        if verdict.outcome is Outcome.FAIL and visible is not None:
            return at - visible, verdict
    raise AssertionError("not detected")
