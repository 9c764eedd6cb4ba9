# SPDX-License-Identifier: Apache-2.0
"""Many runs killed at once, at an API server that serves one request after the other.

So the order in which the controller asks is the order in which things happen, and what it asks for
in vain is time that passes.
"""

import asyncio

from controller.sim import clock, manifests
from controller.sim.apiserver.request import Request, Response
from tests.engine.house import BOUNDS, House, house

RUNS = 20
CALL_SECONDS = 0.005
STAYS = {"switchgear.dev/policy": "fast", "switchgear.dev/steps": "10@20m,50@20m"}
NAMES = tuple(f"app-{number:02}" for number in range(RUNS))


def share(home: House, name: str) -> int:
    """What the route gives the canary."""
    refs = home.world.get("httproutes", "shop", name)["spec"]["rules"][0]["backendRefs"]
    return sum(ref.get("weight", 1) for ref in refs if ref["name"] == f"{name}-canary")


async def under_way(home: House) -> None:
    """Every target has a run whose canary has a weight."""
    world = home.world
    for name in NAMES:
        world.create(manifests.deployment("shop", name, replicas=2, annotations=STAYS))
        world.create(manifests.service("shop", name))
        world.create(manifests.route("shop", name))
    await world.settle(within=60)
    for name in NAMES:
        world.traffic.through(("shop", name), 20.0)
    await home.until(lambda: all(managed(home, name) for name in NAMES), within=60)
    for name in NAMES:
        world.set_image("shop", name, "registry.example/app:v2")
    await home.until(lambda: all(share(home, name) for name in NAMES), within=120)
    await asyncio.sleep(10)  # In virtual time: Events and journals of the steps are written.


def managed(home: House, name: str) -> bool:
    notes = home.world.get("deployments", "shop", name)["metadata"]["annotations"]
    return "switchgear.dev/managed" in notes


def test_weight_0_goes_first_and_in_force_is_said_soon_after_the_gateways_followed() -> None:
    async def story() -> None:
        async with house() as home:
            await under_way(home)
            loop, turn = asyncio.get_running_loop(), asyncio.Lock()

            async def serve(request: Request) -> Response | None:
                if ("watch", "true") not in request.query:
                    async with turn:
                        await asyncio.sleep(CALL_SECONDS)
                return None

            home.world.api.before.append(serve)
            began = loop.time()
            assert home.engine is not None
            kill = asyncio.ensure_future(
                home.engine.killer.kill("all", actor="alice", reason="", wait_seconds=30.0)
            )
            await home.until(lambda: not any(share(home, name) for name in NAMES), within=10)
            zeroed = loop.time() - began
            halt = await kill
            took = loop.time() - began
            assert halt.in_force, halt
            # One patch for each, the latch, and what the runs themselves do beside it.
            assert zeroed < 3 * RUNS * CALL_SECONDS
            assert zeroed + BOUNDS.settle_seconds <= took + 2 * CALL_SECONDS
            # Two looks, at the worst side by side with all else that is under way.
            assert took < zeroed + BOUNDS.settle_seconds + 6 * RUNS * CALL_SECONDS
            for name in NAMES:
                gone = home.world.in_force(name).get(f"{name}-canary", 0) == 0
                assert gone, "what is called in force is so at the gateway"

    clock.run(story())
