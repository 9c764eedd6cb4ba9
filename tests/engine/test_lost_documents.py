# SPDX-License-Identifier: Apache-2.0
"""Objects that were made anew, or a run document that is gone: the way back is in the cluster."""

import asyncio
import copy

import pytest

from controller.sim import clock
from controller.sim.world import World
from tests.engine.house import NAMESPACE, house
from tests.engine.sweep import quick
from tests.engine.test_other_writers import IMAGE, _promoted


def _made_anew(world: World) -> None:
    """The route is deleted and applied from git: another uid, and nothing of ours in it."""
    made = copy.deepcopy(world.get("httproutes", "shop", "checkout"))
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
        made["metadata"].pop(key, None)
    made["metadata"].pop("annotations", None)
    made.pop("status", None)
    made["spec"]["rules"][0]["backendRefs"] = [{"name": "checkout", "port": 80, "weight": 1}]
    world.delete("httproutes", "shop", "checkout")
    world.create(made)


@pytest.mark.slow
def test_the_route_is_deleted_and_created_again() -> None:
    """Its new uid is learned; the run goes on from weight 0 and ends well."""

    async def story() -> None:
        async with house() as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            await asyncio.sleep(2)
            _made_anew(found.world)
            await _promoted(found)

    clock.run(story())


def _lost(world: World, name: str) -> None:
    world.delete("configmaps", NAMESPACE, name)


PHASES = ["Preparing", "Raising", "Judging", "Committing", "Rolling", "HandingBack", "Restoring"]


@pytest.mark.slow
@pytest.mark.parametrize("phase", quick(PHASES, "Judging"))
def test_the_document_is_lost_while_the_daemon_is_down(phase: str) -> None:
    """Tidied away before anything begins; then a clean run, or the version that rolled is told."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(0.5)
            await found.stop()
            for document in found.documents():
                _lost(world, document["metadata"]["name"])
            await found.start()
            await asyncio.sleep(400)
            await world.settle()
            found.at_rest()
            assert world.ready_pods("v2") == len(world.pods()) == 4
            reasons = {item["reason"] for item in world.store.list("events", "shop")}
            assert "LostRunTidied" in reasons
            assert sum(world.failures.values()) == 0

    clock.run(story())


def test_what_a_lost_run_left_on_a_lost_node_is_not_waited_for_without_end() -> None:
    """Its pod is going and never gone. The rest is tidied away, and the next run begins."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            await found.stop()
            for document in found.documents():
                _lost(world, document["metadata"]["name"])
            (pod,) = world.pods(version="v2")
            name = pod["metadata"]["name"]
            world.edit(
                "pods", "shop", name, lambda one: one["metadata"].update(finalizers=["x.org/lost"])
            )
            await found.start()
            await found.until(lambda: found.runs() != [], within=120)
            reasons = {item["reason"] for item in world.store.list("events", "shop")}
            assert "LostRunTidied" in reasons
            assert world.get("pods", "shop", name)["metadata"]["deletionTimestamp"]
            assert sum(world.failures.values()) == 0

    clock.run(story())


@pytest.mark.slow
def test_the_document_of_a_held_run_is_lost() -> None:
    """The version that failed gets another run, and fails again; it never rolls ungated."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE, {"ERROR_RATE": "0.5"})
            await found.ended("rolled-back")
            await found.stop()
            for document in found.documents():
                _lost(world, document["metadata"]["name"])
            await found.start()
            await asyncio.sleep(5)
            await found.ended("rolled-back")
            found.at_rest(paused=True)
            assert world.ready_pods("v1") == 4

    clock.run(story())


def test_a_deployment_restored_from_a_backup_in_mid_run() -> None:
    """Paused with our hold and the mark of another uid: released, so that it gets pods at all."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            await asyncio.sleep(2)
            backup = copy.deepcopy(world.get("deployments", "shop", "checkout"))
            world.delete("deployments", "shop", "checkout")
            await found.ended("gone")
            for key in ("uid", "resourceVersion", "creationTimestamp", "generation"):
                backup["metadata"].pop(key, None)
            backup.pop("status", None)
            assert backup["spec"]["paused"]
            world.create(backup)
            await asyncio.sleep(60)
            await world.settle()
            found.at_rest()
            assert world.ready_pods("v2") == 4

    clock.run(story())
