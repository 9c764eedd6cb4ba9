# SPDX-License-Identifier: Apache-2.0
"""What is measured beside requests: something that runs out, and checks that a team wrote."""

import asyncio
from typing import Any

import pytest

from controller.sim import clock
from tests.engine.house import POLICY, house

IMAGE = "registry.example/app:v2"

pytestmark = pytest.mark.slow

NOTES = {**POLICY, "switchgear.dev/steps": "25@6m", "switchgear.dev/bake": "2m"}

PAST = 900.0
"""Seconds in which stable shows how many files it holds open."""


@pytest.mark.parametrize(
    ("files", "outcome"), [("950", "rolled-back"), ("60", "promoted")], ids=["leaks", "healthy"]
)
def test_a_version_that_holds_files_open_is_rolled_back_without_one_error(
    files: str, outcome: str
) -> None:
    async def story() -> None:
        how: dict[str, Any] = {"annotations": NOTES, "env": {"OPEN_FILES": "50"}, "rate": 50.0}
        async with house(**how) as found:
            found.world.prometheus.subqueries = True
            await asyncio.sleep(PAST)
            found.world.set_image("shop", "checkout", IMAGE, {"OPEN_FILES": files})
            await found.ended(outcome, within=1800)
            run = found.runs()[-1]
            assert "open files" in run["calibration"]["words"]
            assert sum(found.world.failures.values()) == 0
            if outcome == "rolled-back":
                assert "open files: canary 0.9277, stable 0.04883" in run["reason"]
                assert run["tripped"]
                found.at_rest(paused=True)

    clock.run(story())
