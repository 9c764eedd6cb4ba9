# SPDX-License-Identifier: Apache-2.0
"""Run documents, the kill latch and the cluster document on the simulated API server."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller.adapters.clock import LoopClock
from controller.adapters.kube import latch
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.documents import KubeDocuments, label_value
from controller.core.errors import Conflict, Missing, Refused, Unavailable
from controller.core.values import TargetRef
from controller.sim import clock
from controller.sim.world import World
from tests.support.simwire import SimWire

TARGET = TargetRef("shop", "checkout")
NAMESPACE = "switchgear-system"

Story = Callable[[World, KubeDocuments], Coroutine[Any, Any, None]]


def play(story: Story) -> None:
    """Run a story with a second adapter's worth of trust: everything is read back afresh."""

    async def main() -> None:
        async with World(gateway=False, namespaces=("shop", NAMESPACE)) as world:
            await story(world, documents(world))

    clock.run(main(), limit=600)


def documents(world: World) -> KubeDocuments:
    return KubeDocuments(Calls(SimWire(world.api), LoopClock()), NAMESPACE)


def by_hand(world: World, name: str, data: dict[str, str] | None) -> None:
    meta = {"name": name, "namespace": NAMESPACE}
    world.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data or {}})


def test_a_run_document_is_written_by_compare_and_set() -> None:
    async def story(_: World, docs: KubeDocuments) -> None:
        made = await docs.create("checkout-1", {"run": "{}", "old": "x"}, TARGET)
        with pytest.raises(Conflict):
            await docs.create("checkout-1", {}, TARGET)
        changed = await docs.replace(made, {"run": '{"a":1}'})
        with pytest.raises(Conflict):
            await docs.replace(made, {"run": "lost"})
        found = await docs.read("checkout-1")
        assert found == changed
        assert found.texts == {"run": '{"a":1}'}
        assert found.labels["switchgear.dev/target-name"] == "checkout"
        assert list(await docs.runs()) == [changed]
        with pytest.raises(Conflict):
            await docs.delete(made)
        await docs.delete(changed)
        await docs.delete(changed)
        with pytest.raises(Missing):
            await docs.read("checkout-1")

    play(story)


def test_a_document_that_is_too_large_is_refused_and_the_old_one_stays() -> None:
    async def story(_: World, docs: KubeDocuments) -> None:
        made = await docs.create("checkout-1", {"run": "small"}, TARGET)
        with pytest.raises(Refused):
            await docs.replace(made, {"run": "x" * 1_100_000})
        assert (await docs.read("checkout-1")).texts == {"run": "small"}

    play(story)


def test_names_that_a_label_cannot_hold_are_kept_in_full_beside_it() -> None:
    async def story(world: World, docs: KubeDocuments) -> None:
        name = "a" * 100 + ".b"
        await docs.create(name, {}, TargetRef("shop", name))
        found = world.get("configmaps", NAMESPACE, name)["metadata"]
        assert found["annotations"]["switchgear.dev/target-name"] == name
        assert len(found["labels"]["switchgear.dev/target-name"]) <= 63
        assert [item.name for item in await docs.runs()] == [name]

    assert label_value("a" * 64) != label_value("a" * 65)
    play(story)


def test_many_documents_are_listed_page_by_page() -> None:
    async def story(_: World, docs: KubeDocuments) -> None:
        for number in range(230):
            await docs.create(f"run-{number:03}", {}, TARGET)
        assert len(await docs.runs()) == 230

    play(story)


def test_epochs_rise_by_one_each_whoever_asks() -> None:
    async def story(world: World, docs: KubeDocuments) -> None:
        assert (await docs.latches()).epoch == 0
        others = [documents(world) for _ in range(3)]
        claimed = await asyncio.gather(docs.claim_epoch(), *(o.claim_epoch() for o in others))
        assert sorted(claimed) == [1, 2, 3, 4]
        assert (await docs.latches()).epoch == 4

    play(story)


@pytest.mark.parametrize("text", ["many", "\u00b2", "\u0663", "", "-1", "9" * 5000])
def test_a_broken_epoch_is_no_epoch(text: str) -> None:
    """Nothing is raised on it; a kill is still seen."""

    async def story(world: World, docs: KubeDocuments) -> None:
        by_hand(world, "switchgear-cluster", {"epoch": text})
        with pytest.raises(Unavailable):
            await docs.latches()
        with pytest.raises(Unavailable):
            await docs.claim_epoch()
        running = asyncio.create_task(docs.run())
        await world.until(lambda: docs.synced, within=10)
        await docs.engage("all", actor="ann", reason="")
        await world.until(lambda: docs.latches_seen().kills == ("all",), within=2)
        assert docs.latches_seen().epoch == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    play(story)


def test_the_fleet_breaker_keeps_its_first_reason_beside_the_epoch() -> None:
    async def story(_: World, docs: KubeDocuments) -> None:
        await docs.claim_epoch()
        await docs.open_fleet_breaker("three targets within a minute")
        await docs.open_fleet_breaker("another reason")
        assert (await docs.latches()).fleet_open == "three targets within a minute"
        await docs.close_fleet_breaker()
        found = await docs.latches()
        assert (found.fleet_open, found.epoch) == ("", 1)

    play(story)


def test_kills_are_engaged_by_anybody_and_released_one_by_one() -> None:
    async def story(world: World, docs: KubeDocuments) -> None:
        scopes = ["all", "namespace.shop", "target.shop.checkout.v1"]
        await asyncio.gather(
            *(documents(world).engage(scope, actor="ann", reason="smoke") for scope in scopes)
        )
        await docs.engage("all", actor="bob", reason="again")
        assert sorted((await docs.latches()).kills) == scopes
        entry = json.loads(world.get("configmaps", NAMESPACE, latch.NAME)["data"]["all"])
        assert (entry["actor"], entry["reason"]) == ("ann", "smoke")
        await docs.release("all")
        with pytest.raises(Missing):
            await docs.release("all")
        assert sorted((await docs.latches()).kills) == scopes[1:]
        await docs.release("namespace.shop")
        await docs.release("target.shop.checkout.v1")
        assert world.store.get("configmaps", NAMESPACE, latch.NAME) is None
        assert (await docs.latches()).kills == ()

    play(story)


@pytest.mark.parametrize(
    "data",
    [None, {"": "x"}, {"stop": "please"}, {"namespace.": ""}, {"target.shop": ""}, {"All": ""}],
)
def test_a_kill_written_by_hand_that_cannot_be_read_stops_everything(
    data: dict[str, str] | None,
) -> None:
    assert "all" in latch.scopes(data or {})


def test_an_empty_kill_document_stays_one_for_all_when_a_scope_is_added() -> None:
    async def story(world: World, docs: KubeDocuments) -> None:
        by_hand(world, latch.NAME, None)
        assert (await docs.latches()).kills == ("all",)
        await docs.engage("target.shop.checkout", actor="ann", reason="")
        assert "all" in (await docs.latches()).kills
        await docs.release("all")
        assert (await docs.latches()).kills == ("target.shop.checkout",)

    play(story)


def test_releasing_all_takes_out_what_cannot_be_read() -> None:
    async def story(world: World, docs: KubeDocuments) -> None:
        by_hand(world, latch.NAME, {"stop": "now", "namespace.shop": "{}"})
        assert "all" in (await docs.latches()).kills
        await docs.release("all")
        assert (await docs.latches()).kills == ("namespace.shop",)

    play(story)


def test_the_watch_tells_of_a_kill() -> None:
    async def story(world: World, docs: KubeDocuments) -> None:
        told: list[int] = []
        docs.subscribe(lambda: told.append(1))
        running = asyncio.create_task(docs.run())
        await world.until(lambda: docs.synced, within=10)
        assert docs.latches_seen().kills == ()
        by_hand(world, "something-else", {"a": "b"})
        await documents(world).engage("namespace.shop", actor="ann", reason="")
        await world.until(lambda: docs.latches_seen().kills == ("namespace.shop",), within=2)
        assert len(told) == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    play(story)
