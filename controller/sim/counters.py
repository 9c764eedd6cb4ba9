# SPDX-License-Identifier: Apache-2.0
"""The request metrics of Traefik 3.7 and of an application's pods, by their names and labels.

A series is born with its first event, not with a zero, and it dies with its subject.  Once a
service has left the proxy's configuration its series are exposed one last time and then dropped, so
that a later canary starts from nothing; a pod is scraped while it lives.  Both are what a reader of
raw counters must cope with.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from controller.sim import dice

BUCKETS = (0.1, 0.3, 1.2, 5.0)
"""Traefik's default bucket bounds in seconds."""

# Spread of the simulated latencies: a log-normal whose 99th percentile is twice its median.
SIGMA = math.log(2.0) / 2.3263

Labels = tuple[tuple[str, str], ...]
"""Label pairs sorted by name, ``__name__`` first."""

Key = tuple[str, str]
"""Subject (the service label, or a pod) and status code."""


class Era(Enum):
    """The two ways in which Traefik names the service of a Gateway API backend."""

    ROUTE = "3.7.6 and later"
    SERVICE = "3.6.0 to 3.7.5"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendName:
    """What the name of a service is made of."""

    route_kind: str
    route_namespace: str
    route: str
    gateway_namespace: str
    gateway: str
    entrypoint: str
    rule: int
    namespace: str
    service: str
    port: int
    index: int

    def label(self, era: Era) -> str:
        """The value of the label ``service``."""
        match era:
            case Era.SERVICE:
                return f"{self.namespace}-{self.service}-http-{self.port}@kubernetesgateway"
            case Era.ROUTE:
                text = f"{self.route_namespace}/{self.route}/{self.rule}".encode()
                digest = hashlib.sha256(text).hexdigest()[:20]
                return (
                    f"{self.route_kind.lower()}-{self.route_namespace}-{self.route}"
                    f"-gw-{self.gateway_namespace}-{self.gateway}-ep-{self.entrypoint}"
                    f"-{self.rule}-{digest}-svc-{self.namespace}-{self.service}-{self.index}"
                    "@kubernetesgateway"
                )


@dataclass(slots=True)
class _Row:
    """One service and code: the counter and the histogram."""

    requests: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))
    seconds: float = 0.0


Naming = Callable[[str, str], tuple[Labels, ...]]
"""From subject and code to the labels of the counter, the buckets, the sum and the count."""


def proxy_series(service: str, code: str) -> tuple[Labels, ...]:
    """What Traefik exposes for one service and code."""
    labels = {"code": code, "method": "GET", "protocol": "http", "service": service}
    duration = "traefik_service_request_duration_seconds"
    return _series("traefik_service_requests_total", duration, labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodName:
    """One life of a pod's container; with the next one its counters begin again."""

    namespace: str
    name: str
    address: str
    life: int

    @property
    def subject(self) -> str:
        """A name for it, unique among all lives of all pods."""
        return f"{self.namespace}/{self.name}/{self.address}/{self.life}"


def pod_series(subject: str, code: str) -> tuple[Labels, ...]:
    """What an application's pod exposes for one code, with the labels of its scrape target."""
    namespace, pod, address, _ = subject.split("/")
    labels = {
        "code": code,
        "instance": f"{address}:8080",
        "job": "pods",
        "namespace": namespace,
        "pod": pod,
    }
    return _series("http_requests_total", "http_request_duration_seconds", labels)


PERIODS = 10.0
"""Of the kernel's CPU accounting in a second."""


def process_gauges(pod: PodName, open_files: int) -> list[tuple[Labels, float]]:
    """What the process of a pod says of itself: files that it holds open, and how many it may."""
    rest = _target(pod)
    return [
        ((("__name__", "process_open_fds"), *rest), float(open_files)),
        ((("__name__", "process_max_fds"), *rest), 1024.0),
    ]


def cpu_counters(pod: PodName, age: float, throttled: float) -> list[tuple[Labels, float]]:
    """What cAdvisor counts of a container with a limit of CPU, which was too little for so long."""
    rest = tuple(sorted((*_target(pod), ("container", "app"))))
    periods = "container_cpu_cfs_periods_total"
    return [
        ((("__name__", periods), *rest), PERIODS * age),
        (
            (("__name__", periods.replace("periods", "throttled_periods")), *rest),
            PERIODS * throttled,
        ),
    ]


def target_up(pod: PodName) -> Labels:
    """What Prometheus itself writes of a pod that it scrapes."""
    return (("__name__", "up"), *_target(pod))


def _target(pod: PodName) -> Labels:
    labels = {
        "instance": f"{pod.address}:8080",
        "job": "pods",
        "namespace": pod.namespace,
        "pod": pod.name,
    }
    return tuple(sorted(labels.items()))


def _series(counter: str, duration: str, labels: dict[str, str]) -> tuple[Labels, ...]:
    def series(name: str, le: str = "") -> Labels:
        more = {"le": le} if le else {}
        return (("__name__", name), *sorted({**labels, **more}.items()))

    return (
        series(counter),
        *(series(f"{duration}_bucket", f"{bound:g}") for bound in BUCKETS),
        series(f"{duration}_bucket", "+Inf"),
        series(f"{duration}_sum"),
        series(f"{duration}_count"),
    )


class Counters:
    """All request series of one proxy, or of all pods."""

    def __init__(self, rng: random.Random, naming: Naming = proxy_series) -> None:
        """No series exist yet."""
        self._rng = rng
        self._naming = naming
        self._rows: dict[Key, _Row] = {}
        self._names: dict[Key, tuple[Labels, ...]] = {}
        self._condemned: set[str] = set()
        self._shares: dict[float, list[float]] = {}

    def add(self, subject: str, code: int, count: int, latency_ms: float) -> None:
        """Count ``count`` answers with latencies around ``latency_ms``."""
        if count <= 0:
            return
        row = self._rows.setdefault((subject, str(code)), _Row())
        row.requests += count
        row.seconds += count * latency_ms / 1000.0
        left, below = count, 0
        for at, share in enumerate(self._conditional(latency_ms)):
            drawn = dice.binomial(self._rng, left, share)
            left -= drawn
            below += drawn
            row.buckets[at] += below

    def keep_only(self, services: set[str]) -> None:
        """Condemn the series of services that are configured no longer."""
        self._condemned = {service for service, _ in self._rows if service not in services}

    def keep_alive(self, pods: Iterable[PodName]) -> None:
        """Drop the series of all pods but these at once: who is dead is not scraped."""
        living = {pod.subject for pod in pods}
        for key in [key for key in self._rows if key[0] not in living]:
            del self._rows[key]
            self._names.pop(key, None)

    def reset(self) -> None:
        """Start again from nothing, as after a restart of the proxy."""
        self._rows.clear()
        self._condemned.clear()

    def scrape(self) -> list[tuple[Labels, float]]:
        """Every series with its value; condemned ones for the last time."""
        found: list[tuple[Labels, float]] = []
        for key, row in self._rows.items():
            values = [row.requests, *row.buckets, row.requests, row.seconds, row.requests]
            found.extend(zip(self._named(key), values, strict=True))
        for key in [key for key in self._rows if key[0] in self._condemned]:
            del self._rows[key]
        self._condemned.clear()
        return found

    def total(self, subject: str, code: str = "") -> int:
        """The requests of one subject, of one status code or of all."""
        return sum(
            row.requests
            for (name, have), row in self._rows.items()
            if name == subject and code in {"", have}
        )

    def _conditional(self, latency_ms: float) -> list[float]:
        """For each bucket the chance to fall into it when it was not in a lower one."""
        found = self._shares.get(latency_ms)
        if found is None:
            median = max(latency_ms, 1e-3) / 1000.0
            found, before = [], 0.0
            for bound in BUCKETS:
                below = 0.5 * (1.0 + math.erf(math.log(bound / median) / (SIGMA * math.sqrt(2.0))))
                found.append((below - before) / (1.0 - before) if before < 1.0 else 1.0)
                before = below
            self._shares[latency_ms] = found
        return found

    def _named(self, key: Key) -> tuple[Labels, ...]:
        names = self._names.get(key)
        if names is None:
            names = self._names[key] = self._naming(*key)
        return names
