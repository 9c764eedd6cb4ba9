# SPDX-License-Identifier: Apache-2.0
"""Patches in the three dialects: what they change, and how they are refused."""

from __future__ import annotations

from typing import Any

from tests.contract.samples import config_map, deployment, route, service
from tests.contract.worlds import contract
from tests.support.world import World

WEIGHT = "/spec/rules/0/backendRefs/0/weight"
BACKEND = "/spec/rules/0/backendRefs/0/name"


def _containers(obj: dict[str, Any]) -> list[dict[str, Any]]:
    return list(obj["spec"]["template"]["spec"]["containers"])


@contract
async def test_merge_sets_and_null_removes(world: World) -> None:
    await world.made("configmaps", config_map("a", x="1", y="2"))
    answer = await world.patch("configmaps", "a", {"data": {"x": None, "z": "3"}})
    assert answer.json["data"] == {"y": "2", "z": "3"}


@contract
async def test_merge_replaces_lists(world: World) -> None:
    await world.made("deployments", deployment("d"))
    spec = {"template": {"spec": {"containers": [{"name": "other", "image": "lab/pause:1"}]}}}
    answer = await world.patch("deployments", "d", {"spec": spec})
    assert [container["name"] for container in _containers(answer.json)] == ["other"]


@contract
async def test_strategic_merges_containers_by_name(world: World) -> None:
    await world.made("deployments", deployment("d"))
    extra = [{"name": "app", "image": "lab/pause:2"}, {"name": "side", "image": "lab/pause:1"}]
    patch = {"spec": {"template": {"spec": {"containers": extra}}}}
    answer = await world.patch("deployments", "d", patch, "strategic")
    found = {one["name"]: one for one in _containers(answer.json)}
    assert found["app"]["image"] == "lab/pause:2"
    assert found["app"]["env"] == [{"name": "A", "value": "1"}]
    assert found["side"]["image"] == "lab/pause:1"


@contract
async def test_strategic_merges_env_by_name_and_deletes_by_directive(world: World) -> None:
    await world.made("deployments", deployment("d"))
    env = [{"name": "B", "value": "2"}, {"name": "A", "$patch": "delete"}]
    containers = [{"name": "app", "env": env}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    answer = await world.patch("deployments", "d", patch, "strategic")
    assert _containers(answer.json)[0]["env"] == [{"name": "B", "value": "2"}]


@contract
async def test_strategic_retains_only_the_keys_that_are_named(world: World) -> None:
    await world.made("deployments", deployment("d"))
    strategy = {"$retainKeys": ["type"], "type": "Recreate"}
    answer = await world.patch("deployments", "d", {"spec": {"strategy": strategy}}, "strategic")
    assert answer.json["spec"]["strategy"] == {"type": "Recreate"}


@contract
async def test_strategic_merges_a_service_selector_by_key(world: World) -> None:
    await world.made("services", service("s"))
    pin = {"spec": {"selector": {"pod-template-hash": "abc"}}}
    answer = await world.patch("services", "s", pin, "strategic")
    assert answer.json["spec"]["selector"] == {"app": "s", "pod-template-hash": "abc"}
    unpin = {"spec": {"selector": {"pod-template-hash": None}}}
    answer = await world.patch("services", "s", unpin, "strategic")
    assert answer.json["spec"]["selector"] == {"app": "s"}


@contract
async def test_strategic_merges_service_ports_by_port(world: World) -> None:
    await world.made("services", service("s"))
    patch = {"spec": {"ports": [{"port": 80, "targetPort": "http"}]}}
    answer = await world.patch("services", "s", patch, "strategic")
    assert answer.json["spec"]["ports"] == [{"protocol": "TCP", "port": 80, "targetPort": "http"}]


@contract
async def test_custom_resources_do_not_take_strategic_patches(world: World) -> None:
    await world.made("httproutes", route("r"))
    answer = await world.patch("httproutes", "r", {"spec": {}}, "strategic")
    assert (answer.status, answer.json["reason"]) == (415, "UnsupportedMediaType")


@contract
async def test_a_weight_is_written_by_test_and_replace_without_a_version(world: World) -> None:
    made = await world.made("httproutes", route("r", "stable", "canary"))
    operations = [
        {"op": "test", "path": BACKEND, "value": "stable"},
        {"op": "replace", "path": WEIGHT, "value": 95},
    ]
    await world.patch("httproutes", "r", {"metadata": {"annotations": {"by": "another"}}})
    answer = await world.patch("httproutes", "r", operations, "json")
    refs = answer.json["spec"]["rules"][0]["backendRefs"]
    assert [(ref["name"], ref["weight"]) for ref in refs] == [("stable", 95), ("canary", 1)]
    assert answer.json["metadata"]["annotations"] == {"by": "another"}
    assert answer.json["metadata"]["generation"] == made["metadata"]["generation"] + 1


@contract
async def test_a_failed_test_is_a_422_and_changes_nothing(world: World) -> None:
    made = await world.made("httproutes", route("r"))
    operations = [
        {"op": "replace", "path": WEIGHT, "value": 95},
        {"op": "test", "path": BACKEND, "value": "another"},
    ]
    answer = await world.patch("httproutes", "r", operations, "json")
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert await world.read("httproutes", "r") == made


@contract
async def test_a_path_that_is_not_there_is_a_422(world: World) -> None:
    await world.made("deployments", deployment("d"))
    for operation in (
        {"op": "test", "path": "/spec/nothing", "value": 5},
        {"op": "replace", "path": "/spec/nothing/here", "value": 5},
        {"op": "remove", "path": "/spec/nothing"},
        {"op": "replace", "path": "/spec/template/spec/containers/7/image", "value": "x"},
    ):
        answer = await world.patch("deployments", "d", [operation], "json")
        assert answer.status == 422, operation


@contract
async def test_json_patch_adds_into_lists_and_at_their_end(world: World) -> None:
    await world.made("httproutes", route("r"))
    new = {"name": "canary", "port": 80, "weight": 0}
    operations = [{"op": "add", "path": "/spec/rules/0/backendRefs/-", "value": new}]
    answer = await world.patch("httproutes", "r", operations, "json")
    refs = answer.json["spec"]["rules"][0]["backendRefs"]
    assert [ref["name"] for ref in refs] == ["stable", "canary"]
    assert refs[1]["weight"] == 0
    operations = [{"op": "remove", "path": "/spec/rules/0/backendRefs/1"}]
    answer = await world.patch("httproutes", "r", operations, "json")
    assert [ref["name"] for ref in answer.json["spec"]["rules"][0]["backendRefs"]] == ["stable"]


@contract
async def test_json_patch_escapes_slashes_in_keys(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    value = {"example.com/mode": "x", "other": "y"}
    await world.patch("configmaps", "a", {"metadata": {"annotations": value}})
    operations = [
        {"op": "test", "path": "/metadata/annotations/example.com~1mode", "value": "x"},
        {"op": "remove", "path": "/metadata/annotations/example.com~1mode"},
    ]
    answer = await world.patch("configmaps", "a", operations, "json")
    assert answer.json["metadata"]["annotations"] == {"other": "y"}


@contract
async def test_json_patch_moves_and_copies(world: World) -> None:
    await world.made("configmaps", config_map("a", x="1"))
    operations = [
        {"op": "copy", "from": "/data/x", "path": "/data/y"},
        {"op": "move", "from": "/data/x", "path": "/data/z"},
    ]
    answer = await world.patch("configmaps", "a", operations, "json")
    assert answer.json["data"] == {"y": "1", "z": "1"}


@contract
async def test_a_uid_and_a_version_can_be_tested(world: World) -> None:
    made = await world.made("httproutes", route("r"))
    meta = made["metadata"]
    operations = [
        {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta["resourceVersion"]},
        {"op": "replace", "path": WEIGHT, "value": 5},
    ]
    assert (await world.patch("httproutes", "r", operations, "json")).status == 200
    assert (await world.patch("httproutes", "r", operations, "json")).status == 422


@contract
async def test_a_patch_of_the_wrong_shape_is_a_400(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    assert (await world.patch("configmaps", "a", {"op": "add"}, "json")).status == 400
    assert (await world.patch("configmaps", "a", [1], "merge")).status == 400


@contract
async def test_plain_json_is_no_patch_dialect(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    path = world.path("configmaps", "a")
    assert (await world.send("PATCH", path, {"data": {}})).status == 415


@contract
async def test_patching_what_is_not_there_is_a_404(world: World) -> None:
    assert (await world.patch("configmaps", "nope", {"data": {}})).status == 404
    assert (await world.patch("httproutes", "nope", [], "json")).status == 404


@contract
async def test_a_patch_cannot_rename(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    assert (await world.patch("configmaps", "a", {"metadata": {"name": "b"}})).status == 400


@contract
async def test_force_belongs_to_apply_alone(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    answer = await world.patch("configmaps", "a", {"data": {}}, force="true")
    assert (answer.status, answer.causes) == (422, [("FieldValueForbidden", "force")])


@contract
async def test_unknown_fields_are_dropped_with_a_warning(world: World) -> None:
    await world.made("deployments", deployment("d"))
    answer = await world.patch("deployments", "d", {"spec": {"nonsense": 1}})
    assert answer.status == 200
    assert 'unknown field \\"spec.nonsense\\"' in answer.headers["warning"]
    assert "nonsense" not in answer.json["spec"]


@contract
async def test_strict_refuses_unknown_fields(world: World) -> None:
    await world.made("deployments", deployment("d"))
    strict = {"fieldValidation": "Strict"}
    answer = await world.patch("deployments", "d", {"spec": {"nonsense": 1}}, **strict)
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert "strict decoding error" in answer.json["message"]
    made = await world.create("deployments", deployment("e", nonsense=1), **strict)
    assert made.status == 400
    wrong = route("r")
    wrong["spec"]["rules"][0]["backendRefs"][0]["nonsense"] = 1
    assert (await world.create("httproutes", wrong, **strict)).status == 400


@contract
async def test_custom_resources_are_pruned_too(world: World) -> None:
    obj = route("r")
    obj["spec"]["rules"][0]["backendRefs"][0]["nonsense"] = 1
    answer = await world.create("httproutes", obj)
    assert answer.status == 201
    assert "nonsense" not in answer.json["spec"]["rules"][0]["backendRefs"][0]
    assert "nonsense" in answer.headers["warning"]


@contract
async def test_false_is_left_out_where_go_leaves_it_out(world: World) -> None:
    await world.made("deployments", deployment("d", paused=True))
    answer = await world.patch("deployments", "d", {"spec": {"paused": False}})
    assert "paused" not in answer.json["spec"]
    operations = [{"op": "test", "path": "/spec/paused", "value": False}]
    assert (await world.patch("deployments", "d", operations, "json")).status == 422
