# SPDX-License-Identifier: Apache-2.0
"""Other hands on the same objects: pipelines, autoscalers and people, in the middle of a run."""

import asyncio
import json
from typing import Any

import pytest

from controller.sim import clock, manifests
from controller.sim.apiserver.values import Event, EventType
from controller.sim.world import World
from tests.engine.house import POLICY, House, house
from tests.engine.sweep import quick

IMAGE = "registry.example/app:v2"
PHASES = quick(
    ["Preparing", "Scaling", "Raising", "Judging", "Committing", "Rolling", "HandingBack"],
    "Judging",
)


def _reset_route(world: World) -> None:
    """The pipeline applies the route as git has it."""

    def change(found: dict[str, Any]) -> None:
        found["spec"]["rules"] = manifests.route("shop", "checkout")["spec"]["rules"]

    world.edit("httproutes", "shop", "checkout", change)


def _reset_service(world: World) -> None:
    """The pipeline applies the Service as git has it."""
    world.edit(
        "services",
        "shop",
        "checkout",
        lambda found: found["spec"].update(selector={"app": "checkout"}),
    )


async def _judged(found: House) -> None:
    await found.reaches("Judging")
    await asyncio.sleep(4)


async def _promoted(found: House) -> None:
    await found.ended("promoted", within=1500)
    await found.world.settle()
    found.at_rest()
    assert found.world.ready_pods("v2") == len(found.world.pods())


@pytest.mark.parametrize("phase", PHASES)
def test_the_route_is_reset(phase: str) -> None:
    """At any phase: no request fails, the run takes the rung again and goes on."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(1)
            _reset_route(found.world)
            await _promoted(found)
            assert sum(found.world.failures.values()) == 0

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_the_service_is_reset(phase: str) -> None:
    """The pin comes back; the run ends well."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(1)
            _reset_service(found.world)
            await _promoted(found)

    clock.run(story())


@pytest.mark.slow
def test_the_route_is_reset_every_30_seconds() -> None:
    """The run gives way in the end, or goes through; nobody loses a request."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            for _ in range(60):
                await asyncio.sleep(30)
                _reset_route(world)
                if found.runs()[-1]["phase"] in {"Held", "Ended"}:
                    break
            run = found.runs()[-1]
            assert run["outcome"] in {"promoted", "inconclusive"}
            await world.settle()
            found.at_rest(paused=run["phase"] == "Held")
            assert sum(world.failures.values()) == 0

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("phase", quick(["Scaling", "Judging"], "Judging"))
def test_the_weight_is_raised_above_the_cap(phase: str) -> None:
    """By somebody else; it goes back to the rung at once."""

    async def story() -> None:
        async with house() as found:
            world = found.world

            def change(route: dict[str, Any]) -> None:
                for backend in route["spec"]["rules"][0]["backendRefs"]:
                    backend["weight"] = 5000

            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            world.edit("httproutes", "shop", "checkout", change)
            await asyncio.sleep(1)
            weights = world.weights("checkout")
            assert weights["checkout-canary"] * 20 <= sum(weights.values())
            await _promoted(found)

    clock.run(story())


def test_somebody_resumes_the_held_deployment() -> None:
    """The version that failed gets no pod that serves."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE, {"ERROR_RATE": "0.5"})
            await found.ended("rolled-back")
            before = world.answered()["v2"]
            world.edit(
                "deployments", "shop", "checkout", lambda item: item["spec"].update(paused=False)
            )
            await asyncio.sleep(20)
            found.at_rest(paused=True)
            assert world.pods(version="v2") == []
            assert world.answered()["v2"] == before

    clock.run(story())


@pytest.mark.slow
def test_somebody_resumes_the_deployment_in_mid_run() -> None:
    """It is paused again; direct clients never see the version on trial."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await _judged(found)
            world.edit(
                "deployments", "shop", "checkout", lambda item: item["spec"].update(paused=False)
            )
            await asyncio.sleep(5)
            assert world.get("deployments", "shop", "checkout")["spec"]["paused"]
            await _promoted(found)

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, 6])
@pytest.mark.parametrize("phase", ["Judging", "Committing", "Rolling", "HandingBack"])
def test_scaled_in_mid_run(phase: str, replicas: int) -> None:
    """The autoscaler may do its work at any time."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(1)
            world.scale("shop", "checkout", replicas)
            await _promoted(found)
            assert world.ready_pods("v2") == replicas

    clock.run(story())


@pytest.mark.slow
def test_scaled_to_0_and_back() -> None:
    """The run ends without a verdict on the version; nothing of ours is left."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await _judged(found)
            world.scale("shop", "checkout", 0)
            await asyncio.sleep(60)
            assert world.pods(version="v2") == []
            world.scale("shop", "checkout", 4)
            await _promoted(found)

    clock.run(story())


@pytest.mark.parametrize("phase", PHASES)
def test_the_deployment_is_deleted(phase: str) -> None:
    """Route and Service are as before, and our objects go with their owner."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(1)
            world.delete("deployments", "shop", "checkout")
            await found.ended("gone")
            await world.settle()
            assert world.weights("checkout") == {"checkout": 1}
            service = world.get("services", "shop", "checkout")
            assert service["spec"]["selector"] == {"app": "checkout"}
            assert "switchgear.dev/original" not in json.dumps(service)
            assert world.store.list("deployments", "shop") == []
            assert len(world.store.list("services", "shop")) == 1

    clock.run(story())


@pytest.mark.parametrize("phase", ["Judging", "Rolling"])
def test_the_deployment_is_deleted_and_created_with_another_template(phase: str) -> None:
    """The new one is another target: it is adopted, and reported where it rolled ungated."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(1)
            world.delete("deployments", "shop", "checkout")
            await asyncio.sleep(0.05)
            made = manifests.deployment(
                "shop", "checkout", image="registry.example/app:v3", annotations=POLICY
            )
            world.create(made)
            await found.ended("gone")
            await world.settle()
            found.at_rest()
            assert world.ready_pods("v3") == 4
            assert len(world.pods()) == 4

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("phase", quick(["Judging", "Committing", "Rolling"], "Judging"))
def test_the_service_is_deleted_and_created_again(phase: str) -> None:
    """Pinned again before the run goes on."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(1)
            world.delete("services", "shop", "checkout")
            await asyncio.sleep(0.3)
            world.create(manifests.service("shop", "checkout"))
            await _promoted(found)

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["deployments", "services"])
@pytest.mark.parametrize("phase", quick(["Scaling", "Judging"], "Judging"))
def test_our_own_object_is_deleted(kind: str, phase: str) -> None:
    """Weight 0, made again, the rung again."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(2)
            world.delete(kind, "shop", "checkout-canary")
            await _promoted(found)

    clock.run(story())


@pytest.mark.parametrize(
    "phase", ["Checking", *quick(["Judging", "Rolling", "HandingBack"], "Rolling")]
)
def test_somebody_takes_the_canary_away_as_often_as_it_is_made(phase: str) -> None:
    """As a second controller would that takes it for a lost one: one of the two gives way."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            soon = asyncio.get_running_loop().call_soon

            def taken(event: Event) -> None:
                name = event.obj["metadata"]["name"]
                if (event.type, name) == (EventType.ADDED, "checkout-canary"):
                    soon(world.delete, event.resource.plural, "shop", name)

            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            world.store.subscribe(taken)
            if phase != "Checking":
                world.delete("deployments", "shop", "checkout-canary")
            await found.until(lambda: bool(found.runs()[-1]["outcome"]), within=1500)
            # Where all requests go to canary pods it is their failing that ends it.
            trips = phase in {"Rolling", "HandingBack"}
            assert found.runs()[-1]["outcome"] == ("rolled-back" if trips else "inconclusive")
            await world.settle()
            found.at_rest(paused=True)
            assert world.ready_pods("v1") == 4

    clock.run(story())


@pytest.mark.parametrize("phase", ["Preparing", "Judging"])
def test_the_route_is_deleted(phase: str) -> None:
    """No route, no weights: the run ends without a verdict and the Service is itself again."""

    async def story() -> None:
        async with house(annotations={**POLICY, "switchgear.dev/deadline": "1m"}) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(2)
            world.delete("httproutes", "shop", "checkout")
            await found.ended("inconclusive", within=400)
            service = world.get("services", "shop", "checkout")
            assert service["spec"]["selector"] == {"app": "checkout"}
            assert world.pods(version="v2") == []
            assert world.ready_pods("v1") == 4

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["Judging", "Rolling"])
def test_the_run_document_is_deleted(phase: str) -> None:
    """Written again from memory by the next write."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(1)
            world.delete("configmaps", "switchgear", found.documents()[-1]["metadata"]["name"])
            await asyncio.sleep(1)
            await found.until(lambda: bool(found.runs()))
            await _promoted(found)

    clock.run(story())


@pytest.mark.slow
def test_a_pause_of_the_users_own_is_respected() -> None:
    """Paused before the change by somebody else: nothing is begun, nothing is unpaused."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.edit(
                "deployments", "shop", "checkout", lambda item: item["spec"].update(paused=True)
            )
            world.set_image("shop", "checkout", IMAGE)
            await asyncio.sleep(60)
            assert found.runs() == []
            found.at_rest(paused=True)
            world.edit(
                "deployments", "shop", "checkout", lambda item: item["spec"].update(paused=False)
            )
            await _promoted(found)

    clock.run(story())
