# SPDX-License-Identifier: Apache-2.0
"""How much stable's errors cluster: phi, by which all evidence is divided.

A retry storm or a bad pod makes errors come in bunches, and a test that takes them for independent
rolls healthy versions back. Stable's own history shows the bunching: the variance of error counts
is held against what chance alone would give, over blocks of 1, 2, 4 ... scrapes, since bunching may
be slow, up to the length of the run that is to be judged. The largest ratio counts, widened by
sqrt(2/df) for how little was seen.

Within a block the errors are shared out by traffic between groups (pods; without pod labels two
neighbouring stretches of time), so what moves all groups alike cancels::

    phi_L = sum (E_i - k w_i)^2 / sum k w_i (1 - w_i) * (1 + sqrt(2 / df)),  w_i = N_i / N

This is the pooled form of Pearson's chi-square over its degrees of freedom; pooling gives blocks
with many errors their due, where a mean of ratios would be swamped by blocks with a single one.
Without pod labels drift looks like bunching: phi comes out larger, which is the safe side.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from controller.core.evidence.samples import (
    Cursor,
    Sample,
    Series,
    TrackSeries,
    difference,
    usual_gap,
)
from controller.core.evidence.settings import Settings

Count: TypeAlias = tuple[int, int]
"""(requests, errors) of one scrape interval."""

DEFAULT_PHI = 3.0
DEFAULT_CAP = 3
KNOWN_CAP = 2

LEAST_ERRORS = 20
"""Fewer errors than this say nothing about how they cluster."""

LEAST_GROUPS = 20
"""Degrees of freedom that a block length needs; fewer would only measure the widening."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispersion:
    """The measured clustering, or the cautious default.

    Attributes:
        phi: At least 1.
        cap_scrapes: k, the least number of scrapes to a rollback that goes with it.
        known: Whether it was measured.
        words: What it rests on, for people.
    """

    phi: float
    cap_scrapes: int
    known: bool
    words: str

    def applied(self, settings: Settings) -> Settings:
        """The settings of a run that starts with this."""
        return replace(
            settings,
            dispersion=self.phi,
            cap_scrapes=self.cap_scrapes,
            dispersion_known=self.known,
        )


def unknown(why: str) -> Dispersion:
    """The cautious default, with the reason why nothing better is known."""
    words = f"{why}; assuming phi = {DEFAULT_PHI:g} and k = {DEFAULT_CAP}"
    return Dispersion(phi=DEFAULT_PHI, cap_scrapes=DEFAULT_CAP, known=False, words=words)


def from_history(stable: TrackSeries | None, run_seconds: float = math.inf) -> Dispersion:
    """Phi from raw series of stable's past, pod by pod where they were counted by the pods.

    `run_seconds` is how long the run is planned to last: what takes longer to show than that is no
    noise within it.

    Pods come and go. Those that are there at the end are held against each other, over as long a
    past as they share; a pod with less than half of the longest one's past is left out, or one that
    has just been born would leave no past at all.
    """
    if stable is None or not stable.requests:
        return unknown("stable has no history")
    newest = max(one.samples[-1].at for one in stable.requests if one.samples)
    pods = {
        _pod(stable, one) for one in stable.requests if one.samples and one.samples[-1].at == newest
    }
    rows = {pod: _row(_of_pod(stable, pod)) for pod in sorted(pods)}
    longest = max(len(row) for row in rows.values())
    even = {pod: row for pod, row in rows.items() if row and 2 * len(row) >= longest}
    gap = usual_gap(one.samples for one in stable.requests)
    planned = math.ceil(run_seconds / gap) if gap and math.isfinite(run_seconds) else None
    return estimate(even, planned)


def estimate(rows: Mapping[str, Sequence[Count]], run: int | None = None) -> Dispersion:
    """Phi from counts per scrape interval.

    Args:
        rows: For each pod (or one entry for the whole) its counts, oldest first; the newest ones of
            all pods stand for the same time.
        run: Intervals that the run is planned to last; None: longer than any history.
    """
    errors = sum(count[1] for row in rows.values() for count in row)
    length = min((len(row) for row in rows.values()), default=0)
    past = f"{errors} errors in {length} intervals of stable's history"
    if errors < LEAST_ERRORS:
        return unknown(f"{past}, at least {LEAST_ERRORS} errors are needed")
    even = [list(row)[-length:] for row in rows.values()]
    found = [ratio for size in _sizes(length, run) if (ratio := _ratio(even, size)) is not None]
    if not found:
        return unknown(f"{past}, too short to compare anything")
    phi = math.ceil(max(1.0, *found) * 100) / 100
    by = f"{len(even)} pods" if len(even) > 1 else "neighbouring stretches of time"
    words = f"phi = {phi:g} from {past}, by {by}; k = {KNOWN_CAP}"
    return Dispersion(phi=phi, cap_scrapes=KNOWN_CAP, known=True, words=words)


def _sizes(length: int, run: int | None) -> Iterator[int]:
    """Block lengths: powers of two, and the first one that a run does not exceed as the last."""
    size = 1
    while size <= length:
        yield size
        if run is not None and size >= run:
            return
        size *= 2


def _ratio(rows: Sequence[Sequence[Count]], size: int) -> float | None:
    """Phi at one block length; None where too few blocks had errors."""
    blocks = [list(_blocks(row, size)) for row in rows]
    groups: Iterable[Sequence[Count]]
    if len(rows) > 1:
        groups = zip(*blocks, strict=True)
    else:
        groups = zip(blocks[0][::2], blocks[0][1::2], strict=False)
    seen, expected, unevenness, freedom = 0.0, 0.0, 0.0, 0
    for group in groups:
        total, errors = (sum(column) for column in zip(*group, strict=True))
        if not total or not errors:
            continue
        shares = [requests / total for requests, _ in group]
        seen += sum(
            (bad - errors * share) ** 2 for share, (_, bad) in zip(shares, group, strict=True)
        )
        chance = sum(errors * share * (1 - share) for share in shares)
        degrees = sum(1 for requests, _ in group if requests) - 1
        if degrees:
            expected += chance
            unevenness += chance**2 / degrees
            freedom += degrees
    if freedom < LEAST_GROUPS or not expected:
        return None
    # Where a storm makes one block outweigh the rest, less was seen than the blocks' number says.
    return seen / expected * (1 + math.sqrt(2 * unevenness) / expected)


def _blocks(row: Sequence[Count], size: int) -> Iterator[Count]:
    for begin in range(0, len(row) - size + 1, size):
        block = row[begin : begin + size]
        yield sum(count[0] for count in block), sum(count[1] for count in block)


def _row(stable: TrackSeries) -> list[Count]:
    """Counts per scrape interval. The oldest scrape only serves as the first predecessor."""
    series = (*stable.requests, *stable.errors)
    first = min((one.samples[0].at for one in series if one.samples), default=0.0)
    opening = replace(
        stable,
        requests=tuple(_until(one, first) for one in stable.requests),
        errors=tuple(_until(one, first) for one in stable.errors),
        buckets=(),
    )
    cursor: Cursor = difference(Cursor(), None, opening).cursor
    intervals = difference(cursor, None, replace(stable, buckets=())).intervals
    return [(interval.stable.requests, interval.stable.errors) for interval in intervals]


def _until(series: Series, at: float) -> Series:
    early: tuple[Sample, ...] = tuple(one for one in series.samples if one.at <= at)
    return Series(labels=series.labels, samples=early)


def _pod(stable: TrackSeries, series: Series) -> str:
    """The pod that counted, empty where a gateway did."""
    return dict(series.labels).get(stable.pod_label, "") if stable.pod_label else ""


def _of_pod(stable: TrackSeries, pod: str) -> TrackSeries:
    return replace(
        stable,
        requests=tuple(series for series in stable.requests if _pod(stable, series) == pod),
        errors=tuple(series for series in stable.errors if _pod(stable, series) == pod),
    )
