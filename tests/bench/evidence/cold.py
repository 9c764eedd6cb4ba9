# SPDX-License-Identifier: Apache-2.0
"""Healthy versions whose pods fail more often in their first minute, up whole ladders.

The judge alone, with the pods that a ladder starts for its steps: each of twenty gets the same of
its version's requests, is ready 5 s after it was asked for, and carries the weight that there is
from then on, as behind a Service. A weight is in force when it is written and counts 2.5 s later.
Scrapes of 5 s wait for none of it. The past is calm.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from controller.core.evidence.judge import (
    Gate,
    Interval,
    Outcome,
    Tally,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.policy.model import PRESETS, Preset
from controller.core.values import WHOLE_BP
from tests.bench.evidence import promotions
from tests.bench.evidence.promotions import (
    CALM,
    DEADLINE_SECONDS,
    PODS_SECONDS,
    SCRAPE,
    SETTLE_SECONDS,
    WARM_UP,
)
from tests.bench.evidence.table import Mean, Share
from tests.core.evidence.traffic import around

LADDERS: Final = ("auto", "fast", "standard")
PLACES: Final = tuple((volume, bad) for volume in (100.0, 1000.0) for bad in (0.001, 0.002))
"""Requests/s, and the share of them that fails."""

PODS: Final = 20
COLD_SECONDS: Final = 60.0
COLD: Final = 5.0
MOMENT: Final = 0.5
"""Seconds in which nothing changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What comes, and how the pods answer it.

    Attributes:
        per_second: Requests per second of both versions together.
        bad: Share of the answers of warm pods that fail, of either version.
        cold: How many times as many fail of the canary's pods that are younger than a minute.
    """

    per_second: float
    bad: float
    cold: float = COLD


class _World:
    """The canary's pods, and what both versions have answered since the last scrape."""

    def __init__(self, source: random.Random, traffic: Traffic) -> None:
        self._source, self._traffic = source, traffic
        self._started: list[tuple[int, float]] = []
        self._served = {"canary": (0.0, 0.0), "stable": (0.0, 0.0)}
        self._scraped = 0.0
        self.at, self.share = 0.0, 0.0

    @property
    def pods(self) -> int:
        """Of the canary."""
        return sum(pods for pods, _ in self._started)

    def ready(self, pods: int) -> None:
        """So many are there from now on."""
        self._started.append((pods - self.pods, self.at))

    def passes(self, until: float) -> None:
        """Serve until then."""
        while self.at < until:
            span = min(MOMENT, until - self.at)
            served = self._traffic.per_second * span
            self._answer("canary", served * self.share, self._failing())
            self._answer("stable", served * (1 - self.share), self._traffic.bad)
            self.at += span

    def _failing(self) -> float:
        """The share of the canary's answers that fail now."""
        young = sum(n for n, at in self._started if self.at < at + COLD_SECONDS)
        part = young / self.pods if young else 0.0
        return self._traffic.bad * (1 + (self._traffic.cold - 1) * part)

    def _answer(self, track: str, requests: float, bad: float) -> None:
        before = self._served[track]
        self._served[track] = (before[0] + requests, before[1] + requests * bad)

    def scrape(self) -> Interval:
        """What was counted since the last one."""
        tallies = {}
        for track, (requests, bad) in self._served.items():
            errors = around(self._source, bad)
            good = around(self._source, requests - bad)
            tallies[track] = Tally(requests=good + errors, errors=errors)
            self._served[track] = (0.0, 0.0)
        seconds, self._scraped = self.at - self._scraped, self.at
        return Interval(
            at=self.at, seconds=seconds, canary=tallies["canary"], stable=tallies["stable"]
        )


class _Run:
    """One way up, as the machine goes it: pods, weight, evidence."""

    def __init__(self, source: random.Random, traffic: Traffic) -> None:
        self.world = _World(source, traffic)
        self._evidence = start(CALM)
        self._due = SCRAPE * (1 - source.random())

    def climbed(self, ladder: str) -> bool | None:
        """Whether it is promoted; None: a deadline ended it."""
        world = self.world
        for gate, share in _rungs(ladder):
            pods = PODS if gate.proven else -(-round(PODS * share * WHOLE_BP) // WHOLE_BP)
            fresh = pods > world.pods
            if fresh:
                warm = max(self._evidence.warm_until, world.at + WARM_UP)
                self._evidence = structs.replace(self._evidence, warm_until=warm)
                if self._watched(PODS_SECONDS) is Outcome.FAIL:
                    return False
                world.ready(pods)
            world.share = share
            if self._watched(SETTLE_SECONDS) is Outcome.FAIL:
                return False
            self._evidence = weight_changed(
                self._evidence, world.at, warm_up_seconds=WARM_UP * fresh
            )
            found = self._watched(DEADLINE_SECONDS, gate)
            if found is not Outcome.PASS:
                return None if found is Outcome.HOLD else False
        return True

    def _watched(self, seconds: float, gate: Gate | None = None) -> Outcome:
        """What is said within so many seconds: FAIL, or with a gate PASS, as soon as it is so."""
        world, until = self.world, self.world.at + seconds
        while self._due <= until:
            world.passes(self._due)
            self._due += SCRAPE
            self._evidence = observe(self._evidence, CALM, world.scrape())
            if self._evidence.trip is not None:
                return Outcome.FAIL
            if gate is not None:
                found = judge(self._evidence, CALM, world.at, gate=gate)
                if found.outcome is Outcome.PASS:
                    return Outcome.PASS
        world.passes(until)
        return Outcome.HOLD


def _rungs(ladder: str) -> Iterator[tuple[Gate, float]]:
    """What each rung asks for, and its share."""
    if ladder == "auto":
        yield from promotions.rungs()
        return
    policy = PRESETS[Preset(ladder)]
    for step in policy.steps:
        yield Gate(dwell_seconds=step.dwell_seconds), step.weight_bp / WHOLE_BP
    bake = policy.bake
    yield Gate(dwell_seconds=bake.seconds, proven=True), bake.weight_bp / WHOLE_BP


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Many healthy runs.

    Attributes:
        rolled_back: The share that was.
        promoted: The share that was.
        seconds: From the first pods on until either.
    """

    rolled_back: Share
    promoted: Share
    seconds: Mean


def cell(ladder: str, traffic: Traffic, runs: int) -> Cell:
    """So many of them, by its own seed."""
    source = random.Random(f"{ladder} {traffic}")
    ended, seconds = [], []
    for _ in range(runs):
        run = _Run(source, traffic)
        ended.append(run.climbed(ladder))
        seconds.append(run.world.at)
    return Cell(
        rolled_back=Share(ended.count(False), runs),
        promoted=Share(ended.count(True), runs),
        seconds=Mean.of(seconds),
    )
