# SPDX-License-Identifier: Apache-2.0
"""Objects that were made anew, or a run document that is gone: the way back is in the cluster."""

import asyncio
import copy

from controller.sim import clock
from controller.sim.world import World
from tests.engine.house import house
from tests.engine.test_other_writers import IMAGE, _promoted


def _made_anew(world: World) -> None:
    """The route is deleted and applied from git: another uid, and nothing of ours in it."""
    made = copy.deepcopy(world.get("httproutes", "shop", "checkout"))
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
        made["metadata"].pop(key, None)
    made["metadata"].pop("annotations", None)
    made.pop("status", None)
    made["spec"]["rules"][0]["backendRefs"] = [{"name": "checkout", "port": 80, "weight": 1}]
    world.delete("httproutes", "shop", "checkout")
    world.create(made)


def test_the_route_is_deleted_and_created_again() -> None:
    """Its new uid is learned; the run goes on from weight 0 and ends well."""

    async def story() -> None:
        async with house() as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            await asyncio.sleep(2)
            _made_anew(found.world)
            await _promoted(found)

    clock.run(story())
