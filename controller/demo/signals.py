# SPDX-License-Identifier: Apache-2.0
"""How a gateway's own counters tell the canary, for the stopwatch.

Deliberately not what the product reads in its provider files: a mistake there must not hide itself
from the figures.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """The series of one kind of gateway."""

    provider: str
    """What the daemon calls it."""
    controllers: tuple[str, ...]
    """`controllerName` of the GatewayClasses that it answers for."""
    requests: str
    """The counter of requests."""
    code: str
    """Its label with the status."""
    duration: str
    """The histogram of durations, without `_bucket`."""
    unit_seconds: float
    """Of the histogram's bounds."""
    slow_seconds: float
    """A bound of the histogram by default, from which on an answer is slow in the stories."""
    label: str
    """The label that has the Service in it."""
    pattern: str
    """What it looks like, with `{namespace}` and `{service}`."""

    def selector(self, namespace: str, service: str) -> str:
        """The label matcher of one Service's series, without braces."""
        pattern = self.pattern.format(namespace=namespace, service=service)
        return f'{self.label}=~"{pattern}"'


TRAEFIK: Final = Signals(
    provider="traefik",
    controllers=("traefik.io/gateway-controller",),
    requests="traefik_service_requests_total",
    code="code",
    duration="traefik_service_request_duration_seconds",
    unit_seconds=1.0,
    slow_seconds=0.3,
    label="service",
    # Anything before, and what follows begins with the index, a port or a protocol and the port.
    pattern=".*{namespace}-{service}-(http-|grpc-)?[0-9]+@.*",
)

ENVOY: Final = Signals(
    provider="envoy",
    controllers=(
        "projectcontour.io/gateway-controller",
        "gateway.envoyproxy.io/gatewayclass-controller",
    ),
    requests="envoy_cluster_upstream_rq",
    code="envoy_response_code",
    duration="envoy_cluster_upstream_rq_time",
    unit_seconds=0.001,
    slow_seconds=0.25,
    label="envoy_cluster_name",
    pattern="{namespace}_{service}_[0-9]+|service/{namespace}/{service}/.*",
)

KNOWN: Final = (TRAEFIK, ENVOY)


def of(controller: str) -> Signals | None:
    """The signals of the gateways that a controller answers for; None if they are not known."""
    return next((signals for signals in KNOWN if controller in signals.controllers), None)
