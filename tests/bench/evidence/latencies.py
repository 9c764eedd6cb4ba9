# SPDX-License-Identifier: Apache-2.0
"""How soon slower answers are found, with the regressions of the judge's specification (4.5).

Log-normal answers, 60 ms in the median with a sigma of 0.6, in the bounds that Prometheus' clients
have; 15 s scrapes; the bets learn from an hour of stable's past. *Strict* is the bare latency
process without tolerance, which the specification's table has; *default* the whole composite.
"""

import functools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from controller.core.evidence import eprocess
from controller.core.evidence.checks import Kind, checks
from controller.core.evidence.judge import (
    Evidence,
    Interval,
    Settings,
    Tally,
    observe,
    start,
    weight_changed,
)
from tests.bench.evidence.table import Mean
from tests.core.evidence.traffic import around, binomial

BOUNDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, math.inf,
)  # fmt: skip
MEDIAN: Final = 0.060
SIGMA: Final = 0.6
SCRAPE: Final = 15.0
PAST_SECONDS: Final = 3600.0
MOST_SCRAPES: Final = 400

Shape = tuple[float, ...]
"""Share of the answers in each cell."""


def scaled(factor: float) -> Shape:
    """Everything takes so many times as long."""
    edges = [_below(bound / factor) for bound in BOUNDS]
    return tuple(late - early for early, late in zip((0.0, *edges), edges, strict=False))


def moved(share: float, seconds: float, factor: float = 1.0) -> Shape:
    """Some answers take so long instead, and the others so many times as long as usual."""
    place = next(at for at, bound in enumerate(BOUNDS) if seconds <= bound)
    return tuple(
        part * (1 - share) + (share if at == place else 0.0)
        for at, part in enumerate(scaled(factor))
    )


def _below(seconds: float) -> float:
    if math.isinf(seconds):
        return 1.0
    return 0.5 * math.erfc(-math.log(seconds / MEDIAN) / (SIGMA * math.sqrt(2)))


USUAL: Final = scaled(1.0)

REGRESSIONS: Final[dict[str, Callable[[], Shape]]] = {
    "all x1.1": functools.partial(scaled, 1.1),
    "all x1.25": functools.partial(scaled, 1.25),
    "all x2": functools.partial(scaled, 2.0),
    "1 % take 800 ms": functools.partial(moved, 0.01, 0.8),
    "5 % take 800 ms": functools.partial(moved, 0.05, 0.8),
    "0.3 % time out": functools.partial(moved, 0.003, 30.0),
}

SPECIFIED: Final[dict[tuple[float, float, str], float]] = {
    (100, 0.10, "all x1.1"): 92,
    (100, 0.10, "all x1.25"): 22,
    (100, 0.10, "all x2"): 15,
    (100, 0.10, "1 % take 800 ms"): 56,
    (100, 0.10, "5 % take 800 ms"): 17,
    (100, 0.10, "0.3 % time out"): 121,
    (1000, 0.01, "all x1.1"): 82,
    (1000, 0.01, "all x1.25"): 21,
    (1000, 0.01, "1 % take 800 ms"): 46,
    (1000, 0.01, "0.3 % time out"): 72,
    (10, 0.10, "all x1.1"): 754,
    (10, 0.10, "all x1.25"): 150,
    (10, 0.10, "1 % take 800 ms"): 488,
    (10, 0.10, "0.3 % time out"): 1117,
}
"""Seconds of the strict process in the specification's table: requests/s, share, regression."""

SPECIFIED_RUNS: Final = 400
"""So many runs each of them is the mean of."""

CHANCE: Final = 3.0
"""Standard errors by which one cell of many may seem to be slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Mean seconds until a regression is found; what was not found counts as the whole time."""

    per_second: float
    share: float
    regression: str
    strict: Mean
    default: Mean
    specified: float
    runs: int

    @property
    def ratio(self) -> Mean:
        """The strict process against the specified one, whose runs are taken to scatter as much."""
        error = self.strict.error * math.sqrt(1 + self.runs / SPECIFIED_RUNS)
        return Mean(self.strict.value, error).over(self.specified)

    @property
    def beyond(self) -> float:
        """Standard errors by which the strict process is slower; negative: quicker."""
        slower = self.ratio.value - 1
        if not self.ratio.error:
            return math.copysign(math.inf, slower) if slower else 0.0
        return slower / self.ratio.error


def cells(runs: int) -> Iterator[Found]:
    """The table, each cell with its own seed."""
    for (per_second, share, name), specified in SPECIFIED.items():
        source = random.Random(f"{per_second} {share} {name}")
        known = past(source, per_second)
        strict = Settings(latency_tolerance=1.0, cap_scrapes=1, latency_dispersion=1.0, past=known)
        default = Settings(dispersion=1.0, latency_dispersion=1.0, cap_scrapes=2, past=known)
        shape = REGRESSIONS[name]()
        found = [
            Mean.of([_taken(source, settings, per_second, share, shape, bare=bare)
                     for _ in range(runs)])
            for settings, bare in ((strict, True), (default, False))
        ]  # fmt: skip
        yield Found(
            per_second=per_second,
            share=share,
            regression=name,
            strict=found[0],
            default=found[1],
            specified=specified,
            runs=runs,
        )


def _taken(
    source: random.Random,
    settings: Settings,
    per_second: float,
    share: float,
    shape: Shape,
    *,
    bare: bool,
) -> float:
    """Seconds until the evidence suffices; more than all of them if it never does."""
    evidence = weight_changed(start(settings), 0.0)
    each = per_second * SCRAPE
    for number in range(1, MOST_SCRAPES + 1):
        interval = Interval(
            at=number * SCRAPE,
            seconds=SCRAPE,
            canary=tally(source, each * share, shape),
            stable=tally(source, each * (1 - share), USUAL),
        )
        evidence = observe(evidence, settings, interval)
        if proven(evidence, settings) if bare else evidence.trip is not None:
            return number * SCRAPE
    return (MOST_SCRAPES + 1) * SCRAPE


def proven(evidence: Evidence, settings: Settings) -> bool:
    """Whether the bare latency process suffices for a rollback."""
    for check, process in zip(checks(settings, evidence), evidence.processes, strict=True):
        if check.kind is Kind.LATENCY:
            return eprocess.value(process) >= settings.log_needed
    return False


def past(source: random.Random, per_second: float) -> tuple[tuple[float, int], ...]:
    """Stable's histogram of an hour."""
    return tally(source, per_second * PAST_SECONDS, USUAL).buckets


def tally(source: random.Random, mean_count: float, shape: Shape, bad: float = 0.0) -> Tally:
    """What one track answers, of which so large a share fails, whatever it takes.

    The cells of a Poisson count are Poisson counts that do not depend on each other.
    """
    total, buckets = 0, []
    for bound, part in zip(BOUNDS, shape, strict=True):
        total += around(source, mean_count * part)
        buckets.append((bound, total))
    return Tally(requests=total, errors=binomial(source, total, bad), buckets=tuple(buckets))
