# SPDX-License-Identifier: Apache-2.0
"""False rollbacks of healthy canaries: base rate by traffic, with seeds, five steps of 48 looks.

Run it with `python -m tests.bench.evidence_false_rollbacks [runs]`. Each cell is the share of runs
in which two equal versions end in a rollback; the promise is alpha = 1 % at most.
"""

import random
import sys
from collections.abc import Iterator

from controller.core.evidence.judge import Settings
from tests.core.evidence.traffic import Traffic, healthy_run

RATES = (0.0001, 0.001, 0.003, 0.005, 0.009)
VOLUMES = (10.0, 100.0, 1000.0)
LOOKS = 48

CONFIGURATIONS = {
    "strict (r0 1, phi 1, k 1)": Settings(tolerance=1.0, dispersion=1.0, cap_scrapes=1),
    "measured (r0 1.25, phi 1, k 2)": Settings(dispersion=1.0, cap_scrapes=2),
    "unknown history (r0 1.25, phi 3, k 3)": Settings(),
}


def cells(settings: Settings, runs: int) -> Iterator[tuple[float, float, float]]:
    """(base rate, requests/s, share of runs rolled back), every cell with its own seed."""
    for rate in RATES:
        for volume in VOLUMES:
            source = random.Random(f"{rate} {volume}")
            traffic = Traffic(per_second=volume, canary_bad=rate, stable_bad=rate, scrape=15.0)
            lost = sum(healthy_run(source, settings, traffic, LOOKS) for _ in range(runs))
            yield rate, volume, lost / runs


def main(runs: int = 100) -> dict[str, float]:
    """Print the grid; return the worst cell of each configuration."""
    worst: dict[str, float] = {}
    for name, settings in CONFIGURATIONS.items():
        found = list(cells(settings, runs))
        worst[name] = max(share for _, _, share in found)
        sys.stdout.write(f"{name}: worst {worst[name]:.2%} of {runs} runs\n")
        for rate, volume, share in found:
            sys.stdout.write(f"  base {rate:.2%}  {volume:6.0f} requests/s  {share:.2%}\n")
    return worst


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
