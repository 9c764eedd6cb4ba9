# SPDX-License-Identifier: Apache-2.0
"""How soon a small regression is found if one scrape of it was very bad.

1,000 requests of each version in a scrape, 1 % errors of stable's and 1.8 % of the canary's, but
for one scrape. The cap takes from all bets alike what is too much of that, and leaves those on
small regressions with little.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controller.core.evidence.judge import Interval, Settings, Tally, observe, start, weight_changed
from tests.bench.evidence.table import Mean
from tests.core.evidence.traffic import binomial

REQUESTS: Final = 1000
STABLE_BAD: Final = 0.01
CANARY_BAD: Final = 0.018
PEAKS: Final = (CANARY_BAD, 0.03, 0.06, 0.10, 0.30)
PLACES: Final = (1, 8)
"""The number of the scrape that is worse."""
MOST_SCRAPES: Final = 400

CONFIGURATIONS: Final[Mapping[str, Settings]] = {
    "default": Settings(dispersion=1.0, cap_scrapes=2, dispersion_known=True),
    "no history": Settings(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Scrapes until the evidence suffices, on average, by the name of the settings."""

    peak: float
    place: int
    taken: Mapping[str, Mean]


def cells(runs: int, peaks: tuple[float, ...] = PEAKS) -> Iterator[Burst]:
    """The table, each run with its own seed, which does not depend on the settings."""
    for peak in peaks:
        for place in PLACES if peak > CANARY_BAD else PLACES[:1]:
            yield Burst(
                peak=peak,
                place=place,
                taken={
                    name: Mean.of([_taken(settings, peak, place, run) for run in range(runs)])
                    for name, settings in CONFIGURATIONS.items()
                },
            )


def _taken(settings: Settings, peak: float, place: int, run: int) -> int:
    source = random.Random(f"{peak} {place} {run}")
    evidence = weight_changed(start(settings), 0.0)
    for number in range(1, MOST_SCRAPES + 1):
        chance = peak if number == place else CANARY_BAD
        counts = [
            Tally(requests=REQUESTS, errors=binomial(source, REQUESTS, bad))
            for bad in (chance, STABLE_BAD)
        ]
        interval = Interval(at=15.0 * number, seconds=15.0, canary=counts[0], stable=counts[1])
        evidence = observe(evidence, settings, interval)
        if evidence.trip is not None:
            return number
    return MOST_SCRAPES
