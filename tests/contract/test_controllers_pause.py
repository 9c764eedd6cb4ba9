# SPDX-License-Identifier: Apache-2.0
"""What a paused Deployment does and does not do: the ground under holding a change back."""

from __future__ import annotations

from tests.contract import acts, samples
from tests.contract.worlds import contract
from tests.support.world import World

PAUSE = {"spec": {"paused": True}}
RESUME = {"spec": {"paused": False}}
SURGE_ONLY = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


async def _observed(world: World, name: str = "web") -> None:
    async def look() -> bool:
        found = await world.read("deployments", name)
        seen = found.get("status", {}).get("observedGeneration")
        return bool(seen == found["metadata"]["generation"])

    await world.eventually(look)


@contract(controllers=True)
async def test_a_deployment_created_paused_makes_nothing(world: World) -> None:
    await world.made("deployments", samples.deployment("web", replicas=2, paused=True))
    await acts.reasoned(world, "web", "Progressing", "DeploymentPaused")
    await _observed(world)
    await acts.stays(world)


@contract(controllers=True)
async def test_a_template_change_under_pause_makes_no_replica_set(world: World) -> None:
    await acts.started(world, "web", 2)
    await acts.change(world, "web", PAUSE)
    await acts.roll(world, "web", "lab/pause:2")
    held = await acts.reasoned(world, "web", "Progressing", "DeploymentPaused")
    await acts.stays(world, v1=2)
    assert held["status"]["availableReplicas"] == 2


@contract(controllers=True)
async def test_pause_and_template_in_one_write_make_no_replica_set(world: World) -> None:
    await acts.started(world, "web", 2)
    both = acts.image_patch("lab/pause:2")
    both["spec"]["paused"] = True
    await acts.change(world, "web", both)
    await _observed(world)
    await acts.stays(world, v1=2)
    held = await world.read("deployments", "web")
    assert held["status"].get("updatedReplicas", 0) == 0


@contract(controllers=True)
async def test_a_paused_deployment_scales_its_only_active_set(world: World) -> None:
    await acts.started(world, "web", 2)
    await acts.change(world, "web", PAUSE)
    await acts.roll(world, "web", "lab/pause:2")
    await acts.change(world, "web", {"spec": {"replicas": 5}})
    await acts.stays(world, v1=5)
    await acts.change(world, "web", {"spec": {"replicas": 1}})
    await acts.stays(world, v1=1)


@contract(controllers=True)
async def test_a_paused_deployment_scales_two_active_sets_in_proportion(world: World) -> None:
    await acts.started(world, "web", 4)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.sized(world, v1=3, v2=2)
    await acts.change(world, "web", PAUSE)
    await acts.change(world, "web", {"spec": {"replicas": 8}})
    await acts.stays(world, v1=6, v2=4)


@contract(controllers=True)
async def test_pausing_in_mid_roll_freezes_the_sizes(world: World) -> None:
    await acts.started(world, "web", 4, strategy=SURGE_ONLY)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.sized(world, v1=4, v2=1)
    await acts.change(world, "web", PAUSE)
    await acts.stays(world, v1=4, v2=1)


@contract(controllers=True)
async def test_the_new_set_of_a_paused_deployment_stays_at_zero(world: World) -> None:
    await acts.started(world, "web", 4)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.sized(world, v1=3, v2=2)
    await acts.change(world, "web", PAUSE)
    new = next(rs for rs in await acts.sets(world) if acts.image_of(rs) == "lab/pause:2")
    await acts.change(world, new["metadata"]["name"], {"spec": {"replicas": 0}}, "replicasets")
    await acts.stays(world, v1=4, v2=0)


@contract(controllers=True)
async def test_a_finished_roll_cannot_be_undone_by_scaling_sets(world: World) -> None:
    await acts.started(world, "web", 2)
    await acts.roll(world, "web", "lab/pause:2")
    await acts.complete(world, "web")
    await acts.change(world, "web", PAUSE)
    await _observed(world)
    new = next(rs for rs in await acts.sets(world) if acts.image_of(rs) == "lab/pause:2")
    await acts.change(world, new["metadata"]["name"], {"spec": {"replicas": 0}}, "replicasets")
    await acts.stays(world, v1=0, v2=2)


@contract(controllers=True)
async def test_deleting_the_new_set_under_pause_brings_the_old_one_back(world: World) -> None:
    await acts.started(world, "web", 3)
    await acts.roll(world, "web", "lab/pause:2")
    await acts.complete(world, "web")
    await acts.change(world, "web", PAUSE)
    new = next(rs for rs in await acts.sets(world) if acts.image_of(rs) == "lab/pause:2")
    await world.delete("replicasets", new["metadata"]["name"], propagationPolicy="Background")
    await acts.stays(world, v1=3)


@contract(controllers=True)
async def test_orphaning_the_new_set_lets_the_old_one_grow_and_keeps_the_pods(world: World) -> None:
    await acts.started(world, "web", 2)
    await acts.roll(world, "web", "lab/pause:2")
    await acts.complete(world, "web")
    await acts.change(world, "web", PAUSE)
    new = next(rs for rs in await acts.sets(world) if acts.image_of(rs) == "lab/pause:2")
    digest = new["metadata"]["labels"][acts.HASH]
    await world.delete("replicasets", new["metadata"]["name"], propagationPolicy="Orphan")
    await acts.gone(world, "replicasets", new["metadata"]["name"])
    await acts.stays(world, v1=2)
    orphans = await acts.pods(world, {acts.HASH: digest})
    assert len(orphans) == 2
    assert all("ownerReferences" not in pod["metadata"] for pod in orphans)


@contract(controllers=True)
async def test_the_deadline_stands_still_under_pause(world: World) -> None:
    await acts.started(world, "web", 1, progressDeadlineSeconds=1)
    await acts.change(world, "web", PAUSE)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.reasoned(world, "web", "Progressing", "DeploymentPaused")
    looks = iter(range(60))

    async def three_seconds() -> bool:
        return next(looks, None) is None

    await world.eventually(three_seconds)
    await acts.reasoned(world, "web", "Progressing", "DeploymentPaused")


@contract(controllers=True)
async def test_resuming_rolls_what_was_held(world: World) -> None:
    await acts.started(world, "web", 2)
    await acts.change(world, "web", PAUSE)
    await acts.roll(world, "web", "lab/pause:2")
    await acts.reasoned(world, "web", "Progressing", "DeploymentPaused")
    await acts.change(world, "web", RESUME)
    await acts.complete(world, "web")
    await acts.sized(world, v1=0, v2=2)
    await acts.reasoned(world, "web", "Progressing", "NewReplicaSetAvailable")


@contract(controllers=True)
async def test_scaled_to_zero_and_back_a_held_deployment_starts_its_own_template(
    world: World,
) -> None:
    await acts.started(world, "web", 2)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.sized(world, v1=2, v2=1)
    await acts.change(world, "web", PAUSE)
    new = next(rs for rs in await acts.sets(world) if acts.image_of(rs) == "lab/pause:2")
    await acts.change(world, new["metadata"]["name"], {"spec": {"replicas": 0}}, "replicasets")
    await acts.stays(world, v1=2, v2=0)
    await acts.change(world, "web", {"spec": {"replicas": 0}})
    await acts.sized(world, v1=0, v2=0)
    await acts.change(world, "web", {"spec": {"replicas": 2}})
    await acts.stays(world, v1=0, v2=2)
