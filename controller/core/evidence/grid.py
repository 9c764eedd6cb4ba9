# SPDX-License-Identifier: Apache-2.0
"""Where intervals end, by the time stamps of scrapes and by when they are shown, and nothing else.

An interval ends where each target has been scraped once more, about one scrape interval after the
last end; every sample up to there belongs to it, of both tracks, and later ones wait for the next
look. Where one scrape brings both tracks, as at a gateway, they are aligned exactly; targets with
phases of their own, as pods have, are as much as one scrape interval apart.

A target that is overdue is not waited for. One whose scrapes are shown later than those of others,
as where each node sends its own on, is waited for as long as they usually are: else its answers
would be held against those of another time, and an incident that befalls both would speak against
one of them.
"""

import itertools
import math
import operator
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from controller.core.evidence.series import Cursor, Name, Sample, Shown
from controller.core.evidence.settings import oldest

NEIGHBOUR: Final = 0.75
"""Scrapes closer together than this part of the usual gap belong to one interval: they are those
of other targets at other phases."""

OVERDUE: Final = 1.25
"""After so many times the usual gap a target is not waited for: it was not scraped, or is gone. Who
shows within the quarter is never late, since no stamp is younger than its look."""

FADING: Final = 0.9
"""What is left of a target's lateness at its next scrape, if that shows sooner."""


class Row(NamedTuple):
    """A counter of answers: its scrape target, and its samples in the order of time."""

    target: Name
    samples: Sequence[Sample]


Rows: TypeAlias = Sequence[Row]


def usual_gap(series: Iterable[Sequence[Sample]]) -> float:
    """The scrape interval, as the samples themselves show it; 0 if none has two.

    One that was there, since of two gaps one may have a lost scrape in it.
    """
    gaps = [late.at - early.at for samples in series for early, late in itertools.pairwise(samples)]
    return statistics.median_low(gaps) if gaps else 0.0


def ends(cursor: Cursor, rows: Rows, gap: float) -> list[float]:
    """Where the intervals since the cursor end, oldest first.

    Args:
        cursor: How far was counted, and how late each target is shown.
        rows: The counters.
        gap: Seconds between two scrapes of a target; 0: not known.
    """
    at = cursor.begun if cursor.at is None else cursor.at
    scrapes = sorted(
        {(sample.at, row.target) for row in rows for sample in row.samples if sample.at > at}
    )
    if cursor.at is None or not gap:
        return [scrapes[-1][0]] if scrapes else []
    latest = {row.target: cursor.targets.get(row.target, -math.inf) for row in rows}
    for row in rows:
        # What was shown late may be older than the last end, and not counted yet.
        before = (sample.at for sample in reversed(row.samples) if sample.at <= at)
        latest[row.target] = max(latest[row.target], next(before, -math.inf))
    # What all are late by is the store's own delay, or its clock's, and nobody waits for it.
    usual = min((one.last for one in cursor.shown.values() if one.last is not None), default=0.0)
    patience = {target: _patience(cursor, target, gap, usual) for target in latest}
    found: list[float] = []
    for time, together in itertools.groupby(scrapes, key=operator.itemgetter(0)):
        latest.update((target, time) for _, target in together)
        if time - at < NEIGHBOUR * gap:
            continue
        if all(last > at or time >= last + patience[one] for one, last in latest.items()):
            found.append(time)
            at = time
    return found


def _patience(cursor: Cursor, target: Name, gap: float, usual: float) -> float:
    """Seconds after its last scrape until a target is overdue; `usual` is how late all are.

    What shows later than data may be old is no news of anything, and not waited for.
    """
    known = cursor.shown.get(target)
    if known is None or known.late is None:
        return OVERDUE * gap
    return max(OVERDUE * gap, min(gap + known.late - usual, oldest(gap)))


class Look(NamedTuple):
    """When the store gave these samples, and those of the look before, by its own clock."""

    at: float
    before: float


def shown(cursor: Cursor, rows: Rows, look: Look | None) -> Mapping[Name, Shown]:
    """How late each target's newest scrape is shown, as far as looks tell.

    Args:
        cursor: What was known of it.
        rows: The counters.
        look: When that was; None: long after they were scraped.
    """
    newest: dict[Name, float] = {}
    for row in rows:
        if row.samples:
            newest[row.target] = max(newest.get(row.target, -math.inf), row.samples[-1].at)
    found = {target: one for target, one in cursor.shown.items() if target in cursor.targets}
    for target, at in newest.items():
        known = found.get(target)
        if known is None or look is None:
            # It may have been there for long when it was looked for the first time.
            found[target] = Shown(at) if known is None else known._replace(at=at)
        elif at > known.at:
            # It is late only if there was a look in which it might have been shown.
            late = look.at - at if look.before > at else 0.0
            found[target] = Shown(at, max(late, FADING * (known.late or 0.0)), late)
    return found
