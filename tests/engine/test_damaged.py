# SPDX-License-Identifier: Apache-2.0
"""Run documents that cannot be used, what is kept of finished runs, and what keeps failing."""

import asyncio
import functools
import json
from typing import Any

import pytest

from controller.core.values import TargetRef
from controller.engine.tick import KEEP_FINISHED
from controller.sim import clock
from controller.sim.faults import Fault, Plan
from tests.engine.house import NAMESPACE, POLICY, House, house
from tests.engine.sweep import quick

IMAGE = "registry.example/app:v2"
TARGET = TargetRef("shop", "checkout")


def _damage(found: House, key: str, text: str) -> str:
    name = str(found.documents()[-1]["metadata"]["name"])

    def change(document: dict[str, Any]) -> None:
        document["data"][key] = text

    found.world.edit("configmaps", NAMESPACE, name, change)
    return name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "text"),
    quick(
        [
            ("journal", "rubbish"),
            ("journal", '{"kind":"intent"}'),
            ("head", '"text"'),
            ("head", "[]"),
            ("head", '{"count":"many"}'),
            ("state", "{}"),
            ("state", "rubbish"),
        ],
        ("state", "rubbish"),
    ),
)
def test_a_damaged_document_freezes_its_target_until_it_is_deleted(key: str, text: str) -> None:
    """The daemon starts, the other target is served, and the status says what to do."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            await world.shop(name="other", rate=400.0, annotations=POLICY)
            world.set_image("shop", "checkout", IMAGE)
            await found.ended("promoted")
            await found.stop()
            name = _damage(found, key, text)
            await found.start()
            world.set_image("shop", "checkout", "registry.example/app:v3")
            world.set_image("shop", "other", IMAGE)
            await found.until(lambda: _ended(found, "other"))
            assert not _ended(found, "checkout", but=name)
            assert world.get("deployments", "shop", "checkout")["spec"]["paused"]
            assert world.ready_pods("v3") == 0
            status = world.get("deployments", "shop", "checkout")["metadata"]["annotations"]
            assert name in status["switchgear.dev/status"]
            assert "delete it" in status["switchgear.dev/status"]
            world.delete("configmaps", NAMESPACE, name)
            await found.until(lambda: _ended(found, "checkout", but=name))

    clock.run(story())


def _ended(found: House, target: str, but: str = "") -> bool:
    return any(
        json.loads(item["data"]["state"])["outcome"] == "promoted"
        for item in found.documents()
        if item["metadata"]["labels"]["switchgear.dev/target-name"] == target
        and item["metadata"]["name"] != but
    )


def _reached(found: House, count: int) -> bool:
    return _count(found) >= count or count > 5


@pytest.mark.slow
def test_the_newest_finished_runs_are_kept_over_restarts() -> None:
    """They are sorted by their beginning, whatever their names are."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            for number in range(KEEP_FINISHED + 2):
                world.set_image("shop", "checkout", f"registry.example/app:v{number + 2}")
                await found.until(functools.partial(_reached, found, number + 1))
                await asyncio.sleep(1)
                await found.ended("promoted")
                await found.stop()
                await found.start()
            await asyncio.sleep(5)
            begun = [record["at"] for record in _firsts(found)]
            assert len(begun) == KEEP_FINISHED
            assert found.engine is not None
            card = found.engine.desk.find(TARGET)
            assert card is not None
            assert [ledger.begun for _, ledger in card.finished] == sorted(begun)
            assert found.journal()[-1]["run"] == card.finished[-1][0].name

    clock.run(story())


def _count(found: House) -> int:
    return len(found.documents())


def _firsts(found: House) -> list[dict[str, Any]]:
    return [json.loads(item["data"]["journal"].splitlines()[0]) for item in found.documents()]


@pytest.mark.slow
def test_a_target_that_is_gone_is_forgotten_after_a_day() -> None:
    """Its finished runs can be looked at for a day; then nothing of it is held."""

    async def story() -> None:
        async with house(rate=1.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            world.annotate("shop", "checkout", {"switchgear.dev/abort": "true"})
            await found.ended("aborted")
            world.delete("deployments", "shop", "checkout")
            await asyncio.sleep(600)
            assert len(found.documents()) == 1
            assert found.engine is not None
            assert found.engine.desk.find(TARGET) is not None
            # Nothing is left that asks for a metric, and a day has many scrapes.
            world.prometheus.stop()
            await asyncio.sleep(88_000)
            assert found.documents() == []
            assert found.engine.desk.find(TARGET) is None

    clock.run(story())


def test_what_keeps_failing_is_told_once() -> None:
    """One Event and the status, however often it is tried."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            plan = Plan().install(world.api)
            plan.add(
                Fault.INTERNAL,
                agent="switchgear",
                methods=frozenset({"POST"}),
                path="/namespaces/shop/deployments",
            )
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Preparing")
            await asyncio.sleep(90)
            events = [
                item for item in world.store.list("events") if item["reason"] == "EffectFailing"
            ]
            assert len(events) == 1
            assert events[0].get("count", 1) == 1
            status = world.get("deployments", "shop", "checkout")["metadata"]["annotations"]
            assert "failing for" in status["switchgear.dev/status"]

    clock.run(story())
