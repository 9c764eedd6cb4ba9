# SPDX-License-Identifier: Apache-2.0
"""How soon slower answers are found, with the regressions of the judge's specification (4.5).

Log-normal answers, 60 ms in the median with a sigma of 0.6, in the bounds that Prometheus' clients
have; 15 s scrapes; the bets learn from an hour of stable's past. *Strict* is the bare latency
process without tolerance, which the specification's table has; *default* the whole composite.
"""

import functools
import math
import random
from collections.abc import Callable, Iterator, Sequence
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
from tests.bench.evidence.table import mean
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


def moved(share: float, seconds: float) -> Shape:
    """Some answers take so long instead."""
    place = next(at for at, bound in enumerate(BOUNDS) if seconds <= bound)
    return tuple(
        part * (1 - share) + (share if at == place else 0.0) for at, part in enumerate(scaled(1.0))
    )


def _below(seconds: float) -> float:
    if math.isinf(seconds):
        return 1.0
    return 0.5 * math.erfc(-math.log(seconds / MEDIAN) / (SIGMA * math.sqrt(2)))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Mean seconds until a regression is found; what was not found counts as the whole time."""

    per_second: float
    share: float
    regression: str
    strict: float
    default: float
    specified: float


def cells(runs: int) -> Iterator[Found]:
    """The table, each cell with its own seed."""
    for (per_second, share, name), specified in SPECIFIED.items():
        source = random.Random(f"{per_second} {share} {name}")
        past = _buckets(_drawn(source, per_second * PAST_SECONDS, scaled(1.0)))
        strict = Settings(latency_tolerance=1.0, cap_scrapes=1, latency_dispersion=1.0, past=past)
        default = Settings(dispersion=1.0, latency_dispersion=1.0, cap_scrapes=2, past=past)
        shape = REGRESSIONS[name]()
        yield Found(
            per_second=per_second,
            share=share,
            regression=name,
            strict=mean([_taken(source, strict, per_second, share, shape, bare=True)
                         for _ in range(runs)]),
            default=mean([_taken(source, default, per_second, share, shape, bare=False)
                          for _ in range(runs)]),
            specified=specified,
        )  # fmt: skip


def false_rollbacks(per_second: float, share: float, runs: int, scrapes: int) -> int:
    """Of so many healthy runs those that are rolled back by default."""
    source = random.Random(f"healthy {per_second} {share}")
    past = _buckets(_drawn(source, per_second * PAST_SECONDS, scaled(1.0)))
    settings = Settings(dispersion=1.0, latency_dispersion=1.0, cap_scrapes=2, past=past)
    shape = scaled(1.0)
    took = (
        _taken(source, settings, per_second, share, shape, bare=False, most=scrapes)
        for _ in range(runs)
    )
    return sum(seconds <= scrapes * SCRAPE for seconds in took)


def _taken(
    source: random.Random,
    settings: Settings,
    per_second: float,
    share: float,
    shape: Shape,
    *,
    bare: bool,
    most: int = MOST_SCRAPES,
) -> float:
    """Seconds until the evidence suffices; more than all of them if it never does."""
    evidence = weight_changed(start(settings), 0.0)
    each = per_second * SCRAPE
    for number in range(1, most + 1):
        interval = Interval(
            at=number * SCRAPE,
            seconds=SCRAPE,
            canary=_tally(source, each * share, shape),
            stable=_tally(source, each * (1 - share), scaled(1.0)),
        )
        evidence = observe(evidence, settings, interval)
        if _proven(evidence, settings) if bare else evidence.trip is not None:
            return number * SCRAPE
    return (most + 1) * SCRAPE


def _proven(evidence: Evidence, settings: Settings) -> bool:
    for check, process in zip(checks(settings, evidence), evidence.processes, strict=True):
        if check.kind is Kind.LATENCY:
            return eprocess.value(process) >= settings.log_needed
    return False


def _tally(source: random.Random, mean_count: float, shape: Shape) -> Tally:
    counts = _drawn(source, mean_count, shape)
    return Tally(requests=sum(counts), buckets=_buckets(counts))


def _drawn(source: random.Random, mean_count: float, shape: Shape) -> list[int]:
    """Counts per cell: one binomial after the other, each of what is left."""
    left, rest, counts = around(source, mean_count), 1.0, []
    for part in shape:
        hits = binomial(source, left, min(max(part / rest, 0.0), 1.0)) if rest > 1e-12 else left
        counts.append(hits)
        left, rest = left - hits, rest - part
    return counts


def _buckets(counts: Sequence[int]) -> tuple[tuple[float, int], ...]:
    total, found = 0, []
    for bound, count in zip(BOUNDS, counts, strict=True):
        total += count
        found.append((bound, total))
    return tuple(found)
