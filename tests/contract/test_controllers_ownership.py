# SPDX-License-Identifier: Apache-2.0
"""ReplicaSets and their pods, and what the garbage collector does with dependents."""

from __future__ import annotations

from typing import Any

from tests.contract import acts, samples
from tests.contract.worlds import contract
from tests.support.world import World


def _owned(name: str, *owners: dict[str, Any]) -> dict[str, Any]:
    made = samples.config_map(name)
    made["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
        }
        for owner in owners
    ]
    return made


@contract(controllers=True)
async def test_a_deleted_pod_is_replaced(world: World) -> None:
    await acts.started(world, "web", 2)
    first, *_ = await acts.pods(world)
    await world.delete("pods", first["metadata"]["name"])
    await acts.gone(world, "pods", first["metadata"]["name"])
    await acts.complete(world, "web")
    assert len(await acts.pods(world)) == 2


@contract(controllers=True)
async def test_a_pod_that_matches_no_longer_is_released_and_replaced(world: World) -> None:
    await acts.started(world, "web", 1)
    (pod,) = await acts.pods(world)
    name = pod["metadata"]["name"]
    await acts.change(world, name, {"metadata": {"labels": {"app": "aside"}}}, "pods")

    async def released() -> bool:
        found = await world.read("pods", name)
        return "ownerReferences" not in found["metadata"]

    await world.eventually(released)
    await acts.complete(world, "web")
    assert len(await acts.pods(world, {"app": "web"})) == 1
    assert len(await acts.pods(world, {"app": "aside"})) == 1


@contract(controllers=True)
async def test_an_orphan_pod_that_matches_is_taken_in_and_counted(world: World) -> None:
    await acts.started(world, "web", 1)
    (rs,) = await acts.sets(world)
    stray = samples.pod("stray")
    stray["metadata"]["labels"] = rs["spec"]["selector"]["matchLabels"]
    await world.made("pods", stray)

    async def settled() -> bool:
        found = await acts.pods(world, {"app": "web"})
        return len(found) == 1 and "ownerReferences" in found[0]["metadata"]

    await world.eventually(settled)


@contract(controllers=True)
async def test_scaling_down_takes_pods_that_are_not_ready(world: World) -> None:
    await acts.started(world, "web", 1)
    (kept,) = await acts.pods(world)
    (rs,) = await acts.sets(world)
    stray = samples.pod("stray")
    stray["metadata"]["labels"] = rs["spec"]["selector"]["matchLabels"]
    stray["spec"]["containers"][0]["env"] = acts.NEVER_READY
    await world.made("pods", stray)
    await acts.gone(world, "pods", "stray")
    assert [p["metadata"]["uid"] for p in await acts.pods(world)] == [kept["metadata"]["uid"]]


@contract(controllers=True)
async def test_the_status_of_a_replica_set(world: World) -> None:
    await acts.started(world, "web", 2)
    (rs,) = await acts.sets(world)
    assert rs["status"] == {
        "replicas": 2,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "terminatingReplicas": 0,
        "observedGeneration": rs["metadata"]["generation"],
    }


@contract(controllers=True)
async def test_a_deleted_pod_stays_for_its_grace_period(world: World) -> None:
    await acts.started(world, "web", 1)
    (pod,) = await acts.pods(world)
    answer = await world.delete("pods", pod["metadata"]["name"])
    assert answer.status == 200
    leaving = answer.json["metadata"]
    assert leaving["deletionGracePeriodSeconds"] == 30
    assert "deletionTimestamp" in leaving
    await acts.gone(world, "pods", pod["metadata"]["name"])


@contract(controllers=True)
async def test_background_deletion_takes_all_dependents(world: World) -> None:
    await acts.started(world, "web", 2)
    await world.delete("deployments", "web", propagationPolicy="Background")
    assert (await world.get("deployments", "web")).status == 404
    await acts.gone(world, "replicasets")
    await acts.gone(world, "pods")


@contract(controllers=True)
async def test_deletion_without_a_policy_is_in_the_background(world: World) -> None:
    await acts.started(world, "web", 1)
    await world.delete("deployments", "web")
    assert (await world.get("deployments", "web")).status == 404
    await acts.gone(world, "replicasets")


@contract(controllers=True)
async def test_foreground_deletion_keeps_the_owner_until_the_end(world: World) -> None:
    await acts.started(world, "web", 1)
    answer = await world.delete("deployments", "web", propagationPolicy="Foreground")
    assert answer.json["metadata"]["finalizers"] == ["foregroundDeletion"]
    await acts.gone(world, "deployments", "web")
    assert await world.names("replicasets") == []


@contract(controllers=True)
async def test_orphaning_leaves_the_dependents_without_owner(world: World) -> None:
    await acts.started(world, "web", 1)
    await world.delete("deployments", "web", propagationPolicy="Orphan")
    await acts.gone(world, "deployments", "web")
    (rs,) = await acts.sets(world)
    assert "ownerReferences" not in rs["metadata"]
    assert rs["spec"]["replicas"] == 1
    assert len(await acts.pods(world)) == 1


@contract(controllers=True)
async def test_a_dependent_of_an_owner_that_never_was_is_collected(world: World) -> None:
    ghost = {"metadata": {"name": "ghost", "uid": "6e9b0a5e-0000-4000-8000-000000000000"}}
    await world.made("configmaps", _owned("child", ghost))
    await acts.gone(world, "configmaps", "child")


@contract(controllers=True)
async def test_a_dependent_with_another_owner_stays_and_loses_one_reference(world: World) -> None:
    first = await world.made("configmaps", samples.config_map("first"))
    second = await world.made("configmaps", samples.config_map("second"))
    await world.made("configmaps", _owned("child", first, second))
    await world.delete("configmaps", "first")

    async def one_left() -> bool:
        child = await world.read("configmaps", "child")
        refs = child["metadata"]["ownerReferences"]
        return [ref["name"] for ref in refs] == ["second"]

    await world.eventually(one_left)
    await world.delete("configmaps", "second")
    await acts.gone(world, "configmaps", "child")


@contract(controllers=True)
async def test_an_owned_service_goes_with_its_deployment(world: World) -> None:
    made = await acts.started(world, "web", 1)
    canary = samples.service("web-canary")
    canary["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "web",
            "uid": made["metadata"]["uid"],
        }
    ]
    await world.made("services", canary)
    await world.delete("deployments", "web")
    await acts.gone(world, "services", "web-canary")
    await acts.gone(world, "endpointslices")


@contract(controllers=True)
async def test_a_deleted_namespace_is_emptied_and_goes(world: World) -> None:
    await acts.started(world, "web", 1)
    path = f"/api/v1/namespaces/{world.namespace}"
    answer = await world.send("DELETE", path)
    assert answer.json["status"]["phase"] == "Terminating"
    refused = await world.create("configmaps", samples.config_map("late"))
    assert refused.status == 403

    async def away() -> bool:
        return (await world.send("GET", path)).status == 404

    await world.eventually(away, seconds=40.0)
