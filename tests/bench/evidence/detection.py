# SPDX-License-Identifier: Apache-2.0
"""How soon a regression is found, against the information bound.

No test with this alpha finds a regression sooner on average than log(1/alpha) over the smallest
Kullback-Leibler distance from it to the hypothesis. One scrape is needed in any case, so ratios are
told for bounds from four scrapes on. *Strict* is the bare relative error process with a tolerance
of 1 and no cap; *default* is the whole composite as a run with a calm history has it.
"""

import functools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from controller.core.evidence import eprocess
from controller.core.evidence.judge import Evidence, Settings, observe, start, weight_changed
from tests.bench.evidence.table import Mean
from tests.core.evidence.traffic import Traffic

SCRAPE: Final = 15.0
STABLE_BAD: Final = 0.001
VOLUMES: Final = (10.0, 100.0, 1000.0)
SHARES: Final = (0.01, 0.05, 0.10, 0.50)
RATES: Final = (0.005, 0.01, 0.05, 0.5)
LEAST_BOUND: Final = 4.0
MOST_SCRAPES: Final = 4000

STRICT: Final = Settings(tolerance=1.0, dispersion=1.0, cap_scrapes=1)
DEFAULT: Final = Settings(dispersion=1.0, cap_scrapes=2, dispersion_known=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One regression in one place; scrapes on average, and of the bound at least so many."""

    traffic: Traffic
    bound: float
    strict: Mean
    default: Mean

    @property
    def ratio(self) -> Mean:
        """The strict process against the bound."""
        return self.strict.over(self.bound)

    @property
    def told(self) -> bool:
        """Whether a ratio to the bound means something."""
        return self.bound >= LEAST_BOUND


def divergence(true: float, false: float) -> float:
    """Kullback-Leibler distance of two coins, in nats."""
    return true * math.log(true / false) + (1 - true) * math.log((1 - true) / (1 - false))


@functools.cache
def bound(traffic: Traffic, tolerance: float, alpha: float) -> float:
    """Least mean number of scrapes for this alpha."""
    canary = traffic.per_second * traffic.scrape * traffic.share
    stable = traffic.per_second * traffic.scrape - canary
    rates = [traffic.stable_bad * (1 + step / 200) for step in range(200000)]
    least = min(
        canary * divergence(traffic.canary_bad, tolerance * rate)
        + stable * divergence(traffic.stable_bad, rate)
        for rate in rates
        if tolerance * rate < traffic.canary_bad
    )
    return -math.log(alpha) / least


def taken(source: random.Random, settings: Settings, traffic: Traffic, *, bare: bool) -> int:
    """Scrapes until the evidence suffices; `bare`: of the relative error process alone."""
    evidence: Evidence = weight_changed(start(settings), 0.0)
    for number, interval in enumerate(traffic.intervals(source, MOST_SCRAPES), start=1):
        evidence = observe(evidence, settings, interval)
        found = eprocess.value(evidence.fast) >= settings.log_needed if bare else evidence.trip
        if found:
            return number
    return MOST_SCRAPES


def cells(runs: int, rates: tuple[float, ...] = RATES) -> Iterator[Cell]:
    """The grid, each cell with its own seed; what the bound puts beyond half the limit is left."""
    for volume in VOLUMES:
        for share in SHARES:
            for rate in rates:
                traffic = Traffic(
                    per_second=volume,
                    share=share,
                    canary_bad=rate,
                    stable_bad=STABLE_BAD,
                    scrape=SCRAPE,
                )
                least = bound(traffic, STRICT.tolerance, STRICT.alpha)
                if least > MOST_SCRAPES / 4:
                    continue
                source = random.Random(f"{volume} {share} {rate}")
                found = [
                    Mean.of([taken(source, settings, traffic, bare=bare) for _ in range(runs)])
                    for settings, bare in ((STRICT, True), (DEFAULT, False))
                ]
                yield Cell(traffic=traffic, bound=least, strict=found[0], default=found[1])
