# SPDX-License-Identifier: Apache-2.0
"""Which metrics a gateway or mesh counts, and by which labels their series name a track.

A user check may read them beside the application's own. What else is known of the providers is in
the files of the metrics adapter; this much the linter needs too, which has no adapter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics whose names begin with `prefix`; `labels` is what a track's matcher is about."""

    prefix: str
    labels: tuple[str, ...]

    def has(self, metric: str) -> bool:
        """Whether a metric is one of them."""
        return metric.startswith(self.prefix)


_ENVOY: Final = Family("envoy_cluster_", ("envoy_cluster_name",))
_ISTIO: Final = Family(
    "istio_", ("destination_service_namespace", "destination_service_name", "reporter")
)
_BACKEND: Final = ("backend_namespace", "backend_name", "backend_kind")

FAMILIES: Final[Mapping[str, Family]] = {
    "cilium": _ENVOY,
    "envoy": _ENVOY,
    "haproxy": Family("haproxy_backend_", ("proxy",)),
    "istio": _ISTIO,
    "istio-waypoint": _ISTIO,
    "kgateway": _ENVOY,
    "linkerd": Family("outbound_http_route_backend_", _BACKEND),
    "linkerd-grpc": Family("outbound_grpc_route_backend_", _BACKEND),
    "traefik": Family("traefik_service_", ("service",)),
}
"""By the provider's name: one for each that tells Services apart."""

POD_LABELS: Final = ("namespace", "pod")
"""What the matcher of a track is about in every other metric."""


def family(metric: str) -> Family | None:
    """The gateways' family that a metric belongs to; None for the applications' own."""
    return next((one for one in FAMILIES.values() if one.has(metric)), None)


def labels(metric: str) -> tuple[str, ...]:
    """The labels by which a metric's series are narrowed down to a track."""
    found = family(metric)
    return found.labels if found else POD_LABELS
