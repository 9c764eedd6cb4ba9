# SPDX-License-Identifier: Apache-2.0
"""Stable's past as counts: pod by pod where the pods counted, and where its answers fell."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.core.evidence.dispersion import LEAST_ERRORS, Count
from controller.core.evidence.grid import OVERDUE
from controller.core.evidence.grid import usual_gap as gap_of
from controller.core.evidence.samples import Cursor, Series, TrackSeries, difference
from controller.core.evidence.tally import Interval, Tally, summed

MOST_SLOW = 0.60
"""Of bounds that more answers exceed nothing is learnt of how slow answers cluster."""

LEAST_SLOW = 0.01
"""Bounds that fewer exceed are far out: how those cluster says nothing of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What stable did before the run.

    Attributes:
        rows: For each pod (or one entry for the whole) its (requests, errors) per scrape interval,
            oldest first; the newest ones of all pods stand for the same time, but for where in an
            interval each pod is scraped.
        gap: Seconds between two scrapes; 0 if unknown.
        slow: For some bucket bounds the same rows of (timed requests, slower ones).
        far_from: The least bound in seconds that is far out.
        slow_gap: Seconds between two scrapes of those.
        timed: For each pod its histogram per scrape interval, of the same times.
        buckets: Its histogram: (upper bound in seconds, requests not slower), bounds ascending.
    """

    rows: Mapping[str, Sequence[Count]] = field(default_factory=dict)
    gap: float = 0.0
    slow: Mapping[float, Mapping[str, Sequence[Count]]] = field(default_factory=dict)
    far_from: float = math.inf
    slow_gap: float = 0.0
    timed: Mapping[str, Sequence[Tally]] = field(default_factory=dict)
    buckets: tuple[tuple[float, int], ...] = ()

    @property
    def intervals(self) -> int:
        """So many scrape intervals are known of every pod."""
        return min((len(row) for row in self.rows.values()), default=0)

    @property
    def volume(self) -> float:
        """Requests per second of all pods together; 0 if unknown."""
        requests = sum(count[0] for row in self.rows.values() for count in row[-self.intervals :])
        return requests / (self.intervals * self.gap) if self.intervals and self.gap else 0.0

    @property
    def total(self) -> Count:
        """(requests, errors) of all of it."""
        counts = [count for row in self.rows.values() for count in row]
        return sum(count[0] for count in counts), sum(count[1] for count in counts)

    @property
    def rate(self) -> float:
        """Share of failed answers; 0 without any request."""
        requests, errors = self.total
        return errors / max(requests, 1)


def read(stable: TrackSeries | None, timed: TrackSeries | None = None) -> Past:
    """From raw series of stable's past.

    Pods come and go. Those that are there at the end are held against each other, over as long a
    past as they share; a pod with less than half of the longest one's past is left out, or one that
    has just been born would leave no past at all.

    Args:
        stable: Its counters of answers.
        timed: Its histograms, which may reach back less far.
    """
    if stable is None or not any(one.samples for one in stable.requests):
        return Past()
    tallies = _by_pod(replace(stable, buckets=()))
    found = Past(
        rows={pod: [(one.requests, one.errors) for one in row] for pod, row in tallies.items()},
        gap=gap_of(one.samples for one in stable.requests),
    )
    if timed is None or not any(one.samples for _, one in timed.buckets):
        return found
    slow = _by_pod(replace(timed, requests=(), errors=()))
    return with_times(found, slow, gap_of(one.samples for _, one in timed.buckets))


def with_times(known: Past, timed: Mapping[str, Sequence[Tally]], gap: float) -> Past:
    """The same past, with where its answers fell.

    Args:
        known: What was counted.
        timed: For each pod its histogram per scrape interval.
        gap: Seconds between two scrapes of those.
    """
    whole = summed(one for row in timed.values() for one in row)
    slower = {bound: whole.timed - count for bound, count in whole.buckets}
    far = [bound for bound in slower if slower[bound] < LEAST_SLOW * whole.timed]
    # Of bounds with nothing between them the least stands for all.
    told = {
        count: bound
        for bound, count in reversed(slower.items())
        if LEAST_ERRORS <= count <= MOST_SLOW * whole.timed
    }
    return replace(
        known,
        buckets=whole.buckets,
        timed=timed,
        slow_gap=gap,
        slow={
            bound: {
                pod: [(one.timed, one.slower_than(bound) or 0) for one in row]
                for pod, row in timed.items()
            }
            for bound in sorted(told.values())
        },
        far_from=min(far, default=math.inf),
    )


def by_pod(track: TrackSeries) -> dict[str, list[Interval]]:
    """Stable's intervals, of each pod by its own scrapes; one entry "" where a gateway counted."""
    series = [*track.requests, *(one for _, one in track.buckets)]
    pods = {_pod(track, one) for one in series if one.samples}
    return {pod: list(_intervals(_of_pod(track, pod))) for pod in sorted(pods)}


def _by_pod(track: TrackSeries) -> dict[str, list[Tally]]:
    """Stable's tallies per scrape interval, for each pod that is there at the end.

    Every pod is scraped at a time of its own: one is there whose next scrape is not overdue when
    the newest of all was made.
    """
    series = [*track.requests, *(one for _, one in track.buckets)]
    series = [one for one in series if one.samples]
    there = max(one.samples[-1].at for one in series)
    there -= OVERDUE * gap_of(one.samples for one in series)
    pods = {_pod(track, one) for one in series if one.samples[-1].at >= there}
    rows = {pod: [one.stable for one in _intervals(_of_pod(track, pod))] for pod in sorted(pods)}
    longest = max(len(row) for row in rows.values())
    return {pod: row for pod, row in rows.items() if row and 2 * len(row) >= longest}


def _intervals(track: TrackSeries) -> Iterator[Interval]:
    """Counts per scrape interval. The oldest scrape only serves as the first predecessor."""
    series = (*track.requests, *track.errors, *(one for _, one in track.buckets))
    first = min((one.samples[0].at for one in series if one.samples), default=0.0)
    cursor: Cursor = difference(Cursor(), None, track.until(first)).cursor
    yield from difference(cursor, None, track).intervals


def _pod(track: TrackSeries, series: Series) -> str:
    """The pod that counted, empty where a gateway did."""
    return dict(series.labels).get(track.pod_label, "") if track.pod_label else ""


def _of_pod(track: TrackSeries, pod: str) -> TrackSeries:
    return replace(
        track,
        requests=tuple(one for one in track.requests if _pod(track, one) == pod),
        errors=tuple(one for one in track.errors if _pod(track, one) == pod),
        buckets=tuple((bound, one) for bound, one in track.buckets if _pod(track, one) == pod),
    )


def planned(run_seconds: float, gap: float) -> int | None:
    """How many intervals a run lasts; None where that is unknown or without an end."""
    return math.ceil(run_seconds / gap) if gap and math.isfinite(run_seconds) else None
