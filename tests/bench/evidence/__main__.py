# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.evidence [--runs N]`: the judge's promises as tables, by simulation.

All seeds are fixed. `docs/evidence.md` says what the tables mean and has those of a long run.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from tests.bench.evidence import (
    cost,
    detection,
    false_rollbacks,
    harm,
    latencies,
    noise,
    promotions,
)
from tests.bench.evidence.peers import PEERS
from tests.bench.evidence.table import mean, median, rows


def _healthy(runs: int) -> Iterator[str]:
    yield f"False rollbacks, healthy, independent errors, 240 looks, 1 to 50 % ({runs} runs a cell)"
    for name in false_rollbacks.CONFIGURATIONS:
        found = list(false_rollbacks.cells(name, runs))
        worst = max(found, key=lambda cell: cell[2].value)
        hits = sum(share.hits for _, _, share in found)
        of = sum(share.of for _, _, share in found)
        yield (
            f"{name}: {hits} of {of}; worst cell {worst[2]} (at most {100 * worst[2].upper:.2f} % "
            f"with 95 % confidence) at {worst[0]:.2%} errors and {worst[1]:g} requests/s"
        )


def _noisy(runs: int) -> Iterator[str]:
    yield f"False rollbacks, healthy, errors that are not independent ({runs} runs each)"
    lines = []
    for name in noise.SCENARIOS:
        share, phi = noise.false_rollbacks(name, runs)
        lines.append((name, f"{phi:.1f}", str(share)))
    yield rows(("scenario", "phi from history", "rolled back"), lines)


def _delays(runs: int) -> Iterator[str]:
    yield f"Scrapes of 15 s until a regression is found, stable at 0.1 % ({runs} runs a cell)"
    found = list(detection.cells(runs))
    yield rows(
        ("requests/s", "share", "errors", "bound", "strict", "default"),
        [
            (
                f"{cell.traffic.per_second:g}",
                f"{cell.traffic.share:.0%}",
                f"{cell.traffic.canary_bad:.1%}",
                f"{cell.bound:.2g}",
                f"{cell.strict:.1f}",
                f"{cell.default:.1f}",
            )
            for cell in found
        ],
    )
    told = [cell for cell in found if cell.told]
    yield (
        f"strict against the bound, where that is at least 4 scrapes ({len(told)} cells): median "
        f"{median([cell.strict / cell.bound for cell in told]):.2f}x, "
        f"worst {max(cell.strict / cell.bound for cell in told):.2f}x"
    )


def _peers(runs: int) -> Iterator[str]:
    yield f"Bad answers until the version is taken away, against the peers' rules ({runs} runs)"
    lines = []
    for rate in harm.RATES:
        for per_second, share in harm.PLACES:
            found = harm.compared(per_second, share, rate, runs)
            ours = found.pop(harm.OURS)
            told = [f"{ours.bad:.0f} in {ours.seconds:.0f} s"]
            for theirs in found.values():
                least = "at least " if theirs.caught < 1 else ""
                told.append(f"{theirs.bad:.0f} ({least}{theirs.bad / max(ours.bad, 1):.1f}x)")
            lines.append((f"{rate:.0%}", f"{per_second:g}", f"{share:.0%}", *told))
    names = [peer.name for peer in PEERS]
    yield rows(("errors", "requests/s", "share", harm.OURS, *names), lines)


def _slower(runs: int) -> Iterator[str]:
    yield f"Seconds until slower answers are found, 15 s scrapes ({runs} runs a cell)"
    found = list(latencies.cells(runs))
    yield rows(
        ("requests/s", "share", "regression", "strict", "specified", "default"),
        [
            (
                f"{cell.per_second:g}",
                f"{cell.share:.0%}",
                cell.regression,
                f"{cell.strict:.0f}",
                f"{cell.specified:.0f}",
                f"{cell.default:.0f}",
            )
            for cell in found
        ],
    )
    ratio = median([cell.strict / cell.specified for cell in found])
    yield f"strict against the specification's table: median {ratio:.2f}x"


def _promoted(runs: int) -> Iterator[str]:
    yield f"Versions that are worse by exactly the margin, and are promoted ({runs} runs a cell)"
    found = [(edge, promotions.worse(*edge, runs)) for edge in promotions.EDGES]
    worst = max(found, key=lambda one: one[1].value)
    hits, of = (sum(getattr(share, name) for _, share in found) for name in ("hits", "of"))
    yield f"{hits} of {of}; worst cell {worst[1]} at (requests/s, base, margin) = {worst[0]}"
    for margin in (0.005, 0.025):
        share, phi = promotions.worse_in_bursts(margin, runs)
        yield f"errors in bursts of 5, phi {phi:.1f}, margin {margin:.1%}: {share}"
    for edge in promotions.SLOW_EDGES:
        told = (f"{promotions.proven_timely(*edge, part, runs)} of {part:g}" for part in (1, 0.5))
        yield f"latency limit proven at (requests/s, allowed) = {edge}: {', '.join(told)}"
    yield ""
    yield f"The ladder by budget, 5 s scrapes, stable at 0.1 % ({runs} runs a cell)"
    lines = []
    for per_second in (10.0, 100.0, 1000.0):
        for bad in (0.001, 0.005, 0.01, 0.05, 0.5):
            climbs = promotions.climbs(per_second, bad, runs)
            promoted = sum(climb.promoted for climb in climbs)
            lines.append(
                (
                    f"{per_second:g}",
                    f"{bad:.1%}",
                    f"{promoted / len(climbs):.0%}",
                    f"{promotions.mean_seconds(climbs):.0f}",
                    f"{mean([climb.bad for climb in climbs]):.0f}",
                )
            )
    yield rows(("requests/s", "errors", "promoted", "seconds", "bad answers beyond stable"), lines)


def _cost(_: int) -> Iterator[str]:
    yield "What one scrape costs"
    for name, found in cost.figures().items():
        with_verdict = (
            f"with a verdict {found.step:.0f} us in a step, {found.bake:.0f} us in the bake"
        )
        yield f"{name}: {found.observe:.0f} us, {with_verdict}; state {found.size} bytes"


PARTS: Final[dict[str, Callable[[int], Iterator[str]]]] = {
    "healthy": _healthy,
    "noise": _noisy,
    "delay": _delays,
    "latency": _slower,
    "promotion": _promoted,
    "peers": _peers,
    "cost": _cost,
}


def main() -> None:
    """Print each table as soon as it is there."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.evidence", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--runs", type=int, default=200, help="runs of each cell (200)")
    told = parser.parse_args()
    unknown = [name for name in told.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    began = time.monotonic()
    for name in told.parts or PARTS:
        for text in PARTS[name](told.runs):
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        sys.stdout.write("\n")
    sys.stdout.write(f"took {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
