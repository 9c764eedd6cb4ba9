# SPDX-License-Identifier: Apache-2.0
"""The cluster adapter alone, beside a simulated shop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from controller.adapters.clock import LoopClock
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.cluster import KubeCluster
from controller.core.values import TargetRef
from controller.sim.world import World
from tests.support.simwire import SimWire

TARGET = TargetRef("shop", "checkout")
POLICY = {"switchgear.dev/policy": "standard"}


@contextlib.asynccontextmanager
async def scene() -> AsyncIterator[tuple[World, KubeCluster, SimWire]]:
    """The usual shop with a cluster adapter in step with it."""
    async with World() as world:
        await world.shop(annotations=POLICY)
        wire = SimWire(world.api)
        cluster = KubeCluster(Calls(wire, LoopClock()))
        running = asyncio.create_task(cluster.run())
        await world.until(lambda: cluster.synced, within=30)
        try:
            yield world, cluster, wire
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
