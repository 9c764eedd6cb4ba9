# SPDX-License-Identifier: Apache-2.0
"""Whole runs without a route, judged by what the pods count themselves.

Canary pods stand behind the user's own Service, and the Deployment rolls natively under traffic.
What the judge is fed with is held against what the clients saw.
"""

import asyncio
from typing import Any

import pytest

from controller.core.lifecycle.situation import Verb
from controller.core.values import TargetRef
from controller.sim import clock
from controller.sim.traffic import Cause
from controller.sim.world import World
from tests.engine.house import House, house

POLICY = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/steps": "10@20s,25@20s",
    "switchgear.dev/bake": "20s",
}
IMAGE = "registry.example/app:v2"
SHOP: dict[str, Any] = {"route": False, "replicas": 10, "annotations": POLICY}


def errors_of(world: World, version: str) -> int:
    """Answers of a version that were its own errors, as its clients saw them."""
    world.traffic.advance()
    return sum(
        count
        for outcome, count in world.traffic.outcomes.items()
        if outcome.version == version and outcome.cause is Cause.APPLICATION
    )


async def tripped(found: House) -> None:
    """The run is rolled back on its errors, and nothing of the new version is left."""
    await found.ended("rolled-back")
    assert found.runs()[-1]["tripped"]
    assert "errors" in found.runs()[-1]["reason"]
    assert found.world.ready_pods("v1") == 10
    assert found.world.pods(version="v2") == []
    found.at_rest(paused=True)
    before = found.world.answered()["v2"]
    await asyncio.sleep(10)
    assert found.world.answered()["v2"] == before


@pytest.mark.slow
def test_a_good_version_is_promoted() -> None:
    async def main() -> None:
        async with house(**SHOP) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.ended("promoted")
            assert found.world.ready_pods("v2") == 10
            found.at_rest()
            passed = [one["body"]["why"] for one in found.journal() if one["kind"] == "decision"]
            assert sum("passed" in why or "against stable" in why for why in passed) >= 3

    clock.run(main(), limit=7_200.0)


def test_a_bad_version_loses_its_pods_at_the_first_step() -> None:
    async def main() -> None:
        async with house(**SHOP) as found:
            found.world.set_image("shop", "checkout", IMAGE, {"ERROR_RATE": "0.5"})
            await tripped(found)
            assert found.runs()[-1]["step"] == 0
            # Of ten seconds at the first step's share of 400 requests a second, half.
            assert 0 < errors_of(found.world, "v2") < 200
            assert errors_of(found.world, "v1") == 0

    clock.run(main(), limit=7_200.0)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["RollingOut", "Baking"])
def test_a_version_that_turns_bad_in_the_roll_or_after_it_is_undone(phase: str) -> None:
    async def main() -> None:
        async with house(**SHOP, env={"READY_SECONDS": "2"}) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(2)
            found.world.virtual.behave("v2", error_rate=0.5)
            await tripped(found)

    clock.run(main(), limit=7_200.0)


def test_a_store_that_scrapes_no_pods_promotes_nothing() -> None:
    """There is nothing to judge by: held until the deadline, and then inconclusive."""

    async def main() -> None:
        notes = {**POLICY, "switchgear.dev/deadline": "30s"}
        async with house(**{**SHOP, "annotations": notes}) as found:
            found.world.prometheus.faults.hide = "checkout"
            found.world.set_image("shop", "checkout", IMAGE)
            await found.ended("inconclusive")
            assert found.world.ready_pods("v1") == 10
            assert not found.runs()[-1]["quarantined"]
            found.at_rest(paused=True)

    clock.run(main(), limit=7_200.0)


@pytest.mark.slow
def test_a_person_ends_the_bake_of_a_roll_that_nothing_is_known_of() -> None:
    """As in a step: on record, and only where all pods are ready."""

    async def main() -> None:
        notes = {**POLICY, "switchgear.dev/deadline": "10m"}
        async with house(**{**SHOP, "annotations": notes}) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Baking")
            found.world.prometheus.faults.hide = "checkout"
            await asyncio.sleep(60)
            assert found.runs()[-1]["phase"] == "Baking"
            assert found.engine is not None
            told = await found.engine.requests.submit(
                TargetRef("shop", "checkout"),
                Verb.PROMOTE,
                actor="ada",
                reason="looked at the graphs",
            )
            assert "counts as passed" in told
            await found.ended("promoted")
            assert found.world.ready_pods("v2") == 10
            found.at_rest()
            why = [one["body"]["why"] for one in found.journal() if one["kind"] == "decision"]
            assert any("promoted by ada without full evidence" in words for words in why)

    clock.run(main(), limit=7_200.0)


def test_a_kill_in_a_step_confines_the_services_at_once() -> None:
    """In force without the loop's help: no Service leads to a canary pod any more."""

    async def main() -> None:
        async with house(**SHOP) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            await asyncio.sleep(2)
            assert found.engine is not None
            halt = await found.engine.killer.kill("all", actor="ada", reason="", wait_seconds=20)
            assert halt.in_force, halt
            before = found.world.answered()["v2"]
            assert before > 0
            await found.ended("killed")
            assert found.world.answered()["v2"] == before
            assert found.world.ready_pods("v1") == 10
            found.at_rest(paused=True)

    clock.run(main(), limit=7_200.0)


@pytest.mark.slow
def test_a_kill_in_the_roll_is_in_force_when_stable_serves() -> None:
    """Until then it is latched, and says what is pending."""

    async def main() -> None:
        async with house(**SHOP, env={"READY_SECONDS": "2"}) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches("RollingOut")
            await asyncio.sleep(5)
            assert found.engine is not None
            halt = await found.engine.killer.kill("all", actor="ada", reason="", wait_seconds=0)
            assert halt.latched
            assert not halt.in_force
            assert halt.pending
            await found.ended("killed")
            again = await found.engine.killer.kill("all", actor="ada", reason="", wait_seconds=9)
            assert again.in_force, again
            assert found.world.pods(version="v2") == []
            assert found.world.ready_pods("v1") == 10

    clock.run(main(), limit=7_200.0)
