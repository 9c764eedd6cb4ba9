# SPDX-License-Identifier: Apache-2.0
"""Status, scale, generation: which write may touch what."""

from __future__ import annotations

from tests.contract.samples import config_map, deployment, endpoint_slice, route, service
from tests.contract.worlds import contract
from tests.support.world import World

ACCEPTED = {
    "type": "Accepted",
    "status": "True",
    "reason": "Accepted",
    "message": "",
    "lastTransitionTime": "2026-01-05T09:00:00Z",
}
PARENT = {
    "controllerName": "example.com/gateway",
    "parentRef": {"name": "edge"},
    "conditions": [ACCEPTED],
}


@contract
async def test_status_writes_leave_everything_else_alone(world: World) -> None:
    made = await world.made("httproutes", route("r"))
    body = {
        "metadata": {"labels": {"x": "y"}, "annotations": {"x": "y"}},
        "spec": {"hostnames": ["changed.example"]},
        "status": {"parents": [PARENT]},
    }
    answer = await world.patch("httproutes", "r", body, sub="status")
    assert answer.status == 200
    assert answer.json["spec"] == made["spec"]
    assert "labels" not in answer.json["metadata"]
    assert "annotations" not in answer.json["metadata"]
    assert answer.json["metadata"]["generation"] == 1
    assert answer.json["status"]["parents"][0]["conditions"][0]["status"] == "True"
    assert int(answer.version) > int(made["metadata"]["resourceVersion"])


@contract
async def test_other_writes_leave_status_alone(world: World) -> None:
    await world.made("httproutes", route("r"))
    await world.patch("httproutes", "r", {"status": {"parents": [PARENT]}}, sub="status")
    answer = await world.patch("httproutes", "r", {"status": {"parents": []}})
    assert len(answer.json["status"]["parents"]) == 1
    current = answer.json
    del current["status"]
    current["spec"]["hostnames"] = ["a.example"]
    replaced = await world.put("httproutes", current)
    assert len(replaced.json["status"]["parents"]) == 1


@contract
async def test_status_is_put_with_a_version(world: World) -> None:
    made = await world.made("httproutes", route("r"))
    await world.patch("httproutes", "r", {"metadata": {"annotations": {"moved": "1"}}})
    made["status"] = {"parents": [PARENT]}
    assert (await world.put("httproutes", made, sub="status")).status == 409
    fresh = await world.read("httproutes", "r")
    fresh["status"] = {"parents": [PARENT]}
    assert (await world.put("httproutes", fresh, sub="status")).status == 200


@contract
async def test_annotations_of_a_deployment_can_be_written_through_status(world: World) -> None:
    made = await world.made("deployments", deployment("d"))
    body = {"metadata": {"annotations": {"x": "y"}, "labels": {"x": "y"}}}
    answer = await world.patch("deployments", "d", body, sub="status")
    assert answer.json["metadata"]["annotations"]["x"] == "y"
    assert "labels" not in answer.json["metadata"]
    assert answer.json["metadata"]["generation"] == made["metadata"]["generation"]


@contract
async def test_the_generation_of_a_deployment_follows_its_spec(world: World) -> None:
    made = await world.made("deployments", deployment("d"))
    assert made["metadata"]["generation"] == 1
    paused = await world.patch("deployments", "d", {"spec": {"paused": True}})
    assert paused.json["metadata"]["generation"] == 2
    labelled = await world.patch("deployments", "d", {"metadata": {"labels": {"x": "y"}}})
    assert labelled.json["metadata"]["generation"] == 2
    status = {"status": {"observedGeneration": 2}}
    answer = await world.patch("deployments", "d", status, sub="status")
    assert answer.json["metadata"]["generation"] == 2


@contract
async def test_annotations_move_the_generation_of_a_deployment(world: World) -> None:
    await world.made("deployments", deployment("d"))
    answer = await world.patch("deployments", "d", {"metadata": {"annotations": {"x": "y"}}})
    assert answer.json["metadata"]["generation"] == 2


@contract
async def test_the_generation_of_a_route_follows_its_spec_alone(world: World) -> None:
    await world.made("httproutes", route("r"))
    noted = await world.patch("httproutes", "r", {"metadata": {"annotations": {"x": "y"}}})
    assert noted.json["metadata"]["generation"] == 1
    named = await world.patch("httproutes", "r", {"spec": {"hostnames": ["a.example"]}})
    assert named.json["metadata"]["generation"] == 2


@contract
async def test_config_maps_and_services_have_no_generation(world: World) -> None:
    for plural, obj in (("configmaps", config_map("a")), ("services", service("a"))):
        assert "generation" not in (await world.made(plural, obj))["metadata"], plural


@contract
async def test_the_generation_of_an_endpoint_slice_follows_its_endpoints(world: World) -> None:
    await world.made("endpointslices", endpoint_slice("e", "10.77.0.9"))
    patch = {"endpoints": [{"addresses": ["10.77.0.8"]}]}
    answer = await world.patch("endpointslices", "e", patch)
    assert answer.json["metadata"]["generation"] == 2


@contract
async def test_scale_is_read_and_written_as_one_small_object(world: World) -> None:
    made = await world.made("deployments", deployment("d", paused=True))
    scale = (await world.get("deployments", "d", "scale")).json
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert scale["spec"] == {}
    assert scale["status"]["selector"] == "app=d"
    answer = await world.patch("deployments", "d", {"spec": {"replicas": 2}}, sub="scale")
    assert answer.json["spec"] == {"replicas": 2}
    grown = await world.read("deployments", "d")
    assert grown["spec"]["replicas"] == 2
    assert grown["metadata"]["generation"] == made["metadata"]["generation"] + 1
    body = {"metadata": {"name": "d", "namespace": world.namespace}, "spec": {"replicas": 0}}
    assert (await world.put("deployments", body, sub="scale")).json["spec"] == {}


@contract
async def test_a_negative_scale_is_a_422(world: World) -> None:
    await world.made("deployments", deployment("d", paused=True))
    answer = await world.patch("deployments", "d", {"spec": {"replicas": -1}}, sub="scale")
    assert (answer.status, answer.causes) == (422, [("FieldValueInvalid", "spec.replicas")])


@contract
async def test_subresources_of_what_is_not_there_are_a_404(world: World) -> None:
    assert (await world.get("deployments", "nope", "scale")).status == 404
    assert (await world.patch("httproutes", "nope", {"status": {}}, sub="status")).status == 404


@contract
async def test_kinds_without_a_subresource_answer_404(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    answer = await world.patch("configmaps", "a", {"data": {}}, sub="status")
    assert answer.status == 404


@contract
async def test_conditions_merge_by_type_in_a_strategic_status_patch(world: World) -> None:
    await world.made("deployments", deployment("d", paused=True))
    first = {"type": "Mine", "status": "True", "reason": "A", "message": "m"}
    other = {"type": "Other", "status": "False", "reason": "B", "message": "n"}
    await world.patch(
        "deployments", "d", {"status": {"conditions": [first]}}, "strategic", "status"
    )
    answer = await world.patch(
        "deployments", "d", {"status": {"conditions": [other]}}, "strategic", "status"
    )
    types = {condition["type"] for condition in answer.json["status"]["conditions"]}
    assert {"Mine", "Other"} <= types
