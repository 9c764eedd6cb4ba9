# SPDX-License-Identifier: Apache-2.0
"""A kill latch that somebody made immutable: the next kill is persisted all the same."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller.adapters.clock import LoopClock
from controller.adapters.kube import latch
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.documents import KubeDocuments
from controller.adapters.kube.wire import Request
from controller.core.errors import Forbidden, Unavailable
from controller.sim import clock
from controller.sim.apiserver.errors import ApiError
from controller.sim.apiserver.request import Request as Asked
from controller.sim.apiserver.request import Response, error_response
from controller.sim.faults import Fault, Plan
from controller.sim.world import World
from tests.support.simwire import SimWire

NAMESPACE = "switchgear-system"
MINE = "target.shop.checkout"
PAY = "namespace.pay"
FIRST = {PAY: json.dumps({"actor": "ann", "reason": "smoke"})}

Story = Callable[[World, KubeDocuments, SimWire], Coroutine[Any, Any, None]]


def play(story: Story) -> None:
    async def main() -> None:
        async with World(gateway=False, namespaces=(NAMESPACE,)) as world:
            wire = SimWire(world.api)
            await story(world, KubeDocuments(Calls(wire, LoopClock()), NAMESPACE), wire)

    clock.run(main(), limit=600)


def written(world: World, data: dict[str, str], *, immutable: bool = True) -> None:
    """A latch by somebody's hand."""
    meta = {"name": latch.NAME, "namespace": NAMESPACE}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
    world.create({**body, "immutable": immutable})


def latched(world: World) -> dict[str, str]:
    found = world.store.get("configmaps", NAMESPACE, latch.NAME)
    return {} if found is None else found.get("data") or {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FIRST, {PAY, MINE}),
        # Empty, it stops everything, and goes on to.
        ({}, {"all", MINE}),
        ({"stop": "now"}, {"stop", MINE}),
    ],
)
def test_an_immutable_latch_is_made_again_with_what_it_said(
    before: dict[str, str], after: set[str]
) -> None:
    async def story(world: World, docs: KubeDocuments, _: SimWire) -> None:
        written(world, before)
        stopped = set((await docs.latches()).kills)
        await docs.engage(MINE, actor="bob", reason="5xx")
        assert set(latched(world)) == after
        assert before.items() <= latched(world).items()
        assert stopped <= set((await docs.latches()).kills)
        await docs.engage("all", actor="bob", reason="5xx")
        assert "all" in latched(world), "it takes scopes like any other now"

    play(story)


def test_what_is_engaged_already_is_left_as_it_is() -> None:
    """No moment without a latch for nothing."""

    async def story(world: World, docs: KubeDocuments, wire: SimWire) -> None:
        written(world, FIRST)
        await docs.engage(PAY, actor="bob", reason="again")
        assert wire.writes() == []
        assert latched(world) == FIRST

    play(story)


@pytest.mark.parametrize("method", ["DELETE", "POST", "GET"])
@pytest.mark.parametrize(
    "fault", [Fault.INTERNAL, Fault.NO_REPLY, Fault.RESET, Fault.HANG, Fault.THROTTLED]
)
def test_no_scope_is_lost_to_a_fault_on_the_way(fault: Fault, method: str) -> None:
    async def story(world: World, docs: KubeDocuments, wire: SimWire) -> None:
        written(world, FIRST)
        plan = Plan(seed=1)

        def begin(request: Request) -> None:
            if request.method == "DELETE" and not plan.rules:
                plan.add(fault, count=3, methods=frozenset({method}), path="/configmaps")

        wire.before.append(begin)
        plan.install(world.api)
        await docs.engage(MINE, actor="bob", reason="5xx")
        assert set(latched(world)) == {PAY, MINE}
        assert plan.rules

    play(story)


def test_whoever_gives_up_waiting_takes_no_scope_along() -> None:
    """A kill has a deadline for its latch, which may end between the deletion and the creation."""

    async def story(world: World, docs: KubeDocuments, _: SimWire) -> None:
        written(world, FIRST)
        plan = Plan(seed=1)
        plan.add(Fault.HANG, count=1, methods=frozenset({"POST"}), path="/configmaps")
        plan.install(world.api)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await docs.engage(MINE, actor="bob", reason="5xx")
        assert latched(world) == {}
        await world.until(lambda: set(latched(world)) == {PAY, MINE}, within=30)

    play(story)


def test_a_latch_that_comes_in_between_is_widened() -> None:
    """Somebody else's kill in the moment without one: all three stand."""

    async def story(world: World, docs: KubeDocuments, wire: SimWire) -> None:
        written(world, FIRST)

        def between(request: Request) -> None:
            if request.method == "POST" and not latched(world):
                written(world, {"namespace.web": "x"}, immutable=False)

        wire.before.append(between)
        await docs.engage(MINE, actor="bob", reason="5xx")
        assert set(latched(world)) == {PAY, MINE, "namespace.web"}

    play(story)


def test_many_who_make_it_again_at_once_lose_nothing() -> None:
    async def story(world: World, docs: KubeDocuments, wire: SimWire) -> None:
        written(world, FIRST)
        scopes = [f"namespace.team-{number}" for number in range(4)]
        others = [KubeDocuments(Calls(wire, LoopClock()), NAMESPACE) for _ in scopes]
        await asyncio.gather(
            docs.engage(MINE, actor="bob", reason="5xx"),
            *(
                one.engage(scope, actor="eve", reason="")
                for one, scope in zip(others, scopes, strict=True)
            ),
        )
        assert set(latched(world)) == {PAY, MINE, *scopes}

    play(story)


def _forbidden(world: World, method: str) -> None:
    async def refuse(request: Asked) -> Response | None:
        if request.method == method:
            return error_response(ApiError(403, "Forbidden", "not yours"))
        return None

    world.api.before.append(refuse)


def test_who_may_not_delete_it_changes_nothing() -> None:
    async def story(world: World, docs: KubeDocuments, wire: SimWire) -> None:
        written(world, FIRST)
        _forbidden(world, "DELETE")
        with pytest.raises(Forbidden):
            await docs.engage(MINE, actor="bob", reason="5xx")
        assert latched(world) == FIRST
        assert len(wire.writes()) == 1

    play(story)


def test_what_is_lost_in_the_end_is_named() -> None:
    """The bound of the tries: whoever is told has to engage all of it again."""

    async def story(world: World, docs: KubeDocuments, wire: SimWire) -> None:
        written(world, FIRST)
        _forbidden(world, "POST")
        with pytest.raises(Unavailable) as caught:
            await docs.engage(MINE, actor="bob", reason="5xx")
        assert f"{PAY}, {MINE}" in caught.value.diagnostics()
        assert len(wire.writes()) == latch.TRIES

    play(story)
