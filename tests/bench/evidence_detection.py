# SPDX-License-Identifier: Apache-2.0
"""Seconds from the first visible error to FAIL, and how the judge does against the lower bound.

Run it with `python -m tests.bench.evidence_detection [runs]`. The bound is log(1/alpha) over the
smallest Kullback-Leibler distance to the hypothesis: no test with this alpha can be quicker on
average. One scrape is needed in any case, so the ratio is told for bounds from four scrapes on.
"""

import math
import random
import sys

from controller.core.evidence.judge import Settings
from tests.core.evidence.traffic import Traffic, detection


def divergence(true: float, false: float) -> float:
    """Kullback-Leibler distance of two coins."""
    return true * math.log(true / false) + (1 - true) * math.log((1 - true) / (1 - false))


def bound(traffic: Traffic, settings: Settings) -> float:
    """Least mean number of scrapes for this alpha, at the tolerance of the settings."""
    canary = traffic.per_second * traffic.scrape * traffic.share
    stable = traffic.per_second * traffic.scrape - canary
    rates = [traffic.stable_bad * (1 + step / 200) for step in range(20000)]
    least = min(
        canary * divergence(traffic.canary_bad, settings.tolerance * rate)
        + stable * divergence(traffic.stable_bad, rate)
        for rate in rates
        if settings.tolerance * rate < traffic.canary_bad
    )
    return settings.log_needed * settings.dispersion / least


def main(runs: int = 60) -> dict[str, float]:
    """Print the table; return the p99 of 50 % errors without and with history, in seconds."""
    figures: dict[str, float] = {}
    for name, settings in (
        ("phi 3, k 3", Settings()),
        ("phi 1, k 2", Settings(dispersion=1.0, cap_scrapes=2)),
    ):
        for rate in (0.5, 0.05, 0.01):
            bad = Traffic(per_second=400, share=0.10, canary_bad=rate, stable_bad=0.001)
            source = random.Random(f"{name} {rate}")
            taken = sorted(detection(source, settings, bad, limit=20000)[0] for _ in range(runs))
            median, late = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
            least = bound(bad, settings)
            ratio = f"{median / least:.2f}x the bound" if least >= 4 else "bound below 4 scrapes"
            sys.stdout.write(
                f"{name}  errors {rate:.0%}: p50 {median:.0f} s  p99 {late:.0f} s  ({ratio})\n"
            )
            figures[f"{name} {rate:.0%} p99"] = late
    return figures


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
