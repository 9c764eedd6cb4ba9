# SPDX-License-Identifier: Apache-2.0
"""Shares and means with their uncertainty, and tables of them."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

CONFIDENT = 1.645
"""One-sided 95 % of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many.

    Attributes:
        hits: So many.
        of: Of so many.
        alike: How many times less sure it is than of as many independent runs.
    """

    hits: int
    of: int
    alike: float = 1.0

    @classmethod
    def of_groups(cls, hits: Sequence[int], each: int) -> "Share":
        """Of groups of `each` runs that have something in common, such as stable's past.

        Where the groups differ by more than chance explains, the variance is as many times that of
        independent runs as theirs is (design effect).
        """
        whole = cls(sum(hits), each * len(hits))
        chance = each * whole.value * (1 - whole.value)
        if not chance or each < 2 or len(hits) < 2:
            return whole
        return cls(whole.hits, whole.of, max(statistics.variance(hits) / chance, 1.0))

    @classmethod
    def pooled(cls, shares: Sequence["Share"]) -> "Share":
        """Of all of them together."""
        of = sum(share.of for share in shares)
        alike = sum(share.of * share.alike for share in shares) / of
        return cls(sum(share.hits for share in shares), of, alike)

    @property
    def value(self) -> float:
        """The share."""
        return self.hits / self.of

    @property
    def error(self) -> float:
        """Its standard error; where nothing or everything was hit, that of a single exception."""
        shown = min(max(self.hits, 1), self.of - 1) / self.of
        return math.sqrt(shown * (1 - shown) / self._told) if self.of > 1 else 1.0

    @property
    def upper(self) -> float:
        """The upper end of a one-sided 95 % interval (Wilson)."""
        n, z = self._told, CONFIDENT
        middle = self.value + z * z / (2 * n)
        spread = z * math.sqrt(self.value * (1 - self.value) / n + z * z / (4 * n * n))
        return min((middle + spread) / (1 + z * z / n), 1.0)

    @property
    def at_most(self) -> str:
        """That end, in percent."""
        return f"{100 * self.upper:.2f} %"

    def beyond(self, bound: float) -> bool:
        """Whether it lies above the bound by more than chance explains (three errors).

        A cell of many is above its bound by one error now and then; by three it is one that is
        wrong.
        """
        allowed = math.sqrt(bound * (1 - bound) / self._told)
        return self.value > bound + 3 * allowed

    @property
    def _told(self) -> float:
        """As many independent runs would say as much."""
        return self.of / self.alike

    def __str__(self) -> str:
        """In percent, with the error."""
        return f"{100 * self.value:.2f} ± {100 * self.error:.2f} %"


Cells: TypeAlias = list[tuple[str, Share]]
"""(place, share) of each."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of independent runs, or what follows from such means, with its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean":
        """The mean of these; of a single one the error is infinite.

        Raises:
            statistics.StatisticsError: There are none.
        """
        spread = statistics.stdev(values) if len(values) > 1 else math.inf
        return cls(statistics.fmean(values), spread / math.sqrt(len(values)))

    def over(self, divisor: float) -> "Mean":
        """Both divided by a number that is known without error."""
        return Mean(self.value / divisor, self.error / divisor)

    def __str__(self) -> str:
        """With as many decimals as the first digit of the error has, two at most."""
        told = 0 < self.error < math.inf
        places = min(max(-math.floor(math.log10(self.error)), 0), 2) if told else 0
        return f"{self.value:z.{places}f} ± {self.error:.{places}f}"


def ratio(over: Sequence[float], under: Sequence[float]) -> Mean:
    """Mean of one over mean of the other, where both were seen in the same runs.

    The error is that of the delta method: what one ratio for all runs leaves of each of them.
    """
    most, least = statistics.fmean(over), statistics.fmean(under)
    rest = [one - most / least * other for one, other in zip(over, under, strict=True)]
    return Mean(most / least, Mean.of(rest).error / least)


def median(cells: Iterable[Mean]) -> Mean:
    """The middle one, or the mean of the two middle ones, with their own error.

    Where cells lie near each other their median is more certain than any of them.
    """
    ordered = sorted(cells, key=lambda cell: cell.value)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    error = math.hypot(*(cell.error for cell in middle)) / len(middle)
    return Mean(statistics.fmean(cell.value for cell in middle), error)


def rows(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table as Markdown has it."""
    body = [f"| {' | '.join(line)} |" for line in lines]
    rule = "|" + "---|" * len(head)
    return "\n".join((f"| {' | '.join(head)} |", rule, *body))


def placed(found: Mapping[str, Cells]) -> Cells:
    """All cells, each with the name of its configuration."""
    return [
        (f"{name}, {place}" if place else name, share)
        for name, cells in found.items()
        for place, share in cells
    ]


def summed(name: str, cells: Sequence[tuple[str, Share]]) -> tuple[str, ...]:
    """One line for all cells of a configuration, the worst one with what it may really be."""
    place, worst = max(cells, key=lambda cell: cell[1].value)
    whole = Share.pooled([share for _, share in cells])
    where = f", {place}" if worst.hits and place else ""
    return (
        name,
        f"{whole.hits} of {whole.of:,}, {whole}",
        f"{worst}{where}",
        worst.at_most,
    )
