# SPDX-License-Identifier: Apache-2.0
"""What a run waits for reaches the person who looks at the Deployment, also in mid-phase."""

import asyncio

from controller.core.values import PREFIX
from controller.sim import clock
from tests.engine.house import House, house

IMAGE = "registry.example/app:v2"
POLICY = {"policy": "fast", "steps": "5@600s", "metrics-deadline": "5m"}
NOTES = {PREFIX + key: text for key, text in POLICY.items()}


def status(found: House) -> str:
    """The status annotation of the Deployment."""
    deployment = found.world.get("deployments", "shop", "checkout")
    return str(deployment["metadata"]["annotations"].get(PREFIX + "status", ""))


def test_data_that_stop_in_a_step_are_told_in_the_status_and_so_is_their_return() -> None:
    async def story() -> None:
        async with house(annotations=NOTES) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            await asyncio.sleep(90)
            assert "of 600 s at this weight, about" in status(found)
            found.world.prometheus.faults.hide = "checkout-canary"
            await asyncio.sleep(90)
            told = status(found)
            assert "the canary is missing in the newest scrapes" in told
            assert "one is overdue, and when it comes is not known" in told
            assert "; the deadline ends the run in about" in told
            found.world.prometheus.faults.hide = ""
            await asyncio.sleep(90)
            assert "overdue" not in status(found)
            assert found.runs()[-1]["phase"] == "Judging"

    clock.run(story(), limit=7_200.0)
