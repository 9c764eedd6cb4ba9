# SPDX-License-Identifier: Apache-2.0
"""A controller for one target, which may look at the objects that it can name and at no others.

The whole stories, with two targets in one namespace, each with a controller of its own.
"""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller.adapters.kube.cache import Only
from controller.core.values import TargetRef
from controller.sim import clock
from controller.sim.world import World
from tests.engine.house import NAMESPACE, POLICY, House

IMAGE = "registry.example/app:v2"


def sidecar(world: World, name: str, **about: Any) -> House:
    """The controller of one target."""
    only = Only(
        target=TargetRef("shop", name),
        services=about.get("services", (name,)),
        routes=about.get("routes", (("HTTPRoute", name),)),
    )
    return House(world, only=only)


def play(story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """In a world with two shops, in virtual time."""

    async def whole() -> None:
        async with World(seed=1, namespaces=("shop", NAMESPACE), scrape_interval=1.0) as world:
            await world.shop(rate=400.0, annotations=POLICY)
            await world.shop(name="basket", rate=400.0, annotations=POLICY)
            await story(world)

    clock.run(whole())


def _adopted(world: World, name: str) -> bool:
    found = world.get("deployments", "shop", name)["metadata"]["annotations"]
    return "switchgear.dev/managed" in found


@pytest.mark.slow
def test_two_targets_with_a_controller_each() -> None:
    """A good and a bad version at once: neither controller minds the other's target or epoch."""

    async def story(world: World) -> None:
        houses = [sidecar(world, "checkout"), sidecar(world, "basket")]
        for item in houses:
            await item.start()
        await houses[0].until(
            lambda: _adopted(world, "checkout") and _adopted(world, "basket"), within=30
        )
        world.set_image("shop", "checkout", IMAGE)
        world.set_image("shop", "basket", IMAGE, {"ERROR_RATE": "0.5"})
        await houses[0].ended("promoted")
        await houses[1].ended("rolled-back")
        houses[0].at_rest()
        houses[1].at_rest("basket", paused=True)
        names = {item["metadata"]["name"] for item in world.store.list("configmaps", "shop")}
        assert {"switchgear-cluster.checkout", "switchgear-cluster.basket"} <= names
        for item in houses:
            await item.stop()

    play(story)


@pytest.mark.slow
def test_it_asks_for_nothing_that_a_role_with_names_would_not_allow() -> None:
    """Deployments, Services and routes one by one; of ConfigMaps only its own two are watched."""

    async def story(world: World) -> None:
        found = sidecar(world, "checkout")
        await found.start()
        await found.until(lambda: _adopted(world, "checkout"), within=30)
        world.set_image("shop", "checkout", IMAGE)
        await found.ended("promoted")
        for sent in found.wire.sent:
            query = dict(sent.query)
            plural = sent.path.rpartition("/namespaces/shop/")[2]
            one = query.get("fieldSelector", "").removeprefix("metadata.name=")
            if sent.method == "GET" and plural in {"deployments", "configmaps"}:
                ours = {"checkout", "checkout-canary"}
                ours |= {"switchgear-kill", "switchgear-cluster.checkout"}
                assert one in ours or "switchgear.dev/run" in query.get("labelSelector", ""), sent
            if "watch" in query and plural in {"services", "httproutes"}:
                assert one in {"checkout", "checkout-canary"}, sent
        assert not _adopted(world, "basket")
        await found.stop()

    play(story)


def test_a_way_to_the_pods_that_it_was_not_told_of_is_refused() -> None:
    """What it does not watch it cannot weigh; the refusal says which flag is missing."""

    async def story(world: World) -> None:
        await world.settle()
        second = world.get("services", "shop", "checkout")
        spec = {"selector": second["spec"]["selector"], "ports": [{"port": 80}]}
        meta = {"name": "backdoor", "namespace": "shop"}
        world.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
        found = sidecar(world, "checkout")
        await found.start()
        await found.until(lambda: _adopted(world, "checkout"), within=30)
        world.set_image("shop", "checkout", IMAGE)
        await found.reaches("Held")
        assert "Service shop/backdoor (name it with --service)" in found.runs()[-1]["reason"]
        await found.stop()

    play(story)
