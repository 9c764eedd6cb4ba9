# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench.evidence [--runs N]`: the judge's promises as tables, by simulation.

All seeds are fixed. `docs/evidence.md` says what the tables mean and has those of a long run: what
is printed of a part stands there as it is.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tests.bench.evidence import (
    bursts,
    cost,
    detection,
    false_rollbacks,
    harm,
    healthy,
    latencies,
    noise,
    promotions,
    stalls,
)
from tests.bench.evidence.harm import Harm
from tests.bench.evidence.peers import PEERS
from tests.bench.evidence.table import Mean, Share, median, rows


def _healthy(runs: int) -> Iterator[str]:
    lines = []
    for name in false_rollbacks.CONFIGURATIONS:
        cells = [
            (f"{rate:.2%} errors, {volume:g} requests/s", share)
            for rate, volume, share in false_rollbacks.cells(name, runs)
        ]
        lines.append(_summed(f"errors alone, {name}", cells))
    for name in healthy.CONFIGURATIONS:
        cells = [(f"{volume:g} requests/s", share) for volume, share in healthy.cells(name, runs)]
        lines.append(_summed(name, cells))
    yield rows(("asked for", "rolled back", "worst cell", "at most, 95 % sure"), lines)
    yield healthy.told()


def _summed(name: str, cells: Sequence[tuple[str, Share]]) -> tuple[str, ...]:
    """One line for all cells of a configuration, the worst one with what it may really be."""
    place, worst = max(cells, key=lambda cell: cell[1].value)
    whole = Share(sum(share.hits for _, share in cells), sum(share.of for _, share in cells))
    where = f", {place}" if worst.hits and place else ""
    return (
        name,
        f"{whole.hits} of {whole.of:,}, {whole}",
        f"{worst}{where}",
        f"{100 * worst.upper:.2f} %",
    )


def _noisy(runs: int) -> Iterator[str]:
    lines = []
    for name in noise.SCENARIOS:
        share, phi = noise.false_rollbacks(name, runs)
        lines.append((name, str(phi), str(share), f"{100 * share.upper:.2f} %"))
    yield rows(("scenario", "phi from history", "rolled back", "at most, 95 % sure"), lines)


def _gateways(runs: int) -> Iterator[str]:
    lines = []
    for name in noise.SCENARIOS:
        share, phi = noise.false_rollbacks(name, runs, alone=True)
        found = [
            str(noise.found_after(name, bad, 8, alone=alone))
            for bad in (0.05, 0.5)
            for alone in (True, False)
        ]
        lines.append((name, str(phi), str(share), f"{100 * share.upper:.2f} %", *found))
    found_by = ("5 % found after", "by pods", "50 % found after", "by pods")
    yield rows(("scenario", "phi", "rolled back", "at most, 95 % sure", *found_by), lines)


def _stalled(runs: int) -> Iterator[str]:
    lines = []
    for name in stalls.SCENARIOS:
        told = [stalls.false_rollbacks(name, runs, alone=alone) for alone in (False, True)]
        cells = [
            cell
            for one in told
            for cell in (
                str(one.phi),
                str(one.far),
                str(one.share),
                f"{100 * one.share.upper:.2f} %",
            )
        ]
        found = [str(stalls.found_after(name, slower, 8)) for slower in stalls.REGRESSIONS]
        lines.append((name, *cells, *found))
    by = ("phi", "far out", "rolled back", "at most, 95 % sure")
    alone = ("by a gateway: phi", *by[1:])
    after = [f"{slower} found after" for slower in stalls.REGRESSIONS]
    yield rows(("scenario", *by, *alone, *after), lines)


def _delays(runs: int) -> Iterator[str]:
    found = list(detection.cells(runs))
    yield rows(
        ("requests/s", "share", "errors", "bound", "strict", "default"),
        [
            (
                f"{cell.traffic.per_second:g}",
                f"{cell.traffic.share:.0%}",
                f"{cell.traffic.canary_bad:.1%}",
                f"{cell.bound:.3g}",
                str(cell.strict),
                str(cell.default),
            )
            for cell in found
        ],
    )
    told = [cell.ratio for cell in found if cell.told]
    worst = max(told, key=lambda ratio: ratio.value)
    yield (
        f"Where the bound is at least {detection.LEAST_BOUND:g} scrapes ({len(told)} cells) strict "
        f"takes {median(told)} times\nthe bound in the median, {worst} times in the worst cell."
    )


def _bursty(runs: int) -> Iterator[str]:
    names = tuple(bursts.CONFIGURATIONS)
    yield rows(
        ("one scrape has", "it is number", *names),
        [
            (f"{cell.peak:.1%}", str(cell.place), *(str(cell.taken[name]) for name in names))
            for cell in bursts.cells(runs)
        ],
    )


def _slower(runs: int) -> Iterator[str]:
    found = list(latencies.cells(runs))
    yield rows(
        ("requests/s", "share", "regression", "strict", "reference", "strict/reference", "default"),
        [
            (
                f"{cell.per_second:g}",
                f"{cell.share:.0%}",
                cell.regression,
                str(cell.strict),
                f"{cell.specified:g}",
                str(cell.ratio),
                str(cell.default),
            )
            for cell in found
        ],
    )
    ratios = [cell.ratio for cell in found]
    beyond = [(ratio.value - 1) / ratio.error for ratio in ratios if ratio.value > 1]
    yield (
        f"Strict takes {median(ratios)} times as long as the reference in the median. Slower are "
        f"{len(beyond)} of {len(found)} cells,\nby {max(beyond, default=0.0):.1f} standard errors "
        "at most."
    )


def _promoted(runs: int) -> Iterator[str]:
    cells = []
    for per_second, base, margin in promotions.EDGES:
        place = f"{per_second:g} requests/s, {base:.2%} errors, margin {margin:.1%}"
        cells.append((place, promotions.worse(per_second, base, margin, runs)))
    lines = [_summed("more errors", cells)]
    for margin in (0.005, 0.025):
        share, phi = promotions.worse_in_bursts(margin, runs)
        name = f"more errors in bursts of 5, phi {phi:.1f}, margin {margin:.1%}"
        lines.append(_summed(name, [("", share)]))
    slow, half = [], 0
    for per_second, allowed in promotions.SLOW_EDGES:
        place = f"{per_second:g} requests/s, {allowed:.1%} may be slow"
        slow.append((place, promotions.proven_timely(per_second, allowed, 1.0, runs)))
        half += promotions.proven_timely(per_second, allowed, 0.5, runs).hits
    lines.append(_summed("more slow answers", slow))
    yield rows(("worse by the margin", "promoted", "worst cell", "at most, 95 % sure"), lines)
    yield f"With half as many slow answers {half:,} of {len(slow) * runs:,} keep the limit, proven."


def _ladders(runs: int) -> Iterator[str]:
    lines = []
    for per_second in (10.0, 100.0, 1000.0):
        for bad in (0.001, 0.005, 0.01, 0.05, 0.5):
            climbs = promotions.climbs(per_second, bad, runs)
            lines.append(
                (
                    f"{per_second:g}",
                    f"{bad:.1%}",
                    str(Share(sum(climb.promoted for climb in climbs), runs)),
                    str(Mean.of([climb.seconds for climb in climbs])),
                    str(Mean.of([climb.bad for climb in climbs])),
                )
            )
    yield rows(("requests/s", "errors", "promoted", "seconds", "bad answers beyond stable"), lines)


def _peers(runs: int) -> Iterator[str]:
    lines = []
    for rate in harm.RATES:
        for per_second, share in harm.PLACES:
            found = harm.compared(per_second, share, rate, runs)
            ours = found.pop(harm.OURS)
            told = (f"{ours.bad} in {ours.seconds} s", *map(_beside, found.values()))
            lines.append((f"{rate:.0%}", f"{per_second:g}", f"{share:.0%}", *told))
    names = [peer.name for peer in PEERS]
    yield rows(("errors", "requests/s", "share", harm.OURS, *names), lines)


def _beside(theirs: Harm) -> str:
    least = "at least " if theirs.caught < 1 else ""
    return f"{theirs.bad} ({least}{theirs.times}x)"


def _cost(_: int) -> Iterator[str]:
    figures = cost.figures()
    yield rows(
        (
            "asked for",
            "scrape, us",
            "with a verdict",
            "in the bake",
            "readings, us",
            "all told",
            "of the goal",
            "state, bytes",
        ),
        [
            (
                name,
                f"{found.observe:.0f}",
                f"{found.step:.0f}",
                f"{found.bake:.0f}",
                f"{found.reading:.0f}" if found.reading else "-",
                f"{found.whole:.0f}",
                f"{found.whole / cost.GOAL:.0%}",
                f"{found.size:,}",
            )
            for name, found in figures.items()
        ],
    )
    yield healthy.told()
    whole = figures["everything"].whole
    share = 1000 / cost.SCRAPE_SECONDS * whole / 1e6
    yield (
        f"Everything in the bake, readings included, per {cost.SCRAPE_SECONDS:g} s scrape: "
        f"{whole:.0f} us, {whole / cost.GOAL:.2f} times the goal of\n{cost.GOAL:g} us. "
        f"A thousand such runs take {share:.1%} of a core."
    )


PARTS: Final[dict[str, Callable[[int], Iterator[str]]]] = {
    "healthy": _healthy,
    "noise": _noisy,
    "gateways": _gateways,
    "stalls": _stalled,
    "delay": _delays,
    "burst": _bursty,
    "latency": _slower,
    "promotion": _promoted,
    "ladder": _ladders,
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
        sys.stdout.write(f'`make bench-evidence ARGS="{name} --runs {told.runs}"`\n\n')
        for text in PARTS[name](told.runs):
            sys.stdout.write(f"{text}\n\n")
            sys.stdout.flush()
    sys.stdout.write(f"took {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
