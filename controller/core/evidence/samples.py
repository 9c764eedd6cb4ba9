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

Grid: an interval ends where each target has been scraped once more, about one scrape interval after
the last end; every sample up to there belongs to it, of both tracks, and later ones wait for the
next look. A target that is overdue is not waited for: what it brings later counts then. Where one
scrape brings both tracks, as at a gateway, they are aligned exactly; targets with phases of their
own, as pods have, are as much as one scrape interval apart, which the interval says. Only counters
of answers end an interval: histograms come by a query of their own, which may have seen more.
"""

import bisect
import hashlib
import itertools
import math
import operator
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from controller.core.evidence import falling
from controller.core.evidence.series import Cursor, Sample, Series, TrackSeries
from controller.core.evidence.tally import INFINITE, UNREPORTED, Interval, Tally

__all__ = ["Cursor", "Difference", "Sample", "Series", "TrackSeries", "difference", "usual_gap"]

MOST_SERIES = 4000
"""Series that one run may follow: two tracks, some gateways, some codes and methods, a histogram
for each; or forty pods with a few paths each. Beyond that the label set is out of hand, and memory
would go first."""

FORGET_SECONDS = 3600.0
"""A series that was silent for so long is forgotten; gateways drop idle series sooner."""

NEIGHBOUR = 0.75
"""Scrapes closer together than this part of the usual gap belong to one interval: they are those
of other targets at other phases."""

OVERDUE = 1.25
"""After so many times the usual gap a target is not waited for: it was not scraped, or is gone."""

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


@dataclass(frozen=True, slots=True)
class _Counter:
    """One series with its place in the tally."""

    canary: bool
    what: str
    bound: float
    key: str
    target: str
    pod: str
    """Digest of the pod that answered, empty where a gateway counted."""
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A counted increment, at the time of its sample."""

    at: float
    counter: _Counter
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
) -> Difference:
    """Count what is new since the cursor.

    Args:
        cursor: Where the last look ended; `Cursor()` for the first.
        canary: Raw series of the canary, None if the store knows none.
        stable: The same of stable.
        newborn: The canary's pods were all born in this run: what a pod had answered when it was
            first scraped, it answered in this run. Says nothing of series without pods.
    """
    problems: dict[str, None] = {}
    counters = [*_counters(canary, problems, canary=True), *_counters(stable, problems)]
    if len(counters) > MOST_SERIES:
        problems[f"more than {MOST_SERIES} series; latency is left out"] = None
        counters = [counter for counter in counters if counter.what != "bucket"]
    if len(counters) > MOST_SERIES:
        # A part of them would have another share of errors than the whole.
        problems[f"more than {MOST_SERIES} series without latency; nothing is counted"] = None
        return Difference(cursor, (), tuple(problems))
    gap = usual_gap(_known(cursor, counter) for counter in counters)
    ends = _ends(cursor, _answers(counters), gap)
    if not ends:
        return Difference(cursor, (), tuple(problems), gap)
    grown, pieces = _count(cursor, counters, ends[-1], problems, newborn=newborn)
    if cursor.at is None:
        return Difference(grown, (), tuple(problems), gap)
    starts = (cursor.at, *ends[:-1])
    if gap and any(end - start > LONG_GAP * gap for start, end in zip(starts, ends, strict=True)):
        problems["scrapes are missing: an interval is longer than it should be"] = None
    return Difference(grown, _intervals(starts, ends, pieces, counters), tuple(problems), gap)


def _counters(
    service: TrackSeries | None, problems: dict[str, None], *, canary: bool = False
) -> Iterator[_Counter]:
    if service is None:
        return
    labelled: Iterable[tuple[str, float, Series]] = itertools.chain(
        (("requests", 0.0, series) for series in service.requests),
        (("errors", 0.0, series) for series in service.errors),
        (("bucket", bound, series) for bound, series in service.buckets),
    )
    for what, bound, series in labelled:
        place = tuple(pair for pair in series.labels if pair[0] in service.target_labels)
        # Answers and histograms come by different queries, which may straddle a scrape.
        query = "timed" if what == "bucket" else "answers"
        pod = dict(series.labels).get(service.pod_label, "") if service.pod_label else ""
        yield _Counter(
            canary=canary,
            what=what,
            bound=bound,
            key=_digest("canary" if canary else "stable", what, repr(bound), series.labels),
            target=_digest(query, "", "", place),
            pod=_digest(query, "pod", pod, ()) if pod else "",
            samples=_clean(series.samples, problems),
        )


def _digest(track: str, what: str, bound: str, labels: tuple[tuple[str, str], ...]) -> str:
    """A short name for a series: with it a cursor stays small enough for the run document."""
    text = "\x00".join((track, what, bound, *(part for pair in labels for part in pair)))
    return hashlib.blake2b(text.encode(), digest_size=9).hexdigest()


def _clean(samples: Sequence[Sample], problems: dict[str, None]) -> tuple[Sample, ...]:
    """Real values in the order of time, each time once."""
    real = [
        sample
        for sample in samples
        if math.isfinite(sample.at) and math.isfinite(sample.value) and sample.value >= 0
    ]
    if len(real) < len(samples):
        problems["values that are no counts (NaN, infinite or negative) were left out"] = None
    if all(early.at < late.at for early, late in itertools.pairwise(real)):
        return tuple(real)
    problems["samples out of order or twice at the same time were put straight"] = None
    once: dict[float, Sample] = {}
    for sample in real:
        once.setdefault(sample.at, sample)
    return tuple(once[at] for at in sorted(once))


def _known(cursor: Cursor, counter: _Counter) -> tuple[Sample, ...]:
    """The samples of this look, and the one that was counted last: a look may hold a single one."""
    last, samples = cursor.series.get(counter.key), counter.samples
    return (last, *samples) if last and samples and last.at < samples[0].at else samples


def usual_gap(series: Iterable[Sequence[Sample]]) -> float:
    """The scrape interval, as the samples themselves show it; 0 if none has two.

    One that was there, since of two gaps one may have a lost scrape in it.
    """
    gaps = [late.at - early.at for samples in series for early, late in itertools.pairwise(samples)]
    return statistics.median_low(gaps) if gaps else 0.0


def _ends(cursor: Cursor, counters: Sequence[_Counter], gap: float) -> list[float]:
    """Where the new intervals end, oldest first."""
    at = cursor.begun if cursor.at is None else cursor.at
    scrapes = sorted(
        {
            (sample.at, counter.target)
            for counter in counters
            for sample in counter.samples
            if sample.at > at
        }
    )
    if cursor.at is None or not gap:
        return [scrapes[-1][0]] if scrapes else []
    latest = {one.target: cursor.targets.get(one.target, -math.inf) for one in counters}
    ends: list[float] = []
    for time, together in itertools.groupby(scrapes, key=operator.itemgetter(0)):
        latest.update((target, time) for _, target in together)
        if time - at < NEIGHBOUR * gap:
            continue
        if all(last > at or time >= last + OVERDUE * gap for last in latest.values()):
            ends.append(time)
            at = time
    return ends


def _count(
    cursor: Cursor,
    counters: Sequence[_Counter],
    until: float,
    problems: dict[str, None],
    *,
    newborn: bool,
) -> tuple[Cursor, list[_Piece]]:
    """Difference every series up to `until`, and move the cursor there."""
    first: dict[str, float] = {}
    for counter in counters:
        for sample in counter.samples:
            if sample.at > cursor.begun:
                first[counter.target] = min(first.get(counter.target, math.inf), sample.at)
                break
    series, targets = dict(cursor.series), dict(cursor.targets)
    pieces: list[_Piece] = []
    for counter in counters:
        last = cursor.series.get(counter.key)
        since = cursor.begun if last is None else max(cursor.begun, last.at)
        if last is None or last.at < since:
            # A scrape is stamped when it begins: one of before the begin may be stored after it.
            last = next((old for old in reversed(counter.samples) if old.at <= since), last)
        fresh = [sample for sample in counter.samples if since < sample.at <= until]
        if not fresh:
            continue
        appeared = fresh[0].at > cursor.targets.get(counter.target, first[counter.target])
        born = newborn and counter.canary and counter.pod and counter.pod not in cursor.targets
        if last is None and (appeared or born):
            last = Sample(since, 0.0)
        pieces += _pieces(counter, last, fresh, problems)
        series[counter.key] = fresh[-1]
        for place in filter(None, (counter.target, counter.pod)):
            targets[place] = max(targets.get(place, -math.inf), fresh[-1].at)
    oldest = until - FORGET_SECONDS
    grown = Cursor(
        at=until,
        begun=until if cursor.at is None else cursor.begun,
        series={key: sample for key, sample in series.items() if sample.at > oldest},
        targets={key: at for key, at in targets.items() if at > oldest},
    )
    return grown, pieces


def _pieces(
    counter: _Counter, last: Sample | None, fresh: Iterable[Sample], problems: dict[str, None]
) -> Iterator[_Piece]:
    for sample in fresh:
        if last is not None and sample.value < last.value:
            problems["a counter was restarted; it counts from 0"] = None
            amount = round(sample.value)
        elif last is not None:
            amount = round(sample.value) - round(last.value)
        if last is not None:
            yield _Piece(sample.at, counter, amount, last.at, falling.told(last, sample))
        last = sample


def _intervals(
    starts: Sequence[float],
    ends: Sequence[float],
    pieces: Iterable[_Piece],
    counters: Sequence[_Counter],
) -> tuple[Interval, ...]:
    """Sort the pieces into intervals; what arrived late goes into the first one."""
    spans = list(zip(starts, ends, strict=True))
    bounds = {
        track: _bounds([c for c in counters if c.what == "bucket" and c.canary is track], spans)
        for track in (True, False)
    }
    binned: list[list[_Piece]] = [[] for _ in ends]
    for piece in pieces:
        binned[bisect.bisect_left(ends, piece.at)].append(piece)
    stamps = {
        track: _scraped([c for c in counters if c.canary is track]) for track in (True, False)
    }
    found = []
    for number, ((start, end), counted) in enumerate(zip(spans, binned, strict=True)):
        within = {
            track: times[bisect.bisect_right(times, start) : bisect.bisect_right(times, end)]
            for track, times in stamps.items()
        }
        canary, stable = (
            _tally(
                [one for one in counted if one.counter.canary is track],
                bounds[track][number],
                scraped=bool(within[track]),
            )
            for track in (True, False)
        )
        skewed = within[True] != within[False]
        found.append(
            Interval(at=end, seconds=end - start, canary=canary, stable=stable, skewed=skewed)
        )
    return tuple(found)


def _answers(counters: Sequence[_Counter]) -> Sequence[_Counter]:
    """Those that say when something was scraped, for a histogram alone tells of no failure."""
    return [counter for counter in counters if counter.what == "requests"] or counters


def _scraped(counters: Sequence[_Counter]) -> list[float]:
    """When these were."""
    return sorted({sample.at for one in _answers(counters) for sample in one.samples})


def _bounds(
    buckets: Sequence[_Counter], spans: Sequence[tuple[float, float]]
) -> list[tuple[float, ...]]:
    """The bounds of a track's histograms in each interval; none where they are not whole.

    A bucket that is missing where others were scraped would read as if everything were slower, and
    one that is back would count what the others have counted before.
    """
    known = tuple(sorted({counter.bound for counter in buckets}))
    # For each bound, the scrapes that its counts are the differences to: one and the same for all.
    scraped: list[dict[float, list[float]]] = [{} for _ in spans]
    ends = [end for _, end in spans]
    for counter in buckets:
        before = -math.inf
        for sample in counter.samples:
            if spans[0][0] < sample.at <= ends[-1]:
                place = scraped[bisect.bisect_left(ends, sample.at)]
                place.setdefault(counter.bound, []).append(before)
            before = sample.at
    return [
        known if len(found) == len(known) and _alike(found.values()) else () for found in scraped
    ]


def _alike(scrapes: Iterable[list[float]]) -> bool:
    return len({tuple(sorted(times)) for times in scrapes}) <= 1


def _tally(pieces: Sequence[_Piece], bounds: Sequence[float], *, scraped: bool) -> Tally:
    """Counts of one track in one interval, from scrapes within it or, late, from before."""
    sums: dict[tuple[str, float], int] = {}
    for piece in pieces:
        place = (piece.counter.what, piece.counter.bound)
        sums[place] = sums.get(place, 0) + piece.amount
    by_pods = [one for one in pieces if one.counter.pod and one.counter.what == "requests"]
    told = ((one.counter.target, one.at, one.since, one.told) for one in by_pods)
    scrapes, falls = falling.counted(told)
    if not scraped and ("requests", 0.0) not in sums:
        return UNREPORTED
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
