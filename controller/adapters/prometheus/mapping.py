# SPDX-License-Identifier: Apache-2.0
"""From the rows of a query to series by key."""

import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from controller.adapters.prometheus import native
from controller.adapters.prometheus.names import Names
from controller.adapters.prometheus.providers import Latency, Provider
from controller.adapters.prometheus.wire import Row
from controller.core.evidence.series import JOB, Sample, Series, TrackKey, TrackSeries

COPIES = frozenset({"job", "prometheus", "prometheus_replica", "replica", "endpoint", "container"})
"""Labels that tell two records of the *same* scrape target apart: it is scraped by two jobs, or by
two replicas of the store behind one query endpoint. Counted both, each answer would count twice.
No series keeps them, be there a copy or not: when one replica is gone for a while, the record of
the other goes on where its own has ended."""

COPIES_OF_PODS = COPIES | {"service", "node"}
"""A pod behind two Services is scraped by way of each of them."""


@dataclass(slots=True)
class Sorter:
    """Collects series by key, for one provider and one look at the store."""

    provider: Provider
    names: Names
    warnings: dict[str, None] = field(default_factory=dict)
    _counted: bool = False
    """Whether counters of answers were asked for."""
    _requests: dict[TrackKey, list[Series]] = field(default_factory=dict)
    _errors: dict[TrackKey, list[Series]] = field(default_factory=dict)
    _buckets: dict[TrackKey, list[tuple[float, Series]]] = field(default_factory=dict)

    def add_requests(self, rows: Iterable[Row]) -> None:
        """Take in the rows of the request counter."""
        if self.provider.natively_counted:
            rows = native.counted(native.once([*rows], self.provider.native, "", self.warnings))
        self._counted = True
        for key, series, labels in self._sorted(rows):
            if not self.provider.tells(labels):
                self.warnings[f"answers of {key} without a status were left out"] = None
                continue
            self._requests.setdefault(key, []).append(series)
            if self.provider.is_error(labels):
                self._errors.setdefault(key, []).append(series)

    def add_buckets(self, rows: Iterable[Row], latency: Latency) -> None:
        """Take in the rows of the histogram."""
        if self.provider.native:
            alone = native.once([*rows], self.provider.native, latency.bound_label, self.warnings)
            rows = native.bucketed(alone, latency.bound_label, self.warnings)
        for key, series, labels in self._sorted(rows):
            bound = _bound(labels.get(latency.bound_label, ""))
            if bound is None:
                self.warnings["a bucket without a bound was left out"] = None
                continue
            scaled = bound * latency.unit_seconds if math.isfinite(bound) else bound
            self._buckets.setdefault(key, []).append((scaled, series))

    def series(self) -> dict[TrackKey, TrackSeries]:
        """What was collected. A histogram beside no counter is that of answers without a status."""
        return {
            key: TrackSeries(
                requests=tuple(self._requests.get(key, ())),
                errors=tuple(self._errors.get(key, ())),
                buckets=tuple(self._buckets.get(key, ())),
                target_labels=self.provider.targets,
                pod_label=self.provider.pods.pod if self.provider.pods else "",
            )
            for key in (self._requests if self._counted else self._buckets)
        }

    def _sorted(self, rows: Iterable[Row]) -> Iterator[tuple[TrackKey, Series, Mapping[str, str]]]:
        """Rows of the keys asked for with all their labels, each scrape target once, in a stable
        order.
        """
        copies = COPIES_OF_PODS if self.provider.pods else COPIES
        taken: set[tuple[tuple[str, str], ...]] = set()
        named = [(sorted(row.metric.items()), row) for row in rows]
        named.sort(key=operator.itemgetter(0))
        for labels, row in named:
            keys = self.names.keys(row.metric)
            if not keys or not row.values:
                continue
            same = tuple([pair for pair in labels if pair[0] not in copies])
            if same in taken:
                self.warnings["the same target is scraped twice; one copy is counted"] = None
                continue
            taken.add(same)
            series = Series(same, samples_of(row), job=row.metric.get(JOB, ""))
            for key in keys:
                yield key, series, row.metric


def samples_of(row: Row) -> tuple[Sample, ...]:
    """A row's values as numbers; NaN and infinite ones too, the counting leaves them out and tells.

    A value that is no number at all becomes NaN: it is one bad sample, not a failed query.
    """
    try:
        return tuple([Sample(at, float(text)) for at, text in row.values])
    except ValueError:
        return tuple(Sample(at, _number(text)) for at, text in row.values)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if math.isnan(bound) else bound
