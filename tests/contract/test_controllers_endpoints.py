# SPDX-License-Identifier: Apache-2.0
"""What EndpointSlices say about the pods behind a Service."""

from __future__ import annotations

from tests.contract import acts, samples, slices
from tests.contract.worlds import contract
from tests.support.world import World

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


@contract(controllers=True)
async def test_ready_pods_are_endpoints(world: World) -> None:
    service = await world.made("services", samples.service("web"))
    await acts.started(world, "web", 2)
    found = await slices.ready(world, 2)
    pods = {pod["metadata"]["name"]: pod for pod in await acts.pods(world)}
    for endpoint in found:
        pod = pods[endpoint["targetRef"]["name"]]
        assert endpoint["addresses"] == [pod["status"]["podIP"]]
        assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
        assert endpoint["targetRef"] == {
            "kind": "Pod",
            "name": pod["metadata"]["name"],
            "namespace": world.namespace,
            "uid": pod["metadata"]["uid"],
        }
    made = await slices.of(world)
    assert made["addressType"] == "IPv4"
    assert made["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert made["metadata"]["labels"][MANAGED_BY] == "endpointslice-controller.k8s.io"
    (ref,) = made["metadata"]["ownerReferences"]
    assert (ref["kind"], ref["uid"]) == ("Service", service["metadata"]["uid"])


@contract(controllers=True)
async def test_a_service_without_pods_has_an_empty_slice(world: World) -> None:
    await world.made("services", samples.service("web"))

    async def there() -> bool:
        return bool(await slices.of(world))

    await world.eventually(there)
    found = await slices.of(world)
    assert (found["endpoints"], found["ports"]) == (None, None)


@contract(controllers=True)
async def test_pods_that_are_not_ready_are_listed_as_such(world: World) -> None:
    await world.made("services", samples.service("web"))
    made = samples.deployment("web", replicas=1)
    made["spec"]["template"]["spec"]["containers"][0]["env"] = acts.NEVER_READY
    await world.made("deployments", made)
    (endpoint,) = await slices.ready(world, 1, ready=False)
    assert endpoint["conditions"]["serving"] is False


@contract(controllers=True)
async def test_a_pod_that_is_going_is_not_ready_but_listed(world: World) -> None:
    await world.made("services", samples.service("web"))
    # A pod whose containers have ended is no endpoint at all, so they take their time.
    await world.made("deployments", samples.lingering(samples.deployment("web", replicas=1), 25))
    await acts.complete(world, "web")
    await slices.ready(world, 1)
    (pod,) = await acts.pods(world)
    # A finalizer keeps it, where time is virtual and nobody looks while they end.
    stays = {"metadata": {"finalizers": ["contract.test/stays"]}}
    await acts.change(world, pod["metadata"]["name"], stays, "pods")
    await world.delete("pods", pod["metadata"]["name"])

    async def terminating() -> bool:
        for item in (await slices.of(world)).get("endpoints") or []:
            if item["targetRef"]["name"] == pod["metadata"]["name"]:
                conditions = item["conditions"]
                return bool(conditions["terminating"]) and not conditions["ready"]
        return False

    await world.eventually(terminating, seconds=40.0)
    gone = {"metadata": {"finalizers": None}}
    await acts.change(world, pod["metadata"]["name"], gone, "pods")


@contract(controllers=True)
async def test_pinning_to_the_pods_it_selects_anyway_changes_no_slice(world: World) -> None:
    await world.made("services", samples.service("web"))
    await acts.started(world, "web", 2)
    await slices.ready(world, 2)
    before = (await slices.of(world))["metadata"]["resourceVersion"]
    (rs,) = await acts.sets(world)
    digest = rs["metadata"]["labels"][acts.HASH]
    await acts.change(world, "web", {"spec": {"selector": {acts.HASH: digest}}}, "services")
    looks = iter(range(20))

    async def a_second() -> bool:
        return next(looks, None) is None

    await world.eventually(a_second)
    assert (await slices.of(world))["metadata"]["resourceVersion"] == before


@contract(controllers=True)
async def test_pinning_to_another_hash_empties_the_slice(world: World) -> None:
    await world.made("services", samples.service("web"))
    await acts.started(world, "web", 2)
    await slices.ready(world, 2)
    await acts.change(world, "web", {"spec": {"selector": {acts.HASH: "other"}}}, "services")
    await slices.ready(world, 0)
    found = await slices.of(world)
    assert (found["endpoints"], found["ports"]) == (None, None)


@contract(controllers=True)
async def test_two_deployments_behind_one_selector_share_the_slice(world: World) -> None:
    await world.made("services", samples.service("web"))
    await acts.started(world, "web", 1)
    other = samples.deployment("other", replicas=1, image="lab/pause:2")
    other["spec"]["selector"] = {"matchLabels": {"app": "web", "track": "canary"}}
    other["spec"]["template"]["metadata"]["labels"] = {"app": "web", "track": "canary"}
    await world.made("deployments", other)
    await slices.ready(world, 2)


@contract(controllers=True)
async def test_labels_of_the_service_are_mirrored(world: World) -> None:
    service = samples.service("web")
    service["metadata"]["labels"] = {"team": "shop"}
    await world.made("services", service)

    async def labelled(value: str) -> bool:
        have = (await slices.of(world)).get("metadata", {}).get("labels", {})
        return bool(have.get("team") == value)

    await world.eventually(lambda: labelled("shop"))
    await acts.change(world, "web", {"metadata": {"labels": {"team": "pay"}}}, "services")
    await world.eventually(lambda: labelled("pay"))


@contract(controllers=True)
async def test_a_headless_service_marks_its_slice(world: World) -> None:
    await world.made("services", samples.service("web", clusterIP="None"))

    async def marked() -> bool:
        have = (await slices.of(world)).get("metadata", {}).get("labels", {})
        return "service.kubernetes.io/headless" in have

    await world.eventually(marked)


@contract(controllers=True)
async def test_named_ports_are_resolved_by_the_pod(world: World) -> None:
    ports = [{"name": "web", "port": 80, "targetPort": "http"}]
    await world.made("services", samples.service("web", ports=ports))
    made = samples.deployment("web", replicas=1)
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["ports"] = [{"name": "http", "containerPort": 9090}]
    await world.made("deployments", made)
    await slices.ready(world, 1)
    assert (await slices.of(world))["ports"] == [{"name": "web", "port": 9090, "protocol": "TCP"}]


@contract(controllers=True)
async def test_a_deleted_service_takes_its_slice_along(world: World) -> None:
    await world.made("services", samples.service("web"))
    await acts.started(world, "web", 1)
    await slices.ready(world, 1)
    await world.delete("services", "web")
    await acts.gone(world, "endpointslices")
