# SPDX-License-Identifier: Apache-2.0
"""Every provider on what the real thing exposed, twice, with known requests in between.

Recorded from the real thing: Traefik 3.7 with its routes from the Gateway API, Envoy 1.37 with the
cluster names that Contour and Envoy Gateway give it, Envoy 1.38 with those of Cilium and kgateway,
HAProxy 2.6 with the backend names of HAProxy Unified Gateway, `prometheus-fastapi-instrumentator`
(codes by class), the test application (codes), OpenTelemetry's Prometheus exporter, Spring Boot 3.5
with Micrometer, the gRPC interceptors of Go (go-grpc-middleware 1.1) and Python (py-grpc-prometheus
0.8), and express-prom-bundle 8. The controllers that give those names did not run: the names are as
their sources write them. Of what is counted by pods `NAME_stable` is another pod, which got other
requests (of OpenTelemetry an application that its own instrumentation counts, `instrumented.py`).
Bounds and metrics that nobody asks for were left out.

Composed, since the proxies do not run here: Istio and Linkerd, in `composed.py`, which names its
sources.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.providers import choose
from controller.core.evidence.samples import Cursor, difference
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey
from controller.core.evidence.tally import Tally
from controller.sim.promql import parse
from tests.metrics import composed

RECORDED = Path(__file__).parent / "recorded"
AT = 1764000000.0

Target = Mapping[str, str]

COMPOSED: Mapping[str, Callable[[int], str]] = {
    "istio source": partial(composed.istio, "source"),
    "istio destination": partial(composed.istio, "destination"),
    "istio waypoint": partial(composed.istio, "waypoint"),
    "linkerd http": partial(composed.linkerd, "http"),
    "linkerd grpc": partial(composed.linkerd, "grpc"),
}
"""What there is no file of, by its name and the number of the scrape."""


def pod(name: str) -> Target:
    return {"namespace": "shop", "pod": name, "instance": f"{name}:8080", "job": "pods"}


def exposed(name: str, number: int) -> str:
    """The text of the first or the second scrape."""
    if name in COMPOSED:
        return COMPOSED[name](number)
    return (RECORDED / f"{name}_{number}.txt").read_text()


class Store:
    """Scrapes recordings, and answers selectors over them."""

    def __init__(self, provider: str, targets: Mapping[str, list[Target]]) -> None:
        """For each recording the targets at which it was found."""
        self.targets = targets
        self.scrapes = 1
        self.client = Prometheus(
            "http://metrics.test",
            choose([provider]),
            now=lambda: AT + self.scrapes,
            transport=httpx.MockTransport(self._answer),
        )

    def _series(self) -> Iterator[tuple[dict[str, str], list[tuple[float, str]]]]:
        found: dict[tuple[tuple[str, str], ...], list[tuple[float, str]]] = {}
        for name, targets in self.targets.items():
            for number in range(1, self.scrapes + 1):
                # Without their types, or the parser would give counters another name.
                lines = exposed(name, number).splitlines(keepends=True)
                text = "".join(line for line in lines if not line.startswith("#"))
                for family in text_string_to_metric_families(text):
                    for sample in family.samples:
                        for target in targets:
                            labels = {"__name__": sample.name, **sample.labels, **target}
                            key = tuple(sorted(pair for pair in labels.items() if pair[1]))
                            found.setdefault(key, []).append((AT + number, repr(sample.value)))
        for key, values in found.items():
            yield dict(key), values

    def _answer(self, request: httpx.Request) -> httpx.Response:
        selector = parse(parse_qs(request.content.decode())["query"][0])
        rows = [
            {"metric": labels, "values": values}
            for labels, values in self._series()
            if selector.matches(labels)
        ]
        data = {"resultType": "matrix", "result": rows}
        return httpx.Response(200, json={"status": "success", "data": data})

    async def between(self, canary: TrackKey, stable: TrackKey) -> tuple[Tally, Tally]:
        """The counts of both tracks between the first and the second recording."""
        batch = await self.client.samples(10, [canary, stable])
        cursor = difference(Cursor(), batch.series[canary], batch.series[stable]).cursor
        self.scrapes = 2
        batch = await self.client.samples(10, [canary, stable])
        assert batch.warnings == ()
        found = difference(cursor, batch.series[canary], batch.series[stable])
        (interval,) = found.intervals
        return interval.canary, interval.stable


@pytest.mark.parametrize(("namespace", "requests", "errors"), [("shop", 200, 13), ("bank", 120, 9)])
async def test_envoy_by_service(namespace: str, requests: int, errors: int) -> None:
    """In the recording Contour's clusters lead to `shop`, those of Envoy Gateway to `bank`."""
    store = Store("envoy", {"envoy": [{"instance": "gw:8002", "job": "envoy"}]})
    canary, stable = await store.between(
        ServiceKey(namespace, "checkout-canary"), ServiceKey(namespace, "checkout")
    )
    assert canary.requests + stable.requests == requests
    assert canary.errors + stable.errors == errors
    assert stable.requests > canary.requests > canary.errors > stable.errors > 0
    bounds = [bound for bound, _ in stable.buckets]
    assert bounds[0] == pytest.approx(0.001)
    assert 0.25 in bounds
    assert bounds[-1] == math.inf
    assert stable.slower_than(0.25) == 0


async def test_envoy_counts_what_found_no_endpoint_or_a_dead_one() -> None:
    store = Store("envoy", {"envoy": [{"instance": "gw:8002", "job": "envoy"}]})
    dead, empty = await store.between(ServiceKey("shop", "dead"), ServiceKey("shop", "empty"))
    assert (dead.requests, dead.errors) == (4, 4)
    assert (empty.requests, empty.errors) == (3, 3)


GATEWAY: Target = {"instance": "gw:15090", "job": "mesh", "pod": "web-1", "namespace": "infra"}
CANARY = ServiceKey("shop", "checkout-canary")
STABLE = ServiceKey("shop", "checkout")


async def test_traefik_by_service() -> None:
    """All of the canary's answers were held up for a second and a half."""
    store = Store("traefik", {"traefik": [GATEWAY]})
    canary, stable = await store.between(CANARY, STABLE)
    assert (canary.requests, canary.errors, canary.timed) == (24, 7, 24)
    assert (stable.requests, stable.errors, stable.timed) == (96, 6, 96)
    assert (canary.slower_than(1.2), canary.slower_than(5.0)) == (24, 0)
    assert stable.slower_than(1.2) == 0


@pytest.mark.parametrize("provider", ["cilium", "kgateway"])
async def test_other_controllers_of_envoy_by_service(provider: str) -> None:
    """The Service at two ports of one Gateway, or by two ways, is one; its namesake is another."""
    store = Store(provider, {provider: [GATEWAY]})
    canary, stable = await store.between(CANARY, STABLE)
    # Broken off before an answer, Envoy itself answers 503, and times nothing.
    assert (canary.requests, canary.errors, canary.timed) == (38, 8, 36)
    assert (stable.requests, stable.errors, stable.timed) == (100, 3, 99)
    assert stable.slower_than(1.0) == 0
    bank = await Store(provider, {provider: [GATEWAY]}).between(
        ServiceKey("bank", "checkout"), STABLE
    )
    assert (bank[0].requests, bank[0].errors) == (8, 1)


async def test_haproxy_by_service() -> None:
    """Two clients of the canary and three of stable hung up before the answer, which was good."""
    store = Store("haproxy", {"haproxy": [GATEWAY]})
    canary, stable = await store.between(CANARY, STABLE)
    assert (canary.requests, canary.errors, canary.timed) == (53, 11, 0)
    assert (stable.requests, stable.errors, stable.timed) == (134, 6, 0)


async def test_haproxy_by_filters_and_ports_and_without_a_server() -> None:
    store = Store("haproxy", {"haproxy": [GATEWAY]})
    bank, dead = await store.between(ServiceKey("bank", "checkout"), ServiceKey("shop", "dead"))
    assert (bank.requests, bank.errors) == (16, 1)
    assert (dead.requests, dead.errors) == (2, 2)


SIDECAR: Target = {
    **GATEWAY,
    "instance": "checkout:15090",
    "pod": "checkout-1",
    "namespace": "shop",
}


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        ("istio", {"istio source": [GATEWAY], "istio destination": [SIDECAR]}),
        ("istio-waypoint", {"istio source": [GATEWAY], "istio waypoint": [SIDECAR]}),
    ],
)
async def test_istio_counts_each_request_once_whoever_else_reports_it(
    provider: str, told: Mapping[str, list[Target]]
) -> None:
    store = Store(provider, told)
    canary, stable = await store.between(CANARY, STABLE)
    # An answer that was never begun counts, and is an error only where its flags say so.
    assert (stable.requests, stable.errors) == (100, 3)
    # Of seven bad answers one was broken off after its status, and three by gRPC have a good one.
    assert (canary.requests, canary.errors) == (52, 10)
    assert (canary.timed, stable.timed) == (52, 100)
    assert stable.slower_than(0.25) == 0
    assert (canary.slower_than(0.25), canary.slower_than(1.0)) == (8, 0)


async def test_linkerd_by_backend_of_an_http_route() -> None:
    store = Store("linkerd", {"linkerd http": [SIDECAR]})
    canary, stable = await store.between(CANARY, STABLE)
    # The caller who gave up is no error, nor what may be another such one.
    assert (stable.requests, stable.errors) == (87, 2)
    assert (canary.requests, canary.errors) == (29, 8)
    assert canary.timed == 29
    assert canary.slower_than(0.25) == 5


async def test_linkerd_by_backend_of_a_grpc_route() -> None:
    store = Store("linkerd-grpc", {"linkerd grpc": [SIDECAR]})
    canary, stable = await store.between(CANARY, STABLE)
    assert (stable.requests, stable.errors) == (67, 2)
    assert (canary.requests, canary.errors) == (29, 6)
    assert stable.slower_than(0.25) == 0


CANARY_PODS = PodsKey("shop", "checkout-canary", "")
STABLE_PODS = PodsKey("shop", "checkout", "5d9c7b6f48")
CANARY_POD = pod("checkout-canary-6b9f7c8d55-x2x4z")
STABLE_POD = pod("checkout-5d9c7b6f48-bb2d4")


async def test_applications_that_count_by_code_and_by_class() -> None:
    store = Store("application", {"application": [CANARY_POD], "application_code": [STABLE_POD]})
    canary, stable = await store.between(CANARY_PODS, STABLE_PODS)
    # Fifty that were asked for, and not the scrape, which the library counts.
    assert (canary.requests, canary.errors) == (50, 10)
    assert (stable.requests, stable.errors) == (150, 16)
    assert canary.timed == 50
    assert stable.timed == 150
    assert stable.slower_than(0.1) == 0


def both(name: str) -> Mapping[str, list[Target]]:
    """A pod of each version, with what each of them exposed."""
    return {name: [CANARY_POD], f"{name}_stable": [STABLE_POD]}


async def test_opentelemetry() -> None:
    """Of stable one answer crashed, which has neither a status nor the name of an error."""
    store = Store("opentelemetry", both("opentelemetry"))
    canary, stable = await store.between(CANARY_PODS, STABLE_PODS)
    assert (canary.requests, canary.errors) == (60, 10)
    assert (canary.timed, canary.slower_than(0.05)) == (60, 20)
    assert (stable.requests, stable.errors) == (120, 3)
    assert (stable.timed, stable.slower_than(0.5)) == (120, 4)


async def test_micrometer() -> None:
    """Those that were asked for, some of them slow, and neither probes nor scrapes."""
    store = Store("micrometer", both("micrometer"))
    canary, stable = await store.between(CANARY_PODS, STABLE_PODS)
    assert (canary.requests, canary.errors) == (65, 7)
    assert (canary.timed, canary.slower_than(0.25)) == (65, 5)
    assert (stable.requests, stable.errors) == (103, 3)
    assert (stable.timed, stable.slower_than(0.25)) == (103, 2)


@pytest.mark.parametrize("library", ["grpc_go", "grpc_python"])
async def test_grpc(library: str) -> None:
    """Statuses are written in two ways; those that are the caller's fault are no errors."""
    store = Store("grpc", both(library))
    canary, stable = await store.between(CANARY_PODS, STABLE_PODS)
    assert (canary.requests, canary.errors) == (76, 7)
    assert (canary.timed, canary.slower_than(0.25)) == (76, 5)
    assert (stable.requests, stable.errors) == (98, 2)
    assert (stable.timed, stable.slower_than(0.25)) == (98, 2)


async def test_a_histogram_without_a_counter_beside_it() -> None:
    store = Store("application-histogram", both("express"))
    canary, stable = await store.between(CANARY_PODS, STABLE_PODS)
    assert (canary.requests, canary.errors) == (64, 6)
    assert (canary.timed, canary.slower_than(0.3)) == (64, 5)
    assert (stable.requests, stable.errors) == (102, 2)
    assert (stable.timed, stable.slower_than(0.3)) == (102, 2)


async def test_each_pod_counts_and_those_of_others_do_not() -> None:
    others = ["checkout-6f7c8d9b45-bb2d4", "cart-5d9c7b6f48-bb2d4", "checkout-canary-x2x4z"]
    elsewhere = {**STABLE_POD, "namespace": "bank"}
    store = Store(
        "application",
        {
            "application": [CANARY_POD, pod("checkout-canary-6b9f7c8d55-zzzzz")],
            "application_code": [
                STABLE_POD,
                pod("checkout-5d9c7b6f48-cc2d4"),
                elsewhere,
                *map(pod, others),
            ],
        },
    )
    canary, stable = await store.between(CANARY_PODS, STABLE_PODS)
    assert (canary.requests, canary.errors) == (100, 20)
    assert (stable.requests, stable.errors) == (300, 32)


async def test_a_pod_behind_two_services_is_scraped_twice_and_counts_once() -> None:
    by_way_of: list[Target] = [
        {**STABLE_POD, "service": name, "job": name} for name in ("checkout", "api")
    ]
    store = Store("application", {"application": [CANARY_POD], "application_code": by_way_of})
    batch = await store.client.samples(10, [STABLE_PODS])
    assert batch.warnings == ("the same target is scraped twice; one copy is counted",)
    assert [dict(one.labels)["code"] for one in batch.series[STABLE_PODS].requests] == [
        "200",
        "500",
    ]
