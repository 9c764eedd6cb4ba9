# SPDX-License-Identifier: Apache-2.0
"""Pods whose counts fall again and again: they are no counts, and nothing passes on them.

A gauge where a counter should be rises and falls. So do the counts of several processes behind one
scrape target, of which each scrape meets another one. A process that begins anew falls too, but in
another way. It takes all its counters back to zero, so that none of them stands while another one
falls; and it counts from zero, so that it has hardly more than half of what its predecessor had at
the very next scrape. That takes one that lived no longer than the distance of two scrapes: of pods
that restart at each scrape it is so one time in four, and they are a crash loop and end otherwise.

Only where pods count themselves. What a gateway exposes is known, and is no gauge; it may drop what
it counted of one route and not of another.

It speaks against no version: it is said of both, and holds.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from controller.core.evidence.reasons import UNKNOWN, Code, Reason
from controller.core.evidence.series import Name, Sample
from controller.core.evidence.state import Evidence
from controller.core.evidence.tally import Tally

MOST: Final = 0.2
"""Where so large a part of the scrapes of a version's pods falls, its counts are not believed. Two
processes that take turns by chance behind one target do so at one scrape in four."""

LEAST_FALLS: Final = 3
"""Fewer are accidents."""

HALF: Final = 0.5
"""Of what a counter had, which a restarted one has not again at the next scrape."""

FELL: Final = 1
MUCH_LEFT: Final = 2
STOOD: Final = 4


def told(before: Sample, after: Sample) -> int:
    """What two neighbouring samples say of a counter: whether it fell, how far, or stood."""
    if after.value < before.value:
        return FELL | MUCH_LEFT if after.value > HALF * before.value else FELL
    return STOOD if before.value > 0 else 0


def counted(pieces: Iterable[tuple[Name, float, float, int]]) -> tuple[int, int]:
    """How many scrapes these were, and how many of them no restart explains.

    What a library exposes with the first answer alone comes back late after a restart: of what was
    not there at the scrape before nothing is held against what was.

    Args:
        pieces: For each counted sample its target, its time, that of the sample before, and what
            the two told.
    """
    found: dict[tuple[Name, float], tuple[float, int]] = {}
    for target, at, since, said in pieces:
        latest, known = found.get((target, at), (since, 0))
        if since >= latest:
            found[target, at] = since, said | (known if since == latest else 0)
    return len(found), sum(map(_disordered, (said for _, said in found.values())))


def _disordered(all_told: int) -> bool:
    """Of what all counters of one target said of one scrape."""
    beside = FELL | STOOD
    return bool(all_told & MUCH_LEFT) or all_told & beside == beside


def lacking(evidence: Evidence, *, alone: bool) -> Iterator[Reason]:
    """The tracks whose counts at this weight are none.

    Args:
        evidence: The accumulators.
        alone: No stable pod serves any more, so that nothing is asked of stable.
    """
    window = evidence.window
    for track, tally in (("the canary", window.canary), ("stable", window.stable)):
        if not (alone and track == "stable"):
            yield from said(track, tally)


def said(track: str, tally: Tally) -> Iterator[Reason]:
    """Why the counts of a version's pods are none, if so."""
    if tally.falls >= LEAST_FALLS and tally.falls >= MOST * tally.scrapes:
        yield Reason(
            check="data",
            code=Code.COUNTS_FALL,
            message=f"answers that pods of {track} had counted became fewer at {tally.falls} of "
            f"{tally.scrapes} scrapes, as neither counters nor restarts do: a gauge, or several "
            "processes behind one scrape target",
            expected=UNKNOWN,
        )
