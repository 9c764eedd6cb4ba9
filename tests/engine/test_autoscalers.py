# SPDX-License-Identifier: Apache-2.0
"""An autoscaler on the requests of the Service alone: refused, and outlived where it is let in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from controller.sim import clock
from controller.sim.world import World
from tests.engine.house import House, house

IMAGE = "registry.example/app:v2"
PODS = 4
"""What all the load together needs."""

LOOK_SECONDS = 15.0


def _scaler() -> dict[str, object]:
    """As KEDA makes it of a Prometheus trigger."""
    target = {"type": "AverageValue", "averageValue": "100"}
    metric = {"metric": {"name": "s0-prometheus"}, "target": target}
    aim = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "keda-hpa-checkout", "namespace": "shop"},
        "spec": {
            "scaleTargetRef": aim,
            "maxReplicas": 8,
            "metrics": [{"type": "External", "external": metric}],
        },
    }


def _canary_bp(world: World) -> int:
    """The canary's share, as it is written."""
    weights = world.weights("checkout")
    return 10_000 * weights.get("checkout-canary", 0) // sum(weights.values())


def _ready(world: World, name: str) -> int:
    """Ready pods of a Deployment."""
    found = {item["metadata"]["name"]: item for item in world.store.list("deployments", "shop")}
    return int(found[name].get("status", {}).get("readyReplicas", 0)) if name in found else 0


@contextlib.asynccontextmanager
async def _scaling(world: World) -> AsyncIterator[list[int]]:
    """It follows what the Service's own pods get, and notes each number that it asks for."""
    asked: list[int] = []

    async def work() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            wanted = max(1, -(-PODS * (10_000 - _canary_bp(world)) // 10_000))
            if wanted != world.get("deployments", "shop", "checkout")["spec"]["replicas"]:
                world.scale("shop", "checkout", wanted)
                asked.append(wanted)

    working = asyncio.create_task(work())
    try:
        yield asked
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _refused(found: House) -> None:
    found.world.create(_scaler())
    found.world.set_image("shop", "checkout", IMAGE)
    await found.until(lambda: bool(found.runs()) and found.runs()[-1]["phase"] == "Held", 60)


def test_an_external_metric_holds_the_change_and_is_named_with_the_ways_out() -> None:
    """Stable serves on with all of its pods."""

    async def story() -> None:
        async with house() as found:
            await _refused(found)
            (run,) = found.runs()
            assert run["ending"] == "held"
            assert "switchgear.dev/total-load: s0-prometheus" in run["reason"]
            assert "minReplicas to maxReplicas" in run["reason"]
            assert found.world.ready_pods("v1") == len(found.world.pods()) == PODS

    clock.run(story())


def test_one_that_was_let_in_wrongly_has_its_pods_before_it_has_everything() -> None:
    """It leaves a single pod in the bake, and none ever gets more than half as much again."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            await _refused(found)
            world.annotate("shop", "checkout", {"switchgear.dev/total-load": "s0-prometheus"})
            loads: list[float] = []

            def over() -> bool:
                if found.runs()[-1]["phase"] == "HandingBack" and _ready(world, "checkout-canary"):
                    own = (10_000 - _canary_bp(world)) / 10_000
                    pods = _ready(world, "checkout-canary") / _ready(world, "checkout")
                    loads.append(own * pods)
                return found.outcome() == "promoted" and found.runs()[-1]["phase"] == "Ended"

            async with _scaling(world) as asked:
                await found.until(over, within=1500)
                await found.until(lambda: _ready(world, "checkout") == PODS, within=60)
            assert min(asked) == 1
            assert 1.0 < max(loads) <= 1.5
            found.at_rest()
            assert world.ready_pods("v2") == len(world.pods()) == PODS

    clock.run(story())
