# SPDX-License-Identifier: Apache-2.0
"""Every fault must be what it says, no more: what had an effect has it exactly once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller.sim import clock
from controller.sim.apiserver.request import Response
from controller.sim.faults import Crash, Fault, Plan, Point
from controller.sim.world import World

MAPS = "/api/v1/namespaces/shop/configmaps"


def run(body: Callable[[World, Plan], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with World(gateway=False) as world:
            await body(world, Plan(seed=4).install(world.api))

    clock.run(main(), limit=86_400.0)


async def create(world: World, name: str, agent: str = "daemon/1") -> Response:
    body = json.dumps({"metadata": {"name": name}}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": agent}
    return await world.api.handle("POST", MAPS, (), headers, body)


def made(world: World) -> list[str]:
    return [item["metadata"]["name"] for item in world.store.scan("configmaps", "shop")]


@pytest.mark.parametrize(
    ("fault", "status", "kind", "after"),
    [
        (Fault.THROTTLED, 429, "text/plain; charset=utf-8", "1"),
        (Fault.INTERNAL, 500, "application/json", None),
        (Fault.UNAVAILABLE, 503, "text/html", None),
    ],
)
def test_answers_in_place_of_the_effect(
    fault: Fault, status: int, kind: str, after: str | None
) -> None:
    async def body(world: World, plan: Plan) -> None:
        plan.add(fault, count=1)
        response = await create(world, "a")
        got = (response.status, response.headers["Content-Type"])
        assert (*got, response.headers.get("Retry-After")) == (status, kind, after)
        assert made(world) == []
        assert (await create(world, "a")).status == 201
        assert plan.spoiled == {fault: 1}

    run(body)


@pytest.mark.parametrize(
    ("fault", "effect"),
    [(Fault.HANG, []), (Fault.HANG_AFTER, ["a"]), (Fault.RESET, []), (Fault.NO_REPLY, ["a"])],
)
def test_answers_that_never_come(fault: Fault, effect: list[str]) -> None:
    async def body(world: World, plan: Plan) -> None:
        plan.add(fault, methods=frozenset({"POST"}))
        with pytest.raises((TimeoutError, ConnectionResetError)):
            async with asyncio.timeout(5):
                await create(world, "a")
        assert made(world) == effect

    run(body)


async def _watch(world: World) -> Response:
    query = [("watch", "true"), ("resourceVersion", str(world.store.version))]
    return await world.api.handle("GET", MAPS, query, {"User-Agent": "daemon/1"})


def test_a_truncated_watch_ends_within_a_frame() -> None:
    async def body(world: World, plan: Plan) -> None:
        plan.add(Fault.TRUNCATED)
        response = await _watch(world)
        await create(world, "a")
        chunks = [chunk async for chunk in response.body]
        assert len(chunks) == 1
        with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter"):
            json.loads(chunks[0])

    run(body)


def test_a_silent_watch_says_nothing_and_does_not_end() -> None:
    async def body(world: World, plan: Plan) -> None:
        plan.add(Fault.SILENT, delay=10.0)
        response = await _watch(world)
        await create(world, "a")
        frames = aiter(response.body)
        assert json.loads(await anext(frames))["object"]["metadata"]["name"] == "a"
        await asyncio.sleep(11)
        await create(world, "b")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await anext(frames)

    run(body)


def test_a_watch_that_is_too_old() -> None:
    async def body(world: World, plan: Plan) -> None:
        plan.add(Fault.GONE)
        frame = json.loads(await (await _watch(world)).read())
        assert (frame["type"], frame["object"]["code"]) == ("ERROR", 410)

    run(body)


def test_rules_choose_by_agent_path_and_time() -> None:
    async def body(world: World, plan: Plan) -> None:
        begin = asyncio.get_running_loop().time() + 10
        plan.add(Fault.INTERNAL, agent="daemon", path="configmaps", begin=begin, end=begin + 10)
        daemon, person = "daemon/1", "kubectl/1"
        codes = [(await create(world, f"early-{who[0]}", who)).status for who in (daemon, person)]
        await asyncio.sleep(11)
        codes += [(await create(world, f"mid-{who[0]}", who)).status for who in (daemon, person)]
        await asyncio.sleep(10)
        codes.append((await create(world, "late")).status)
        assert codes == [201, 201, 500, 201, 201]

    run(body)


@pytest.mark.parametrize(("point", "effect"), [(Point.BEFORE, ["a"]), (Point.DURING, ["a", "b"])])
def test_a_crash_on_either_side_of_the_second_write(point: Point, effect: list[str]) -> None:
    async def body(world: World, plan: Plan) -> None:
        plan.stop_at(2, point, agent="daemon")
        await create(world, "other", "kubectl/1")
        await create(world, "a")
        with pytest.raises(Crash):
            await create(world, "b")
        assert made(world) == [*effect, "other"]
        assert (await create(world, "c")).status == 201

    run(body)


def test_a_crash_after_the_answer_strikes_at_the_next_request() -> None:
    async def body(world: World, plan: Plan) -> None:
        plan.stop_at(1, Point.AFTER, agent="daemon")
        assert (await create(world, "a")).status == 201
        with pytest.raises(Crash):
            await create(world, "b")
        assert made(world) == ["a"]

    run(body)


@pytest.mark.parametrize(
    ("point", "effect", "answered"),
    [(Point.BEFORE, [], False), (Point.DURING, ["a"], False), (Point.AFTER, ["a"], True)],
)
def test_a_callback_may_end_the_daemon(point: Point, effect: list[str], answered: bool) -> None:
    async def body(world: World, plan: Plan) -> None:
        codes: list[int] = []

        async def daemon() -> None:
            codes.append((await create(world, "a")).status)
            await asyncio.sleep(1)
            await create(world, "b")

        task = asyncio.get_running_loop().create_task(daemon())
        plan.stop_at(1, point, die=task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (made(world), codes) == (effect, [201] if answered else [])

    run(body)
