# SPDX-License-Identifier: Apache-2.0
"""The parts of the evidence: what each computes, as tables and as the goals that it answers.

A part computes its figures once. What it yields is text, to be shown as soon as it is there, or a
goal, to be shown with those of the other parts.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from tests.bench.evidence import (
    bursts,
    cold,
    cost,
    detection,
    feeding,
    goals,
    harm,
    healthy,
    latencies,
    noise,
    promotions,
    rollbacks,
    stalls,
)
from tests.bench.evidence.cost import Cost
from tests.bench.evidence.goals import Found, Goal, Verdict
from tests.bench.evidence.harm import Harm
from tests.bench.evidence.pasts import GATEWAY_RUNS_EACH
from tests.bench.evidence.peers import ARGO_TIGHT, DOCUMENTED, PEERS
from tests.bench.evidence.table import Cells, Mean, Share, median, placed, rows, summed

NOISY_PART: Final = 16
"""Of versions at the edge of the margin so many times fewer runs are made where each past of theirs
is replayed."""


def _delays(runs: int) -> Found:
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
    middle, worst = median(told), max(told, key=lambda ratio: ratio.value)
    yield (
        f"Where the bound is at least {detection.LEAST_BOUND:g} scrapes ({len(told)} cells) strict "
        f"takes {middle} times the bound in the median, {worst} times in the worst cell."
    )
    yield Goal(
        what=(
            "scrapes until more errors are found, strict, against the bound, where that is at "
            f"least {detection.LEAST_BOUND:g} ({len(told)} of {len(found)} cells)"
        ),
        reach=f"<= {goals.NEAR:g}x in the median",
        measured=f"{middle}x",
        verdict=goals.at_most(middle, goals.NEAR),
    )


def _bursty(runs: int) -> Found:
    names = tuple(bursts.CONFIGURATIONS)
    yield rows(
        ("one scrape has", "it is number", *names),
        [
            (f"{cell.peak:.1%}", str(cell.place), *(str(cell.taken[name]) for name in names))
            for cell in bursts.cells(runs)
        ],
    )


def _slower(runs: int) -> Found:
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
    middle = median(cell.ratio for cell in found)
    beyond = [cell.beyond for cell in found if cell.beyond > 0]
    most = max(beyond, default=0.0)
    yield (
        f"Strict takes {middle} times as long as the reference in the median. Slower are "
        f"{len(beyond)} of {len(found)} cells, by {most:.1f} standard errors at most."
    )
    slower = sum(errors > latencies.CHANCE for errors in beyond)
    yield Goal(
        what="seconds until slower answers are found, strict, against the reference",
        reach="<= 1x, no cell slower by more than chance",
        measured=f"{middle}x in the median, {slower} of {len(found)} cells slower by that much",
        verdict=Verdict.MISSED if slower else goals.at_most(middle, 1.0),
    )


def _promoted(runs: int) -> Found:
    found: dict[str, Cells] = {"more errors": []}
    for edge in promotions.EDGES:
        found["more errors"].append((_edge(edge), promotions.worse(*edge, runs)))
    for name in promotions.NOISES:
        found[f"more errors, {name}"] = [
            (_edge(edge), promotions.worse_in_noise(name, edge, runs // NOISY_PART))
            for edge in promotions.NOISY_EDGES
        ]
    slow, half = Cells(), 0
    for per_second, allowed in promotions.SLOW_EDGES:
        place = f"{per_second:g} requests/s, {allowed:.1%} may be slow"
        slow.append((place, promotions.proven_timely(per_second, allowed, 1.0, runs)))
        half += promotions.proven_timely(per_second, allowed, 0.5, runs).hits
    found["more slow answers"] = slow
    lines = [summed(name, cells) for name, cells in found.items()]
    yield rows(("worse by the margin", "promoted", "worst cell", "at most, 95 % sure"), lines)
    yield f"With half as many slow answers {half:,} of {len(slow) * runs:,} keep the limit, proven."
    yield goals.each("versions worse by the margin promoted", goals.WORSE, placed(found))


def _edge(edge: promotions.Edge) -> str:
    per_second, base, margin = edge
    return f"{per_second:g} requests/s, {base:.2%} errors, margin {margin:.1%}"


def _ladders(runs: int) -> Found:
    lines, in_order = [], []
    for per_second in promotions.VOLUMES:
        for bad in (promotions.STABLE_BAD, 0.005, 0.01, 0.05, 0.5):
            climbs = promotions.climbs(per_second, bad, runs)
            promoted = Share(sum(climb.promoted for climb in climbs), runs)
            seconds = Mean.of([climb.seconds for climb in climbs])
            harm_done = Mean.of([climb.bad for climb in climbs])
            told = (str(promoted), str(seconds), str(harm_done))
            lines.append((f"{per_second:g}", f"{bad:.1%}", *told))
            if bad == promotions.STABLE_BAD and per_second >= goals.BUSY:
                in_order.append((seconds, promoted, per_second))
    yield rows(("requests/s", "errors", "promoted", "seconds", "bad answers beyond stable"), lines)
    longest, promoted, per_second = max(in_order, key=lambda one: one[0].value)
    yield Goal(
        what=f"seconds until a healthy version is promoted, `steps: auto`, >= {goals.BUSY:g}/s",
        reach=f"<= {goals.SOON_SECONDS:g} s",
        measured=f"{longest} s at {per_second:g} requests/s, {promoted} promoted",
        verdict=goals.at_most(longest, goals.SOON_SECONDS),
    )


_Place: TypeAlias = tuple[float, float, float]
"""(errors, requests/s, share)."""


def _cold(runs: int) -> Found:
    lines, cells = [], []
    for ladder in cold.LADDERS:
        for per_second, bad in cold.PLACES:
            traffic = cold.Traffic(per_second=per_second, bad=bad)
            found = cold.cell(ladder, traffic, runs)
            warm = cold.cell(ladder, replace(traffic, cold=1.0), runs)
            place = (ladder, f"{per_second:g}", f"{bad:.1%}")
            lost = found.rolled_back
            times = (str(found.promoted), str(found.seconds), str(warm.seconds))
            lines.append((*place, str(lost), lost.at_most, *times))
            where = f"{ladder}, {per_second:g} requests/s, {bad:.1%} errors"
            cells.append((where, lost))
    told = ("rolled back", "at most, 95 % sure", "promoted", "seconds", "seconds if never cold")
    yield rows(("ladder", "requests/s", "errors", *told), lines)
    yield goals.each("healthy versions rolled back, pods start badly", goals.PROMISED, cells)


def _peers(runs: int) -> Found:
    found: dict[_Place, dict[str, Harm]] = {
        (rate, per_second, share): harm.compared(per_second, share, rate, runs)
        for rate in harm.RATES
        for per_second, share in (*harm.BESIDE, *harm.PLACES)
    }
    lines = []
    for (rate, per_second, share), judges in found.items():
        ours = judges[harm.OURS]
        beside = [f"{judges[peer.name].bad} ({_times(judges[peer.name])})" for peer in PEERS]
        told = (f"{ours.bad} in {ours.seconds} s", *beside)
        lines.append((f"{rate:.0%}", f"{per_second:g}", f"{share:.0%}", *told))
    names = [peer.name for peer in PEERS]
    yield rows(("errors", "requests/s", "share", harm.OURS, *names), lines)
    lines = []
    for bad, per_second, share in harm.HEALTHY:
        by = harm.rolled_back(per_second, share, bad, runs)
        shares = [str(one) for one in by.values()]
        lines.append((f"{bad:.1%}", f"{per_second:g}", f"{share:.0%}", *shares))
    yield rows(("healthy, errors", "requests/s", "share", harm.OURS, *names), lines)
    for rate, fewer in goals.FEWER.items():
        counted = {
            place: judges
            for place, judges in found.items()
            if place[0] == rate and place[1:] in harm.PLACES
        }
        yield _fewer(rate, fewer, counted)


def _times(theirs: Harm) -> str:
    least = "at least " if theirs.caught < 1 else ""
    return f"{least}{theirs.times}x"


def _fewer(rate: float, fewer: float, found: Mapping[_Place, Mapping[str, Harm]]) -> Goal:
    """By the place and the documented configuration that let through the fewest beside ours."""
    compared = [
        (judges[peer.name], f"{peer.name}, {per_second:g} requests/s, {share:.0%}")
        for (_, per_second, share), judges in found.items()
        for peer in DOCUMENTED
    ]
    least, place = min(compared, key=lambda one: one[0].times.value)
    tight = min(
        (judges[ARGO_TIGHT.name] for judges in found.values()), key=lambda one: one.times.value
    )
    return Goal(
        what=(
            f"bad answers by the peers' documented configurations against ours, {rate:.0%} errors, "
            "100 and 1,000 requests/s of which the canary has 5 and 10 %"
        ),
        reach=f">= {fewer:g}x",
        measured=(
            f"{_times(least)} ({place}); not counted, since no peer documents it: {_times(tight)} "
            f"({ARGO_TIGHT.name})"
        ),
        verdict=goals.at_least(least.times, fewer),
    )


def _cost(_: int) -> Found:
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
    dearest = figures[cost.EVERYTHING]
    whole, fed = dearest.whole, feeding.microseconds()
    yield (
        f"Everything in the bake, readings included, per {cost.SCRAPE_SECONDS:g} s scrape: "
        f"{whole:.0f} us, {whole / cost.GOAL:.2f} times the goal of {cost.GOAL:g} us. "
        f"Reading the scrape, from the store's answer on: {fed:.0f} us. "
        f"Judging a thousand such runs takes {_of_a_core(whole):.1%} of a core, reading their "
        f"scrapes {_of_a_core(fed):.1%}."
    )
    yield from _affordable(dearest, fed)


def _of_a_core(microseconds: float) -> float:
    """What a thousand runs take, each so much for a scrape."""
    return 1000 / cost.SCRAPE_SECONDS * microseconds / 1e6


def _affordable(dearest: Cost, fed: float) -> Iterator[Goal]:
    """The goals of what asks for the most."""
    share = _of_a_core(dearest.whole + fed)
    yield Goal(
        what=f"a thousand runs read and judged, {cost.SCRAPE_SECONDS:g} s scrapes of a gateway",
        reach=f"<= {cost.CORE:.0%} of a core",
        measured=f"{share:.1%}",
        verdict=goals.plain(kept=share <= cost.CORE),
    )
    yield Goal(
        what="judging a scrape, everything asked for",
        reach=f"<= {cost.GOAL:g} us",
        measured=f"{dearest.whole:.0f} us",
        verdict=goals.plain(kept=dearest.whole <= cost.GOAL),
    )
    yield Goal(
        what="the state of a run, everything asked for",
        reach=f"<= {cost.MOST_BYTES:,} bytes",
        measured=f"{dearest.size:,} bytes",
        verdict=goals.plain(kept=dearest.size <= cost.MOST_BYTES),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the evidence.

    Attributes:
        runs: So many of each cell `docs/evidence.md` has.
        found: What it yields with so many runs of each cell.
        each: Runs come in groups of so many, since those of one past are played together.
    """

    runs: int
    found: Callable[[int], Found]
    each: int = 1

    def whole(self, runs: int) -> int:
        """So many, or the few more that make whole groups."""
        return -(-runs // self.each) * self.each


PARTS: Final[dict[str, Part]] = {
    "healthy": Part(runs=2000, found=rollbacks.healthy_versions),
    "noise": Part(runs=1000, found=rollbacks.noisy, each=noise.RUNS_EACH),
    "gateways": Part(runs=400, found=rollbacks.behind_gateways, each=GATEWAY_RUNS_EACH),
    "seldom": Part(
        runs=400,
        found=rollbacks.seldom,
        each=math.lcm(GATEWAY_RUNS_EACH, noise.RUNS_EACH),
    ),
    "stalls": Part(
        runs=800,
        found=rollbacks.stalled,
        each=math.lcm(GATEWAY_RUNS_EACH, stalls.RUNS_EACH),
    ),
    "delay": Part(runs=1000, found=_delays),
    "burst": Part(runs=1000, found=_bursty),
    "latency": Part(runs=1000, found=_slower),
    "promotion": Part(runs=4000, found=_promoted, each=NOISY_PART * noise.RUNS_EACH),
    "ladder": Part(runs=1000, found=_ladders),
    "cold": Part(runs=1000, found=_cold),
    "peers": Part(runs=1000, found=_peers),
    "cost": Part(runs=1, found=_cost),
}


def command(name: str, runs: int) -> str:
    """What a person types for a part, so many runs of each cell."""
    return f'make bench-evidence ARGS="{name} --runs {runs}"'
