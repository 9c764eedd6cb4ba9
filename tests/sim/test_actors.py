# SPDX-License-Identifier: Apache-2.0
"""Other writers must do to a canary's touches what the real tools do to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from controller.sim import clock, manifests
from controller.sim.actors import Applier, Manner, removals
from controller.sim.world import World


def run(body: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with World(gateway=False) as world:
            await body(world)

    clock.run(main(), limit=3_600.0)


def _pin(world: World) -> None:
    world.edit("services", "shop", "checkout", lambda s: s["spec"]["selector"].update(pin="abc"))


def test_a_three_way_apply_keeps_a_key_that_it_never_named() -> None:
    async def body(world: World) -> None:
        applier = Applier(world.api, manifests.service("shop", "checkout"))
        assert await applier.apply() == 201
        _pin(world)
        assert await applier.apply() == 200
        selector = world.get("services", "shop", "checkout")["spec"]["selector"]
        assert selector == {"app": "checkout", "pin": "abc"}

    run(body)


def test_a_three_way_apply_removes_what_it_named_once() -> None:
    async def body(world: World) -> None:
        first = manifests.service("shop", "checkout", selector={"app": "checkout", "old": "1"})
        await Applier(world.api, first).apply()
        await Applier(world.api, manifests.service("shop", "checkout")).apply()
        selector = world.get("services", "shop", "checkout")["spec"]["selector"]
        assert selector == {"app": "checkout"}

    run(body)


def test_a_forced_server_side_apply_strips_the_selector() -> None:
    async def body(world: World) -> None:
        manner = Manner.SERVER_SIDE
        applier = Applier(world.api, manifests.service("shop", "checkout"), manner=manner)
        assert await applier.apply() == 201
        _pin(world)
        assert await applier.apply() == 200
        selector = world.get("services", "shop", "checkout")["spec"]["selector"]
        assert selector == {"app": "checkout"}

    run(body)


def test_a_repeated_apply_resets_the_backends_of_a_route() -> None:
    async def body(world: World) -> None:
        applier = Applier(world.api, manifests.route("shop", "checkout"))
        task = asyncio.get_running_loop().create_task(applier.keep_applying(10.0))
        await asyncio.sleep(1)
        both = manifests.route("shop", "checkout", backends={"checkout": 9, "checkout-canary": 1})
        world.edit("httproutes", "shop", "checkout", lambda r: r.update(spec=both["spec"]))
        await asyncio.sleep(5)
        assert world.weights("checkout") == {"checkout": 9, "checkout-canary": 1}
        await asyncio.sleep(5)
        assert world.weights("checkout") == {"checkout": 1}
        task.cancel()
        assert applier.statuses == [201, 200]

    run(body)


def test_removals() -> None:
    last = {"a": 1, "b": {"c": 1, "d": 2}, "e": {"f": 1}}
    assert removals(last, {"b": {"d": 3}, "e": {"f": 1}}) == {"a": None, "b": {"c": None}}
