# SPDX-License-Identifier: Apache-2.0
"""False rollbacks of healthy canaries: base rate by traffic, 240 looks.

On a ladder of five steps, and at each of its shares from the first look to the last.
"""

import random
from collections.abc import Iterator
from typing import Final

from controller.core.evidence.judge import Settings
from tests.bench.evidence.table import Share
from tests.core.evidence.traffic import LADDER, Traffic, healthy_run

BASES: Final = (0.0001, 0.001, 0.005, 0.01, 0.05)
VOLUMES: Final = (10.0, 100.0, 1000.0, 10000.0)
LOOKS: Final = 48
"""On each step of the ladder, 1 to 50 %."""

FIXED_BASES: Final = (0.0001, 0.005, 0.05)
FIXED_VOLUMES: Final = (10.0, 1000.0)
"""Of the cells that stay at one share."""

CONFIGURATIONS: Final = {
    "strict": Settings(tolerance=1.0, dispersion=1.0, cap_scrapes=1),
    "default": Settings(dispersion=1.0, cap_scrapes=2, dispersion_known=True),
    "no history": Settings(),
}
FIXED: Final = ("strict", "default")
"""Those that are played at one share as well."""


def cells(name: str, runs: int) -> Iterator[tuple[float, float, Share]]:
    """(base rate, requests/s, runs rolled back), every cell with its own seed."""
    settings = CONFIGURATIONS[name]
    for rate in BASES:
        for volume in VOLUMES:
            source = random.Random(f"{rate} {volume}")
            traffic = Traffic(per_second=volume, canary_bad=rate, stable_bad=rate, scrape=15.0)
            lost = sum(healthy_run(source, settings, traffic, LOOKS) for _ in range(runs))
            yield rate, volume, Share(lost, runs)


def fixed(name: str, share: float, runs: int) -> Iterator[tuple[float, float, Share]]:
    """The same where the canary has this share of the requests from the first look to the last."""
    for rate in FIXED_BASES:
        for volume in FIXED_VOLUMES:
            source = random.Random(f"{rate} {volume} {share}")
            traffic = Traffic(per_second=volume, canary_bad=rate, stable_bad=rate, scrape=15.0)
            looks = LOOKS * len(LADDER)
            lost = sum(
                healthy_run(source, CONFIGURATIONS[name], traffic, looks, (share,))
                for _ in range(runs)
            )
            yield rate, volume, Share(lost, runs)
