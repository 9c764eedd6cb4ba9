# SPDX-License-Identifier: Apache-2.0
"""Provider files, and which Service a label value means."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from controller.adapters.prometheus.names import LONGEST_SERVICES, LabelledServices, ServiceNames
from controller.adapters.prometheus.providers import Provider, ServiceLabels, load, parse
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey
from controller.core.policy.keys import POD_PROVIDERS, SERVICE_PROVIDERS, UNCOUNTED

OLD = "shop-checkout-canary-http-80@kubernetesgateway"
NEW = (
    "httproute-shop-checkout-gw-infra-web-ep-web-0-e880a95417256ee7cb2b"
    "-svc-shop-checkout-canary-1@kubernetesgateway"
)
STABLE = ServiceKey("shop", "checkout")
CANARY = ServiceKey("shop", "checkout-canary")


class Names:
    """The look-up by the provider's own label, for tests that only have its value."""

    def __init__(self, provider: Provider, services: Sequence[ServiceKey]) -> None:
        assert provider.service is not None
        self.label = provider.service.label
        self.names = ServiceNames(provider.service, services)

    def service(self, value: str) -> TrackKey | None:
        found = self.names.keys({self.label: value})
        return found[0] if found else None

    def matcher(self) -> str:
        """The regular expression as Prometheus reads it."""
        text = self.names.matchers().removeprefix(f'{self.label}=~"').removesuffix('"')
        return text.replace("\\\\", "\\")


@pytest.fixture
def traefik() -> Provider:
    return load()["traefik"]


def test_the_annotation_may_name_every_provider_and_no_other() -> None:
    found = load()
    service, pods = ServiceKey("shop", "checkout"), PodsKey("shop", "checkout", "")
    assert {name for name, one in found.items() if one.answers(service)} == SERVICE_PROVIDERS
    assert {name for name, one in found.items() if one.answers(pods)} == POD_PROVIDERS


def test_every_file_is_sound() -> None:
    for name, provider in load().items():
        assert provider.name == name
        assert provider.caveats
        assert all(not caveat.startswith(" ") for caveat in provider.caveats)


def test_a_controller_is_recognised_by_one_file_at_most() -> None:
    """And by none if it counts nothing that a file could name."""
    found = [name for one in load().values() for name in one.recognise.controllers]
    assert len(found) == len(set(found))
    assert not set(found) & UNCOUNTED.keys()


def test_the_documentation_has_a_row_for_every_provider() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE))
    assert rows == SERVICE_PROVIDERS | POD_PROVIDERS
    for name, provider in load().items():
        assert all(f"`{one}`" in text for one in provider.recognise.controllers), name
    assert all(f"`{name}`" in text for name in UNCOUNTED)


@pytest.mark.parametrize(
    "value", [OLD, NEW, OLD.replace("-http-", "-grpc-"), NEW.replace("http", "grpc", 1)]
)
def test_both_naming_eras_of_traefik_are_read(traefik: Provider, value: str) -> None:
    names = Names(traefik, [STABLE, CANARY])
    assert names.service(value) == CANARY
    assert names.service(value.replace("-canary", "")) == STABLE


@pytest.mark.parametrize(
    "value",
    [
        "",
        "shop-checkout-canary-http-80@kubernetescrd",
        "shop-checkout-canary-80@kubernetesgateway",
        "other-checkout-canary-http-80@kubernetesgateway",
        "api@internal",
        NEW.replace("shop-checkout-canary-1", "shop-cart-1"),
    ],
)
def test_what_is_no_service_of_ours_is_left_alone(traefik: Provider, value: str) -> None:
    assert Names(traefik, [STABLE, CANARY]).service(value) is None


def test_dashes_are_resolved_by_the_names_asked_for(traefik: Provider) -> None:
    value = "a-b-c-http-80@kubernetesgateway"
    assert Names(traefik, [ServiceKey("a", "b-c")]).service(value) == ServiceKey("a", "b-c")
    assert Names(traefik, [ServiceKey("a-b", "c")]).service(value) == ServiceKey("a-b", "c")
    both = Names(traefik, [ServiceKey("a", "b-c"), ServiceKey("a-b", "c")])
    assert both.service(value) is None
    (warning,) = both.names.unreadable
    assert warning.startswith("a/b-c and a-b/c read the same")


@pytest.mark.parametrize("name", ["http", "svc", "x-svc-shop-y", "http-80", "a.b", "grpc-1-http"])
def test_names_that_look_like_the_pattern_are_read_all_the_same(
    traefik: Provider, name: str
) -> None:
    names = Names(traefik, [ServiceKey("shop", name)])
    written = name.replace(".", "-")
    assert names.service(f"shop-{written}-http-80@kubernetesgateway") == ServiceKey("shop", name)
    assert names.service(NEW.replace("checkout-canary", written)) == ServiceKey("shop", name)


def test_a_name_that_kubernetes_would_refuse_never_reaches_a_query(traefik: Provider) -> None:
    with pytest.raises(ValueError, match="no name"):
        Names(traefik, [ServiceKey("shop", 'x"} or vector(1)')])


def test_the_matcher_lists_names_while_short_and_then_takes_all(traefik: Provider) -> None:
    few = Names(traefik, [STABLE, CANARY]).matcher()
    assert re.fullmatch(few, OLD)
    assert re.fullmatch(few, NEW)
    assert not re.fullmatch(few, OLD.replace("checkout", "cart"))
    many = Names(traefik, [ServiceKey("shop", f"service-{n}") for n in range(500)]).matcher()
    assert len(many) < LONGEST_SERVICES
    assert re.fullmatch(many, OLD)
    assert re.fullmatch(many, NEW)


@pytest.mark.parametrize(
    ("code", "bad"),
    [("200", False), ("404", False), ("499", False), ("500", True), ("503", True), ("0", False),
     ("2", True), ("5", False), ("14", True), ("16", False), ("", False)],
)  # fmt: skip
def test_which_answers_are_errors(traefik: Provider, code: str, bad: bool) -> None:
    assert traefik.is_error({"code": code}) is bad


@pytest.mark.parametrize(
    ("provider", "labels", "bad"),
    [
        ("istio", {"response_code": "503", "response_flags": "-"}, True),
        ("istio", {"response_code": "0", "response_flags": "DC"}, False),
        ("istio", {"response_code": "0", "response_flags": "UC"}, True),
        ("istio", {"response_code": "200", "response_flags": "UC,URX"}, True),
        ("istio", {"response_code": "200", "response_flags": "NR,UF"}, True),
        ("istio", {"response_code": "200", "response_flags": "DC"}, False),
        ("istio", {"response_code": "200", "grpc_response_status": "14"}, True),
        ("istio", {"response_code": "200", "grpc_response_status": "5"}, False),
        ("istio", {"response_code": "200", "grpc_response_status": "0"}, False),
        ("linkerd", {"http_status": "200", "error": ""}, False),
        ("linkerd", {"http_status": "200", "error": "GO_AWAY"}, True),
        ("linkerd", {"http_status": "", "error": "RESPONSE_HEADERS_TIMEOUT"}, True),
        ("linkerd", {"http_status": "", "error": "CANCEL"}, False),
        ("linkerd-grpc", {"grpc_status": "UNKNOWN", "error": "IO"}, True),
        ("linkerd-grpc", {"grpc_status": "PERMISSION_DENIED", "error": ""}, False),
        ("haproxy", {"code": "5xx"}, True),
        ("haproxy", {"code": "other"}, False),
        ("micrometer", {"status": "RESET", "outcome": "CLIENT_ERROR"}, False),
        ("micrometer", {"status": "599", "outcome": "SERVER_ERROR"}, True),
        ("micrometer", {"status": "UNKNOWN", "outcome": "SERVER_ERROR"}, True),
        ("grpc", {"grpc_code": "ResourceExhausted"}, False),
        ("grpc", {"code": "UNAVAILABLE"}, True),
        ("application-histogram", {"status_code": "5XX"}, True),
        ("application-histogram", {"status_code": ""}, False),
        ("opentelemetry", {"http_response_status_code": "404", "error_type": ""}, False),
        ("opentelemetry", {"http_response_status_code": "503", "error_type": "503"}, True),
        ("opentelemetry", {"error_type": "java.lang.IllegalStateException"}, True),
        # A handler that raised, as Python's instrumentation of Starlette tells it.
        ("opentelemetry", {"http_response_status_code": "", "error_type": ""}, True),
    ],
)  # fmt: skip
def test_which_answers_are_errors_elsewhere(
    provider: str, labels: dict[str, str], bad: bool
) -> None:
    assert load()[provider].is_error(labels) is bad


PROBES = (
    "/health", "/healthz", "/healthz/", "/healthcheck", "/livez", "/live", "/alive", "/readyz",
    "/ready", "/readyz/database", "/ping", "/metrics", "/health/live", "/health/ready",
    "/actuator/health", "/actuator/health/readiness", "/actuator/prometheus", "/q/health/live",
    "/q/metrics", "/-/healthy", "/-/ready",
)  # fmt: skip

BUSINESS = (
    "/healthcare", "/health/plans", "/healthy-meals", "/api/health/records", "/metrics/daily",
    "/liveness-coach", "/live/stream", "/lives", "/already", "/readings", "/readyz2", "/pings",
    "/shipping", "/actuator/42", "/actuators", "/q/healthcare", "/checkout", "/", "",
    # What the Prometheus Operator calls a port.
    "metrics", "http-metrics", "health", "healthz",
)  # fmt: skip


@pytest.mark.parametrize("name", ["application", "application-histogram", "opentelemetry",
                                  "micrometer"])  # fmt: skip
def test_probes_and_scrapes_are_ignored_and_nobodys_business_is(name: str) -> None:
    for label, pattern in load()[name].ignore.items():
        assert [path for path in PROBES if not re.fullmatch(pattern, path)] == [], label
        assert [path for path in BUSINESS if re.fullmatch(pattern, path)] == [], label


def test_probes_by_grpc_are_ignored() -> None:
    (pattern,) = load()["grpc"].ignore.values()
    for service in (
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ):
        assert re.fullmatch(pattern, service)
    for service in ("shop.Checkout", "shop.grpc.health.v1.Health", "grpc.health.v1.HealthCare", ""):
        assert not re.fullmatch(pattern, service)


def test_gateways_see_no_probes_of_the_kubelet() -> None:
    """What they see of such paths somebody has sent through them."""
    assert {name for name, one in load().items() if one.ignore} == POD_PROVIDERS


@pytest.mark.parametrize(
    ("provider", "value", "key"),
    [
        ("cilium", "infra/cilium-gateway-web/shop_checkout_80", STABLE),
        ("cilium", "infra/cilium-gateway-web/shop:checkout:80", STABLE),
        ("cilium", "shop/checkout-all/shop_checkout-canary_8080", CANARY),
        # What asks for permission by way of the Service, and Cilium's own clusters.
        ("cilium", "infra/cilium-gateway-web/grpc_shop_checkout_80", None),
        ("cilium", "egress-cluster", None),
        ("cilium", "shop_checkout_80", None),
        ("kgateway", "kube_shop_checkout-canary_80", CANARY),
        ("kgateway", "kube_shop_checkout_80_extra", None),
        ("kgateway", "shop_checkout_80", None),
        ("envoy", "kube_shop_checkout_80", None),
        ("haproxy", "hug_shop_checkout_80__", STABLE),
        ("haproxy", "hug_shop_checkout-canary_80_0f343b0931126a20f133d67c2b018a3b", CANARY),
        ("haproxy", "hug_shop_checkout_80", None),
        ("haproxy", "shop_svc_checkout_http", None),
        ("haproxy", "stats", None),
    ],
)
def test_how_gateways_write_the_name_of_a_service(
    provider: str, value: str, key: ServiceKey | None
) -> None:
    names = Names(load()[provider], [STABLE, CANARY])
    assert names.service(value) == key
    if key is not None:
        assert re.fullmatch(names.matcher(), value)


def test_namespace_and_name_with_a_label_each() -> None:
    asked = [STABLE, CANARY, ServiceKey("bank", "ledger"), ServiceKey("shop", "checkout", "istio")]
    names = LabelledServices(ServiceLabels(namespace="space", service="name"), asked)
    assert names.keys({"space": "shop", "name": "checkout"}) == (STABLE, asked[3])
    assert names.keys({"space": "bank", "name": "checkout"}) == ()
    assert names.keys({"name": "checkout"}) == ()
    assert names.matchers() == 'space=~"bank|shop",name=~"checkout|checkout-canary|ledger"'
    assert names.unreadable == ()
    crowd = [ServiceKey("shop", f"service-{n}") for n in range(500)]
    many = LabelledServices(ServiceLabels(namespace="space", service="name"), crowd)
    assert many.matchers() == 'space=~"shop",name=~".+"'
    assert many.keys({"space": "shop", "name": "service-7"}) == (ServiceKey("shop", "service-7"),)
    with pytest.raises(ValueError, match="no name"):
        LabelledServices(
            ServiceLabels(namespace="a", service="b"), [ServiceKey("shop", 'x"} or 1')]
        )


SOUND = """
name: x
title: X
recognise: {controllers: [], metric: m}
service: {label: service, patterns: ['(?P<namespace>[a-z]+)/(?P<service>[a-z]+)']}
requests: {metric: m, code_labels: [code], error_codes: '5..'}
latency: null
targets: [pod]
settle_seconds: 1
"""


def test_a_provider_may_name_both_parts_itself() -> None:
    provider = parse(SOUND, "x.yaml")
    names = Names(provider, [STABLE])
    assert names.service("shop/checkout") == STABLE
    assert names.service("shop/cart") is None
    assert re.fullmatch(names.matcher(), "shop/checkout")
    assert not re.fullmatch(names.matcher(), "shop/cart")
    assert not re.fullmatch(names.matcher(), "bank/checkout")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: x", "nom: x"),
        ("targets:", "ignore: {path: '('}\ntargets:"),
        ("targets:", "ignore: {path: '\"'}\ntargets:"),
        ("targets:", "ignore: {path: '\\\\d'}\ntargets:"),
        ("5..", "5("),
        ("(?P<service>", "("),
        ("[pod]", "{"),
        ("title: X", ""),
        ("(?P<namespace>[a-z]+)/", ""),
        ("targets:", "pods: {namespace: n, pod: p}\ntargets:"),
        ("service: {label", "other: {label"),
        ("targets:", "service_labels: {namespace: n, service: s}\ntargets:"),
        ("targets:", "only: {reporter: ['a\"b']}\ntargets:"),
        ("targets:", "only: {reporter: ['a|b']}\ntargets:"),
        ("targets:", "only: {re-porter: [a]}\ntargets:"),
        ("'5..'", "'5..', also_errors: {flags: '5('}"),
        ("metric: m, code", "metric: 'm{', code"),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_its_name(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=r"x\.yaml"):
        parse(SOUND.replace(old, new, 1), "x.yaml")
