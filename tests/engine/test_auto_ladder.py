# SPDX-License-Identifier: Apache-2.0
"""The ladder that climbs as fast as its budget of bad requests allows, and no faster."""

import asyncio
from typing import Any

import pytest

from controller.sim import clock
from tests.engine.house import House, house
from tests.engine.sweep import quick

IMAGE = "registry.example/app:v2"
AUTO = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/steps": "auto",
    "switchgear.dev/bake": "60s",
}


def weights(found: House) -> list[int]:
    """The weights that were in force, in percent, in their order."""
    seen = [
        round(int(record["body"]["weight_bp"]) / 100)
        for record in found.journal()
        if record["body"].get("effect") == "RaiseWeight"
    ]
    return list(dict.fromkeys(seen))


@pytest.mark.parametrize("rate", quick([100.0, 1000.0], 100.0))
def test_a_healthy_version_is_promoted_in_two_minutes_and_a_half(rate: float) -> None:
    async def story() -> None:
        async with house(annotations=AUTO, rate=rate) as found:
            world = found.world
            began = asyncio.get_running_loop().time()
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Committing", within=150)
            assert asyncio.get_running_loop().time() - began <= 150
            await found.ended("promoted")
            assert sum(world.failures.values()) == 0
            assert weights(found)[:4] == [1, 10, 50, 80]
            found.at_rest()

    clock.run(story())


PAST = 900.0
"""Seconds in which stable shows what it uses of its CPU."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("throttled", "least", "most"),
    [("0", 100.0, 150.0), ("20", 100.0, 150.0), ("150", 225.0, 300.0)],
    ids=["never", "while it starts", "while it compiles itself"],
)
def test_gauges_of_young_pods_are_waited_for_only_while_they_are_high(
    throttled: str, least: float, most: float
) -> None:
    """High for three minutes at most, which is no word against them: nothing is rolled back."""

    async def story() -> None:
        how: dict[str, Any] = {"annotations": AUTO, "env": {"THROTTLED_SECONDS": "0"}}
        async with house(**how) as found:
            found.world.prometheus.subqueries = True
            await asyncio.sleep(PAST)
            began = asyncio.get_running_loop().time()
            found.world.set_image("shop", "checkout", IMAGE, {"THROTTLED_SECONDS": throttled})
            await found.reaches("Committing", within=400)
            took = asyncio.get_running_loop().time() - began
            assert "CPU throttling" in found.runs()[-1]["calibration"]["words"]
            assert least <= took <= most, took
            await found.ended("promoted")
            assert weights(found)[:4] == [1, 10, 50, 80]
            found.at_rest()

    clock.run(story())


@pytest.mark.parametrize("bad", quick(["0.02", "0.1", "1"], "0.1"))
def test_a_bad_version_costs_no_more_than_the_budget(bad: str) -> None:
    async def story() -> None:
        async with house(annotations=AUTO) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE, {"ERROR_RATE": bad})
            await found.ended("rolled-back")
            assert world.answered()["v2"] * float(bad) <= 150
            found.at_rest(paused=True)

    clock.run(story())


@pytest.mark.slow
def test_a_small_budget_takes_its_time() -> None:
    async def story() -> None:
        notes = {**AUTO, "switchgear.dev/budget": "5"}
        async with house(annotations=notes, rate=100.0) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            await asyncio.sleep(30)
            assert found.runs()[-1]["step"] == 0
            told = [record["body"].get("why", "") for record in found.journal()]
            assert not any("50.0 % is in force" in why for why in told)
            await found.ended("promoted", within=1800)

    clock.run(story())
