# SPDX-License-Identifier: Apache-2.0
"""The metrics store as the engine needs it: raw counters with the scrapes' own time stamps.

One call serves all runs at once, so the load on the store grows with the metrics of a provider and
not with the number of canaries.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from controller.core.evidence.measures import Gauge
from controller.core.evidence.scraped import Jobs, Scraped
from controller.core.evidence.series import PodsKey, TrackKey, TrackSeries


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one look at the store has brought.

    Attributes:
        evaluated_at: When the store answered, by its own clock where it tells the time.
        series: Series by key. A key of which the store knows nothing is missing here; that is no
            error.
        warnings: What the store or the mapping found odd, each once.
    """

    evaluated_at: float
    series: Mapping[TrackKey, TrackSeries] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One value of a user check.

    Attributes:
        at: When the store evaluated it, by its own clock.
        value: None without a series, where the value is no number, or with more than one series.
        warnings: What the store or the mapping found odd, and why there is no single value.
    """

    at: float
    value: float | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """How much of what can run out is used up, and whose pods are scraped.

    Attributes:
        evaluated_at: When the store answered.
        figures: For each version's pods the highest figure by the name of what was measured.
        pods: For each version the names of its pods that are scraped, by the job that does so.
    """

    evaluated_at: float
    figures: Mapping[PodsKey, Mapping[str, float]] = field(default_factory=dict)
    pods: Mapping[PodsKey, Mapping[str, frozenset[str]]] = field(default_factory=dict)

    def of(self, track: Iterable[PodsKey], name: str) -> float | None:
        """The highest figure of that name in a track; None if it has none."""
        found = (self.figures.get(key, {}).get(name) for key in track)
        return max((figure for figure in found if figure is not None), default=None)

    def scraped(self, canary: Iterable[PodsKey], stable: Iterable[PodsKey], jobs: Jobs) -> Scraped:
        """Which pods of two tracks are scraped by the jobs that bring their counts.

        A track without counts yet is scraped by whichever job does so.
        """
        return Scraped(
            at=self.evaluated_at,
            canary=self._by(jobs.canary, canary),
            stable=self._by(jobs.stable, stable),
        )

    def _by(self, jobs: Collection[str], track: Iterable[PodsKey]) -> frozenset[str]:
        """The pods of a track that these jobs scrape, or any if there are none."""
        found = ((job, names) for key in track for job, names in self.pods.get(key, {}).items())
        return frozenset[str]().union(*(names for job, names in found if not jobs or job in jobs))


class Counts(Protocol):
    """Errors of every method: `MetricsUnavailable`. Each has a deadline of its own."""

    async def samples(self, since_seconds: float, keys: Collection[TrackKey]) -> Batch:
        """Raw samples of the last `since_seconds` for all these keys, stable and canary.

        One query per metric of each provider that is concerned, however many keys are asked for.
        The window must reach back to the newest sample that was counted, or what lies between is a
        gap.
        """
        ...

    async def history(self, key: TrackKey, seconds: float) -> Batch:
        """The key's past, thinned out, without latency: enough to see how errors cluster."""
        ...

    async def latency_history(self, key: TrackKey, seconds: float) -> Batch:
        """The same of its histogram alone; nothing where its provider has none."""
        ...


class Values(Protocol):
    """What is measured beside requests. Errors of every method: `MetricsUnavailable`."""

    async def value(self, expression: str, keys: Collection[TrackKey]) -> Measured:
        """What the expression of a user check says now of the one track that all keys name.

        Services and pods may both be among the keys: a gateway's metrics are narrowed down to the
        Services, all others to the pods.
        """
        ...

    async def saturation(self, keys: Collection[PodsKey]) -> Levels:
        """What the pods of all these versions use up now, and which of them are scraped.

        One query, however many there are.
        """
        ...

    async def saturation_past(self, key: PodsKey, seconds: float) -> tuple[Gauge, ...]:
        """What of it a version has shown in its past, which is all that can be measured of it."""
        ...


class Metrics(Counts, Values, Protocol):
    """The whole store."""
