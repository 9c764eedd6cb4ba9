# SPDX-License-Identifier: Apache-2.0
"""How near to its end something is that pods use up, from raw samples of counters and gauges.

One figure for each track: that of its worst pod, since one that drowns is not saved by the others.
What there is to measure stands in a data file of the metrics store's adapter.
"""

import bisect
import enum
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from controller.core.evidence.measures import GAUGE_SECONDS, Gauge
from controller.core.evidence.series import Label, Sample, Series

WINDOW_SECONDS: Final = 2 * GAUGE_SECONDS
"""How far back one figure looks: two scrapes of what is scraped once a minute."""

LEAST_PAST: Final = 10
"""Figures of stable's past below which nothing is known of its ups and downs."""

FURTHEST: Final = 2.0
"""A level is continued to so many times what it is at most: what has just started grows fast too,
and stops."""

LEAST_SLOPE_SECONDS: Final = 30.0
"""A line through samples that are nearer together says nothing of the next half hour."""


class Kind(enum.Enum):
    """How a figure comes from samples."""

    LEVEL = "level"
    """The newest value of a gauge."""
    SHARE = "share"
    """The increase of a counter over that of another one."""
    INCREASE = "increase"
    """The increase of a counter."""


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that can run out.

    Attributes:
        name: What people call it.
        kind: How its figure comes from samples.
        metric: The gauge or counter of what is used.
        of: The one of what there is, with the same labels but for those in `labels`; empty: none.
        labels: What a series of `metric` must have beside its names; "+" stands for any text.
        floor: So much above its measure is still nothing.
        ahead_seconds: A level is continued along its slope for so long.
        patience_seconds: How long after its pods are warm the canary is not measured by it.
    """

    name: str
    kind: Kind
    metric: Label
    of: Label = ""
    labels: dict[Label, str] = {}
    floor: float
    ahead_seconds: float = 0.0
    patience_seconds: float = 0.0


def figure(item: Item, series: Mapping[str, Sequence[Series]], at: float) -> float | None:
    """The highest figure of any pod in the window that ends at `at`; None: nothing to see.

    Args:
        item: What is measured.
        series: All series of a track by the name of their metric.
        at: End of the window, by the store's clock.
    """
    ends = {_place(item, one): one for one in series.get(item.of, ())} if item.of else {}
    found = []
    for one in series.get(item.metric, ()):
        if not _wanted(item, one):
            continue
        used = _used(item, _cut(one.samples, at), at)
        if item.of:
            end = ends.get(_place(item, one))
            whole = _whole(item, _cut(end.samples, at), at) if end is not None else None
            used = used / whole if used is not None and whole else None
        if used is not None:
            found.append(used)
    return max(found, default=None)


def gauges(
    items: Iterable[Item], series: Mapping[str, Sequence[Series]], until: float, seconds: float
) -> tuple[Gauge, ...]:
    """What stable has shown of each item in its past; items that it has too little of are left out.

    Args:
        items: What could be measured.
        series: Stable's series by the name of their metric, with samples at least every minute.
        until: End of the past, by the store's clock.
        seconds: Its length.
    """
    steps = [until - step * GAUGE_SECONDS for step in range(int(seconds / GAUGE_SECONDS))]
    found = []
    for item in items:
        past = [known for at in steps if (known := figure(item, series, at)) is not None]
        if len(past) >= LEAST_PAST:
            found.append(
                Gauge(
                    name=item.name,
                    usual=max(past),
                    floor=item.floor,
                    patience_seconds=item.patience_seconds,
                    ends=bool(item.of) and not item.ahead_seconds,
                )
            )
    return tuple(found)


def _wanted(item: Item, series: Series) -> bool:
    labels = dict(series.labels)
    return all(
        labels.get(name, "") == text or (text == "+" and labels.get(name, ""))
        for name, text in item.labels.items()
    )


def _place(item: Item, series: Series) -> tuple[tuple[str, str], ...]:
    """The labels by which use and end find each other."""
    fixed = {name for name, text in item.labels.items() if text != "+"} | {"__name__"}
    return tuple(pair for pair in series.labels if pair[0] not in fixed)


def _cut(samples: Sequence[Sample], at: float) -> Sequence[Sample]:
    """The samples of the window, without those that are no numbers."""
    first = bisect.bisect_right(samples, at - WINDOW_SECONDS, key=lambda sample: sample.at)
    last = bisect.bisect_right(samples, at, key=lambda sample: sample.at)
    return [sample for sample in samples[first:last] if math.isfinite(sample.value)]


def _used(item: Item, samples: Sequence[Sample], at: float) -> float | None:
    if not samples:
        return None
    if item.kind is not Kind.LEVEL:
        return _increase(samples, at)
    if not item.ahead_seconds:
        return samples[-1].value
    span = samples[-1].at - samples[0].at
    if span < LEAST_SLOPE_SECONDS:
        return None
    ahead = samples[-1].value + max(_slope(samples), 0.0) * item.ahead_seconds
    return min(ahead, FURTHEST * samples[-1].value)


def _whole(item: Item, samples: Sequence[Sample], at: float) -> float | None:
    """What there is; None where that has no end, which is told as 0 or below."""
    if not samples:
        return None
    found = _increase(samples, at) if item.kind is Kind.SHARE else samples[-1].value
    return found if found is not None and found > 0 else None


def _increase(samples: Sequence[Sample], at: float) -> float | None:
    """What a counter has counted in the last minute; one that fell was begun anew, from 0.

    It begins with the last scrape before that minute, so that what is read a minute later begins
    where this ends, and nothing is counted twice.
    """
    if len(samples) < 2:
        return None
    before = bisect.bisect_right(samples, at - GAUGE_SECONDS, key=lambda sample: sample.at)
    grown = 0.0
    for early, late in itertools.pairwise(samples[max(before - 1, 0) :]):
        grown += late.value - early.value if late.value >= early.value else late.value
    return grown


def _slope(samples: Sequence[Sample]) -> float:
    """Units per second, by least squares."""
    middle = sum(sample.at for sample in samples) / len(samples)
    mean = sum(sample.value for sample in samples) / len(samples)
    spread = sum((sample.at - middle) ** 2 for sample in samples)
    return sum((s.at - middle) * (s.value - mean) for s in samples) / spread if spread else 0.0
