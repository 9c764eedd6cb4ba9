# SPDX-License-Identifier: Apache-2.0
"""Server-side apply: who owns what, and what a conflict says."""

from __future__ import annotations

from typing import Any

from tests.contract.samples import config_map, deployment, route, service
from tests.contract.worlds import contract
from tests.support.world import World


async def _apply(world: World, plural: str, obj: dict[str, Any], manager: str, **query: str) -> Any:
    name = obj["metadata"]["name"]
    return await world.patch(plural, name, obj, "apply", fieldManager=manager, **query)


def _owned(obj: dict[str, Any], manager: str) -> dict[str, Any]:
    for entry in obj["metadata"].get("managedFields", []):
        if entry["manager"] == manager:
            return dict(entry["fieldsV1"])
    return {}


@contract
async def test_who_is_taken_out_of_the_managed_fields_owns_nothing(world: World) -> None:
    """A list of rules is compared as a whole, with the defaults that nobody writes."""
    rules = [{"backendRefs": [{"name": "a", "port": 80}]}]
    spec = {"hostnames": ["a.example"], "rules": rules}
    named = {"metadata": {"name": "r"}}
    assert (await _apply(world, "httproutes", {**named, "spec": spec}, "team")).status == 201
    live = await world.read("httproutes", "r")
    path = "/spec/rules/0/backendRefs"
    for value in (
        [*live["spec"]["rules"][0]["backendRefs"], {"name": "b", "port": 80}],
        live["spec"]["rules"][0]["backendRefs"],
    ):
        operations = [{"op": "replace", "path": path, "value": value}]
        answer = await world.patch("httproutes", "r", operations, "json", fieldManager="weigher")
        assert answer.status == 200, answer.content
    answer = await _apply(world, "httproutes", {**named, "spec": spec}, "team")
    assert answer.status == 409, "the rules are the weigher's now"
    entries = (await world.read("httproutes", "r"))["metadata"]["managedFields"]
    (number,) = [n for n, entry in enumerate(entries) if entry["manager"] == "weigher"]
    place = f"/metadata/managedFields/{number}"
    operations = [
        {"op": "test", "path": place, "value": entries[number]},
        {"op": "remove", "path": place},
    ]
    answer = await world.patch("httproutes", "r", operations, "json", fieldManager="weigher")
    assert answer.status == 200, answer.content
    listed = answer.json["metadata"]["managedFields"]
    assert "weigher" not in [entry["manager"] for entry in listed]
    for wanted in (rules, [{"backendRefs": [{"name": "c", "port": 80}]}]):
        spec = {"hostnames": ["a.example"], "rules": wanted}
        answer = await _apply(world, "httproutes", {**named, "spec": spec}, "team")
        assert answer.status == 200, answer.content


@contract
async def test_the_only_record_of_an_owner_cannot_be_taken_out(world: World) -> None:
    made = await world.made("httproutes", route("r"))
    (entry,) = made["metadata"]["managedFields"]
    operations = [{"op": "remove", "path": "/metadata/managedFields/0"}]
    answer = await world.patch("httproutes", "r", operations, "json")
    assert answer.status == 200, answer.content
    assert answer.json["metadata"]["managedFields"] == [entry]
    assert answer.version == made["metadata"]["resourceVersion"]


@contract
async def test_apply_creates_what_is_not_there(world: World) -> None:
    answer = await _apply(world, "configmaps", config_map("a", k="1"), "one")
    assert answer.status == 201
    entry = answer.json["metadata"]["managedFields"][0]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    assert entry["fieldsV1"] == {"f:data": {"f:k": {}}}


@contract
async def test_applying_the_same_again_writes_nothing(world: World) -> None:
    first = await _apply(world, "deployments", deployment("d"), "one")
    await world.eventually(lambda: _settled(world, "d"))
    before = await world.read("deployments", "d")
    again = await _apply(world, "deployments", deployment("d"), "one")
    assert again.status == 200
    assert again.version == before["metadata"]["resourceVersion"]
    assert again.json["metadata"]["uid"] == first.json["metadata"]["uid"]


async def _settled(world: World, name: str) -> bool:
    """In a cluster with controllers their first writes are over."""
    if world.kind != "real":
        return True
    obj = await world.read("deployments", name)
    done = obj["metadata"]["generation"] == obj["status"].get("observedGeneration")
    return done and "deployment.kubernetes.io/revision" in obj["metadata"].get("annotations", {})


@contract
async def test_another_value_for_an_owned_field_is_a_409_that_names_both(world: World) -> None:
    await _apply(world, "configmaps", config_map("a", k="1"), "one")
    answer = await _apply(world, "configmaps", config_map("a", k="2"), "two")
    assert (answer.status, answer.json["reason"]) == (409, "Conflict")
    assert answer.causes == [("FieldManagerConflict", ".data.k")]
    assert 'conflict with "one"' in answer.json["message"]
    assert (await world.read("configmaps", "a"))["data"] == {"k": "1"}


@contract
async def test_the_same_value_is_shared(world: World) -> None:
    await _apply(world, "configmaps", config_map("a", k="1"), "one")
    answer = await _apply(world, "configmaps", config_map("a", k="1"), "two")
    assert answer.status == 200
    assert _owned(answer.json, "one") == _owned(answer.json, "two") == {"f:data": {"f:k": {}}}


@contract
async def test_force_takes_the_field(world: World) -> None:
    await _apply(world, "configmaps", config_map("a", k="1", l="1"), "one")
    answer = await _apply(world, "configmaps", config_map("a", k="2"), "two", force="true")
    assert answer.json["data"] == {"k": "2", "l": "1"}
    assert _owned(answer.json, "one") == {"f:data": {"f:l": {}}}
    assert _owned(answer.json, "two") == {"f:data": {"f:k": {}}}


@contract
async def test_what_is_no_longer_applied_goes_away(world: World) -> None:
    await _apply(world, "configmaps", config_map("a", k="1", l="1"), "one")
    answer = await _apply(world, "configmaps", config_map("a", k="1"), "one")
    assert answer.json["data"] == {"k": "1"}


@contract
async def test_what_another_owns_as_well_stays(world: World) -> None:
    await _apply(world, "configmaps", config_map("a", k="1", l="1"), "one")
    await _apply(world, "configmaps", config_map("a", l="1"), "two")
    answer = await _apply(world, "configmaps", config_map("a", k="1"), "one")
    assert answer.json["data"] == {"k": "1", "l": "1"}


@contract
async def test_any_other_write_takes_what_it_changes(world: World) -> None:
    await _apply(world, "configmaps", config_map("a", k="1", l="1"), "one")
    answer = await world.patch("configmaps", "a", {"data": {"k": "2"}}, fieldManager="person")
    assert _owned(answer.json, "one") == {"f:data": {"f:l": {}}}
    assert _owned(answer.json, "person") == {"f:data": {"f:k": {}}}
    refused = await _apply(world, "configmaps", config_map("a", k="1", l="1"), "one")
    assert refused.causes == [("FieldManagerConflict", ".data.k")]
    assert 'conflict with "person" using v1' in refused.json["message"]


@contract
async def test_the_default_manager_is_the_program_of_the_user_agent(world: World) -> None:
    made = await world.made("configmaps", config_map("a"))
    entry = made["metadata"]["managedFields"][0]
    assert (entry["manager"], entry["operation"]) == ("contract", "Update")


@contract
async def test_images_are_owned_by_container_name(world: World) -> None:
    await _apply(world, "deployments", deployment("d"), "gitops")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "lab/x:2"}]}}}}
    await world.patch("deployments", "d", patch, "strategic", fieldManager="person")
    refused = await _apply(world, "deployments", deployment("d"), "gitops")
    field = '.spec.template.spec.containers[name="app"].image'
    assert refused.causes == [("FieldManagerConflict", field)]


@contract
async def test_replicas_can_be_left_to_somebody_else(world: World) -> None:
    mine = deployment("d")
    await _apply(world, "deployments", mine, "gitops")
    await world.patch("deployments", "d", {"spec": {"replicas": 3}}, sub="scale")
    refused = await _apply(world, "deployments", mine, "gitops")
    assert refused.causes == [("FieldManagerConflict", ".spec.replicas")]
    del mine["spec"]["replicas"]
    answer = await _apply(world, "deployments", mine, "gitops")
    assert (answer.status, answer.json["spec"]["replicas"]) == (200, 3)
    await world.patch("deployments", "d", {"spec": {"replicas": 0}})


@contract
async def test_containers_of_two_managers_live_side_by_side(world: World) -> None:
    await _apply(world, "deployments", deployment("d"), "gitops")
    side = {"name": "side", "image": "lab/side:1"}
    extra = {
        "metadata": {"name": "d"},
        "spec": {"template": {"spec": {"containers": [side]}}},
    }
    answer = await _apply(world, "deployments", extra, "mesh")
    names = [one["name"] for one in answer.json["spec"]["template"]["spec"]["containers"]]
    assert sorted(names) == ["app", "side"]
    empty = {"metadata": {"name": "d"}}
    answer = await _apply(world, "deployments", empty, "mesh")
    names = [one["name"] for one in answer.json["spec"]["template"]["spec"]["containers"]]
    assert names == ["app"]


@contract
async def test_a_service_selector_is_one_value(world: World) -> None:
    await _apply(world, "services", service("s"), "gitops")
    pin = {"spec": {"selector": {"pod-template-hash": "abc"}}}
    await world.patch("services", "s", pin, "strategic", fieldManager="pinner")
    refused = await _apply(world, "services", service("s"), "gitops")
    assert refused.causes == [("FieldManagerConflict", ".spec.selector")]
    forced = await _apply(world, "services", service("s"), "gitops", force="true")
    assert forced.json["spec"]["selector"] == {"app": "s"}


@contract
async def test_rules_of_a_route_are_one_value(world: World) -> None:
    await _apply(world, "httproutes", route("r"), "gitops")
    operations = [{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 5}]
    await world.patch("httproutes", "r", operations, "json", fieldManager="weigher")
    refused = await _apply(world, "httproutes", route("r"), "gitops")
    assert refused.causes == [("FieldManagerConflict", ".spec.rules")]
    forced = await _apply(world, "httproutes", route("r"), "gitops", force="true")
    assert forced.json["spec"]["rules"][0]["backendRefs"][0]["weight"] == 1


@contract
async def test_annotations_of_two_managers_do_not_meet(world: World) -> None:
    mine = {"metadata": {"name": "a", "annotations": {"one": "1"}}}
    other = {"metadata": {"name": "a", "annotations": {"two": "2"}}}
    await _apply(world, "configmaps", mine, "one")
    answer = await _apply(world, "configmaps", other, "two")
    assert answer.json["metadata"]["annotations"] == {"one": "1", "two": "2"}


@contract
async def test_apply_needs_a_manager(world: World) -> None:
    answer = await world.patch("configmaps", "a", config_map("a"), "apply")
    assert (answer.status, answer.causes) == (422, [("FieldValueRequired", "fieldManager")])


@contract
async def test_apply_with_an_old_version_is_a_409(world: World) -> None:
    made = await _apply(world, "configmaps", config_map("a", k="1"), "one")
    await world.patch("configmaps", "a", {"data": {"z": "1"}})
    old = config_map("a", k="2")
    old["metadata"]["resourceVersion"] = made.version
    assert (await _apply(world, "configmaps", old, "one")).status == 409


@contract
async def test_apply_refuses_managed_fields_and_other_kinds(world: World) -> None:
    made = await _apply(world, "configmaps", config_map("a", k="1"), "one")
    copied = config_map("a", k="1")
    copied["metadata"]["managedFields"] = made.json["metadata"]["managedFields"]
    assert (await _apply(world, "configmaps", copied, "one")).status == 400
    wrong = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
    assert (await _apply(world, "configmaps", wrong, "one")).status == 400


@contract
async def test_apply_to_what_somebody_holds_by_uid_is_a_409(world: World) -> None:
    ghost = config_map("a")
    ghost["metadata"]["uid"] = "0000"
    assert (await _apply(world, "configmaps", ghost, "one")).status == 409


@contract
async def test_a_put_without_managed_fields_keeps_them(world: World) -> None:
    made = await _apply(world, "configmaps", config_map("a", k="1"), "one")
    plain = config_map("a", k="1", z="2")
    answer = await world.put("configmaps", plain, fieldManager="person")
    assert _owned(answer.json, "one") == _owned(made.json, "one")
    assert _owned(answer.json, "person") == {"f:data": {"f:z": {}}}
