# SPDX-License-Identifier: Apache-2.0
"""A user check at every moment of a stretch of the past, for some pods and for all others."""

import math
from collections.abc import Collection, Sequence
from typing import Final

from controller.adapters.prometheus.asking import named
from controller.adapters.prometheus.checks import HISTOGRAM, number, pod_names, several
from controller.adapters.prometheus.providers import Choice
from controller.adapters.prometheus.wire import Row
from controller.core.backtest.measured import Grid
from controller.core.evidence.series import PodsKey
from controller.core.policy import promql

MOST_POINTS: Final = 11_000
"""Points of one series with which a store answers a range query."""


def step(seconds: float, wished: float) -> int:
    """Whole seconds between two points, so that there are not more than a store answers with."""
    return max(math.ceil(wished), math.ceil(seconds / (MOST_POINTS - 1)), 1)


def parted(choice: Choice, expression: str, key: PodsKey, pods: Collection[str]) -> tuple[str, str]:
    """The expression for these pods, and for all others of a key.

    Raises:
        MetricsUnavailable: A name is none that Kubernetes would have accepted, or the expression
            was never read as a check.
    """
    mine, others = named(lambda: pod_names(choice, [key]).parted(pods))
    return named(lambda: (promql.inject(expression, mine), promql.inject(expression, others)))


def line(rows: Sequence[Row], grid: Grid) -> tuple[float | None, ...]:
    """The one value of an answer at each moment.

    None where there is none, where it is no number, and where there are several.
    """
    found: list[float | None] = [None] * grid.count
    taken: set[int] = set()
    for row in rows:
        for at, text in row.values:
            place = grid.place(at)
            value = number(text)
            found[place] = None if math.isnan(value) or place in taken else value
            taken.add(place)
    return tuple(found)


def valueless(rows: Sequence[Row]) -> str:
    """Why an answer has no value at all."""
    distinct = {tuple(sorted(row.metric.items())): row.metric for row in rows}
    if len(distinct) > 1:
        return several([*distinct.values()])
    return HISTOGRAM if any(row.histograms for row in rows) else "no value"
