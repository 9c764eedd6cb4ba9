# SPDX-License-Identifier: Apache-2.0
"""A kill answers in time whatever the API server does, and goes on behind its answer."""

import asyncio

from controller.engine.halt import GRACE_SECONDS
from controller.sim import clock
from controller.sim.faults import Fault, Plan
from tests.engine.house import house


def test_a_hanging_api_server_delays_the_answer_by_the_grace_alone() -> None:
    """The answer says what is missing; the weight goes to 0 once the server answers again."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", "registry.example/app:v2")
            await found.until(lambda: bool(found.runs()) and found.runs()[-1]["weight_bp"] == 500)
            assert found.engine is not None
            plan = Plan().install(world.api)
            loop = asyncio.get_running_loop()
            begun = loop.time()
            plan.add(Fault.HANG, agent="switchgear", begin=begun, end=begun + 15)
            halt = await found.engine.killer.kill("all", actor="ada", reason="", wait_seconds=2.0)
            assert loop.time() - begun <= 2.0 + GRACE_SECONDS + 0.01
            assert not halt.latched
            assert not halt.in_force
            assert halt.pending
            assert any("the writes go on" in problem for problem in halt.problems)
            await asyncio.sleep(60)
            assert world.weights("checkout").get("checkout-canary", 0) == 0
            await found.ended("aborted")

    clock.run(story())
