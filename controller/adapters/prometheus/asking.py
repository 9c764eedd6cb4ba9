# SPDX-License-Identifier: Apache-2.0
"""From keys to queries, and from their answers to series by key, however they are sent."""

import functools
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from controller.adapters.prometheus.mapping import Sorter
from controller.adapters.prometheus.names import Names, names_of
from controller.adapters.prometheus.providers import Choice, Latency, Provider
from controller.adapters.prometheus.wire import Row
from controller.core.errors import MetricsUnavailable
from controller.core.evidence.series import TrackKey, TrackSeries
from controller.ports.metrics import Batch

HISTORY_POINTS = 1440
"""Samples per series of history: 6 h at 15 s, the length the dispersion was calibrated on."""

Built = TypeVar("Built")

Answer = tuple[list[Row], list[str], float]
"""Rows, warnings, and the time of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one provider is asked for in one look."""

    provider: Provider
    names: Names

    def query(self, latency: Latency | None, window: str, deadline: float) -> "Query":
        """For the histogram if `latency` is given, else for the counter of answers."""
        names = self.names.matchers()
        text = (
            self.provider.latency_selector(latency, names)
            if latency
            else self.provider.requests_selector(names)
        ) + window
        thinned = ":" in window
        return Query(part=self, latency=latency, text=text, deadline=deadline, thinned=thinned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query, and where its rows belong.

    With `thinned` its answer has the samples of a subquery, which are stamped a step apart and not
    as they were scraped.
    """

    part: Part
    latency: Latency | None
    text: str
    deadline: float
    thinned: bool


def parts(choice: Choice, keys: Collection[TrackKey]) -> tuple[list[Part], dict[str, None]]:
    """The keys by provider, and what is to be said of those that get no data.

    Raises:
        MetricsUnavailable: A key has a name that no query can hold.
    """
    asked: dict[str, list[TrackKey]] = {}
    warnings: dict[str, None] = {}
    for key in keys:
        provider = choice.of(key)
        if provider is None:
            warnings[f"no provider is chosen that knows {key}; no data"] = None
        else:
            asked.setdefault(provider.name, []).append(key)
    found = []
    for name, same in sorted(asked.items()):
        provider = choice.known[name]
        names = named(functools.partial(names_of, provider, same))
        warnings.update(dict.fromkeys(names.unreadable))
        found.append(Part(provider=provider, names=names))
    return found, warnings


def named(build: Callable[[], Built]) -> Built:
    """What is built of names.

    Raises:
        MetricsUnavailable: One of them is no name.
    """
    try:
        return build()
    except ValueError as error:
        raise MetricsUnavailable(f"cannot ask for metrics: {error}") from error


def thinned(seconds: float, step: int | None = None) -> str:
    """The subquery of so much history, a sample every `step` seconds; None: as many as are kept."""
    step = step or max(math.ceil(seconds / HISTORY_POINTS), 1)
    return f"[{math.ceil(seconds)}s:{step}s]"


def timed(asked: Iterable[Part], window: str, deadline: float) -> list[Query]:
    """The queries for the histograms of those providers that have one."""
    return [
        part.query(part.provider.latency, window, deadline)
        for part in asked
        if part.provider.latency
    ]


def sorted_out(
    queries: Iterable[Query], answers: Collection[Answer], warnings: dict[str, None]
) -> Batch:
    """The rows of all answers by key; there is one answer for each query."""
    sorters: dict[str, Sorter] = {}
    for query, (rows, told, _) in zip(queries, answers, strict=True):
        provider = query.part.provider
        fresh = Sorter(provider=provider, names=query.part.names)
        sorter = sorters.setdefault(provider.name, fresh)
        warnings.update(dict.fromkeys(told[:10]))
        if query.latency is None:
            sorter.add_requests(rows, thinned=query.thinned)
        else:
            sorter.add_buckets(rows, query.latency, thinned=query.thinned)
    series: dict[TrackKey, TrackSeries] = {}
    for sorter in sorters.values():
        series |= sorter.series()
        warnings |= sorter.warnings
    # The earliest answer bounds how old the data are.
    evaluated = min(answered for _, _, answered in answers)
    return Batch(evaluated_at=evaluated, series=series, warnings=tuple(warnings))
