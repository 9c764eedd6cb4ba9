# SPDX-License-Identifier: Apache-2.0
"""The stories end to end: the real engine and adapters, a simulated cluster, virtual time."""

from controller.sim import clock
from tests.engine.house import house


def test_a_healthy_version_is_promoted_and_no_request_fails() -> None:
    """Traffic through the route and direct clients: nothing fails, all ends on the new version."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", "registry.example/app:v2")
            await found.ended("promoted")
            await world.settle()
            assert sum(world.failures.values()) == 0
            assert world.ready_pods("v2") == 4
            assert world.ready_pods("v1") == 0
            found.at_rest()

    clock.run(story())
