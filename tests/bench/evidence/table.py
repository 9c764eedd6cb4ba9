# SPDX-License-Identifier: Apache-2.0
"""Shares with their uncertainty, and tables of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CONFIDENT = 1.645
"""One-sided 95 % of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share."""
        return self.hits / self.of

    @property
    def error(self) -> float:
        """Its standard error; where nothing was hit, that of a single hit."""
        shown = max(self.hits, 1) / self.of
        return math.sqrt(shown * (1 - shown) / self.of) if self.of > 1 else 1.0

    @property
    def upper(self) -> float:
        """The upper end of a one-sided 95 % interval (Wilson)."""
        n, z = self.of, CONFIDENT
        middle = self.value + z * z / (2 * n)
        spread = z * math.sqrt(self.value * (1 - self.value) / n + z * z / (4 * n * n))
        return min((middle + spread) / (1 + z * z / n), 1.0)

    def beyond(self, bound: float) -> bool:
        """Whether it lies above the bound by more than chance explains (three errors).

        A cell of many is above its bound by one error now and then; by three it is one that is
        wrong.
        """
        allowed = math.sqrt(bound * (1 - bound) / self.of)
        return self.value > bound + 3 * allowed

    def __str__(self) -> str:
        """In percent, with the error."""
        return f"{100 * self.value:.2f} ±{100 * self.error:.2f} %"


def rows(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table as Markdown has it."""
    body = [f"| {' | '.join(line)} |" for line in lines]
    rule = "|" + "---|" * len(head)
    return "\n".join((f"| {' | '.join(head)} |", rule, *body)) + "\n"


def mean(values: Sequence[float]) -> float:
    """Their mean; NaN of none."""
    return math.fsum(values) / len(values) if values else math.nan


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two middle ones; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
