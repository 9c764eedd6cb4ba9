# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.evidence [--runs N]`: the judge's promises as tables, by simulation.

All seeds are fixed. `docs/evidence.md` says what the tables mean and has those of a long run: what
is printed of a part stands there as it is. At the end the goals of all parts stand in one table,
each with what was measured and whether it is kept.
"""

import argparse
import sys
import time

from tests.bench.evidence import goals
from tests.bench.evidence.goals import Goal
from tests.bench.evidence.parts import PARTS


def main() -> None:
    """Print each table as soon as it is there, and the goals when all parts have run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.evidence", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--runs", type=int, default=200, help="runs of each cell (200)")
    told = parser.parse_args()
    unknown = [name for name in told.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    began, held = time.monotonic(), list[Goal]()
    for name in told.parts or PARTS:
        sys.stdout.write(f'`make bench-evidence ARGS="{name} --runs {told.runs}"`\n\n')
        for found in PARTS[name](told.runs):
            if isinstance(found, Goal):
                held.append(found)
                continue
            sys.stdout.write(f"{found}\n\n")
            sys.stdout.flush()
    if held:
        sys.stdout.write(f"{goals.table(held)}\n\n")
    sys.stdout.write(f"took {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
