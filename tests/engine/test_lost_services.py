# SPDX-License-Identifier: Apache-2.0
"""The user's own Service is deleted in mid-run, as a pipeline that prunes and applies does it.

The route goes on naming it, and the canary beside it. So the route must not be lost sight of.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from controller.core.lifecycle.situation import Verb
from controller.core.values import TargetRef
from controller.sim import clock, manifests
from tests.engine.house import House, house

IMAGE = "registry.example/app:v2"
TARGET = TargetRef("shop", "checkout")


def _share(found: House) -> int:
    return found.world.weights("checkout").get("checkout-canary", 0)


async def _in_a_step(found: House) -> None:
    """The canary carries its first share."""
    found.world.set_image("shop", "checkout", IMAGE)
    await found.reaches("Judging")
    await asyncio.sleep(2)


async def _kill(found: House) -> None:
    assert found.engine is not None
    halt = await found.engine.killer.kill("all", actor="ada", reason="", wait_seconds=10.0)
    assert halt.in_force, halt


async def _abort(found: House) -> None:
    assert found.engine is not None
    await found.engine.requests.submit(TARGET, Verb.ABORT, actor="ada", reason="")


async def _nothing(found: House) -> None:
    del found


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        pytest.param(_kill, "killed", id="kill"),
        pytest.param(_abort, "aborted", id="abort"),
        pytest.param(_nothing, "inconclusive", id="left alone", marks=pytest.mark.slow),
    ],
)
def test_the_weight_is_taken_away(act: Callable[[House], Awaitable[None]], outcome: str) -> None:
    """At once or after a while, and the route has nothing of ours when the Service is back."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            await _in_a_step(found)
            world.delete("services", "shop", "checkout")
            await asyncio.sleep(1)
            await act(found)
            await found.until(lambda: _share(found) == 0, within=5)
            most = 0

            def higher() -> bool:
                nonlocal most
                most = max(most, _share(found))
                return found.outcome() == outcome and found.runs()[-1]["phase"] == "Held"

            await found.until(higher, within=300)
            assert most == 0
            world.create(manifests.service("shop", "checkout"))
            await asyncio.sleep(10)
            found.at_rest(paused=True)

    clock.run(story())


def test_a_route_that_comes_back_with_the_canary_in_it_is_cleaned() -> None:
    """Restored from a copy that was taken in mid-run, when the run has long been held."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            await _in_a_step(found)
            rules = world.get("httproutes", "shop", "checkout")["spec"]["rules"]
            await _abort(found)
            await found.ended("aborted")

            def restore(route: dict[str, object]) -> None:
                route["spec"]["rules"] = rules  # type: ignore[index]

            world.edit("httproutes", "shop", "checkout", restore)
            await asyncio.sleep(5)
            found.at_rest(paused=True)

    clock.run(story())


@pytest.mark.slow
def test_the_commit_waits_for_a_service_that_is_gone() -> None:
    """Its clients reach nobody; what the canary serves by the route goes on being served."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Committing")
            world.delete("services", "shop", "checkout")
            await asyncio.sleep(30)
            assert found.runs()[-1]["phase"] == "Committing"
            assert world.get("deployments", "shop", "checkout")["spec"]["paused"]
            world.create(manifests.service("shop", "checkout"))
            await found.ended("promoted")
            found.at_rest()

    clock.run(story())
