# SPDX-License-Identifier: Apache-2.0
"""From raw counter samples to counts per scrape interval, by differencing them ourselves.

The store's own rate() and increase() stretch to the window's edges, yield fractions and overlap
from one look to the next, which would count the same error several times. Here each series has a
cursor, its latest counted sample, and a sample is counted exactly if it is newer than that:
duplicates, overlapping windows and replays after a restart change nothing.

Rules of differencing, per series:

- the very first look only sets the cursors: what was counted before it belongs to nobody;
- a value below its predecessor is a restarted counter: it counts from 0 (`falling` has the rest);
- a series that appears at a scrape target known before was born there: it counts from 0, or the
  first error of a version would be lost, for that is what creates its series;
- the first sample of a target that was never seen before has no predecessor and counts nothing:
  an old pod that only now is scraped would bring its whole past. Only where it is known that the
  track's pods were born in this run does the first sample of a pod count from 0, once for each pod;
- NaN, infinite and negative values are no samples.

Where intervals end `grid` says, by counters of answers alone: histograms come by a query of their
own, which may have seen more. What a target brings later counts then, with what its track has in
the next interval: a track of which nothing was scraped in an interval has no counts in it, since
what is older would be held against other times than its own.
"""

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from controller.core.evidence import falling, grid
from controller.core.evidence.counters import Counter, of
from controller.core.evidence.grid import Look
from controller.core.evidence.series import Cursor, Name, Sample, Series, TrackSeries
from controller.core.evidence.tally import INFINITE, UNREPORTED, Interval, Tally

__all__ = ["Cursor", "Difference", "Look", "Sample", "Series", "TrackSeries", "difference"]

MOST_SERIES = 4000
"""Series that one run may follow: two tracks, some gateways, some codes and methods, a histogram
for each; or forty pods with a few paths each. Beyond that the label set is out of hand, and memory
would go first."""

FORGET_SECONDS = 3600.0
"""A series that was silent for so long is forgotten; gateways drop idle series sooner."""

LONG_GAP = 4
"""An interval this many times as long as the usual gap is reported as one with a hole in it."""


class Difference(NamedTuple):
    """What one look has brought.

    Attributes:
        cursor: The cursor for the next look.
        intervals: The new intervals, oldest first; empty where nothing new was scraped.
        problems: What was odd, in words, each kind once.
        gap: Seconds between two scrapes of a target, as these samples show it; 0 if they do not.
    """

    cursor: Cursor
    intervals: tuple[Interval, ...]
    problems: tuple[str, ...]
    gap: float = 0.0


class _Piece(NamedTuple):
    """A counted increment, at the time of its sample."""

    at: float
    counter: Counter
    amount: int
    since: float
    """The time of the sample before."""
    told: int
    """What the two say of the counter itself, as `falling` has it."""


def difference(
    cursor: Cursor,
    canary: TrackSeries | None,
    stable: TrackSeries | None,
    *,
    newborn: bool = False,
    look: Look | None = None,
) -> Difference:
    """Count what is new since the cursor.

    Args:
        cursor: Where the last look ended; `Cursor()` for the first.
        canary: Raw series of the canary, None if the store knows none.
        stable: The same of stable.
        newborn: The canary's pods were all born in this run: what a pod had answered when it was
            first scraped, it answered in this run. Says nothing of series without pods.
        look: When the store gave them; None: long after they were scraped.
    """
    problems: dict[str, None] = {}
    counters = [*of(canary, problems, canary=True), *of(stable, problems)]
    if len(counters) > MOST_SERIES:
        problems[f"more than {MOST_SERIES} series; latency is left out"] = None
        counters = [counter for counter in counters if counter.what != "bucket"]
    if len(counters) > MOST_SERIES:
        # A part of them would have another share of errors than the whole.
        problems[f"more than {MOST_SERIES} series without latency; nothing is counted"] = None
        return Difference(cursor, (), tuple(problems))
    gap = grid.usual_gap(_known(cursor, counter) for counter in counters)
    rows = [grid.Row(counter.target, counter.samples) for counter in _answers(counters)]
    cursor = replace(cursor, shown=grid.shown(cursor, rows, look))
    ends = grid.ends(cursor, rows, gap)
    if not ends:
        return Difference(cursor, (), tuple(problems), gap)
    grown, pieces = _count(cursor, counters, ends[-1], problems, newborn=newborn)
    if cursor.at is None:
        return Difference(grown, (), tuple(problems), gap)
    starts = (cursor.at, *ends[:-1])
    if gap and any(end - start > LONG_GAP * gap for start, end in zip(starts, ends, strict=True)):
        problems["scrapes are missing: an interval is longer than it should be"] = None
    found = _intervals(cursor, starts, ends, pieces, counters)
    return Difference(grown, found, tuple(problems), gap)


def _known(cursor: Cursor, counter: Counter) -> tuple[Sample, ...]:
    """The samples of this look, and the one that was counted last: a look may hold a single one."""
    last, samples = cursor.series.get(counter.key), counter.samples
    return (last, *samples) if last and samples and last.at < samples[0].at else samples


def _count(
    cursor: Cursor,
    counters: Sequence[Counter],
    until: float,
    problems: dict[str, None],
    *,
    newborn: bool,
) -> tuple[Cursor, list[_Piece]]:
    """Difference every series up to `until`, and move the cursor there."""
    first = _first(cursor, counters)
    series, targets = dict(cursor.series), dict(cursor.targets)
    pieces: list[_Piece] = []
    live = {track for track in (True, False) if _scraped(cursor, counters, until, canary=track)}
    for counter in counters:
        if counter.canary not in live:
            continue
        last = cursor.series.get(counter.key)
        since = cursor.begun if last is None else max(cursor.begun, last.at)
        if last is None or last.at < since:
            # A scrape is stamped when it begins: one of before the begin may be stored after it.
            last = next((old for old in reversed(counter.samples) if old.at <= since), last)
        fresh = _within(counter.samples, since, until)
        if not fresh:
            continue
        seen = cursor.targets.get(counter.target)
        appeared = fresh[0].at > (first[counter.target] if seen is None else seen)
        pods = () if counter.pod is None else (counter.pod,)
        born = newborn and counter.canary and any(pod not in cursor.targets for pod in pods)
        if last is None and (appeared or born):
            last = Sample(since, 0.0)
        pieces += _pieces(counter, last, fresh, problems)
        series[counter.key] = fresh[-1]
        for place in (counter.target, *pods):
            targets[place] = max(targets.get(place, -math.inf), fresh[-1].at)
    oldest = until - FORGET_SECONDS
    grown = replace(
        cursor,
        at=until,
        begun=until if cursor.at is None else cursor.begun,
        series={key: sample for key, sample in series.items() if sample.at > oldest},
        targets={key: at for key, at in targets.items() if at > oldest},
    )
    return grown, pieces


def _first(cursor: Cursor, counters: Sequence[Counter]) -> Mapping[Name, float]:
    """When each target that was not known before was scraped first since the begin."""
    first: dict[Name, float] = {}
    for counter in counters:
        if counter.target in cursor.targets:
            continue
        at = next((sample.at for sample in counter.samples if sample.at > cursor.begun), math.inf)
        first[counter.target] = min(first.get(counter.target, math.inf), at)
    return first


def _within(samples: Sequence[Sample], since: float, until: float) -> Sequence[Sample]:
    """Those after one time up to another; sought from the end, where what is new stands."""
    end = len(samples)
    while end and samples[end - 1].at > until:
        end -= 1
    begin = end
    while begin and samples[begin - 1].at > since:
        begin -= 1
    return samples[begin:end]


def _scraped(cursor: Cursor, counters: Sequence[Counter], until: float, *, canary: bool) -> bool:
    """Whether a track was scraped since the cursor; at the first look that is all the same."""
    if cursor.at is None:
        return True
    own = _answers([one for one in counters if one.canary is canary])
    return any(_within(one.samples, cursor.at, until) for one in own)


def _pieces(
    counter: Counter, last: Sample | None, fresh: Iterable[Sample], problems: dict[str, None]
) -> Iterator[_Piece]:
    for sample in fresh:
        if last is not None and sample.value < last.value:
            problems["a counter was restarted; it counts from 0"] = None
            amount = round(sample.value)
        elif last is not None:
            amount = round(sample.value) - round(last.value)
        if last is not None:
            said = falling.told(last, sample) if counter.pod is not None else 0
            yield _Piece(sample.at, counter, amount, last.at, said)
        last = sample


def _intervals(
    cursor: Cursor,
    starts: Sequence[float],
    ends: Sequence[float],
    pieces: Sequence[_Piece],
    counters: Sequence[Counter],
) -> tuple[Interval, ...]:
    """Sort the pieces into intervals."""
    tracks = {
        track: _Scrapes.of(starts, ends, [one for one in counters if one.canary is track])
        for track in (True, False)
    }
    tallies = [
        _tallies(
            found,
            [piece for piece in pieces if piece.counter.canary is track],
            _bounds(cursor, found, [c for c in counters if c.canary is track]),
        )
        for track, found in tracks.items()
    ]
    whole = zip(starts, ends, *tallies, strict=True)
    return tuple(
        Interval(
            at=end,
            seconds=end - start,
            canary=canary,
            stable=stable,
            skewed=tracks[True].within[number] != tracks[False].within[number],
        )
        for number, (start, end, canary, stable) in enumerate(whole)
    )


@dataclass(frozen=True, slots=True)
class _Scrapes:
    """Where the intervals of a look end, and when the counters of a track were scraped in each."""

    ends: Sequence[float]
    within: Sequence[Sequence[float]]
    counts: Sequence[int]
    """Where a sample of each interval counts: there, or in the next one with a scrape, if any."""

    @classmethod
    def of(
        cls, starts: Sequence[float], ends: Sequence[float], counters: Sequence[Counter]
    ) -> "_Scrapes":
        times = sorted({sample.at for one in _answers(counters) for sample in one.samples})
        within = [
            times[bisect.bisect_right(times, start) : bisect.bisect_right(times, end)]
            for start, end in zip(starts, ends, strict=True)
        ]
        scraped = [number for number, found in enumerate(within) if found]
        places = [bisect.bisect_left(scraped, number) for number in range(len(ends))]
        counts = [scraped[min(place, len(scraped) - 1)] for place in places] if scraped else []
        return cls(ends, within, counts or [0] * len(ends))

    def place(self, at: float) -> int:
        """The interval that a sample counts in."""
        return self.counts[bisect.bisect_left(self.ends, at)]


def _answers(counters: Sequence[Counter]) -> Sequence[Counter]:
    """Those that say when something was scraped, for a histogram alone tells of no failure."""
    return [counter for counter in counters if counter.what == "requests"] or counters


def _bounds(
    cursor: Cursor, scrapes: _Scrapes, counters: Sequence[Counter]
) -> list[tuple[float, ...]]:
    """The bounds of a track's histograms in each interval; none where they are not whole.

    A bucket that is missing where others were scraped would read as if everything were slower, and
    one that is back would count what the others have counted before.
    """
    buckets = [counter for counter in counters if counter.what == "bucket"]
    known = tuple(sorted({counter.bound for counter in buckets}))
    # For each bound, the scrapes that its counts are the differences to: one and the same for all.
    scraped: list[dict[float, list[float]]] = [{} for _ in scrapes.ends]
    for counter in buckets:
        last, before = cursor.series.get(counter.key), -math.inf
        since = cursor.begun if last is None else max(cursor.begun, last.at)
        for sample in counter.samples:
            if since < sample.at <= scrapes.ends[-1]:
                place = scraped[scrapes.place(sample.at)]
                place.setdefault(counter.bound, []).append(before)
            before = sample.at
    return [
        known if len(found) == len(known) and _alike(found.values()) else () for found in scraped
    ]


def _alike(scrapes: Iterable[list[float]]) -> bool:
    return len({tuple(sorted(times)) for times in scrapes}) <= 1


def _tallies(
    scrapes: _Scrapes, pieces: Iterable[_Piece], bounds: Sequence[tuple[float, ...]]
) -> list[Tally]:
    """Counts of one track in each interval."""
    counted: list[list[_Piece]] = [[] for _ in scrapes.ends]
    for piece in pieces:
        counted[scrapes.place(piece.at)].append(piece)
    whole = zip(scrapes.within, counted, bounds, strict=True)
    return [_tally(found, known) if times else UNREPORTED for times, found, known in whole]


def _tally(pieces: Sequence[_Piece], bounds: Sequence[float]) -> Tally:
    sums: dict[tuple[str, float], int] = {}
    for piece in pieces:
        place = (piece.counter.what, piece.counter.bound)
        sums[place] = sums.get(place, 0) + piece.amount
    by_pods = [
        one for one in pieces if one.counter.pod is not None and one.counter.what == "requests"
    ]
    told = ((one.counter.target, one.at, one.since, one.told) for one in by_pods)
    scrapes, falls = falling.counted(told)
    requests = sums.get(("requests", 0.0), 0)
    buckets = [(bound, sums.get(("bucket", bound), 0)) for bound in bounds]
    return Tally(
        requests=requests,
        # Where the two come by different metrics a scrape may show an error before its request.
        errors=min(sums.get(("errors", 0.0), 0), requests),
        buckets=tuple(buckets) if _whole(buckets) else (),
        scrapes=scrapes,
        falls=falls,
    )


def _whole(buckets: Sequence[tuple[float, int]]) -> bool:
    """Whether these are the cumulative counts of a histogram, all of the same time."""
    rising = all(early[1] <= late[1] for early, late in itertools.pairwise(buckets))
    return bool(buckets) and buckets[-1][0] == INFINITE and rising
