# SPDX-License-Identifier: Apache-2.0
"""Healthy traffic as it really is: errors in bursts, rates that wander, incidents, unequal pods.

Two equal versions, two canary pods of twenty with a tenth of 200 requests/s, 0.2 % errors, looked
at every 15 s for an hour, with the limit of 5 % that presets have. Phi and k come from six hours of
the stable pods' own past, measured and replayed as the product does it. The scenarios are those of
the judge's specification (4.3 and 4.6), and incidents that break the limit. In two more incidents
are so seldom that phi hardly shows them, and one run is scraped more often than its past is kept.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.core.evidence import calibration
from controller.core.evidence.judge import Interval, Limits, Settings, Tally
from controller.core.evidence.past import Past
from tests.bench.evidence.pasts import Found, Group, Run, played
from tests.bench.evidence.table import Mean, Share
from tests.core.evidence.traffic import around, binomial, certified, noticed, tenth

Count = tuple[int, int]

RUNS_EACH: Final = 25
"""Of one past; each of them is replayed, which costs as much as so many runs."""

HISTORY_SECONDS: Final = 6 * 3600
RUN_SECONDS: Final = 3600
DAY_SECONDS: Final = 86_400
MOST_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Some pods, or all of them, err many times as much for a while."""

    every: float
    """Seconds between two, on average."""
    seconds: float
    factor: float
    common: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How errors come.

    Attributes:
        burst: Mean size of a bunch of errors (geometric).
        gamma: Coefficient of variation of each pod's rate, drawn anew at each scrape.
        wander: Standard deviation of the logarithm of each pod's rate, which has a memory.
        memory: Of that, in seconds.
        spread: The same, drawn once for each pod and kept.
        drift: How far the rate of all pods moves up and down in a day.
        bad_pod: Factor of one pod, drawn for the past and for each run anew.
        anywhere: Whether each pod of the fleet may be that one; else only stable's.
        incident: Errors that come and go.
        skew: Seconds by which the canary's scrapes lag.
        cold: Factor of the canary's pods in the first minute of a run, in which they are warmed up.
    """

    burst: float = 1.0
    gamma: float = 0.0
    wander: float = 0.0
    memory: float = 120.0
    spread: float = 0.0
    drift: float = 0.0
    bad_pod: float = 1.0
    anywhere: bool = False
    incident: Incident | None = None
    skew: float = 0.0
    cold: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Who serves what."""

    canary: int = 2
    stable: int = 18
    per_second: float = 200.0
    bad: float = 0.002
    canary_bad: float | None = None
    """Where the canary is no equal version."""
    share: float | None = None
    """Of the requests that the canary's pods get; None: each pod gets the same."""
    scrape: float = 15.0

    @property
    def pods(self) -> int:
        """All of them."""
        return self.canary + self.stable

    @property
    def each(self) -> list[float]:
        """Requests per second of each pod, the canary's first."""
        if self.share is None:
            return [self.per_second / self.pods] * self.pods
        tracks = ((self.canary, self.share), (self.stable, 1 - self.share))
        return [self.per_second * part / pods for pods, part in tracks for _ in range(pods)]


BAD_ANYWHERE: Final = "one bad pod of many, any of them"
COMMON: Final = Incident(every=1200, seconds=180, factor=20, common=True)
BEYOND_LIMIT: Final = Incident(every=1200, seconds=180, factor=60, common=True)
SCENARIOS: Final[dict[str, tuple[Noise, Fleet]]] = {
    "independent": (Noise(), Fleet()),
    "bursts of 5": (Noise(burst=5), Fleet()),
    "bursts of 20": (Noise(burst=20), Fleet()),
    "gamma rates, CV 1 at each scrape": (Noise(gamma=1), Fleet()),
    "wandering rates, 2 min memory": (Noise(wander=0.7), Fleet()),
    "unequal pods": (Noise(spread=0.2), Fleet()),
    BAD_ANYWHERE: (Noise(bad_pod=5, anywhere=True), Fleet()),
    "one bad pod of many, one of stable's": (Noise(bad_pod=5), Fleet()),
    "common incidents, 20x for 3 min": (Noise(incident=COMMON), Fleet()),
    "common incidents beyond the limit, 60x for 3 min": (Noise(incident=BEYOND_LIMIT), Fleet()),
    "daily drift": (Noise(drift=0.8), Fleet()),
    "incidents of single pods, 50x for 30 s": (
        Noise(incident=Incident(every=7200, seconds=30, factor=50, common=False)),
        Fleet(),
    ),
    "cold pods, 5x for a minute": (Noise(cold=5), Fleet()),
    "misaligned scrapes and common incidents": (
        Noise(incident=COMMON, skew=10),
        Fleet(canary=1, stable=9, per_second=2000),
    ),
}


_SELDOM: Final = Noise(incident=Incident(every=40_000, seconds=30, factor=50, common=False))
SELDOM: Final[dict[str, tuple[Noise, Fleet]]] = {
    "scrapes of 15 s": (_SELDOM, Fleet()),
    "scrapes of 5 s": (_SELDOM, Fleet(scrape=5.0)),
}
"""Twice a day each pod has a bad half minute."""

_ALL: Final = {**SCENARIOS, **SELDOM}

HISTORY_GAP: Final = 15.0
"""Seconds between two samples of a past, however often was scraped."""

COLD_SECONDS: Final = 60.0
LIMITS: Final = Limits(max_error_rate=0.05)


class _World:
    """The rates of all pods, step by step."""

    def __init__(self, source: random.Random, noise: Noise, fleet: Fleet) -> None:
        self._source = source
        self._noise = noise
        self._fleet = fleet
        pods = range(fleet.pods)
        self._kept = [math.exp(source.gauss(0, noise.spread)) for _ in pods]
        # Each with equal chance. The canary's pods are the first, and new in each run.
        first = 0 if noise.anywhere else fleet.canary
        bad = None if noise.bad_pod == 1 else source.randrange(first, fleet.pods)
        if bad is not None:
            self._kept[bad] *= noise.bad_pod
        self.struck = bad is not None and bad < fleet.canary
        self._walk = [source.gauss(0, noise.wander) for _ in pods]
        self._until = [0.0 for _ in pods]
        self._at = self._began = source.random() * DAY_SECONDS

    def step(self, seconds: float) -> list[Count]:
        """(requests, errors) of each pod in the next seconds."""
        self._at += seconds
        self._strike(seconds)
        noise, fleet = self._noise, self._fleet
        shared = 1 + noise.drift * math.sin(2 * math.pi * self._at / DAY_SECONDS)
        worse = fleet.bad if fleet.canary_bad is None else fleet.canary_bad
        bad = [worse if pod < fleet.canary else fleet.bad for pod in range(fleet.pods)]
        return [
            self._served(around(self._source, each), bad[pod] * shared * self._own(pod, seconds))
            for pod, each in enumerate(rate * seconds for rate in fleet.each)
        ]

    def _strike(self, seconds: float) -> None:
        incident = self._noise.incident
        if incident is None:
            return
        chance = seconds / incident.every
        hit = self._source.random() < chance
        for pod in range(self._fleet.pods):
            if hit if incident.common else self._source.random() < chance:
                self._until[pod] = self._at + incident.seconds

    def _own(self, pod: int, seconds: float) -> float:
        noise = self._noise
        factor = self._kept[pod]
        if noise.wander:
            kept = math.exp(-seconds / noise.memory)
            fresh = self._source.gauss(0, noise.wander * math.sqrt(1 - kept * kept))
            self._walk[pod] = kept * self._walk[pod] + fresh
            factor *= math.exp(self._walk[pod] - noise.wander**2 / 2)
        if noise.gamma:
            shape = 1 / noise.gamma**2
            factor *= self._source.gammavariate(shape, 1 / shape)
        if pod < self._fleet.canary and self._at <= self._began + COLD_SECONDS:
            factor *= noise.cold
        if noise.incident is not None and self._at <= self._until[pod]:
            factor *= noise.incident.factor
        return factor

    def _served(self, requests: int, share: float) -> Count:
        noise = self._noise
        if noise.burst == 1:
            return requests, binomial(self._source, requests, min(share, MOST_SHARE))
        bursts = around(self._source, requests * share / noise.burst)
        stop = math.log1p(-1 / noise.burst)
        errors = sum(1 + int(math.log(1 - self._source.random()) / stop) for _ in range(bursts))
        return requests, min(errors, requests)


def history(
    source: random.Random, noise: Noise, fleet: Fleet, *, alone: bool = False
) -> calibration.Calibration:
    """What the product would make of the stable pods' past, or `alone` of their sum."""
    before = replace(fleet, canary=0, share=None, per_second=_stable(fleet))
    world = _World(source, noise, before)
    steps = [world.step(fleet.scrape) for _ in range(int(HISTORY_SECONDS / fleet.scrape))]
    together = max(round(HISTORY_GAP / fleet.scrape), 1)
    parts = [steps[at : at + together] for at in range(0, len(steps), together)]
    rows = {str(pod): [_added(part, [pod]) for part in parts] for pod in range(fleet.stable)}
    if alone:
        rows = {"": [_added(part, range(fleet.stable)) for part in parts]}
    past = Past(rows=rows, gap=fleet.scrape * together)
    run = replace(tenth(RUN_SECONDS), scrape_seconds=fleet.scrape)
    return certified(calibration.of(past, RUN_SECONDS), past, run)[0]


def _stable(fleet: Fleet) -> float:
    """Before a run stable gets what its pods get in one; the rest would only be less noise. Where
    the canary's pods are as many it is everything.
    """
    return fleet.per_second * (fleet.stable / fleet.pods if fleet.share is None else 1.0)


def intervals(source: random.Random, noise: Noise, fleet: Fleet) -> Iterator[Interval]:
    """One run."""
    return _run(_World(source, noise, fleet), fleet, noise.skew)


def _run(world: _World, fleet: Fleet, skew: float) -> Iterator[Interval]:
    # A scrape that lags is one of finer steps.
    parts = round(fleet.scrape / 5) if skew else 1
    lag = round(skew / 5) if skew else 0
    steps = [
        world.step(fleet.scrape / parts)
        for _ in range(int(RUN_SECONDS / fleet.scrape) * parts + lag)
    ]
    for number in range(int(RUN_SECONDS / fleet.scrape)):
        begin = number * parts
        yield Interval(
            at=(number + 1) * fleet.scrape,
            seconds=fleet.scrape,
            canary=_sum(steps[begin + lag : begin + lag + parts], range(fleet.canary)),
            stable=_sum(steps[begin : begin + parts], range(fleet.canary, fleet.pods)),
        )


def _sum(steps: Sequence[Sequence[Count]], pods: range) -> Tally:
    requests, errors = _added(steps, pods)
    return Tally(requests=requests, errors=errors)


def _added(steps: Sequence[Sequence[Count]], pods: Sequence[int]) -> Count:
    counts = [step[pod] for step in steps for pod in pods]
    return sum(c[0] for c in counts), sum(c[1] for c in counts)


def false_rollbacks(name: str, runs: int, *, each: int = RUNS_EACH, alone: bool = False) -> Found:
    """The share of healthy runs that are rolled back, `each` by one past; by its own seed."""
    noise, fleet = _ALL[name]

    def group(number: int) -> Group:
        source = random.Random(f"{name} {number}")
        found = history(source, noise, fleet, alone=alone)
        settings = found.applied(Settings(limits=LIMITS))
        worlds = (_World(source, noise, fleet) for _ in range(each))
        return found, [Run(_lost(settings, world, name), world.struck) for world in worlds]

    return played(runs, each, group)


def unseen(runs: int, *, alone: bool) -> Share:
    """The share of runs rolled back whose canary has the bad pod, and whose past had none."""
    noise, fleet = SCENARIOS[BAD_ANYWHERE]
    hits = 0
    for number in range(runs):
        source = random.Random(f"unseen {number}")
        settings = history(source, replace(noise, bad_pod=1.0), fleet, alone=alone).applied(
            Settings(limits=LIMITS)
        )
        while not (world := _World(source, noise, fleet)).struck:
            pass
        hits += _lost(settings, world, BAD_ANYWHERE)
    return Share(hits, runs)


def _lost(settings: Settings, world: _World, name: str) -> bool:
    noise, fleet = _ALL[name]
    run = _run(world, fleet, noise.skew)
    return noticed(settings, run, warm_up_seconds=COLD_SECONDS) is not None


def found_after(name: str, bad: float, runs: int, *, alone: bool) -> Mean:
    """Scrapes until a canary with so many errors is rolled back, all of them if it never is."""
    noise, fleet = SCENARIOS[name]
    scrapes = []
    for number in range(runs):
        source = random.Random(f"{name} {number}")
        settings = history(source, noise, fleet, alone=alone).applied(Settings(limits=LIMITS))
        run = intervals(source, noise, replace(fleet, canary_bad=bad))
        at = noticed(settings, run, warm_up_seconds=COLD_SECONDS)
        scrapes.append((RUN_SECONDS if at is None else at) / fleet.scrape)
    return Mean.of(scrapes)
