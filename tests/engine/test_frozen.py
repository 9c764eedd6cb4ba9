# SPDX-License-Identifier: Apache-2.0
"""A run document that becomes unusable in mid-run: nobody judges, so nothing stays exposed."""

import json
from typing import Any

import pytest

from controller.engine.halt import Halt
from controller.sim import clock
from controller.sim.world import World
from tests.engine.house import NAMESPACE, POLICY, House, house
from tests.engine.sweep import quick

IMAGE = "registry.example/app:v2"
BY_PODS: dict[str, Any] = {
    "route": False,
    "replicas": 4,
    "annotations": {**POLICY, "switchgear.dev/steps": "20@20s,50@20s"},
}
BY_ROUTE: dict[str, Any] = {}
TEXTS = {"state": "rubbish", "journal": "rubbish"}


def _selected(world: World) -> set[str]:
    """Versions of the pods that direct clients reach."""
    selector = world.get("services", "shop", "checkout")["spec"]["selector"].items()
    return {
        str(pod["spec"]["containers"][0]["image"]).rpartition(":")[2]
        for pod in world.pods()
        if selector <= pod["metadata"]["labels"].items()
    }


def _reached(world: World, *, routed: bool) -> set[str]:
    """Versions that clients reach, by the route or by the Service."""
    found = _selected(world)
    if routed:
        found |= {"v2"} if world.weights("checkout").get("checkout-canary") else set()
    return found


async def _spoilt(found: House, phase: str, key: str) -> str:
    """The daemon dies in a phase, its document is spoilt, and it starts again."""
    found.world.set_image("shop", "checkout", IMAGE)
    await found.reaches(phase)
    if phase == "Committing":
        await found.until(lambda: _selected(found.world) == {"v2"}, within=60)
    await found.crash()
    name = str(found.documents()[-1]["metadata"]["name"])

    def change(document: dict[str, Any]) -> None:
        document["data"][key] = TEXTS[key]

    found.world.edit("configmaps", NAMESPACE, name, change)
    await found.start()
    return name


async def _kill(found: House, seconds: float) -> Halt:
    assert found.engine is not None
    return await found.engine.killer.kill("all", actor="ada", reason="", wait_seconds=seconds)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "phase", "key"),
    quick(
        [
            (BY_ROUTE, "Judging", "state"),
            (BY_ROUTE, "Judging", "journal"),
            (BY_ROUTE, "Committing", "state"),
            (BY_ROUTE, "Committing", "journal"),
            (BY_PODS, "Judging", "state"),
            (BY_PODS, "Judging", "journal"),
        ],
        (BY_ROUTE, "Judging", "state"),
        (BY_PODS, "Judging", "journal"),
    ),
)
def test_the_new_version_loses_its_requests(scene: dict[str, Any], phase: str, key: str) -> None:
    """Without a kill, and the target is served by stable from then on."""

    async def story() -> None:
        async with house(rate=200.0, **scene) as found:
            name = await _spoilt(found, phase, key)
            world, routed = found.world, found.routed
            await found.until(lambda: _reached(world, routed=routed) == {"v1"}, within=60)
            status = world.get("deployments", "shop", "checkout")["metadata"]["annotations"]
            assert name in status["switchgear.dev/status"]
            world.delete("configmaps", NAMESPACE, name)
            await found.until(lambda: found.outcome() == "promoted")

    clock.run(story())


@pytest.mark.parametrize("scene", quick([BY_ROUTE, BY_PODS], BY_ROUTE))
def test_a_kill_is_in_force_when_nothing_leads_there(scene: dict[str, Any]) -> None:
    """What the document still tells is enough: the kill itself takes the requests away."""

    async def story() -> None:
        async with house(rate=200.0, **scene) as found:
            await _spoilt(found, "Judging", "journal")
            await found.until(lambda: _frozen(found), within=30)
            halt = await _kill(found, 10.0)
            assert halt.in_force, halt
            assert _reached(found.world, routed=found.routed) == {"v1"}

    clock.run(story())


def test_a_kill_is_never_called_in_force_over_a_document_that_says_nothing() -> None:
    """It names the document; the routes are emptied all the same."""

    async def story() -> None:
        async with house(rate=200.0) as found:
            name = await _spoilt(found, "Judging", "state")
            await found.until(lambda: _frozen(found), within=30)
            halt = await _kill(found, 10.0)
            assert halt.latched
            assert not halt.in_force
            assert [words for words in halt.pending if name in words and "delete it" in words]
            assert _reached(found.world, routed=True) == {"v1"}
            found.world.delete("configmaps", NAMESPACE, name)
            await found.until(lambda: not _frozen(found), within=30)
            assert (await _kill(found, 10.0)).in_force

    clock.run(story())


def _frozen(found: House) -> bool:
    assert found.engine is not None
    return any(card.frozen for card in found.engine.desk.cards())


def test_who_stands_by_does_not_call_it_in_force_either() -> None:
    """He knows the runs by their documents alone."""

    async def story() -> None:
        async with house(rate=200.0) as found:
            name = await _spoilt(found, "Judging", "state")
            await found.until(lambda: _frozen(found), within=30)
            assert found.engine is not None
            found.engine.desk.clear()  # What a replica that does not lead knows.
            halt = await _kill(found, 5.0)
            assert not halt.in_force
            assert [words for words in halt.pending if name in words], json.dumps(halt.pending)

    clock.run(story())
