# SPDX-License-Identifier: Apache-2.0
"""Long lists of cases, and which of them run always, which in `make test` and which when deep."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from controller.sim.faults import Point

POINTS = tuple(Point)


def quick(cases: Iterable[Any], *chosen: Any) -> list[Any]:
    """The cases, all but the chosen ones for `make test` only."""
    return [
        case if case in chosen else pytest.param(*_values(case), marks=pytest.mark.slow)
        for case in cases
    ]


def _values(case: Any) -> tuple[Any, ...]:
    return case if isinstance(case, tuple) else (case,)


def in_turn(
    writes: Iterable[int], *, every: int = 1
) -> Iterator[tuple[int, Point, tuple[pytest.MarkDecorator, ...]]]:
    """Each write with each point of it; all but one point of each `every`-th write are deep."""
    for turn, nth in enumerate(writes):
        chosen = POINTS[turn // every % len(POINTS)]
        for point in POINTS:
            always = turn % every == 0 and point is chosen
            yield nth, point, () if always else (pytest.mark.deep,)
