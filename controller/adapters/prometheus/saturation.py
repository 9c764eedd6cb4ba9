# SPDX-License-Identifier: Apache-2.0
"""What pods use up and which are scraped: one query for all of it, and what its rows say."""

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import resources
from typing import Final

import msgspec
import yaml

from controller.adapters.prometheus.asking import thinned
from controller.adapters.prometheus.mapping import samples_of
from controller.adapters.prometheus.names import PodNames
from controller.adapters.prometheus.providers import PodLabels
from controller.adapters.prometheus.wire import Row
from controller.core.evidence import saturation, scraped
from controller.core.evidence.measures import GAUGE_SECONDS, Gauge
from controller.core.evidence.saturation import WINDOW_SECONDS, Item
from controller.core.evidence.series import JOB, PodsKey, Series
from controller.ports.metrics import Levels

FILE: Final = "saturation.yaml"

UP: Final = "up"
"""What Prometheus writes of each of its targets: 1 if the scrape succeeded, else 0."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    pods: PodLabels
    items: tuple[Item, ...]


def _parsed(text: str) -> _File:
    try:
        return msgspec.convert(yaml.safe_load(text), _File)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ValueError(f"{FILE}: {error}") from error


@functools.cache  # The file is part of the program.
def _shipped() -> _File:
    return _parsed((resources.files(__package__) / FILE).read_text(encoding="utf-8"))


class Saturation:
    """What there is to measure, how it is asked for and what an answer means."""

    def __init__(self, text: str | None = None) -> None:
        """Read the shipped items, or those of a text.

        Raises:
            ValueError: It is not as it should be; says why.
        """
        found = _shipped() if text is None else _parsed(text)
        self._labels = found.pods
        self.items = found.items

    def query(self, keys: Collection[PodsKey]) -> str:
        """One query for every item of all these pods, and for which of them are scraped.

        Raises:
            ValueError: A name is not one that Kubernetes would have accepted.
        """
        return f"{self.selector(keys, UP)}[{WINDOW_SECONDS:.0f}s]"

    def past_query(self, key: PodsKey, seconds: float) -> str:
        """The same of one version's past, thinned out at the store."""
        return self.selector([key]) + thinned(seconds, round(GAUGE_SECONDS))

    def levels(self, keys: Collection[PodsKey], rows: Iterable[Row], at: float) -> Levels:
        """The figure of each item by the pods that have it, and which pods are scraped."""
        figures: dict[PodsKey, dict[str, float]] = {}
        pods: dict[PodsKey, dict[str, frozenset[str]]] = {}
        # The store tells its time in whole seconds, and no sample is from the future.
        until = at + 1.0
        for key, series in self._sorted(keys, rows).items():
            known = ((item, saturation.figure(item, series, until)) for item in self.items)
            figures[key] = {item.name: figure for item, figure in known if figure is not None}
            pods[key] = self._scraped(series.get(UP, ()), at)
        return Levels(evaluated_at=at, figures=figures, pods=pods)

    def _scraped(self, ups: Iterable[Series], at: float) -> dict[str, frozenset[str]]:
        """By job the pods of whose targets one is scraped."""
        found: dict[str, set[str]] = {}
        for one in ups:
            if scraped.succeeds(one.samples, at):
                labels = dict(one.labels)
                found.setdefault(labels.get(JOB, ""), set()).add(labels[self._labels.pod])
        return {job: frozenset(names) for job, names in found.items()}

    def lines(
        self, key: PodsKey, names: Collection[str], rows: Iterable[Row], moments: Sequence[float]
    ) -> dict[str, dict[str, tuple[float | None, ...]]]:
        """By the names of these items, each pod that has it with its figure at each moment."""
        pods: dict[str, dict[str, list[Series]]] = {}
        for metric, found in self._sorted([key], rows).get(key, {}).items():
            for series in found:
                pod = dict(series.labels)[self._labels.pod]
                pods.setdefault(pod, {}).setdefault(metric, []).append(series)
        lines: dict[str, dict[str, tuple[float | None, ...]]] = {}
        for item in (item for item in self.items if item.name in names):
            for pod, known in pods.items():
                line = tuple(saturation.figure(item, known, at) for at in moments)
                if any(figure is not None for figure in line):
                    lines.setdefault(item.name, {})[pod] = line
        return lines

    def past(
        self, key: PodsKey, rows: Iterable[Row], at: float, seconds: float
    ) -> tuple[Gauge, ...]:
        """What these pods have shown of each item in their past."""
        series = self._sorted([key], rows).get(key, {})
        return saturation.gauges(self.items, series, at, seconds)

    def selector(self, keys: Collection[PodsKey], *more: str) -> str:
        """Every series of every item of all these pods, and of more metrics. Errors as `query`."""
        metrics = {name for item in self.items for name in (item.metric, item.of) if name}
        metrics |= {*more}
        names = "|".join(sorted(metrics))
        return f'{{__name__=~"{names}",{PodNames(self._labels, keys).matchers()}}}'

    def _sorted(
        self, keys: Collection[PodsKey], rows: Iterable[Row]
    ) -> Mapping[PodsKey, dict[str, list[Series]]]:
        names = PodNames(self._labels, keys)
        found: dict[PodsKey, dict[str, list[Series]]] = {}
        for row in rows:
            series = Series(tuple(sorted(row.metric.items())), samples_of(row))
            for key in names.keys(row.metric):
                if isinstance(key, PodsKey):
                    metric = row.metric.get("__name__", "")
                    found.setdefault(key, {}).setdefault(metric, []).append(series)
        return found
