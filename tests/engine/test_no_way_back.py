# SPDX-License-Identifier: Apache-2.0
"""A version that fails after it has rolled, where the way back is blocked."""

import asyncio
from collections import Counter

import pytest

from controller.sim import clock, manifests
from controller.sim.world import World
from tests.engine.house import POLICY, House, house

IMAGE = "registry.example/app:v2"
NOTES = {**POLICY, "switchgear.dev/steps": "20@20s,50@20s"}


def _told(world: World) -> Counter[str]:
    """How often each reason was told, repetitions that the API server folded included."""
    found: Counter[str] = Counter()
    for item in world.store.list("events", "shop"):
        found[item["reason"]] += item.get("count") or 1
    return found


async def _rolled(found: House) -> None:
    """Every pod of the Deployment is of the new version, whose errors begin now."""
    found.world.set_image("shop", "checkout", IMAGE)
    await found.reaches("Baking")
    await found.until(lambda: found.world.ready_pods("v1") == 0, 60)
    found.world.virtual.behave("v2", error_rate=0.5)


@pytest.mark.slow
def test_without_room_the_failed_version_makes_way_pod_by_pod() -> None:
    """The namespace holds no pod more than there are: the canary goes first, then one at a time."""

    async def story() -> None:
        async with house(route=False, replicas=4, annotations=NOTES) as found:
            world = found.world
            await _rolled(found)
            world.create(manifests.quota("shop", "full", 4))
            fewest = 8
            while found.outcome() != "rolled-back":
                fewest = min(fewest, world.ready_pods())
                assert asyncio.get_running_loop().time() < 4000
                await asyncio.sleep(0.1)
            await found.ended("rolled-back")
            found.at_rest(paused=True)
            assert world.ready_pods("v1") == 4
            assert world.pods(version="v2") == []
            # A pod that starts is not ready yet, and one more may be on its way out beside it.
            assert fewest >= 2
            assert _told(world)["NoRoom"] >= 1

    clock.run(story())


def test_stable_that_does_not_come_back_after_the_commit_is_told() -> None:
    """The namespace has no room for it: the canary answers everything, and people are told why."""

    async def story() -> None:
        async with house(annotations=POLICY) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches("HandingBack")
            await found.until(lambda: world.ready_pods("v1") == 0, 60)
            world.create(manifests.quota("shop", "full", 4))
            world.annotate("shop", "checkout", {"switchgear.dev/abort": "true"})
            await found.reaches("Undoing")
            await asyncio.sleep(50)
            assert "NoRoom" not in _told(world)
            await asyncio.sleep(120)
            assert 1 <= _told(world)["NoRoom"] <= 3
            assert found.runs()[-1]["phase"] == "Undoing"
            assert found.engine is not None
            assert found.engine.desk.slowest(found.engine.clock.monotonic()) >= 160
            world.delete("resourcequotas", "shop", "full")
            await found.ended("aborted")
            found.at_rest(paused=True)
            assert world.ready_pods("v1") == 4
            assert sum(world.failures.values()) == 0

    clock.run(story())


@pytest.mark.slow
def test_without_stables_replica_set_a_person_is_told_and_nothing_is_deleted() -> None:
    """Somebody deleted it; told once a minute and not at every look."""

    async def story() -> None:
        async with house(route=False, replicas=4, annotations=NOTES) as found:
            world = found.world
            await _rolled(found)
            (old,) = [
                item["metadata"]["name"]
                for item in world.store.list("replicasets", "shop")
                if item["spec"]["replicas"] == 0
                and item["metadata"]["ownerReferences"][0]["name"] == "checkout"
            ]
            world.delete("replicasets", "shop", old)
            await found.until(lambda: found.runs()[-1]["phase"] == "Orphaning", 120)
            await asyncio.sleep(300)
            assert 1 <= _told(world)["StableGone"] <= 6
            assert world.ready_pods("v2") >= 4

    clock.run(story())
