# SPDX-License-Identifier: Apache-2.0
"""What was measured beside requests in a stretch of history, as readings of a canary's pods.

Which pods play the canary is not known before the run is played, so that a check has its values for
every set of pods that may, and a gauge has its figures pod by pod.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from controller.core.evidence.measures import Reading, Value
from controller.core.evidence.readings import READ_SECONDS

Line: TypeAlias = Sequence[float | None]
"""Values at one moment after the other; None where there was none."""

Pods: TypeAlias = frozenset[str]


@dataclass(frozen=True, slots=True)
class Grid:
    """The moments at which a daemon would have read values: so many, `READ_SECONDS` apart.

    `begin` is the first, in whole seconds since the epoch.
    """

    begin: int
    count: int

    @classmethod
    def over(cls, begin: float, end: float) -> "Grid":
        """All moments between two times."""
        first = math.ceil(begin)
        return cls(first, max(math.floor((end - first) / READ_SECONDS) + 1, 0))

    def at(self, number: int) -> float:
        """The moment of that number, from 0 on."""
        return self.begin + number * READ_SECONDS

    def place(self, at: float) -> int:
        """The number of the moment that a time is, or is nearest to."""
        return min(max(round((at - self.begin) / READ_SECONDS), 0), self.count - 1)

    def within(self, after: float, until: float) -> range:
        """The numbers of the moments after one time and up to another."""
        first, last = (math.floor((at - self.begin) / READ_SECONDS) + 1 for at in (after, until))
        return range(max(first, 0), min(last, self.count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The values of a stretch.

    Attributes:
        grid: When they were read.
        checks: By the title of a check and the pods that play the canary: the canary's values and
            stable's.
        gauges: By the name of a gauge: the figures of each pod that has it.
    """

    grid: Grid = Grid(0, 0)
    checks: Mapping[str, Mapping[Pods, tuple[Line, Line]]] = field(default_factory=dict)
    gauges: Mapping[str, Mapping[str, Line]] = field(default_factory=dict)

    def readings(self, canary: Pods, after: float, until: float) -> Iterator[Reading]:
        """The readings after one time and up to another, oldest first.

        One of each check, and one of all gauges: of each track the worst pod, as in a run.
        """
        for number in self.grid.within(after, until):
            at = self.grid.at(number)
            for title, known in self.checks.items():
                mine, others = known[canary]
                value = Value(name=title, canary=mine[number], stable=others[number])
                yield Reading(at=at, values=(value,))
            gauged = (_worst(name, lines, canary, number) for name, lines in self.gauges.items())
            if self.gauges:
                yield Reading(at=at, values=tuple(gauged))


def _worst(name: str, lines: Mapping[str, Line], canary: Pods, number: int) -> Value:
    mine: list[float] = []
    others: list[float] = []
    for pod, line in lines.items():
        known = line[number]
        if known is not None:
            (mine if pod in canary else others).append(known)
    return Value(name=name, canary=max(mine, default=None), stable=max(others, default=None))
