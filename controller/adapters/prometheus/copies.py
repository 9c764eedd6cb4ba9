# SPDX-License-Identifier: Apache-2.0
"""Rows that differ in nothing but who scraped them, and rows that differ in a label of their own.

`endpoint`, `container`, `service` and `node` are what the Prometheus Operator or a scrape
configuration calls the way to a target. An application that is scraped otherwise may count by
labels of the same names: `http_requests_total{endpoint="/pay"}`. Taken for copies, all rows of a
pod but one would be lost, with their errors. Taken for its own, a pod behind two Services would
count twice.

Names and values do not tell the two apart, nor does how many values there are in a look: of two
Services with one `job` there are two. What does is the time. Everything that one scrape has brought
is stamped with one time in milliseconds, while two scrapes of the same target begin at two: the
store spreads them over the interval by a hash of all labels, and each replica in its own way. So a
row that shares a stamp with another is beside it, and one that shares none is a copy.

Rows beside each other are *added up*, under a name without these labels. That name says the same
before the first `/pay` and after it, and while one copy is away; a row that appears then is a sum
that grows from what it was. Were the label kept where it is needed, all that a pod had ever counted
would be born anew with its second value. A sum falls where a row ends in mid-life, as at a restart:
client libraries keep a series as long as the process lives.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from controller.core.evidence.series import Sample

SCRAPERS: Final = ("job", "prometheus", "prometheus_replica", "replica")
"""Labels that say who scraped, and nothing else; the last is what Thanos calls a replica of the
store, whose records of one write are stamped alike."""

EITHER: Final = frozenset({"endpoint", "container"})
"""Labels of the scraper, or of what is counted."""

EITHER_OF_PODS: Final = EITHER | {"service", "node"}
"""A pod behind two Services is scraped by way of each of them."""

LATE_SECONDS: Final = 60.0
"""Of a thinned series one record is hardly ever further behind another than this."""

PLACES: Final = 25
"""So many points of two thinned series are compared: there may be fifty series by 1440 points."""

ALIKE: Final = 0.9
"""The part of those at which two records agree; at a restart or a lost scrape they do not."""


def joined(
    metrics: Sequence[Mapping[str, str]], found: Sequence[Sequence[Sample]], *, thinned: bool
) -> tuple[tuple[Sample, ...], bool]:
    """The samples of what is one series but for such labels, and whether there were copies.

    Args:
        metrics: The labels of its rows, in a stable order: the first is never a copy.
        found: Their samples.
        thinned: The stamps are not those of scrapes but a step apart, the same for all.
    """
    scraper = _scraper(metrics[0])
    kept = [dict(found[0])]
    stamps = set(kept[0])
    for metric, samples in zip(metrics[1:], found[1:], strict=True):
        own = dict(samples)
        if _scraper(metric) == scraper and not (
            any(_go_along(one, samples) for one in kept) if thinned else stamps.isdisjoint(own)
        ):
            kept.append(own)
            stamps.update(own)
    if len(kept) == 1:
        return tuple(found[0]), len(found) > 1
    return _sums(kept, sorted(stamps)), len(kept) < len(found)


def _sums(rows: Sequence[Mapping[float, float]], stamps: Sequence[float]) -> tuple[Sample, ...]:
    """What the rows come to at each stamp.

    A row without a sample where others have one still counts what it had: a store that is written
    to over a network may show a part of a scrape, and a sum that falls would be a restart. But
    where one of the others falls it was one, and took this row with it.
    """
    sums = []
    last = [0.0] * len(rows)
    for at in stamps:
        now = [row.get(at) for row in rows]
        fell = any(value is not None and value < old for value, old in zip(now, last, strict=True))
        last = [
            (0.0 if fell else old) if value is None else value
            for value, old in zip(now, last, strict=True)
        ]
        sums.append(Sample(at, sum(last)))
    return tuple(sums)


def _scraper(metric: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple([metric.get(name) for name in SCRAPERS])


def _go_along(one: Mapping[float, float], other: Sequence[Sample]) -> bool:
    """Whether two thinned series are records of one counter: neither is ever ahead of the other by
    more than that one grows until it is scraped again.

    Told by the places where one of them grows, if there are any, or a burst in one would be
    outvoted by all the time in which neither moved.
    """
    step = other[1].at - other[0].at if len(other) > 1 else LATE_SECONDS
    ahead = min(math.ceil(LATE_SECONDS / max(step, 1.0)), len(other) - 1)
    both = [
        (value, later, one[at], one[then])
        for (at, value), (then, later) in zip(other, other[ahead:], strict=False)
        if at in one and then in one
    ]
    grown = [four for four in both if four[0] != four[1] or four[2] != four[3]] or both
    places = grown[:: max(len(grown) // PLACES, 1)]
    agreed = sum(mine <= then and its <= later for mine, later, its, then in places)
    return agreed >= ALIKE * len(places)
