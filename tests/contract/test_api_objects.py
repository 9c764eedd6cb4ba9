# SPDX-License-Identifier: Apache-2.0
"""Objects: how they come, how they go, and what the server adds to them."""

from __future__ import annotations

from tests.contract.samples import config_map, deployment, lease, pod, route, service
from tests.contract.worlds import contract
from tests.support.world import World


@contract
async def test_create_answers_201_with_what_the_server_adds(world: World) -> None:
    answer = await world.create("configmaps", config_map("a"))
    meta = answer.json["metadata"]
    assert answer.status == 201
    assert meta["namespace"] == world.namespace
    assert meta["uid"]
    assert meta["resourceVersion"]
    assert meta["creationTimestamp"].endswith("Z")
    assert answer.json["kind"] == "ConfigMap"


@contract
async def test_a_taken_name_is_a_409(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    again = await world.create("configmaps", config_map("a"))
    assert (again.status, again.json["reason"]) == (409, "AlreadyExists")
    assert again.json["message"] == 'configmaps "a" already exists'


@contract
async def test_what_is_not_there_is_a_404_that_names_it(world: World) -> None:
    for plural in ("configmaps", "deployments", "httproutes"):
        answer = await world.get(plural, "nope")
        assert (answer.status, answer.json["reason"]) == (404, "NotFound")
        assert answer.json["details"]["name"] == "nope"
        assert answer.json["message"].endswith('"nope" not found')


@contract
async def test_unknown_resources_are_a_404(world: World) -> None:
    path = f"/apis/apps/v1/namespaces/{world.namespace}/nonsense"
    answer = await world.send("GET", path)
    assert (answer.status, answer.json["reason"]) == (404, "NotFound")
    assert (await world.send("GET", "/apis/nonsense.example/v1/things")).status == 404


@contract
async def test_a_verb_that_the_path_lacks_is_a_405(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    answer = await world.send("POST", world.path("configmaps", "a"), config_map("a"))
    assert (answer.status, answer.json["reason"]) == (405, "MethodNotAllowed")


@contract
async def test_generate_name_makes_two_different_names(world: World) -> None:
    obj = {"metadata": {"generateName": "run-"}}
    names = [(await world.made("configmaps", obj))["metadata"]["name"] for _ in range(2)]
    assert all(name.startswith("run-") and len(name) == 9 for name in names)
    assert names[0] != names[1]


@contract
async def test_a_missing_namespace_is_a_404(world: World) -> None:
    path = "/api/v1/namespaces/not-there/configmaps"
    answer = await world.send("POST", path, config_map("a"))
    assert (answer.status, answer.json["message"]) == (404, 'namespaces "not-there" not found')


@contract
async def test_another_namespace_in_the_body_is_a_400(world: World) -> None:
    obj = config_map("a")
    obj["metadata"]["namespace"] = "elsewhere"
    assert (await world.create("configmaps", obj)).status == 400


@contract
async def test_another_kind_in_the_body_is_a_400(world: World) -> None:
    body = {"apiVersion": "apps/v1", "kind": "ReplicaSet", **deployment("a")}
    answer = await world.send("POST", world.path("deployments"), body)
    assert answer.status == 400


@contract
async def test_custom_resources_insist_on_their_kind(world: World) -> None:
    answer = await world.send("POST", world.path("httproutes"), route("a"))
    assert answer.status == 400
    bare = await world.send("POST", world.path("configmaps"), config_map("a"))
    assert bare.status == 201


@contract
async def test_broken_json_is_a_400(world: World) -> None:
    answer = await world.send("POST", world.path("configmaps"), b"{")
    assert (answer.status, answer.json["reason"]) == (400, "BadRequest")


@contract
async def test_an_unknown_media_type_is_a_415(world: World) -> None:
    answer = await world.send("POST", world.path("configmaps"), config_map("a"), "text/x")
    assert answer.status == 415


@contract
async def test_yaml_is_understood(world: World) -> None:
    body = b"metadata: {name: plain}\ndata: {a: '1'}\n"
    answer = await world.send("POST", world.path("configmaps"), body, "application/yaml")
    assert (answer.status, answer.json["data"]) == (201, {"a": "1"})


@contract
async def test_dry_run_changes_nothing(world: World) -> None:
    answer = await world.create("configmaps", config_map("a"), dryRun="All")
    assert answer.status == 201
    assert (await world.get("configmaps", "a")).status == 404
    made = await world.made("configmaps", config_map("b"))
    patched = await world.patch("configmaps", "b", {"data": {"a": "2"}}, dryRun="All")
    assert patched.json["data"] == {"a": "2"}
    assert await world.read("configmaps", "b") == made
    assert (await world.delete("configmaps", "b", dryRun="All")).status == 200
    assert (await world.get("configmaps", "b")).status == 200


@contract
async def test_deleting_answers_with_a_status_and_the_uid(world: World) -> None:
    made = await world.made("configmaps", config_map("a"))
    answer = await world.delete("configmaps", "a")
    assert (answer.status, answer.json["status"]) == (200, "Success")
    assert answer.json["details"]["uid"] == made["metadata"]["uid"]
    assert (await world.delete("configmaps", "a")).status == 404


@contract
async def test_deleting_with_another_uid_is_a_409(world: World) -> None:
    for plural, obj in (("configmaps", config_map("a")), ("httproutes", route("a"))):
        made = await world.made(plural, obj)
        refused = await world.delete(plural, "a", {"preconditions": {"uid": "other"}})
        assert (refused.status, refused.json["reason"]) == (409, "Conflict")
        uid = made["metadata"]["uid"]
        assert (await world.delete(plural, "a", {"preconditions": {"uid": uid}})).status == 200


@contract
async def test_deleting_with_an_old_version_is_a_409(world: World) -> None:
    made = await world.made("configmaps", config_map("a"))
    await world.patch("configmaps", "a", {"data": {"a": "2"}})
    version = made["metadata"]["resourceVersion"]
    options = {"preconditions": {"resourceVersion": version}}
    assert (await world.delete("configmaps", "a", options)).status == 409
    assert (await world.get("configmaps", "a")).status == 200


@contract
async def test_an_unknown_propagation_policy_is_a_422(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    answer = await world.delete("configmaps", "a", {"propagationPolicy": "Sideways"})
    assert (answer.status, answer.causes) == (
        422,
        [("FieldValueNotSupported", "propagationPolicy")],
    )


@contract
async def test_a_finalizer_keeps_a_deleted_object_until_it_is_removed(world: World) -> None:
    obj = config_map("a")
    obj["metadata"]["finalizers"] = ["example.com/hold"]
    await world.made("configmaps", obj)
    deleted = await world.delete("configmaps", "a")
    assert deleted.json["kind"] == "ConfigMap"
    assert deleted.json["metadata"]["deletionGracePeriodSeconds"] == 0
    held = await world.read("configmaps", "a")
    assert held["metadata"]["deletionTimestamp"]
    version = held["metadata"]["resourceVersion"]
    again = await world.delete("configmaps", "a")
    assert (again.status, again.version) == (200, version)
    assert (await world.create("configmaps", config_map("a"))).status == 409
    freed = await world.patch("configmaps", "a", {"metadata": {"finalizers": None}})
    assert freed.status == 200
    assert (await world.get("configmaps", "a")).status == 404


@contract
async def test_no_finalizer_can_be_added_to_what_is_being_deleted(world: World) -> None:
    obj = config_map("a")
    obj["metadata"]["finalizers"] = ["example.com/hold"]
    await world.made("configmaps", obj)
    await world.delete("configmaps", "a")
    more = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
    answer = await world.patch("configmaps", "a", more)
    assert (answer.status, answer.causes) == (
        422,
        [("FieldValueForbidden", "metadata.finalizers")],
    )
    assert (await world.patch("configmaps", "a", {"data": {"b": "2"}})).status == 200
    await world.patch("configmaps", "a", {"metadata": {"finalizers": None}})


@contract
async def test_deletion_moves_the_generation_where_there_is_one(world: World) -> None:
    obj = route("a")
    obj["metadata"]["finalizers"] = ["example.com/hold"]
    assert (await world.made("httproutes", obj))["metadata"]["generation"] == 1
    await world.delete("httproutes", "a")
    assert (await world.read("httproutes", "a"))["metadata"]["generation"] == 2
    await world.patch("httproutes", "a", {"metadata": {"finalizers": None}})


@contract
async def test_a_collection_is_deleted_by_selector(world: World) -> None:
    for name, value in (("a", "x"), ("b", "x"), ("c", "y")):
        obj = config_map(name)
        obj["metadata"]["labels"] = {"team": value}
        await world.made("configmaps", obj)
    answer = await world.delete("configmaps", labelSelector="team=x")
    assert [item["metadata"]["name"] for item in answer.json["items"]] == ["a", "b"]
    assert await world.names("configmaps", labelSelector="team") == ["c"]


@contract
async def test_a_pod_that_runs_is_given_its_grace_period(world: World) -> None:
    await world.made("pods", pod("p"))
    node = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}}
    node["target"] = {"kind": "Node", "name": "nowhere"}
    bound = await world.send("POST", world.path("pods", "p", "binding"), node)
    # In a lab a simulated kubelet may have been quicker; either way the pod has a node now.
    assert bound.status in (201, 409)
    deleted = await world.delete("pods", "p", {"gracePeriodSeconds": 40})
    assert deleted.json["metadata"]["deletionGracePeriodSeconds"] == 40
    # The object stays until whoever runs it says that it is over.
    gone = await world.delete("pods", "p", {"gracePeriodSeconds": 0})
    assert gone.status in (200, 404)
    assert (await world.get("pods", "p")).status == 404


@contract
async def test_a_pod_without_a_node_is_removed_at_once(world: World) -> None:
    await world.made("pods", pod("p"))
    answer = await world.delete("pods", "p", {"gracePeriodSeconds": 0})
    assert answer.status == 200
    assert (await world.get("pods", "p")).status == 404


@contract
async def test_put_creates_a_lease_and_a_service_but_no_other_kind(world: World) -> None:
    assert (await world.put("leases", lease("l"))).status == 201
    assert (await world.put("services", service("s"))).status == 201
    assert (await world.put("configmaps", config_map("c"))).status == 404
    assert (await world.put("deployments", deployment("d"))).status == 404
    assert (await world.put("httproutes", route("r"))).status == 404


@contract
async def test_put_under_another_name_is_a_400(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    answer = await world.send("PUT", world.path("configmaps", "a"), config_map("b"))
    assert answer.status == 400


@contract
async def test_identity_cannot_be_written(world: World) -> None:
    made = await world.made("configmaps", config_map("a"))
    moment = {"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7}}
    answer = await world.patch("configmaps", "a", moment)
    assert answer.json["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]
    refused = await world.patch("configmaps", "a", {"metadata": {"uid": "other"}})
    assert refused.status in (409, 422)


@contract
async def test_namespaces_carry_their_name_as_label(world: World) -> None:
    answer = await world.send("GET", f"/api/v1/namespaces/{world.namespace}")
    labels = answer.json["metadata"]["labels"]
    assert labels["kubernetes.io/metadata.name"] == world.namespace
    assert answer.json["status"]["phase"] == "Active"
