# SPDX-License-Identifier: Apache-2.0
"""The controller of EndpointSlices is behind: no pods go to which a Service still leads."""

import asyncio

import pytest

from controller.sim import clock
from controller.sim.controllers.endpoints import EndpointSliceController
from controller.sim.world import World
from tests.engine.house import house

IMAGE = "registry.example/app:v2"

BEHIND_SECONDS = 30.0
"""Longer than the time that settling and draining take together."""


def _slices(world: World) -> EndpointSliceController:
    return next(one for one in world.controllers if isinstance(one, EndpointSliceController))


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["Committing", "HandingBack"])
def test_no_request_fails_while_endpoints_are_behind(phase: str) -> None:
    async def story() -> None:
        async with house(direct_rate=40.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            _slices(world).suspend()
            await asyncio.sleep(BEHIND_SECONDS)
            assert found.runs()[-1]["phase"] == phase
            _slices(world).resume()
            await found.ended("promoted")
            assert not world.traffic.failures()
            found.at_rest()

    clock.run(story())


@pytest.mark.slow
def test_on_the_way_back_the_canary_serves_whom_a_service_still_sends_to_it() -> None:
    """They get the failed version's own errors, and none for pods that are gone."""

    async def story() -> None:
        async with house(direct_rate=40.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Rolling")
            world.virtual.behave("v2", error_rate=0.5)
            await found.reaches("Undoing")
            _slices(world).suspend()
            await asyncio.sleep(BEHIND_SECONDS)
            assert world.pods(version="v2")
            _slices(world).resume()
            await found.ended("rolled-back")
            assert not world.traffic.failures()
            found.at_rest(paused=True)

    clock.run(story())
