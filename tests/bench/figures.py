# SPDX-License-Identifier: Apache-2.0
"""The bench's own arithmetic: quantiles, differences of counters, lines of a table, peers' figures.

The peers were run on the same kind of machine (2 shared cores, Kubernetes 1.37.2, Traefik 3.7);
docs/figures.md names versions and configurations.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ARGO: Final = "Argo Rollouts 1.9.1"
FLAGGER: Final = "Flagger 1.44.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure for people; `peers` are the same figure of others, in the same unit."""

    what: str
    value: float | None
    unit: str = ""
    goal: float | None = None
    """At most this; None: none was set."""
    peers: Mapping[str, float] | None = None
    note: str = ""
    load: float | None = None
    """The machine's load average while it was measured."""

    def text(self) -> str:
        """The figure, its goal, and how many times as much the peers need."""
        shown = "not measured" if self.value is None else f"{number(self.value)} {self.unit}"
        parts = [f"{self.what:<58} {shown.strip():>16}"]
        if self.goal is not None:
            held = self.value is not None and self.value <= self.goal
            parts.append(f"{'within' if held else 'ABOVE'} the goal of {number(self.goal)}")
        for name, theirs in (self.peers or {}).items():
            parts.append(f"{name} {number(theirs)}{times(theirs, self.value)}")
        if self.note:
            parts.append(self.note)
        if self.load is not None:
            parts.append(f"load {self.load:.1f}")
        return "  ".join(parts)


def number(value: float) -> str:
    """Three digits that matter, with thousands apart and never an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def times(theirs: float, ours: float | None) -> str:
    """` (3.2x ours)`; empty where a ratio says nothing."""
    return f" ({number(theirs / ours)}x ours)" if ours else ""


def ratio(more: float | None, less: float | None) -> float | None:
    """`more / less`; None if one is missing or the divisor is 0."""
    return None if more is None or not less else more / less


def quantile(values: Iterable[float], share: float) -> float | None:
    """The nearest-rank quantile, so that it is always one of the values; None without any.

    With fewer than 100 values the 99th percentile is the largest of them: nothing is made better by
    interpolation.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def per_minute(before: float, after: float, seconds: float) -> float:
    """The rate of a counter that was read twice, `seconds` apart."""
    return (after - before) * 60.0 / seconds


def spread(
    what: str,
    values: Sequence[float],
    *,
    goals: tuple[float | None, float | None] = (None, None),
    unit: str = "s",
    p50: Mapping[str, float] | None = None,
    p99: Mapping[str, float] | None = None,
    note: str = "",
    load: float | None = None,
) -> list[Line]:
    """Two lines, median and 99th percentile."""
    count = f"n = {len(values)}" + (f"; {note}" if note else "")
    return [
        Line(
            what=f"{what}, p50",
            value=quantile(values, 0.5),
            unit=unit,
            goal=goals[0],
            peers=p50,
            note=count,
            load=load,
        ),
        Line(
            what=f"{what}, p99",
            value=quantile(values, 0.99),
            unit=unit,
            goal=goals[1],
            peers=p99,
            note=count,
            load=load,
        ),
    ]
