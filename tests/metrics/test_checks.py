# SPDX-License-Identifier: Apache-2.0
"""A user check asked of one track: the query as it is sent, and the one value of its answer."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import httpx
import promql_parser
import pytest

from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.names import LONGEST_PODS
from controller.adapters.prometheus.providers import choose, load
from controller.core.errors import MetricsUnavailable
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey
from controller.core.policy import families, keys
from controller.core.policy.promql_text import selectors

ORDERS = "sum(rate(orders_failed_total[1m])) / sum(rate(orders_total[1m]))"
GATEWAY = 'sum(rate(traefik_service_requests_total{code="500"}[1m]))'
CANARY: Sequence[TrackKey] = (
    PodsKey("shop", "checkout-canary", ""),
    PodsKey("shop", "checkout", "7d9f8"),
    ServiceKey("shop", "checkout-canary"),
    ServiceKey("shop", "pay-canary"),
)


class Store:
    """Answers every query with the same, and remembers what it was asked."""

    def __init__(
        self, kind: str = "vector", *rows: Any, auto: Sequence[str] = ("traefik",)
    ) -> None:
        self.asked: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._data = {"resultType": kind, "result": rows[0] if kind == "scalar" else rows}
        self.client = Prometheus(
            "http://metrics.test", choose(auto), now=lambda: 1000.0,
            transport=httpx.MockTransport(self._answer),
        )  # fmt: skip

    def _answer(self, request: httpx.Request) -> httpx.Response:
        form = parse_qs(request.content.decode())
        self.asked.append({name: values[0] for name, values in form.items()})
        self.paths.append(request.url.path)
        return httpx.Response(200, text=json.dumps({"status": "success", "data": self._data}))


def row(value: str, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1000, value]}


def matchers(text: str) -> list[dict[str, str]]:
    """Label and value of every matcher, selector by selector."""
    found = selectors(promql_parser.parse(text))
    return [{one.name: one.value for one in each.matchers.matchers} for each in found]


async def test_the_pods_of_a_track_are_asked_for_in_every_selector() -> None:
    store = Store("vector", row("0.25"))
    found = await store.client.value(ORDERS, CANARY)
    assert (found.value, found.at, found.warnings) == (0.25, 1000.0, ())
    assert store.paths == ["/api/v1/query"]
    first, second = matchers(store.asked[0]["query"])
    assert first == second
    assert first["namespace"] == "shop"
    assert first["pod"].startswith("(?:checkout-7d9f8|checkout-canary-")
    resolved = store.client.resolved(ORDERS, CANARY)
    assert (resolved.text, resolved.readers) == (store.asked[0]["query"], ("pods",))


async def test_the_metrics_of_the_gateway_are_asked_for_by_service() -> None:
    """And all Services of the track at once, beside the pods in the same query."""
    store = Store()
    await store.client.value(f"{GATEWAY} / sum(orders)", CANARY)
    assert store.client.resolved(GATEWAY, CANARY).readers == ("traefik",)
    both = store.client.resolved(f"{GATEWAY} / sum(orders)", CANARY)
    assert both.readers == ("traefik", "pods")
    gateway, orders = matchers(store.asked[0]["query"])
    assert set(gateway) == {"code", "service"}
    assert "(?:shop-checkout-canary|shop-pay-canary)-" in gateway["service"]
    assert set(orders) == {"namespace", "pod"}


async def test_whom_to_listen_to_is_part_of_the_matcher() -> None:
    store = Store(auto=["istio"])
    await store.client.value("sum(rate(istio_requests_total[1m]))", CANARY)
    (found,) = matchers(store.asked[0]["query"])
    assert found == {
        "destination_service_namespace": "shop",
        "destination_service_name": "checkout-canary|pay-canary",
        "reporter": "source",
    }


async def test_another_gateway_is_not_this_one() -> None:
    """Nothing is found then, and it is said why."""
    store = Store()
    found = await store.client.value("sum(rate(istio_requests_total[1m]))", CANARY)
    assert found.value is None
    assert "istio or istio-waypoint, and this run's gateway is read by traefik" in str(found)
    assert set(matchers(store.asked[0]["query"])[0]) == {"namespace", "pod"}


async def test_without_pods_only_the_gateway_can_be_asked() -> None:
    store = Store("vector", row("3"))
    services = [key for key in CANARY if isinstance(key, ServiceKey)]
    assert (await store.client.value(GATEWAY, services)).value == 3
    found = await store.client.value(ORDERS, services)
    assert found.value is None
    assert "orders_failed_total, orders_total cannot be asked for" in found.warnings[0]
    assert len(store.asked) == 1


async def test_a_track_with_many_names_is_never_widened() -> None:
    """What asks for all runs may take in others; a check has to tell the tracks apart."""
    store = Store()
    pods = [PodsKey("shop", f"app-{n}", "7d9f8") for n in range(1500)]
    await store.client.value("sum(orders)", pods)
    (found,) = matchers(store.asked[0]["query"])
    assert len(found["pod"]) > LONGEST_PODS
    assert "app-999-7d9f8" in found["pod"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], ""),
        ([row("NaN")], ""),
        ([row("1", code="500"), row("2", code="503")], "they differ in code;"),
        ([{"metric": {}, "histogram": [1000, {"count": "1"}]}], "a histogram and no number"),
    ],
)  # fmt: skip
async def test_what_is_no_single_number_is_no_value(rows: list[Any], said: str) -> None:
    found = await Store("vector", *rows).client.value(ORDERS, CANARY)
    assert found.value is None
    assert said in " ".join(found.warnings)
    assert bool(found.warnings) is bool(said)


async def test_infinity_is_a_value_and_a_scalar_is_a_series() -> None:
    assert (await Store("vector", row("+Inf")).client.value(ORDERS, CANARY)).value == float("inf")
    assert (await Store("scalar", [1000, "7"]).client.value(ORDERS, CANARY)).value == 7
    assert (await Store("scalar", [1000, "NaN"]).client.value(ORDERS, CANARY)).value is None


async def test_an_answer_of_another_form_is_an_error() -> None:
    for kind in ("matrix", "string"):
        with pytest.raises(MetricsUnavailable, match="expected a vector"):
            await Store(kind).client.value(ORDERS, CANARY)
    with pytest.raises(MetricsUnavailable, match="cannot ask for metrics"):
        await Store().client.value("sum(", CANARY)


def test_the_families_are_what_the_provider_files_say() -> None:
    """Each gateway's, with the labels by which its files tell Services apart."""
    known = load()
    assert set(families.FAMILIES) == keys.SERVICE_PROVIDERS
    for name, family in families.FAMILIES.items():
        provider = known[name]
        metrics = [provider.requests.metric, provider.recognise.metric]
        metrics += [provider.latency.metric] if provider.latency else []
        assert all(family.has(metric) for metric in metrics)
        labels = {provider.service.label} if provider.service else set()
        if provider.service_labels:
            labels = {provider.service_labels.namespace, provider.service_labels.service}
        assert set(family.labels) == labels | set(provider.only)
    for name in keys.POD_PROVIDERS:
        pods = known[name].pods
        assert pods is not None
        assert (pods.namespace, pods.pod) == families.POD_LABELS
        assert families.family(known[name].requests.metric) is None
