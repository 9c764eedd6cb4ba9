# SPDX-License-Identifier: Apache-2.0
"""Refusals: bad objects are a 422 with every cause at once, bad documents a 400."""

from __future__ import annotations

from typing import Any

from tests.contract.samples import (
    config_map,
    deployment,
    endpoint_slice,
    labelled,
    lease,
    pod,
    route,
    service,
)
from tests.contract.worlds import contract
from tests.support.world import World

INVALID, REQUIRED, FORBIDDEN = "FieldValueInvalid", "FieldValueRequired", "FieldValueForbidden"


async def _causes(world: World, plural: str, obj: dict[str, Any]) -> list[tuple[str, str]]:
    answer = await world.create(plural, obj)
    assert (answer.status, answer.json.get("reason")) == (422, "Invalid"), answer.content
    return answer.causes


@contract
async def test_names_are_checked(world: World) -> None:
    for name in ("Upper", "under_score", "-dash", "a" * 254):
        assert await _causes(world, "configmaps", config_map(name)) == [(INVALID, "metadata.name")]
    assert (INVALID, "metadata.name") in await _causes(world, "services", service("with.dot"))


@contract
async def test_a_name_is_required(world: World) -> None:
    assert await _causes(world, "configmaps", {"metadata": {}}) == [(REQUIRED, "metadata.name")]


@contract
async def test_label_values_and_keys_are_checked(world: World) -> None:
    for labels in ({"a": "b c"}, {"a b": "c"}, {"a": "x" * 64}, {"a/b/c": "d"}, {"a": "-x"}):
        found = await _causes(world, "configmaps", labelled("a", **labels))
        assert found == [(INVALID, "metadata.labels")], labels


@contract
async def test_annotation_keys_and_size_are_checked(world: World) -> None:
    obj = config_map("a")
    obj["metadata"]["annotations"] = {"a b": "any value at all / is fine"}
    assert await _causes(world, "configmaps", obj) == [(INVALID, "metadata.annotations")]
    obj["metadata"]["annotations"] = {"a": "x" * (256 * 1024)}
    assert await _causes(world, "configmaps", obj) == [
        ("FieldValueTooLong", "metadata.annotations")
    ]


@contract
async def test_a_config_map_holds_a_megabyte_and_no_byte_more(world: World) -> None:
    assert (await world.create("configmaps", config_map("fits", a="x" * 1_048_576))).status == 201
    found = await _causes(world, "configmaps", config_map("big", a="x" * 1_048_577))
    assert found == [("FieldValueTooLong", "[]")]
    await world.delete("configmaps", "fits")


@contract
async def test_config_map_keys_are_checked(world: World) -> None:
    obj = {"metadata": {"name": "a"}, "data": {"a b": "1", "..": "2"}}
    # A real server walks the map in any order.
    found = sorted(await _causes(world, "configmaps", obj))
    assert found == [(INVALID, "data[..]"), (INVALID, "data[a b]")]


@contract
async def test_an_immutable_config_map_still_takes_labels(world: World) -> None:
    await world.made("configmaps", {**config_map("a"), "immutable": True})
    data = await world.patch("configmaps", "a", {"data": {"a": "2"}})
    assert (data.status, data.causes) == (422, [(FORBIDDEN, "data")])
    back = await world.patch("configmaps", "a", {"immutable": None})
    assert (back.status, back.causes) == (422, [(FORBIDDEN, "immutable")])
    labels = await world.patch("configmaps", "a", {"metadata": {"labels": {"x": "y"}}})
    assert labels.status == 200


@contract
async def test_an_immutable_config_map_gives_way_to_another_of_its_name(world: World) -> None:
    """The way in which the kill latch takes a scope after all. A refusal names the object."""
    old = await world.made("configmaps", {**config_map("a"), "immutable": True})
    more = await world.patch("configmaps", "a", {"data": {"more": "2"}})
    assert (more.status, more.json["reason"]) == (422, "Invalid")
    assert more.json["details"]["name"] == "a"
    assert (await world.read("configmaps", "a"))["data"] == old["data"]
    # It can be made so later, and not be unmade.
    await world.made("configmaps", config_map("b"))
    assert (await world.patch("configmaps", "b", {"immutable": True})).status == 200
    assert (await world.patch("configmaps", "b", {"data": {"more": "2"}})).status == 422
    assert (await world.delete("configmaps", "a")).status == 200
    new = await world.made("configmaps", {**config_map("a"), "data": {"more": "2"}})
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert (await world.patch("configmaps", "a", {"data": {"even": "3"}})).status == 200


@contract
async def test_values_of_a_wrong_type_are_a_400_in_built_in_kinds(world: World) -> None:
    assert (
        await world.create("configmaps", {"metadata": {"name": "a"}, "data": {"a": 1}})
    ).status == 400
    assert (await world.create("deployments", deployment("d", paused="yes"))).status == 400
    wrong = deployment("d")
    wrong["spec"]["replicas"] = "three"
    answer = await world.create("deployments", wrong)
    assert (answer.status, answer.json["reason"]) == (400, "BadRequest")
    assert "cannot unmarshal string" in answer.json["message"]


@contract
async def test_values_of_a_wrong_type_are_a_422_in_custom_resources(world: World) -> None:
    wrong = route("r")
    wrong["spec"]["rules"][0]["backendRefs"][0]["weight"] = "x"
    found = await _causes(world, "httproutes", wrong)
    assert ("FieldValueTypeInvalid", "spec.rules[0].backendRefs[0].weight") in found


@contract
async def test_deployments_need_matching_labels(world: World) -> None:
    wrong = deployment("d")
    wrong["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    assert await _causes(world, "deployments", wrong) == [
        (INVALID, "spec.template.metadata.labels")
    ]
    del wrong["spec"]["selector"]
    assert (REQUIRED, "spec.selector") in await _causes(world, "deployments", wrong)


@contract
async def test_every_cause_is_reported_at_once(world: World) -> None:
    wrong = deployment("Bad_Name")
    wrong["spec"]["replicas"] = -1
    wrong["spec"]["selector"] = {"matchLabels": {"app": "x"}}
    wrong["spec"]["template"] = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}
    found = await _causes(world, "deployments", wrong)
    assert found == [
        (INVALID, "metadata.name"),
        (INVALID, "spec.replicas"),
        (REQUIRED, "spec.template.spec.containers"),
    ]


@contract
async def test_containers_need_images_and_names_of_their_own(world: World) -> None:
    wrong = deployment("d")
    containers = wrong["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "app"})
    found = await _causes(world, "deployments", wrong)
    path = "spec.template.spec.containers[1]"
    assert found == [(REQUIRED, f"{path}.image"), ("FieldValueDuplicate", f"{path}.name")]


@contract
async def test_recreate_takes_no_rolling_update(world: World) -> None:
    strategy = {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}
    found = await _causes(world, "deployments", deployment("d", strategy=strategy))
    assert found == [(FORBIDDEN, "spec.strategy.rollingUpdate")]


@contract
async def test_a_selector_cannot_be_changed(world: World) -> None:
    await world.made("deployments", deployment("d"))
    wider = {"app": "d", "track": "stable"}
    spec = {"selector": {"matchLabels": wider}, "template": {"metadata": {"labels": wider}}}
    answer = await world.patch("deployments", "d", {"spec": spec})
    assert (answer.status, answer.causes) == (422, [(INVALID, "spec.selector")])


@contract
async def test_defaults_of_a_deployment(world: World) -> None:
    obj = deployment("d", paused=True)
    del obj["spec"]["replicas"]
    spec = (await world.made("deployments", obj))["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (10, 600)
    container = spec["template"]["spec"]["containers"][0]
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["resources"] == {}
    pod_spec = spec["template"]["spec"]
    assert (pod_spec["restartPolicy"], pod_spec["terminationGracePeriodSeconds"]) == ("Always", 30)
    assert pod_spec["dnsPolicy"] == "ClusterFirst"


@contract
async def test_services_are_checked(world: World) -> None:
    assert await _causes(world, "services", service("s", ports=[])) == [(REQUIRED, "spec.ports")]
    two = [{"port": 80}, {"port": 81}]
    assert await _causes(world, "services", service("s", ports=two)) == [
        (REQUIRED, "spec.ports[0].name"),
        (REQUIRED, "spec.ports[1].name"),
    ]
    found = await _causes(world, "services", service("s", selector={"a": "b c"}))
    assert found == [(INVALID, "spec.selector")]
    found = await _causes(world, "services", service("s", ports=[{"port": 70000, "targetPort": 1}]))
    assert found == [(INVALID, "spec.ports[0].port")]
    found = await _causes(world, "services", service("s", sessionAffinity="Always"))
    assert found == [("FieldValueNotSupported", "spec.sessionAffinity")]


@contract
async def test_defaults_of_a_service(world: World) -> None:
    spec = (await world.made("services", service("s", ports=[{"port": 80}])))["spec"]
    assert spec["ports"] == [{"protocol": "TCP", "port": 80, "targetPort": 80}]
    assert (spec["type"], spec["sessionAffinity"]) == ("ClusterIP", "None")
    assert spec["clusterIPs"] == [spec["clusterIP"]]


@contract
async def test_the_address_of_a_service_cannot_be_changed(world: World) -> None:
    await world.made("services", service("s"))
    answer = await world.patch("services", "s", {"spec": {"clusterIP": "10.96.250.250"}})
    assert (answer.status, answer.causes) == (422, [(INVALID, "spec.clusterIPs[0]")])


@contract
async def test_weights_have_a_range(world: World) -> None:
    for weight in (-1, 1_000_001):
        wrong = route("r")
        wrong["spec"]["rules"][0]["backendRefs"][0]["weight"] = weight
        found = await _causes(world, "httproutes", wrong)
        assert found == [(INVALID, "spec.rules[0].backendRefs[0].weight")]


@contract
async def test_a_backend_service_needs_a_port(world: World) -> None:
    wrong = route("r")
    del wrong["spec"]["rules"][0]["backendRefs"][0]["port"]
    assert await _causes(world, "httproutes", wrong) == [(INVALID, "spec.rules[0].backendRefs[0]")]


@contract
async def test_enumerations_of_a_route(world: World) -> None:
    wrong = route("r")
    wrong["spec"]["rules"][0]["matches"] = [{"path": {"type": "Fuzzy", "value": "/"}}]
    found = await _causes(world, "httproutes", wrong)
    assert found[0] == ("FieldValueNotSupported", "spec.rules[0].matches[0].path.type")


@contract
async def test_a_route_needs_a_spec(world: World) -> None:
    found = await _causes(world, "httproutes", {"metadata": {"name": "r"}})
    assert found[0] == (REQUIRED, "spec")


@contract
async def test_defaults_of_a_route(world: World) -> None:
    rule = (await world.made("httproutes", route("r")))["spec"]["rules"][0]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    backend = {"group": "", "kind": "Service", "name": "stable", "port": 80, "weight": 1}
    assert rule["backendRefs"] == [backend]


@contract
async def test_endpoint_slices_refuse_addresses_that_lead_nowhere(world: World) -> None:
    field = [(INVALID, "endpoints[0].addresses[0]")]
    for address in ("127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "nonsense"):
        assert await _causes(world, "endpointslices", endpoint_slice("e", address)) == field
    assert (await world.create("endpointslices", endpoint_slice("e", "10.77.0.9"))).status == 201


@contract
async def test_endpoint_slices_need_a_type_and_addresses(world: World) -> None:
    bare = endpoint_slice("e")
    del bare["addressType"]
    assert await _causes(world, "endpointslices", bare) == [(REQUIRED, "addressType")]
    empty = {**endpoint_slice("e"), "endpoints": [{"addresses": []}]}
    found = await _causes(world, "endpointslices", empty)
    assert found == [(REQUIRED, "endpoints[0].addresses")]


@contract
async def test_leases_are_checked(world: World) -> None:
    wrong = lease("l")
    wrong["spec"].update(leaseDurationSeconds=0, leaseTransitions=-1)
    assert await _causes(world, "leases", wrong) == [
        (INVALID, "spec.leaseDurationSeconds"),
        (INVALID, "spec.leaseTransitions"),
    ]


@contract
async def test_renew_times_have_microseconds(world: World) -> None:
    for moment in ("yesterday", "2026-01-05T09:00:00Z"):
        wrong = lease("l")
        wrong["spec"]["renewTime"] = moment
        assert (await world.create("leases", wrong)).status == 400, moment


@contract
async def test_events_live_beside_what_they_are_about(world: World) -> None:
    about = {"kind": "Pod", "name": "x", "namespace": world.namespace}
    event = {"metadata": {"name": "e"}, "involvedObject": about, "reason": "R", "message": "m"}
    assert (await world.create("events", {**event, "type": "Normal"})).status == 201
    wrong = {**event, "metadata": {"name": "f"}, "involvedObject": {**about, "namespace": "other"}}
    assert await _causes(world, "events", wrong) == [(INVALID, "involvedObject.namespace")]


@contract
async def test_of_a_pod_only_the_image_can_be_changed(world: World) -> None:
    await world.made("pods", pod("p"))
    image = {"spec": {"containers": [{"name": "app", "image": "lab/pause:2"}]}}
    assert (await world.patch("pods", "p", image, "strategic")).status == 200
    env = {"spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "1"}]}]}}
    answer = await world.patch("pods", "p", env, "strategic")
    assert (answer.status, answer.causes) == (422, [(FORBIDDEN, "spec")])
    node = await world.patch("pods", "p", {"spec": {"nodeName": "nowhere-else"}})
    assert node.status == 422


@contract
async def test_an_unknown_dry_run_is_a_422(world: World) -> None:
    answer = await world.create("configmaps", config_map("a"), dryRun="Some")
    assert (answer.status, answer.causes) == (422, [("FieldValueNotSupported", "dryRun")])


@contract
async def test_secrets_encode_what_is_written_plainly(world: World) -> None:
    made = await world.made("secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    assert (made["data"], made["type"]) == ({"a": "Yg=="}, "Opaque")
    assert "stringData" not in made
