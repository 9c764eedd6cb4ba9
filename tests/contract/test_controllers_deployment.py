# SPDX-License-Identifier: Apache-2.0
"""How a Deployment rolls: sizes, revisions, adoption, history, deadline, status."""

from __future__ import annotations

from tests.contract import acts, samples
from tests.contract.acts import DESIRED, HASH, HISTORY, MAXIMUM, REVISION
from tests.contract.worlds import contract
from tests.support.world import World

SURGE_ONLY = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
UNAVAILABLE_ONLY = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


@contract(controllers=True)
async def test_a_deployment_makes_one_replica_set_with_its_hash(world: World) -> None:
    made = await acts.started(world, "web", 4)
    (rs,) = await acts.sets(world)
    digest = rs["metadata"]["labels"][HASH]
    assert rs["metadata"]["name"] == f"web-{digest}"
    assert rs["spec"]["selector"] == {"matchLabels": {"app": "web", HASH: digest}}
    assert rs["spec"]["template"]["metadata"]["labels"] == {"app": "web", HASH: digest}
    (ref,) = rs["metadata"]["ownerReferences"]
    assert ref == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "web",
        "uid": made["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    notes = rs["metadata"]["annotations"]
    assert (notes[REVISION], notes[DESIRED], notes[MAXIMUM]) == ("1", "4", "5")
    assert made["metadata"]["annotations"][REVISION] == "1"


@contract(controllers=True)
async def test_the_status_of_a_complete_deployment(world: World) -> None:
    made = await acts.started(world, "web", 2)
    status = made["status"]
    conditions = {item["type"]: item for item in status.pop("conditions")}
    assert status == {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "terminatingReplicas": 0,
    }
    assert sorted(conditions) == ["Available", "Progressing"]
    assert conditions["Available"]["reason"] == "MinimumReplicasAvailable"
    await acts.reasoned(world, "web", "Progressing", "NewReplicaSetAvailable")


@contract(controllers=True)
async def test_writing_the_status_moves_no_generation(world: World) -> None:
    made = await acts.started(world, "web", 1)
    assert made["metadata"]["generation"] == 1
    await acts.change(world, "web", {"metadata": {"annotations": {"note": "x"}}})
    moved = await acts.complete(world, "web")
    assert moved["metadata"]["generation"] == 2


@contract(controllers=True)
async def test_a_new_template_rolls_to_a_new_replica_set(world: World) -> None:
    await acts.started(world, "web", 3)
    await acts.roll(world, "web", "lab/pause:2")
    made = await acts.complete(world, "web")
    assert await acts.sizes(world) == {"lab/pause:1": 0, "lab/pause:2": 3}
    assert made["metadata"]["annotations"][REVISION] == "2"


@contract(controllers=True)
async def test_the_old_template_takes_its_old_replica_set_again(world: World) -> None:
    await acts.started(world, "web", 1)
    (first,) = await acts.sets(world)
    await acts.roll(world, "web", "lab/pause:2")
    await acts.complete(world, "web")
    await acts.roll(world, "web", "lab/pause:1")
    made = await acts.complete(world, "web")
    assert made["metadata"]["annotations"][REVISION] == "3"
    again = await world.read("replicasets", first["metadata"]["name"])
    assert again["metadata"]["uid"] == first["metadata"]["uid"]
    assert again["metadata"]["annotations"][REVISION] == "3"
    assert again["metadata"]["annotations"][HISTORY] == "1"
    assert await acts.sizes(world) == {"lab/pause:1": 1, "lab/pause:2": 0}


@contract(controllers=True)
async def test_surge_only_keeps_every_old_pod_until_a_new_one_is_ready(world: World) -> None:
    await acts.started(world, "web", 4, strategy=SURGE_ONLY)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.stays(world, v1=4, v2=1)


@contract(controllers=True)
async def test_unavailable_only_takes_an_old_pod_away_first(world: World) -> None:
    await acts.started(world, "web", 4, strategy=UNAVAILABLE_ONLY)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.stays(world, v1=3, v2=1)


@contract(controllers=True)
async def test_the_default_strategy_surges_and_takes_away(world: World) -> None:
    await acts.started(world, "web", 4)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.stays(world, v1=3, v2=2)


@contract(controllers=True)
async def test_percentages_round_surge_up_and_unavailable_down(world: World) -> None:
    await acts.started(world, "web", 3)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.stays(world, v1=3, v2=1)


@contract(controllers=True)
async def test_a_third_template_removes_the_second_one_first(world: World) -> None:
    await acts.started(world, "web", 4, strategy=SURGE_ONLY)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.sized(world, v1=4, v2=1)
    await acts.roll(world, "web", "lab/pause:3", ready=False)
    await acts.stays(world, v1=4, v2=0, v3=1)


@contract(controllers=True)
async def test_scaling_in_mid_roll_is_proportional(world: World) -> None:
    await acts.started(world, "web", 4)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    await acts.sized(world, v1=3, v2=2)
    await acts.change(world, "web", {"spec": {"replicas": 8}})
    await acts.stays(world, v1=6, v2=4)


@contract(controllers=True)
async def test_scaling_at_rest_goes_to_the_one_replica_set(world: World) -> None:
    await acts.started(world, "web", 2)
    await acts.change(world, "web", {"spec": {"replicas": 4}})
    await acts.complete(world, "web")
    (rs,) = await acts.sets(world)
    notes = rs["metadata"]["annotations"]
    assert (rs["spec"]["replicas"], notes[DESIRED], notes[MAXIMUM]) == (4, "4", "5")


@contract(controllers=True)
async def test_history_is_cut_to_its_limit(world: World) -> None:
    await acts.started(world, "web", 1, revisionHistoryLimit=1)
    for tag in ("2", "3"):
        await acts.roll(world, "web", f"lab/pause:{tag}")
        await acts.complete(world, "web")
    await acts.sized(world, v2=0, v3=1)


@contract(controllers=True)
async def test_no_history_at_all(world: World) -> None:
    await acts.started(world, "web", 1, revisionHistoryLimit=0)
    await acts.roll(world, "web", "lab/pause:2")
    await acts.sized(world, v2=1)


@contract(controllers=True)
async def test_annotations_are_copied_to_the_new_replica_set(world: World) -> None:
    await acts.started(world, "web", 1)
    applied = "kubectl.kubernetes.io/last-applied-configuration"
    notes = {"example.test/owner": "shop", applied: "{}"}
    await acts.change(world, "web", {"metadata": {"annotations": notes}})

    async def copied() -> bool:
        (rs,) = await acts.sets(world)
        have = rs["metadata"]["annotations"]
        return have.get("example.test/owner") == "shop" and applied not in have

    await world.eventually(copied)


@contract(controllers=True)
async def test_the_progress_deadline_passes(world: World) -> None:
    await acts.started(world, "web", 1, progressDeadlineSeconds=2)
    await acts.roll(world, "web", "lab/pause:2", ready=False)
    late = await acts.reasoned(world, "web", "Progressing", "ProgressDeadlineExceeded")
    assert acts.reason(late, "Available") == "MinimumReplicasAvailable"
    await acts.stays(world, v1=1, v2=1)


@contract(controllers=True)
async def test_recreate_waits_for_the_last_old_pod(world: World) -> None:
    await acts.started(world, "web", 2, strategy={"type": "Recreate"})
    old = {pod["metadata"]["name"] for pod in await acts.pods(world)}
    await acts.roll(world, "web", "lab/pause:2")

    async def first_new() -> bool:
        # A pod whose containers have ended is out of the way, even while its object is still there.
        listed = (await world.get("pods")).json["items"]
        ended = {"Succeeded", "Failed"}
        now = {p["metadata"]["name"] for p in listed if p["status"].get("phase") not in ended}
        assert not (now - old) or not (now & old), "old and new pods at the same time"
        return bool(now - old)

    await world.eventually(first_new)
    await acts.complete(world, "web")


@contract(controllers=True)
async def test_ready_pods_become_available_after_min_ready_seconds(world: World) -> None:
    await world.made("deployments", samples.deployment("web", replicas=1, minReadySeconds=2))

    async def ready() -> bool:
        return bool((await world.read("deployments", "web"))["status"].get("readyReplicas"))

    await world.eventually(ready)
    status = (await world.read("deployments", "web"))["status"]
    assert (status.get("availableReplicas", 0), status["unavailableReplicas"]) == (0, 1)
    await acts.complete(world, "web")


@contract(controllers=True)
async def test_two_deployments_of_one_selector_leave_each_other_alone(world: World) -> None:
    await acts.started(world, "web", 2)
    other = samples.deployment("other", replicas=1, image="lab/pause:2")
    other["spec"]["selector"] = {"matchLabels": {"app": "web"}}
    other["spec"]["template"]["metadata"]["labels"] = {"app": "web", "track": "canary"}
    await world.made("deployments", other)
    await acts.complete(world, "other")
    await acts.stays(world, v1=2, v2=1)
    for rs in await acts.sets(world):
        owner = rs["metadata"]["ownerReferences"][0]["name"]
        assert rs["metadata"]["name"].startswith(f"{owner}-")


@contract(controllers=True)
async def test_an_orphaned_replica_set_is_adopted_by_an_equal_template(world: World) -> None:
    await acts.started(world, "web", 2)
    before = {pod["metadata"]["uid"] for pod in await acts.pods(world)}
    await world.delete("deployments", "web", propagationPolicy="Orphan")
    await acts.gone(world, "deployments", "web")
    made = await acts.started(world, "web", 2)
    (rs,) = await acts.sets(world)
    assert rs["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert {pod["metadata"]["uid"] for pod in await acts.pods(world)} == before


@contract(controllers=True)
async def test_an_orphan_of_another_template_is_adopted_and_rolled_away(world: World) -> None:
    await acts.started(world, "canary", 1)
    (rs,) = await acts.sets(world)
    await world.delete("deployments", "canary", propagationPolicy="Orphan")
    await acts.gone(world, "deployments", "canary")
    heir = samples.deployment("web", replicas=1, image="lab/pause:2")
    heir["spec"]["selector"] = {"matchLabels": {"app": "canary"}}
    heir["spec"]["template"]["metadata"]["labels"] = {"app": "canary"}
    await world.made("deployments", heir)
    await acts.complete(world, "web")
    await acts.sized(world, v1=0, v2=1)
    adopted = await world.read("replicasets", rs["metadata"]["name"])
    assert adopted["metadata"]["ownerReferences"][0]["name"] == "web"
