# SPDX-License-Identifier: Apache-2.0
"""The counters that a look has brought, each with its place in the tally, and their real values."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from controller.core.evidence.series import Name, Sample, Series, TrackSeries


class Counter(NamedTuple):
    """One series with its place in the tally.

    Attributes:
        canary: Whether it is the canary's.
        what: "requests", "errors" or "bucket".
        bound: Upper bound of a bucket in seconds.
        key: Name of the series.
        target: Name of the scrape target.
        pod: Name of the pod that answered, None where a gateway counted.
        samples: Its values in the order of time.
    """

    canary: bool
    what: str
    bound: float
    key: Name
    target: Name
    pod: Name | None
    samples: tuple[Sample, ...]


def of(
    track: TrackSeries | None, problems: dict[str, None], *, canary: bool = False
) -> Iterator[Counter]:
    """The counters of a track; what is odd about their samples is noted."""
    if track is None:
        return
    labelled: Iterable[tuple[str, float, Series]] = itertools.chain(
        (("requests", 0.0, series) for series in track.requests),
        (("errors", 0.0, series) for series in track.errors),
        (("bucket", bound, series) for bound, series in track.buckets),
    )
    pod = ""
    for what, bound, series in labelled:
        place = tuple([pair for pair in series.labels if pair[0] in track.target_labels])
        # Answers and histograms come by different queries, which may straddle a scrape.
        query = "timed" if what == "bucket" else "answers"
        if track.pod_label:
            pod = next((text for name, text in series.labels if name == track.pod_label), "")
        yield Counter(
            canary=canary,
            what=what,
            bound=bound,
            # A long label set is named by its hash, or each run's cursor would keep them all.
            key=hash((canary, what, bound, series.labels)),
            target=hash((query, place)),
            pod=hash((query, "pod", pod)) if pod else None,
            samples=_clean(series.samples, problems),
        )


def _clean(samples: Sequence[Sample], problems: dict[str, None]) -> tuple[Sample, ...]:
    """Real values in the order of time, each time once; mostly all of them are, as they stand."""
    before = -math.inf
    for at, value in samples:
        if not (before < at < math.inf and 0.0 <= value < math.inf):
            return _straightened(samples, problems)
        before = at
    return tuple(samples)


def _straightened(samples: Sequence[Sample], problems: dict[str, None]) -> tuple[Sample, ...]:
    real = [
        sample
        for sample in samples
        if 0.0 <= sample.value < math.inf and -math.inf < sample.at < math.inf
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
