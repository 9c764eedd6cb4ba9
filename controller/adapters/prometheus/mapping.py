# SPDX-License-Identifier: Apache-2.0
"""From the rows of a query to series by key."""

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controller.adapters.prometheus import copies, native
from controller.adapters.prometheus.copies import EITHER, EITHER_OF_PODS, SCRAPERS
from controller.adapters.prometheus.names import Names
from controller.adapters.prometheus.providers import Latency, Provider
from controller.adapters.prometheus.wire import Row
from controller.core.evidence.series import JOB, Sample, Series, TrackKey, TrackSeries

COPIES: Final = EITHER.union(SCRAPERS)
"""Labels that no series keeps, be there a copy or not: when one replica of the store is gone for a
while, the record of the other goes on where its own has ended."""

COPIES_OF_PODS: Final = EITHER_OF_PODS.union(SCRAPERS)

Labels = tuple[tuple[str, str], ...]

TWICE: Final = "the same target is scraped twice; one copy is counted"


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

    def add_requests(self, rows: Iterable[Row], *, thinned: bool) -> None:
        """Take in the rows of the request counter; `thinned`: as of `Query`."""
        if self.provider.natively_counted:
            rows = native.counted(native.once([*rows], self.provider.native, "", self.warnings))
        self._counted = True
        for key, series, labels in self._sorted(rows, thinned=thinned):
            if not self.provider.tells(labels):
                self.warnings[f"answers of {key} without a status were left out"] = None
                continue
            self._requests.setdefault(key, []).append(series)
            if self.provider.is_error(labels):
                self._errors.setdefault(key, []).append(series)

    def add_buckets(self, rows: Iterable[Row], latency: Latency, *, thinned: bool) -> None:
        """Take in the rows of the histogram; `thinned`: as of `Query`."""
        if self.provider.native:
            alone = native.once([*rows], self.provider.native, latency.bound_label, self.warnings)
            rows = native.bucketed(alone, latency.bound_label, self.warnings)
        for key, series, labels in self._sorted(rows, thinned=thinned):
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

    def _sorted(
        self, rows: Iterable[Row], *, thinned: bool
    ) -> Iterator[tuple[TrackKey, Series, Mapping[str, str]]]:
        """Rows of the keys asked for with all their labels, each scrape target once, in a stable
        order.
        """
        unnamed = COPIES_OF_PODS if self.provider.pods else COPIES
        found: dict[Labels, tuple[tuple[TrackKey, ...], Row]] = {}
        others: dict[Labels, list[Row]] = {}
        named = [(sorted(row.metric.items()), row) for row in rows]
        named.sort(key=operator.itemgetter(0))
        for labels, row in named:
            keys = self.names.keys(row.metric)
            if not keys or not row.values:
                continue
            same = tuple([pair for pair in labels if pair[0] not in unnamed])
            mine = keys, row
            if found.setdefault(same, mine) is not mine:
                others.setdefault(same, []).append(row)
        for same, (keys, row) in found.items():
            alike = others.get(same) if others else None
            samples = self._once([row, *alike], thinned=thinned) if alike else samples_of(row)
            series = Series(same, samples, job=row.metric.get(JOB, ""))
            for key in keys:
                yield key, series, row.metric

    def _once(self, rows: Sequence[Row], *, thinned: bool) -> tuple[Sample, ...]:
        """The samples of what is one series without the labels that none keeps."""
        metrics = [row.metric for row in rows]
        samples, copied = copies.joined(metrics, [*map(samples_of, rows)], thinned=thinned)
        if copied:
            self.warnings[TWICE] = None
        return samples


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
