# SPDX-License-Identifier: Apache-2.0
"""Which moments of the past a run is begun at."""

import itertools
from collections.abc import Sequence
from typing import Final

LEAST_LEAD: Final = 3600.0
"""Seconds of history that a moment has before it where there is enough of it: a run is seldom
begun in the first hour of a Deployment."""

GOLDEN: Final = 0.6180339887
"""Moved on by this part of their distance, moments meet every time of day: at even distances a
week of them would meet but a few."""

HOLES: Final = 1.5
"""Times that are further apart than so many steps have a hole between them."""


def choose(times: Sequence[float], step: float, seconds: float, most: int) -> list[float]:
    """At most so many begins of runs, spread over the time there are samples of; oldest first.

    Args:
        times: When there were samples, ascending, in seconds since the epoch.
        step: How far apart those times are.
        seconds: How long a run takes at most; less will do where there is no stretch as long.
        most: How many moments.
    """
    stretches = list(_stretches(times, step))
    for wanted in (seconds, seconds / 2, seconds / 4):
        for lead in (LEAST_LEAD, LEAST_LEAD / 4, 0.0):
            rooms = [
                (begin + lead, end - wanted)
                for begin, end in stretches
                if begin + lead < end - wanted
            ]
            if rooms:
                return _spread(rooms, wanted / 2, most)
    return []


def _stretches(times: Sequence[float], step: float) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    begin = times[0] if times else 0.0
    for early, late in itertools.pairwise(times):
        if late - early > HOLES * step:
            found.append((begin, early))
            begin = late
    return [*found, (begin, times[-1])] if times else []


def _spread(rooms: Sequence[tuple[float, float]], apart: float, most: int) -> list[float]:
    """Evenly over all rooms together, each moved on by another part of their distance.

    Moments closer than `apart` seconds would be the same run again.
    """
    length = sum(end - begin for begin, end in rooms)
    count = max(min(most, int(length / apart)), 1)
    found = []
    for number in range(count):
        place = (number + (number * GOLDEN) % 1.0) * length / count
        for begin, end in rooms:
            if place <= end - begin:
                found.append(begin + place)
                break
            place -= end - begin
    return found
