# SPDX-License-Identifier: Apache-2.0
"""Provider files, and which Service a label value means."""

import re
from collections.abc import Sequence

import pytest

from controller.adapters.prometheus.names import LONGEST_SERVICES, ServiceNames
from controller.adapters.prometheus.providers import Provider, load, parse
from controller.core.evidence.series import ServiceKey, TrackKey
from controller.core.policy.keys import POD_PROVIDERS, SERVICE_PROVIDERS

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
    assert {name for name, one in found.items() if one.service} == SERVICE_PROVIDERS
    assert {name for name, one in found.items() if one.pods} == POD_PROVIDERS


def test_every_file_is_sound() -> None:
    for name, provider in load().items():
        assert provider.name == name
        assert provider.caveats


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
        ("5..", "5("),
        ("(?P<service>", "("),
        ("[pod]", "{"),
        ("title: X", ""),
        ("(?P<namespace>[a-z]+)/", ""),
        ("targets:", "pods: {namespace: n, pod: p}\ntargets:"),
        ("service: {label", "other: {label"),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_its_name(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=r"x\.yaml"):
        parse(SOUND.replace(old, new, 1), "x.yaml")
