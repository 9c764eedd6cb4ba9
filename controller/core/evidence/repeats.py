# SPDX-License-Identifier: Apache-2.0
"""A past that was asked for more often than it was scraped, without what stands there twice.

The store thins history out to a sample every so many seconds. What is scraped less often repeats
there, and wherever it does nothing seems to have been answered: of two neighbouring intervals one
is empty, so that nothing can be compared and bunches of errors do not show. How far scrapes were
apart is to be seen from when anything changed at a target. A target with too few requests to change
at each scrape only makes intervals longer; no count is lost or made.
"""

import itertools
import statistics
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from controller.core.evidence.grid import usual_gap
from controller.core.evidence.series import Series, TrackSeries

MOST_SECONDS: Final = 300.0
"""Scrapes are hardly further apart: the store takes an older sample for none."""


def without(track: TrackSeries) -> TrackSeries:
    """The samples that are as far apart as the scrapes were, up to the newest one.

    The counters of answers and the histograms, which come by queries of their own, each by theirs.
    """
    answers = (*track.requests, *track.errors)
    bounds = [bound for bound, _ in track.buckets]
    timed = _thinned([one for _, one in track.buckets], track.target_labels)
    found = _thinned(answers, track.target_labels)
    return replace(
        track,
        requests=tuple(found[: len(track.requests)]),
        errors=tuple(found[len(track.requests) :]),
        buckets=tuple(zip(bounds, timed, strict=True)),
    )


def _thinned(family: Collection[Series], target_labels: Collection[str]) -> list[Series]:
    step = usual_gap(one.samples for one in family)
    apart = _apart(family, target_labels, step) if step else 1
    if apart == 1:
        return list(family)
    # All of them at the same times, or pods could not be held against each other.
    newest = max(one.samples[-1].at for one in family if one.samples)
    return [
        replace(
            one,
            samples=tuple(
                sample
                for sample in one.samples
                if round((newest - sample.at) / step) % apart == 0
            ),
        )
        for one in family
    ]  # fmt: skip


def _apart(family: Collection[Series], target_labels: Collection[str], step: float) -> int:
    """So many steps were between two scrapes, for the most part.

    Of a distance that is no multiple of the step the nearest one: it is met as often as not.
    """
    changed: dict[tuple[tuple[str, str], ...], set[float]] = {}
    for one in family:
        target = tuple(pair for pair in one.labels if pair[0] in target_labels)
        changed.setdefault(target, set()).update(
            late.at
            for early, late in itertools.pairwise(one.samples)
            if late.value != early.value
        )  # fmt: skip
    gaps = [
        late - early
        for times in changed.values()
        for early, late in itertools.pairwise(sorted(times))
    ]
    most = max(int(MOST_SECONDS / step), 1)
    return min(max(round(statistics.median_low(gaps) / step), 1), most) if gaps else 1
