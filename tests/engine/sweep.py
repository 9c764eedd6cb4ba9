# SPDX-License-Identifier: Apache-2.0
"""Places at which a process may die, and which of them always run."""

from collections.abc import Iterable, Iterator

import pytest

from controller.sim.faults import Point

POINTS = tuple(Point)


def in_turn(
    writes: Iterable[int], *, every: int = 1
) -> Iterator[tuple[int, Point, tuple[pytest.MarkDecorator, ...]]]:
    """Each write with each point of it; all but one point of each `every`-th write are deep."""
    for turn, nth in enumerate(writes):
        chosen = POINTS[turn // every % len(POINTS)]
        for point in POINTS:
            always = turn % every == 0 and point is chosen
            yield nth, point, () if always else (pytest.mark.deep,)
