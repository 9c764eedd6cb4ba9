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


CHECK = {
    "switchgear.dev/check.orders": "sum(rate(orders_failed_total[1m])) < 0.5",
    **NOTES,
}


@pytest.mark.parametrize(
    ("canary", "stable", "outcome", "word"),
    [
        (9.0, 0.1, "rolled-back", "orders: canary 9, stable 0.1"),
        (0.1, 0.1, "promoted", ""),
        (9.0, 9.0, "inconclusive", "which stable breaks as well"),
        (None, 0.1, "inconclusive", "check orders has no value of the canary"),
    ],
    ids=["only the canary", "both keep it", "both break it", "no data"],
)
def test_a_check_of_the_team_is_judged_on_both_tracks(
    canary: float | None, stable: float, outcome: str, word: str
) -> None:
    """No data and a shared cause end a run too, but never as the version's fault."""

    async def story() -> None:
        notes = {**CHECK, "switchgear.dev/deadline": "3m"}
        async with house(annotations=notes, rate=50.0) as found:
            said = found.world.prometheus.computed
            said.say("orders_failed_total", "checkout", stable)
            said.say("orders_failed_total", "checkout-canary", canary)
            found.world.set_image("shop", "checkout", IMAGE)
            await found.ended(outcome, within=1800)
            run = found.runs()[-1]
            assert word in run["reason"]
            assert run["tripped"] is (outcome == "rolled-back")
            assert run["quarantined"] is (outcome == "rolled-back")
            assert sum(found.world.failures.values()) == 0

    clock.run(story())


@pytest.mark.parametrize("broken", [True, False], ids=["broken", "kept"])
def test_a_restart_between_readings_counts_none_twice_and_forgets_none(broken: bool) -> None:
    """The run ends at the same reading as without a restart."""
    ends: list[float] = []
    for restarts in (False, True):

        async def story(restarts: bool = restarts) -> None:
            async with house(annotations=CHECK, rate=50.0) as found:
                said = found.world.prometheus.computed
                said.say("orders_failed_total", "checkout", 0.1)
                said.say("orders_failed_total", "checkout-canary", 9.0 if broken else 0.1)
                found.world.set_image("shop", "checkout", IMAGE)
                begun = asyncio.get_running_loop().time()
                if restarts:
                    await found.until(
                        lambda: [run["phase"] for run in found.runs()] == ["Judging"], within=60
                    )
                    for _ in range(4):
                        await asyncio.sleep(25.0)
                        await found.crash()
                        await found.start()
                await found.ended("rolled-back" if broken else "promoted", within=1800)
                ends.append(asyncio.get_running_loop().time() - begun)

        clock.run(story())
    without, with_restarts = ends
    assert abs(with_restarts - without) < 60.0
