# SPDX-License-Identifier: Apache-2.0
"""Writes that were on their way when their leader lost the lead, and arrive much later."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from controller.adapters.kube.wire import Request as Sent
from controller.adapters.kube.wire import Response as Got
from controller.core.values import EPOCH
from tests.engine.house import House
from tests.engine.pair import Pair, pair, play
from tests.engine.sweep import quick

IMAGE = "registry.example/app:v2"
NEXT = "registry.example/app:v3"


class _Late:
    """Holds the first raise of a replica up, however long: its bytes are on their way."""

    def __init__(self, found: House, fits: Callable[[Sent], bool]) -> None:
        """Sits in the wire of `found`."""
        self._wire = found.wire
        self._fits = fits
        self._send = found.wire.send
        self.caught = asyncio.Event()
        self.go = asyncio.Event()
        self.status = 0
        self._tasks: list[asyncio.Task[Got]] = []
        found.wire.send = self.send  # type: ignore[method-assign]

    async def send(self, request: Sent) -> Got:
        """Whoever waits may give up; the request arrives all the same."""
        if self.caught.is_set() or not self._fits(request):
            return await self._send(request)
        self.caught.set()
        task = asyncio.ensure_future(self._later(request))
        self._tasks.append(task)
        return await asyncio.shield(task)

    async def _later(self, request: Sent) -> Got:
        await self.go.wait()
        self._wire.before.clear()  # What left before the death of the process is not silenced.
        answer = await self._send(request)
        self.status = answer.status
        return answer


LATE: dict[str, Callable[[Sent], bool]] = {
    "RaiseWeight": lambda sent: _patches(sent, "httproutes/checkout", EPOCH, '/weight"'),
    "StartCanary": lambda sent: _patches(sent, "deployments/checkout-canary", EPOCH, "/spec/repl"),
    "FollowCanary": lambda sent: _patches(sent, "services/checkout", EPOCH, "track"),
    "Roll": lambda sent: _patches(sent, "deployments/checkout", EPOCH, "/spec/paused"),
}


def _patches(sent: Sent, path: str, *texts: str) -> bool:
    body = sent.body.decode().replace("~1", "/")
    return sent.method == "PATCH" and sent.path.endswith(path) and all(t in body for t in texts)


@pytest.mark.parametrize("effect", quick(sorted(LATE), "RaiseWeight"))
@pytest.mark.parametrize("kill", [False, True], ids=["carried on", "killed meanwhile"])
def test_a_raise_that_was_on_its_way_does_not_arrive(effect: str, *, kill: bool) -> None:
    """The old leader stood still between its last look and its write, and is woken much later."""

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            late = _Late(first, LATE[effect])
            found.world.set_image("shop", "checkout", IMAGE)
            await asyncio.wait_for(late.caught.wait(), 300.0)
            await first.crash()
            await found.leads(second)
            if kill:
                assert second.engine is not None
                halt = await second.engine.killer.kill(
                    "all", actor="ada", reason="", wait_seconds=200.0
                )
                assert halt.in_force
            before = json.dumps(_raised(found))
            late.go.set()
            await second.until(lambda: late.status != 0, within=5.0)
            assert late.status == 422
            assert kill is False or json.dumps(_raised(found)) == before
            await second.ended("killed" if kill else "promoted")
            second.at_rest(paused=kill)

    play(story)


GIVEN_BACK: dict[str, tuple[str, str, Callable[[Sent], bool]]] = {
    # A Service is unpinned at the end of a run: in the next one it would lead to the canary pods.
    "UnpinService": (
        "Judging",
        "Judging",
        lambda sent: _patches(sent, "services/checkout", '"remove","path":"/metadata/annotations"'),
    ),
    # All requests to the canary, when a hand-back is undone: in the next run to another version.
    "Gather": (
        "HandingBack",
        "Scaling",
        lambda sent: _patches(sent, "httproutes/checkout", 'Refs/1/weight","value":10000}'),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("effect", sorted(GIVEN_BACK))
def test_what_gives_back_does_not_arrive_in_a_later_run(effect: str) -> None:
    """There the same words stand in the same places once more, and mean something else."""
    at, later, fits = GIVEN_BACK[effect]

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            found.world.set_image("shop", "checkout", IMAGE)
            await first.reaches(at)
            if effect == "Gather":
                await _handed_back(found)
            late = _Late(first, fits)
            found.world.annotate("shop", "checkout", {"switchgear.dev/abort": "true"})
            await asyncio.wait_for(late.caught.wait(), 300.0)
            await first.crash()
            await found.leads(second)
            await second.ended("aborted")
            found.world.set_image("shop", "checkout", NEXT)
            await second.reaches(later)
            before = json.dumps(_raised(found))
            late.go.set()
            await second.until(lambda: late.status != 0, within=5.0)
            assert late.status == 422
            assert json.dumps(_raised(found)) == before
            await second.ended("promoted")
            second.at_rest()

    play(story)


async def _handed_back(found: Pair) -> None:
    """The Deployment's own pods serve everything, and the canary stands at 0."""
    await found.houses[0].until(
        lambda: found.world.weights("checkout").get("checkout-canary") == 0, within=120
    )


def _raised(found: Pair) -> list[Any]:
    """What decides which version requests reach."""
    world = found.world
    return [
        world.get("httproutes", "shop", "checkout")["spec"]["rules"],
        world.get("services", "shop", "checkout")["spec"]["selector"],
        bool(world.get("deployments", "shop", "checkout")["spec"].get("paused")),
    ]
