# SPDX-License-Identifier: Apache-2.0
"""User checks: the query for one track, and the one value that its answer is.

A gateway's metrics are narrowed down to the Services of the track, by the labels that its provider
file names, and everything else to its pods.
"""

import functools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from controller.adapters.prometheus.asking import named
from controller.adapters.prometheus.names import PodNames, names_of
from controller.adapters.prometheus.providers import Choice, PodLabels
from controller.adapters.prometheus.wire import Point, Row
from controller.core.backtest.measured import Grid
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey
from controller.core.policy import families, promql
from controller.ports.metrics import Measured

MOST_POINTS: Final = 11_000
"""Points of one series with which a store answers a range query."""

SCRAPED: Final = PodLabels(namespace="namespace", pod="pod")
"""What the discovery of pods or endpoints calls them, where no chosen provider says otherwise."""


_HISTOGRAM: Final = "the value is a histogram and no number; take a quantile of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A query as it is sent.

    Attributes:
        text: Empty if the keys cannot name the track in it.
        readers: Whose counters it reads: the provider of the gateway, `pods`, or both.
        warnings: What is odd about it.
    """

    text: str
    readers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def resolve(choice: Choice, expression: str, keys: Collection[TrackKey]) -> Resolved:
    """The expression of a check for the one track that all these keys name.

    Raises:
        MetricsUnavailable: A name is none that Kubernetes would have accepted, or the expression
            was never read as a check.
    """
    return named(functools.partial(_resolved, choice, expression, keys))


def _resolved(choice: Choice, expression: str, keys: Collection[TrackKey]) -> Resolved:
    pods = sorted(key for key in keys if isinstance(key, PodsKey))
    services = sorted(key for key in keys if isinstance(key, ServiceKey))
    provider, by_service = _by_service(choice, services)
    by_pod, warnings = _by_pod(choice, pods)
    known = families.FAMILIES.get(provider)
    own = ((known.prefix, by_service),) if known else ()
    metrics = promql.metrics(expression)
    wrong = tuple(_unanswered(metrics, provider))
    left = [metric for metric in metrics if known is None or not known.has(metric)]
    if left and not by_pod:
        text = f"no pods are known to this track, so {', '.join(left)} cannot be asked for"
        return Resolved(text="", readers=("pods",), warnings=(text, *wrong))
    gateway = len(left) < len(metrics)
    return Resolved(
        text=promql.inject(expression, by_pod, own),
        readers=(*((provider,) if gateway else ()), *(("pods",) if left else ())),
        warnings=(*warnings, *wrong),
    )


def _by_service(choice: Choice, services: Sequence[ServiceKey]) -> tuple[str, str]:
    """The provider of the Services, and its matchers; empty without one."""
    provider = choice.of(services[0]) if services else None
    if provider is None:
        return "", ""
    return provider.name, provider.counted(names_of(provider, services).matchers(exact=True))


def _by_pod(choice: Choice, pods: Sequence[PodsKey]) -> tuple[str, tuple[str, ...]]:
    if not pods:
        return "", ()
    names = _pod_names(choice, pods)
    return names.matchers(exact=True), names.unreadable


def _pod_names(choice: Choice, pods: Sequence[PodsKey]) -> PodNames:
    provider = choice.of(pods[0])
    return PodNames(provider.pods if provider and provider.pods else SCRAPED, pods)


def _unanswered(metrics: Iterable[str], provider: str) -> Iterator[str]:
    """What gateways count that are not the one of this run."""
    mine = families.FAMILIES.get(provider)
    for metric in metrics:
        whose = families.family(metric)
        if whose is not None and whose != mine:
            names = [name for name, one in families.FAMILIES.items() if one == whose]
            told = f"this run's gateway is read by {provider}" if provider else "it has no gateway"
            yield f"{metric} is counted by {' or '.join(names)}, and {told}"


def one(points: Sequence[Point], at: float, warnings: Iterable[str]) -> Measured:
    """The single value of an answer, or None with the reason where it is not simply no data."""
    told = tuple(dict.fromkeys(warnings))
    if len(points) > 1:
        return Measured(at=at, value=None, warnings=(*told, _several([p.metric for p in points])))
    values = [_number(point.value[1]) for point in points if point.value is not None]
    if points and not values:
        told = (*told, _HISTOGRAM)
    value = values[0] if values else math.nan
    return Measured(at=at, value=None if math.isnan(value) else value, warnings=told)


def parted(choice: Choice, expression: str, key: PodsKey, pods: Collection[str]) -> tuple[str, str]:
    """The expression for these pods, and for all others of a key. Errors as `resolve`."""
    mine, others = named(lambda: _pod_names(choice, [key]).parted(pods))
    return named(lambda: (promql.inject(expression, mine), promql.inject(expression, others)))


def line(rows: Sequence[Row], grid: Grid) -> tuple[float | None, ...]:
    """The one value of an answer at each moment.

    None where there is none, where it is no number, and where there are several.
    """
    found: list[float | None] = [None] * grid.count
    taken: set[int] = set()
    for row in rows:
        for at, text in row.values:
            place = grid.place(at)
            value = _number(text)
            found[place] = None if math.isnan(value) or place in taken else value
            taken.add(place)
    return tuple(found)


def valueless(rows: Sequence[Row]) -> str:
    """Why an answer has no value at all."""
    distinct = {tuple(sorted(row.metric.items())): row.metric for row in rows}
    if len(distinct) > 1:
        return _several([*distinct.values()])
    return _HISTOGRAM if any(row.histograms for row in rows) else "no value"


def step(seconds: float, wished: float) -> int:
    """Whole seconds between two points, so that there are not more than a store answers with."""
    return max(math.ceil(wished), math.ceil(seconds / (MOST_POINTS - 1)), 1)


def _several(found: Sequence[dict[str, str]]) -> str:
    names = sorted({name for labels in found for name in labels})
    differ = [name for name in names if len({labels.get(name) for labels in found}) > 1]
    return (
        f"{len(found)} series instead of one: they differ in {', '.join(differ)}; gather them with "
        "sum(...), max(...) or another aggregation"
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
