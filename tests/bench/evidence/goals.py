# SPDX-License-Identifier: Apache-2.0
"""What the judge is to reach, beside what was measured of it.

A share keeps its goal where even the upper end of its interval does. A mean, a median or a ratio
keeps it by its figure, which is told with its standard error.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from tests.bench.evidence.table import Mean, Share, rows

PROMISED: Final = 0.01
"""Share of healthy versions that may be rolled back."""

NOISY: Final = 0.015
"""The same where errors are not independent."""

WORSE: Final = 0.05
"""Share of versions that may be promoted though they are worse by the margin."""

NEAR: Final = 1.4
"""Times the bound that it may take to find more errors, in the median of the grid."""

FEWER: Final = {0.05: 8.0, 0.5: 15.0}
"""By the share of errors so many times fewer bad answers than by the peers' rules."""

SOON_SECONDS: Final = 150.0
"""In which a healthy version has climbed by its budget, with `BUSY` requests/s or more."""

BUSY: Final = 100.0

VAGUE: Final = 0.05
"""A mean says too little if its standard error is a larger part of its goal than this."""


class Verdict(StrEnum):
    """Whether a goal is kept."""

    KEPT = "kept"
    MISSED = "missed"
    FEW = "too few runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One line of the closing table: what is to be reached, and what was."""

    what: str
    reach: str
    measured: str
    verdict: Verdict


Found: TypeAlias = Iterator[str | Goal]
"""What a part of the evidence yields: text, to be shown as soon as it is there, and goals."""


def within(share: Share, most: float) -> Verdict:
    """Whether a share is no larger, with 95 % confidence; too few runs: none could have shown it.

    One exception too many for the runs that there were is a goal missed, not a want of runs.
    """
    if share.upper <= most:
        return Verdict.KEPT
    possible = Share(0, share.of).upper <= most
    return Verdict.MISSED if possible or share.value > most else Verdict.FEW


def at_most(mean: Mean, most: float) -> Verdict:
    """Whether a mean is no larger."""
    return _reached(mean, most, most - mean.value)


def at_least(mean: Mean, least: float) -> Verdict:
    """Whether a mean is no smaller."""
    return _reached(mean, least, mean.value - least)


def _reached(mean: Mean, goal: float, spare: float) -> Verdict:
    """A vague mean that is just beyond its goal says as little as one that is just within."""
    if mean.error > VAGUE * goal and spare > -3 * mean.error:
        return Verdict.FEW
    return Verdict.KEPT if spare >= 0 else Verdict.MISSED


def plain(*, kept: bool) -> Verdict:
    """Of a figure that has no interval."""
    return Verdict.KEPT if kept else Verdict.MISSED


def each(what: str, most: float, cells: Sequence[tuple[str, Share]]) -> Goal:
    """That no cell is beyond it, by the one that may be furthest; each is (place, share)."""
    place, worst = max(cells, key=lambda cell: cell[1].upper)
    where = f", {place}" if worst.hits else ""
    return Goal(
        what=what,
        reach=f"<= {100 * most:g} %, 95 % sure",
        measured=f"worst of {len(cells)}: {worst}, at most {worst.at_most}{where}",
        verdict=within(worst, most),
    )


def table(goals: Iterable[Goal]) -> str:
    """All of them, a line each."""
    lines = [(goal.what, goal.reach, goal.measured, goal.verdict) for goal in goals]
    return rows(("goal", "reach", "measured", "kept?"), lines)


def missed(goals: Iterable[Goal]) -> bool:
    """Whether any of them is; too few runs are no goal missed."""
    return any(goal.verdict is Verdict.MISSED for goal in goals)
