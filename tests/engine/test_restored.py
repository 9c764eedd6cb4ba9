# SPDX-License-Identifier: Apache-2.0
"""After a run the user's routes and Services are what they were before it, to the last member."""

import copy
from typing import Any

import pytest

from controller.sim import clock, manifests
from controller.sim.world import World
from tests.engine.house import house
from tests.engine.test_other_writers import IMAGE, _promoted


def _bare(found: dict[str, Any]) -> dict[str, Any]:
    """An object without what every write moves."""
    bare = copy.deepcopy(found)
    bare.pop("status", None)
    for key in ("managedFields", "resourceVersion", "generation"):
        bare["metadata"].pop(key, None)
    if not bare["metadata"].get("annotations"):
        bare["metadata"].pop("annotations", None)  # An empty map is the same as none.
    return bare


@pytest.mark.slow
@pytest.mark.parametrize("error_rate", ["0", "0.5"])
def test_everything_else_in_the_routes_is_restored(error_rate: str) -> None:
    """Other rules, backends, filters, weights and annotations; two kinds; several to a Service."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            await world.service("shop", "other", selector={"app": "other"})
            _rich_routes(world)
            await world.settle()
            keys = [("httproutes", "rich"), ("grpcroutes", "calls"), ("httproutes", "checkout")]
            before = {key: _bare(world.get(key[0], "shop", key[1])) for key in keys}
            world.set_image("shop", "checkout", IMAGE, {"ERROR_RATE": error_rate})
            await found.ended("promoted" if error_rate == "0" else "rolled-back")
            after = {key: _bare(world.get(key[0], "shop", key[1])) for key in keys}
            assert after == before

    clock.run(story())


def _rich_routes(world: World) -> None:
    filters = [
        {
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [{"name": "x-team", "value": "shop"}]},
        }
    ]
    ours = {"name": "checkout", "port": 80}
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/a"}}],
            "backendRefs": [{**ours, "weight": 7}, {"name": "other", "port": 80, "weight": 3}],
        },
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/b"}}],
            "filters": filters,
            "backendRefs": [{**ours, "filters": filters}],
        },
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/c"}}],
            "backendRefs": [{"name": "other", "port": 80}],
        },
    ]
    world.create(manifests.route("shop", "rich", rules=rules, annotations={"team": "shop"}))
    world.create(
        manifests.route("shop", "calls", kind="GRPCRoute", backends={"checkout": 2, "other": 5})
    )


@pytest.mark.slow
def test_two_services_in_front_of_the_same_pods() -> None:
    """Both are pinned, both get a twin where a route leads to them, both are themselves again."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            await world.service("shop", "admin", selector={"app": "checkout"})
            await world.route("shop", "admin")
            world.traffic.direct(("shop", "admin"), 10.0)
            world.set_image("shop", "checkout", IMAGE)
            await _promoted(found)
            assert world.weights("admin") == {"admin": 1}
            admin = world.get("services", "shop", "admin")
            assert admin["spec"]["selector"] == {"app": "checkout"}
            assert sum(world.failures.values()) == 0

    clock.run(story())
