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
from controller.adapters.prometheus.wire import Point
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey
from controller.core.policy import families, promql
from controller.ports.metrics import Measured

SCRAPED: Final = PodLabels(namespace="namespace", pod="pod")
"""What the discovery of pods or endpoints calls them, where no chosen provider says otherwise."""

HISTOGRAM: Final = "the value is a histogram and no number; take a quantile of it"


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
    names = pod_names(choice, pods)
    return names.matchers(exact=True), names.unreadable


def pod_names(choice: Choice, pods: Sequence[PodsKey]) -> PodNames:
    """How these pods are named in a query. Raises ValueError for names that cannot exist."""
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
        return Measured(at=at, value=None, warnings=(*told, several([p.metric for p in points])))
    values = [number(point.value[1]) for point in points if point.value is not None]
    if points and not values:
        told = (*told, HISTOGRAM)
    value = values[0] if values else math.nan
    return Measured(at=at, value=None if math.isnan(value) else value, warnings=told)


def several(found: Sequence[dict[str, str]]) -> str:
    """What is wrong with an answer of several series, which have these labels."""
    names = sorted({name for labels in found for name in labels})
    differ = [name for name in names if len({labels.get(name) for labels in found}) > 1]
    return (
        f"{len(found)} series instead of one: they differ in {', '.join(differ)}; gather them with "
        "sum(...), max(...) or another aggregation"
    )


def number(text: str) -> float:
    """The value of a sample; NaN where it is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
