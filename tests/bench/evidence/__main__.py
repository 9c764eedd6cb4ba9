# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.evidence [part ...]`: the judge's promises as tables, by simulation.

All seeds are fixed. `docs/evidence.md` says what the tables mean and has those of a long run: what
is printed of a part stands there as it is. Each part makes as many runs as it has there, which
takes one to two hours for all of them. At the end the goals of all parts stand in one table, each
with what was measured and whether it is kept. A goal that is missed makes the exit status 1; that
there were too few runs to tell does not.
"""

import argparse
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Final

from tests.bench.evidence import goals
from tests.bench.evidence.goals import Goal
from tests.bench.evidence.parts import PARTS, command

WIDTH: Final = 128
"""Characters of a line of the documents at most."""

RUNS: Final = """runs of each cell, else as many as documented; some parts make a few more, since
those of one past are played together: the command that is printed says how many"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each table as soon as it is there, and the goals when all parts have run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.evidence", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--runs", type=int, help=RUNS)
    told = parser.parse_args(arguments)
    unknown = [name for name in told.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    began, held = time.monotonic(), list[Goal]()
    for name in told.parts or PARTS:
        part = PARTS[name]
        runs = part.whole(told.runs or part.runs)
        sys.stdout.write(f"`{command(name, runs)}`\n\n")
        for found in part.found(runs):
            if isinstance(found, Goal):
                held.append(found)
                continue
            sys.stdout.write(f"{_in_lines(found)}\n\n")
            sys.stdout.flush()
    if held:
        sys.stdout.write(f"{goals.table(held)}\n\n")
    sys.stdout.write(f"took {time.monotonic() - began:.0f} s\n")
    return int(goals.missed(held))


def _in_lines(text: str) -> str:
    """A sentence in lines as the documents have them; a table as it is."""
    return text if text.startswith("|") else textwrap.fill(text, WIDTH, break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(main())
