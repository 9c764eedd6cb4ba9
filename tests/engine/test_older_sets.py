# SPDX-License-Identifier: Apache-2.0
"""A history in which stable's ReplicaSet is not the newest: what Kubernetes starts from nothing.

A paused Deployment whose ReplicaSets have no pods scales up the one that was made last. After a
version was taken back that is not the one that serves.
"""

import asyncio

import pytest

from controller.sim import clock
from tests.engine.house import House, house

ABORT = {"switchgear.dev/abort": "true"}


async def _taken_back(found: House) -> None:
    """v2 was rolled natively and taken back, so that stable's ReplicaSet is older than v2's."""
    world = found.world
    for version in ("v2", "v1"):
        world.set_image("shop", "checkout", f"registry.example/app:{version}")
        await world.settle()
    assert world.ready_pods("v1") == 4
    await found.start()
    await found.until(
        lambda: (
            "switchgear.dev/managed"
            in world.get("deployments", "shop", "checkout")["metadata"]["annotations"]
        ),
        within=30,
    )


async def _held(found: House) -> None:
    """A third version was aborted, and the Deployment rests paused on stable's pods."""
    world = found.world
    world.set_image("shop", "checkout", "registry.example/app:v3")
    await found.reaches("Judging")
    world.annotate("shop", "checkout", ABORT)
    await found.ended("aborted")
    await world.settle()


@pytest.mark.parametrize("slow", [0.2, 10.0], ids=["quick-pods", "slow-pods"])
def test_held_survives_scaling_to_nothing_and_back(slow: float) -> None:
    """It is stable that comes back, not what was newest once."""

    async def story() -> None:
        async with house(start=False, env={"READY_SECONDS": str(slow)}) as found:
            world = found.world
            await _taken_back(found)
            await _held(found)
            world.scale("shop", "checkout", 0)
            await asyncio.sleep(60)
            assert world.pods() == []
            world.scale("shop", "checkout", 4)
            await asyncio.sleep(120)
            assert world.ready_pods("v1") == 4, [world.ready_pods(v) for v in ("v1", "v2", "v3")]
            assert len(world.pods()) == 4
            assert found.runs()[-1]["phase"] == "Held"

    clock.run(story())


def test_nobody_was_there_when_the_wrong_one_was_started() -> None:
    """Its pods serve until stable's are back, so that no request fails."""

    async def story() -> None:
        async with house(start=False, env={"STOP_SECONDS": "5"}) as found:
            world = found.world
            await _taken_back(found)
            await _held(found)
            await found.stop()
            world.scale("shop", "checkout", 0)
            await world.settle()
            world.scale("shop", "checkout", 4)
            await world.settle()
            assert world.ready_pods("v2") == 4
            before = sum(world.failures.values())
            await found.start()
            await asyncio.sleep(60)
            assert world.ready_pods("v1") == len(world.pods()) == 4
            assert sum(world.failures.values()) == before
            assert found.runs()[-1]["phase"] == "Held"
            assert found.runs()[-1]["orphans"] == []

    clock.run(story())


def test_the_wrong_one_goes_though_the_run_is_left_meanwhile() -> None:
    """Stable's template is put back while its pods start: nobody's pods are swept before that."""

    async def story() -> None:
        slow = {"STOP_SECONDS": "5", "READY_SECONDS": "10"}
        async with house(start=False, env=slow) as found:
            world = found.world
            await _taken_back(found)
            await _held(found)
            await found.stop()
            for replicas in (0, 4):
                world.scale("shop", "checkout", replicas)
                await world.settle()
            assert world.ready_pods("v2") == 4
            await found.start()
            await found.until(lambda: bool(found.runs()[-1]["orphans"]), within=30)
            world.set_image("shop", "checkout", "registry.example/app:v1")
            await asyncio.sleep(120)
            assert world.ready_pods("v1") == len(world.pods()) == 4
            assert found.runs()[-1]["phase"] == "Ended"
            assert found.runs()[-1]["orphans"] == []

    clock.run(story())
