# SPDX-License-Identifier: Apache-2.0
"""In which order EndpointSlices follow pods and selectors, by the versions of what was told."""

from __future__ import annotations

from typing import Any

from tests.contract import acts, samples, slices
from tests.contract.worlds import contract
from tests.support.world import World

LINGER_SECONDS = 8
"""Longer than a busy controller is late."""


async def _draining(world: World, name: str, replicas: int, **labels: str) -> None:
    """Pods of the application, which go on answering for some seconds when they are to end."""
    made = samples.lingering(samples.deployment(name, replicas=replicas), LINGER_SECONDS)
    made["spec"]["template"]["metadata"]["labels"] |= labels
    await world.made("deployments", made)
    await acts.complete(world, name)


async def _version(world: World) -> str:
    return (await world.get("endpointslices")).version


async def _pods_told(world: World, name: str, since: str) -> list[dict[str, Any]]:
    return await world.watched(
        world.path("pods"), resourceVersion=since, fieldSelector=f"metadata.name={name}"
    )


def _at(frame: dict[str, Any]) -> int:
    return int(frame["object"]["metadata"]["resourceVersion"])


@contract(controllers=True)
async def test_a_pod_leaves_the_ready_endpoints_before_it_is_gone(world: World) -> None:
    await world.made("services", samples.service("web"))
    await _draining(world, "web", 1)
    await slices.ready(world, 1)
    since = await _version(world)
    (pod,) = await acts.pods(world)
    name = pod["metadata"]["name"]
    await world.delete("pods", name)
    await acts.gone(world, "pods", name)
    (*_, last) = await _pods_told(world, name, since)
    assert last["type"] == "DELETED"
    states = [(at, found[name]) for at, found in await slices.told(world, since) if name in found]
    first, conditions = states[0]
    assert conditions == {"ready": False, "serving": True, "terminating": True}
    assert first < _at(last)
    assert not any(conditions["ready"] for _, conditions in states)


@contract(controllers=True)
async def test_a_pod_is_no_endpoint_once_it_is_gone(world: World) -> None:
    await world.made("services", samples.service("web"))
    await _draining(world, "web", 1)
    await slices.ready(world, 1)
    (pod,) = await acts.pods(world)
    name = pod["metadata"]["name"]
    await world.delete("pods", name)
    await acts.gone(world, "pods", name)
    (endpoint,) = await slices.ready(world, 1)
    assert endpoint["targetRef"]["name"] != name


@contract(controllers=True)
async def test_a_pod_is_ready_before_its_endpoint_is(world: World) -> None:
    await world.made("services", samples.service("web"))
    since = await _version(world)
    await acts.started(world, "web", 1)
    await slices.ready(world, 1)
    (pod,) = await acts.pods(world)
    name = pod["metadata"]["name"]
    frames = await _pods_told(world, name, since)
    became = min(
        _at(frame)
        for frame in frames
        for condition in frame["object"].get("status", {}).get("conditions", [])
        if (condition["type"], condition["status"]) == ("Ready", "True")
    )
    told = await slices.told(world, since)
    assert became < min(at for at, found in told if found.get(name, {}).get("ready"))


@contract(controllers=True)
async def test_a_selector_moves_all_endpoints_in_one_write(world: World) -> None:
    """No moment has neither of both versions, or both of them."""
    await world.made("services", samples.service("web", selector={"track": "stable"}))
    for track in ("stable", "canary"):
        made = samples.deployment(track, replicas=2)
        made["spec"]["template"]["metadata"]["labels"]["track"] = track
        await world.made("deployments", made)
        await acts.complete(world, track)
    await slices.ready(world, 2)
    since = await _version(world)
    await acts.change(world, "web", {"spec": {"selector": {"track": "canary"}}}, "services")

    async def moved() -> bool:
        names = [
            item["targetRef"]["name"] for item in (await slices.of(world)).get("endpoints") or []
        ]
        return len(names) == 2 and all(name.startswith("canary-") for name in names)

    await world.eventually(moved)
    states = [sorted(found) for _, found in await slices.told(world, since)]
    assert len(states) == 1, states
    assert len((await world.get("endpointslices")).json["items"]) == 1


@contract(controllers=True)
async def test_a_pod_whose_label_goes_is_no_endpoint_any_more(world: World) -> None:
    service = samples.service("web", selector={"app": "web", "lead": "yes"})
    await world.made("services", service)
    made = samples.deployment("web", replicas=1)
    made["spec"]["template"]["metadata"]["labels"]["lead"] = "yes"
    await world.made("deployments", made)
    (endpoint,) = await slices.ready(world, 1)
    name = endpoint["targetRef"]["name"]
    await acts.change(world, name, {"metadata": {"labels": {"lead": "no"}}}, "pods")
    await slices.ready(world, 0)
    assert [pod["metadata"]["name"] for pod in await acts.pods(world)] == [name]


@contract(controllers=True)
async def test_a_service_may_publish_pods_that_are_not_ready(world: World) -> None:
    await world.made("services", samples.service("web", publishNotReadyAddresses=True))
    made = samples.deployment("web", replicas=1)
    made["spec"]["template"]["spec"]["containers"][0]["env"] = acts.NEVER_READY
    await world.made("deployments", made)
    (endpoint,) = await slices.ready(world, 1)
    assert endpoint["conditions"] == {"ready": True, "serving": False, "terminating": False}
    hidden = {"spec": {"publishNotReadyAddresses": False}}
    await acts.change(world, "web", hidden, "services")
    (endpoint,) = await slices.ready(world, 1, ready=False)
    assert endpoint["conditions"] == {"ready": False, "serving": False, "terminating": False}


@contract(controllers=True)
async def test_a_selector_that_selects_nothing_empties_the_slice_in_one_write(world: World) -> None:
    await world.made("services", samples.service("web"))
    await acts.started(world, "web", 2)
    await slices.ready(world, 2)
    since = await _version(world)
    await acts.change(world, "web", {"spec": {"selector": {"app": "nobody"}}}, "services")
    await slices.ready(world, 0)
    assert [found for _, found in await slices.told(world, since)] == [{}]


@contract(controllers=True)
async def test_a_service_without_a_selector_gets_no_slice(world: World) -> None:
    made = samples.service("web")
    del made["spec"]["selector"]
    await world.made("services", made)
    await world.made("services", samples.service("other"))

    async def there() -> bool:
        return bool(await slices.of(world, "other"))

    await world.eventually(there)
    assert await slices.of(world) == {}


@contract(controllers=True)
async def test_a_selector_that_is_taken_away_leaves_the_slice_as_it_is(world: World) -> None:
    await world.made("services", samples.service("web"))
    await acts.started(world, "web", 1)
    before = await slices.ready(world, 1)
    await world.made("services", samples.service("other"))
    answer = await world.patch("services", "web", {"spec": {"selector": None}})
    assert answer.status == 200, answer.content

    async def there() -> bool:
        return bool(await slices.of(world, "other"))

    await world.eventually(there)
    assert await slices.ready(world, 1) == before
