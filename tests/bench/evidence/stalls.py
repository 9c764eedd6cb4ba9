# SPDX-License-Identifier: Apache-2.0
"""Healthy traffic whose slow answers come as they really do: time-outs in bunches, pods that stall.

Two equal versions, two canary pods of twenty with a tenth of 200 requests/s, log-normal answers of
60 ms in the median in the bounds that Prometheus' clients have, 0.2 % errors that are independent,
looked at every 15 s for an hour, every second time with a limit for latency. Phi and k come from
six hours of errors and one hour of times of the stable pods' own past, measured and replayed as the
product does it.
"""

import functools
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.core.evidence import calibration, past
from controller.core.evidence.judge import Interval, Limits, Settings, Tally
from controller.core.evidence.past import Past
from controller.core.evidence.replay import Planned
from tests.bench.evidence.latencies import BOUNDS, Shape, moved, scaled
from tests.bench.evidence.pasts import Found, Group, Run, played
from tests.bench.evidence.table import Mean, Share
from tests.core.evidence.traffic import around, binomial, certified, noticed

CANARY: Final = 2
STABLE: Final = 18
PODS: Final = CANARY + STABLE
PER_SECOND: Final = 200.0
BAD: Final = 0.002
SCRAPE: Final = 15.0
EACH: Final = PER_SECOND * SCRAPE / PODS
"""Requests of a pod in a scrape interval."""

RUNS_EACH: Final = 10
"""Of one past; each of them is replayed, which costs more than so many runs."""

COUNTED_SECONDS: Final = 6 * 3600
TIMED_SECONDS: Final = 3600
RUN_SECONDS: Final = 3600

UNLIMITED: Final = Limits(max_error_rate=0.05)
LIMITED: Final = Limits(max_error_rate=0.05, latency=((0.5, 0.01),))
"""99 of 100 within half a second; without noise 2 in 10,000 are slower."""

Cells = list[int]
"""Answers of each cell of the histogram."""

Version = Callable[[float], Shape]
"""How long answers take of a pod that takes so many times as long as usual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """How slow answers come.

    Attributes:
        bunched: Share of answers that take so long in bunches: all of a bunch from one pod.
        bunch: Mean size of a bunch (geometric).
        bunch_seconds: How long its answers take.
        every: Seconds between two stalls of a pod, on average; 0: none stalls.
        stall_seconds: How long one lasts. Whatever comes meanwhile waits for its end.
        factor: Times as long as usual the answers of one pod take, drawn for the past and for each
            run anew.
        anywhere: Whether each pod of the fleet may be that one; else only stable's.
        wander: Standard deviation of the logarithm of each pod's times, which have a memory.
        memory: Of that, in seconds.
        spread: The same, drawn once for each pod and kept.
        common_every: Seconds between two incidents that make both versions slow; 0: none.
        common_seconds: How long one lasts.
        common_factor: Times as long as usual everything takes then.
    """

    bunched: float = 0.0
    bunch: float = 20.0
    bunch_seconds: float = 30.0
    every: float = 0.0
    stall_seconds: float = 5.0
    factor: float = 1.0
    anywhere: bool = False
    wander: float = 0.0
    memory: float = 120.0
    spread: float = 0.0
    common_every: float = 0.0
    common_seconds: float = 180.0
    common_factor: float = 1.0


SLOW_ANYWHERE: Final = "one slow pod of many, x3, any of them"
SCENARIOS: Final[dict[str, Slow]] = {
    "independent": Slow(),
    "0.02 % time out, in bunches of 20": Slow(bunched=0.0002),
    "0.05 % time out, in bunches of 20": Slow(bunched=0.0005),
    "0.2 % time out, in bunches of 20": Slow(bunched=0.002),
    "0.05 % take 0.4 s, in bunches of 20": Slow(bunched=0.0005, bunch_seconds=0.4),
    "pods stall, 5 s every 20 min": Slow(every=1200),
    "pods stall, 30 s every 2 h": Slow(every=7200, stall_seconds=30),
    "pods stall, 1 s every 5 min": Slow(every=300, stall_seconds=1),
    SLOW_ANYWHERE: Slow(factor=3, anywhere=True),
    "one slow pod of many, x3, one of stable's": Slow(factor=3),
    "wandering times, 2 min memory": Slow(wander=0.1),
    "unequal pods": Slow(spread=0.03),
    "common slow incidents, x5 for 3 min": Slow(common_every=1200, common_factor=5),
}


class _World:
    """The answers of all pods, step by step. The canary's, new in each run, are the first."""

    def __init__(self, source: random.Random, slow: Slow, canary: int) -> None:
        pods = canary + STABLE
        self._source = source
        self._slow = slow
        self._kept = [source.gauss(0, slow.spread) for _ in range(pods)]
        # Each with equal chance.
        bad = None if slow.factor == 1 else source.randrange(0 if slow.anywhere else canary, pods)
        if bad is not None:
            self._kept[bad] += math.log(slow.factor)
        self.struck = bad is not None and bad < canary
        self._walk = [source.gauss(0, slow.wander) for _ in range(pods)]
        self._until = -math.inf
        self._at = 0.0

    def step(self, groups: Sequence[range], versions: Sequence[Version]) -> list[Cells]:
        """What each of these groups of pods answers in the next scrape interval.

        Args:
            groups: Pods, each in one group.
            versions: Of each group.
        """
        slow, source = self._slow, self._source
        self._at += SCRAPE
        if slow.common_every and source.random() < SCRAPE / slow.common_every:
            self._until = self._at + slow.common_seconds
        shared = slow.common_factor if self._at <= self._until else 1.0
        self._drift()
        return [
            self._answered(group, version, shared)
            for group, version in zip(groups, versions, strict=True)
        ]

    def _drift(self) -> None:
        slow = self._slow
        if slow.wander:
            kept = math.exp(-SCRAPE / slow.memory)
            fresh = slow.wander * math.sqrt(1 - kept * kept)
            self._walk = [kept * known + self._source.gauss(0, fresh) for known in self._walk]

    def _answered(self, pods: range, version: Version, shared: float) -> Cells:
        found = [0] * len(BOUNDS)
        ordinary = 0
        for pod in pods:
            own = math.exp(self._kept[pod] + self._walk[pod]) * shared
            if own == 1.0:
                ordinary += 1
            else:
                self._add(found, version(own), EACH)
        if ordinary:
            self._add(found, version(1.0), EACH * ordinary)
        self._bunches(found, len(pods))
        self._stalls(found, len(pods))
        return found

    def _add(self, found: Cells, shape: Shape, mean: float) -> None:
        for place, part in enumerate(shape):
            if part:
                found[place] += around(self._source, mean * part)

    def _bunches(self, found: Cells, pods: int) -> None:
        slow, source = self._slow, self._source
        if not slow.bunched:
            return
        stop = math.log1p(-1 / slow.bunch)
        place = _cell(slow.bunch_seconds)
        for _ in range(around(source, EACH * pods * slow.bunched / slow.bunch)):
            found[place] += 1 + int(math.log(1 - source.random()) / stop)

    def _stalls(self, found: Cells, pods: int) -> None:
        """What comes in a stall waits as long as it still lasts, on top of what it takes."""
        slow, source = self._slow, self._source
        if not slow.every:
            return
        for _ in range(around(source, pods * SCRAPE / slow.every)):
            for _ in range(around(source, EACH * slow.stall_seconds / SCRAPE)):
                found[_cell(slow.stall_seconds * source.random() + 0.06)] += 1


def _cell(seconds: float) -> int:
    return next(place for place, bound in enumerate(BOUNDS) if seconds <= bound)


def _tally(source: random.Random, cells: Cells) -> Tally:
    counts = tuple(itertools.accumulate(cells))
    return Tally(
        requests=counts[-1],
        errors=binomial(source, counts[-1], BAD),
        buckets=tuple(zip(BOUNDS, counts, strict=True)),
    )


def history(
    source: random.Random, slow: Slow, limits: Limits, *, alone: bool
) -> calibration.Calibration:
    """What the product would make of the stable pods' past, or `alone` of their sum."""
    world = _World(source, slow, 0)
    groups = [range(STABLE)] if alone else [range(pod, pod + 1) for pod in range(STABLE)]
    versions = [scaled] * len(groups)
    timed: dict[str, list[Tally]] = {str(number): [] for number in range(len(groups))}
    for _ in range(int(TIMED_SECONDS / SCRAPE)):
        for row, cells in zip(timed.values(), world.step(groups, versions), strict=True):
            row.append(_tally(source, cells))
    each = EACH * STABLE / len(groups)
    rows = {pod: [*_counted(source, each, len(timed[pod])), *map(_count, timed[pod])]
            for pod in timed}  # fmt: skip
    known = past.with_times(Past(rows=rows, gap=SCRAPE), timed, SCRAPE)
    planned = Planned(
        settings=Settings(limits=limits), steps=((0.1, RUN_SECONDS),), seconds=RUN_SECONDS
    )
    return certified(calibration.of(known, RUN_SECONDS), known, planned)[0]


def _counted(source: random.Random, each: float, timed: int) -> Iterator[tuple[int, int]]:
    """The hours before, of which only errors are known."""
    for _ in range(int(COUNTED_SECONDS / SCRAPE) - timed):
        requests = around(source, each)
        yield requests, binomial(source, requests, BAD)


def _count(tally: Tally) -> tuple[int, int]:
    return tally.requests, tally.errors


def intervals(source: random.Random, slow: Slow, canary: Version = scaled) -> Iterator[Interval]:
    """One run."""
    return _run(_World(source, slow, CANARY), source, canary)


def _run(world: _World, source: random.Random, canary: Version = scaled) -> Iterator[Interval]:
    groups = [range(CANARY), range(CANARY, PODS)]
    for number in range(int(RUN_SECONDS / SCRAPE)):
        tallies = [_tally(source, cells) for cells in world.step(groups, (canary, scaled))]
        yield Interval(
            at=(number + 1) * SCRAPE, seconds=SCRAPE, canary=tallies[0], stable=tallies[1]
        )


def false_rollbacks(name: str, runs: int, *, each: int = RUNS_EACH, alone: bool = False) -> Found:
    """The share of healthy runs that are rolled back, `each` by one past; by its own seed."""
    slow = SCENARIOS[name]

    def group(number: int) -> Group:
        source = random.Random(f"{name} {number}")
        limits = LIMITED if number % 2 else UNLIMITED
        found = history(source, slow, limits, alone=alone)
        settings = found.applied(Settings(limits=limits))
        worlds = (_World(source, slow, CANARY) for _ in range(each))
        return found, [Run(_lost(settings, world, source), world.struck) for world in worlds]

    return played(runs, each, group)


def unseen(runs: int, *, alone: bool) -> Share:
    """The share of runs rolled back whose canary has the slow pod, and whose past had none."""
    slow = SCENARIOS[SLOW_ANYWHERE]
    hits = 0
    for number in range(runs):
        source = random.Random(f"unseen {number}")
        found = history(source, replace(slow, factor=1.0), UNLIMITED, alone=alone)
        settings = found.applied(Settings(limits=UNLIMITED))
        while not (world := _World(source, slow, CANARY)).struck:
            pass
        hits += _lost(settings, world, source)
    return Share(hits, runs)


def _lost(settings: Settings, world: _World, source: random.Random) -> bool:
    return noticed(settings, _run(world, source)) is not None


REGRESSIONS: Final[dict[str, Version]] = {
    "all x1.25": lambda factor: scaled(1.25 * factor),
    "1 % time out": functools.partial(moved, 0.01, 30.0),
    "5 % time out": functools.partial(moved, 0.05, 30.0),
}


def found_after(name: str, regression: str, runs: int) -> Mean:
    """Scrapes until a gateway's canary that is slower so is rolled back, all if it never is."""
    slow, canary, scrapes = SCENARIOS[name], REGRESSIONS[regression], []
    for number in range(runs):
        source = random.Random(f"{name} {number}")
        found = history(source, slow, UNLIMITED, alone=True)
        settings = found.applied(Settings(limits=UNLIMITED))
        at = noticed(settings, intervals(source, slow, canary))
        scrapes.append((RUN_SECONDS if at is None else at) / SCRAPE)
    return Mean.of(scrapes)
