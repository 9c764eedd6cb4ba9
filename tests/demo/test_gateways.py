# SPDX-License-Identifier: Apache-2.0
"""Which Gateway of a cluster the demo takes, and which it leaves alone."""

from typing import Any

import pytest

from controller.demo import gateways
from controller.demo.errors import DemoError

Object = dict[str, Any]

CLASSES: list[Object] = [
    {"metadata": {"name": "t"}, "spec": {"controllerName": "traefik.io/gateway-controller"}},
    {"metadata": {"name": "e"}, "spec": {"controllerName": "projectcontour.io/gateway-controller"}},
    {"metadata": {"name": "x"}, "spec": {"controllerName": "example.com/other"}},
]


def listener(**about: Any) -> Object:
    return {
        "name": "web",
        "protocol": "HTTP",
        "port": 80,
        "allowedRoutes": {"namespaces": {"from": "All"}},
        **about,
    }


def gateway(
    name: str = "edge", kind: str = "t", *listeners: Object, accepted: str = "True"
) -> Object:
    return {
        "metadata": {"namespace": "infra", "name": name},
        "spec": {"gatewayClassName": kind, "listeners": list(listeners) or [listener()]},
        "status": {
            "conditions": [{"type": "Accepted", "status": accepted}],
            "addresses": [{"type": "IPAddress", "value": "192.0.2.7"}],
        },
    }


def test_the_only_one_that_can_be_used_is_found() -> None:
    found = gateways.choose(None, [gateway("other", "x"), gateway("edge", "e")], CLASSES)
    assert (found.namespace, found.gateway, found.address) == ("infra", "edge", "192.0.2.7:80")
    assert found.signals.provider == "envoy"
    assert found.parent == {"namespace": "infra", "name": "edge", "sectionName": "web"}


def test_among_several_somebody_must_choose() -> None:
    several = [gateway("one"), gateway("two")]
    with pytest.raises(DemoError, match="--gateway: infra/one, infra/two"):
        gateways.choose(None, several, CLASSES)
    assert gateways.choose("infra/two", several, CLASSES).gateway == "two"


def test_one_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(DemoError, match="no Gateway infra/there; there are: infra/edge"):
        gateways.choose("infra/there", [gateway()], CLASSES)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (gateway("edge", "x"), "is run by example.com/other"),
        (gateway("edge", "gone"), "is run by nobody"),
        (gateway(accepted="False"), "has not been accepted"),
        (gateway("edge", "t", listener(protocol="HTTPS")), "no listener"),
        (gateway("edge", "t", listener(allowedRoutes={})), "no listener"),
        (
            gateway("edge", "t", listener(allowedRoutes={"namespaces": {"from": "Same"}})),
            "no listener",
        ),
        # A route for "/" on a host that people use would take what no other route matches.
        (gateway("edge", "t", listener(hostname="shop.example.com")), "no listener"),
    ],
)
def test_what_cannot_be_used_says_why(found: Object, reason: str) -> None:
    with pytest.raises(DemoError, match=reason):
        gateways.choose(None, [found], CLASSES)
    with pytest.raises(DemoError, match=reason):
        gateways.choose("infra/edge", [found], CLASSES)


def test_the_host_is_below_the_listeners_domain() -> None:
    narrow = gateway(
        "edge", "t", listener(hostname="taken.example.com"), listener(hostname="*.b.c")
    )
    assert gateways.choose(None, [narrow], CLASSES).host("demo-1") == "demo-1.b.c"
    assert gateways.choose(None, [gateway()], CLASSES).host("demo-1") == "demo-1.example"


def test_without_an_address_none_is_made_up() -> None:
    silent = gateway()
    del silent["status"]["addresses"]
    assert gateways.choose(None, [silent], CLASSES).address == ""
