# SPDX-License-Identifier: Apache-2.0
"""A good version whose policy has a latency limit goes all the way, whoever counts and times."""

import pytest

from controller.sim import clock
from tests.engine.house import POLICY, house

IMAGE = "registry.example/app:v2"


@pytest.mark.parametrize(
    ("promotion", "route"),
    [("shift", True), ("roll", True), ("roll", False)],
    ids=["shift", "roll", "roll by pods"],
)
def test_a_limit_that_is_kept_holds_no_step_and_no_bake(promotion: str, *, route: bool) -> None:
    """In a roll's bake no stable pod is left whose answers could be timed."""

    async def story() -> None:
        notes = {
            **POLICY,
            "switchgear.dev/latency": "p99<500ms",
            "switchgear.dev/promotion": promotion,
        }
        if not route:
            notes["switchgear.dev/steps"] = "25@20s"
        async with house(route=route, annotations=notes) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.ended("promoted")
            found.at_rest()
            assert found.world.ready_pods("v2") == 4
            assert found.world.ready_pods("v1") == 0

    clock.run(story())
