# SPDX-License-Identifier: Apache-2.0
"""A route of another namespace than its Service's: only a ReferenceGrant lets a gateway follow it.

Grants name Services one by one, or all of a namespace. The canary's Service is made for a run, so a
grant that has the team's own Service alone leaves its share of the requests without an answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controller.sim import clock, manifests
from controller.sim.world import World
from tests.engine.house import NAMESPACE, POLICY, House

HOME = "edge"
"""Where the route is; the Service is in `shop`."""

IMAGE = "registry.example/app:v2"


def grant(
    name: str, *services: str, kind: str = "HTTPRoute", home: str = HOME, to: str = "Service"
) -> dict[str, Any]:
    """Of the Services of `shop`, or of all where none is named."""
    target: dict[str, str] = {"group": "", "kind": to}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": home}],
            "to": [{**target, "name": service} for service in services] or [target],
        },
    }


STABLE = grant("stable", "checkout")

NARROW = {
    "of the Service alone": [],
    "for another namespace": [grant("other", "checkout-canary", home="cellar")],
    "for another kind of route": [grant("other", "checkout-canary", kind="GRPCRoute")],
    "of what is no Service": [grant("other", "checkout-canary", to="Secret")],
}
"""Grants beside that of the team's own Service, which do not help."""

WIDE = {
    "of both by name": [grant("both", "checkout", "checkout-canary")],
    "of all Services": [grant("all")],
    "one for each": [STABLE, grant("twin", "checkout-canary")],
    "of all, and one by name": [STABLE, grant("all")],
    "and one for somebody else": [grant("all"), grant("raw", "checkout", kind="TCPRoute")],
}


@contextlib.asynccontextmanager
async def house(*grants: dict[str, Any]) -> AsyncIterator[House]:
    """The usual scene, but for the route, which is in a namespace of its own."""
    spaces = ("shop", HOME, NAMESPACE)
    async with World(seed=1, namespaces=spaces, scrape_interval=1.0) as world:
        for item in grants:
            world.create(item)
        world.create(manifests.deployment("shop", "checkout", annotations=POLICY))
        world.create(manifests.service("shop", "checkout"))
        refs = [{"name": "checkout", "namespace": "shop", "port": manifests.PORT}]
        world.create(manifests.route(HOME, "checkout", rules=[{"backendRefs": refs}]))
        await world.settle()
        world.traffic.through((HOME, "checkout"), 400.0)
        found = House(world, routed=False)
        await found.start()
        await asyncio.sleep(5)
        try:
            yield found
        finally:
            await found.stop()


async def _refused(found: House) -> str:
    """The reason for which the change is held; nothing was made, and stable answers everybody."""
    world = found.world
    await found.until(lambda: bool(found.runs()) and found.runs()[-1]["phase"] == "Held", 60)
    await asyncio.sleep(5)
    assert world.ready_pods("v1") == len(world.pods())
    assert [item["metadata"]["name"] for item in world.store.list("services", "shop")] == [
        "checkout"
    ]
    assert world.weights("checkout", namespace=HOME) == {"checkout": 1}
    return str(found.runs()[-1]["reason"])


@pytest.mark.parametrize("case", NARROW)
def test_a_canary_that_the_route_may_not_lead_to_is_refused(case: str) -> None:
    """With what is missing in words; and once it is granted the run begins by itself."""

    async def story() -> None:
        async with house(STABLE, *NARROW[case]) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            reason = await _refused(found)
            assert "HTTPRoute edge/checkout" in reason
            assert "Service shop/checkout-canary" in reason
            assert "ReferenceGrant" in reason
            assert {item["reason"] for item in world.store.list("events", "shop")} >= {"NotGranted"}
            assert world.failures == {}
            world.create(grant("twin", "checkout-canary"))
            await found.ended("promoted")
            assert world.failures == {}
            assert world.ready_pods("v2") == len(world.pods())
            found.at_rest()

    clock.run(story())


def test_without_any_grant_nothing_begins() -> None:
    """Nor does the gateway follow the route: its clients had no answer before, either."""

    async def story() -> None:
        async with house() as found:
            found.world.set_image("shop", "checkout", IMAGE)
            assert "no ReferenceGrant lets" in await _refused(found)
            assert set(found.world.answered()) == set()

    clock.run(story())


@pytest.mark.parametrize("case", WIDE)
def test_a_canary_that_is_granted_is_promoted(case: str) -> None:
    """However the grants say it, together or one by one; nobody fails."""

    async def story() -> None:
        async with house(*WIDE[case]) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.ended("promoted")
            assert world.failures == {}
            assert world.ready_pods("v2") == len(world.pods())
            assert world.weights("checkout", namespace=HOME) == {"checkout": 1}
            found.at_rest()

    clock.run(story())
