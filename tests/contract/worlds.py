# SPDX-License-Identifier: Apache-2.0
"""The worlds in which every contract test runs, and how to write one.

    from tests.contract.worlds import contract
    from tests.support.world import World

    @contract
    async def test_a_stale_write_is_refused(world: World) -> None:
        made = await world.create("configmaps", {"metadata": {"name": "a"}})
        ...

`@contract` makes one test per world: `sim` (the simulated server in process, in virtual time),
`http` (the same over HTTP on loopback) and `real`, in the lane that has a cluster (`--lab`, which
`make test-cluster` gives). Each test gets a namespace of its own, `world.namespace`; in the real
cluster it is deleted afterwards. Behaviour of controllers (a Deployment that rolls, garbage
collection) is tested with `@contract(controllers=True)`: the simulated worlds then run theirs; a
real cluster always does. Wait for such behaviour with `await world.eventually(...)`, which polls
with a deadline in the time of the world. Pods become ready by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import overload

import pytest

from controller.sim import clock
from controller.sim.apiserver.reviews import Access
from controller.sim.apiserver.serve import serving
from controller.sim.apiserver.server import ApiServer
from controller.sim.apiserver.store import Store
from tests.cluster.lab import store as etcd
from tests.support.api import SECONDS, InProcess, OverHttp, Port, real_client
from tests.support.realtime import plain
from tests.support.world import REAL, Object, World, emptied

SIMULATED = ("sim", "http")
# Ten minutes of virtual time cost nothing; a test that needs more waits for what never comes.
VIRTUAL_LIMIT = 600.0
Test = Callable[[World], Awaitable[None]]
Contract = Callable[[str, pytest.FixtureRequest], None]
_serial = itertools.count()


def _administrators(_user: str, groups: tuple[str, ...], _attributes: Object) -> bool:
    """Who may do anything in a cluster in which nobody has been given a role."""
    return "system:masters" in groups


def _api() -> ApiServer:
    wall = clock.WallClock()
    store = Store(lambda: datetime.fromtimestamp(wall.timestamp(), UTC))
    return ApiServer(store, access=Access(allowed=_administrators))


@contextlib.asynccontextmanager
async def _controllers(api: ApiServer, *, wanted: bool) -> AsyncIterator[None]:
    if not wanted:
        yield
        return
    from controller.sim import world

    async with world.controllers(api.store):
        yield


@contextlib.asynccontextmanager
async def _simulated(kind: str, *, controllers: bool) -> AsyncIterator[World]:
    api = _api()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(_controllers(api, wanted=controllers))
        stack.callback(api.close)
        port: Port = InProcess(api)
        if kind == "http":
            url = await stack.enter_async_context(serving(api))
            port = OverHttp(await stack.enter_async_context(plain(url, SECONDS)))
        world = await _fresh(kind, port)

        async def forget() -> None:
            api.store.compact()

        world.forget = forget
        yield world


@contextlib.asynccontextmanager
async def _real(kubeconfig: Path) -> AsyncIterator[World]:
    async with real_client(kubeconfig) as client:
        world = await _fresh(REAL, OverHttp(client))

        async def forget() -> None:
            await etcd.forget((await world.get("configmaps")).version)

        world.forget = forget
        # Pods may not be made before the namespace's default service account exists.
        account = world.path("serviceaccounts", "default")

        async def ready() -> bool:
            return (await world.send("GET", account)).status == 200

        try:
            await world.eventually(ready, what="the default service account")
            yield world
        finally:
            await emptied(world.port, world.namespace)


async def _fresh(kind: str, port: Port) -> World:
    name = f"contract-{next(_serial)}-{secrets.token_hex(3)}"
    world = World(kind=kind, port=port, namespace=name)
    answer = await world.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert answer.status == 201, answer.content
    return world


def _run(opened: contextlib.AbstractAsyncContextManager[World], test: Test, kind: str) -> None:
    async def main() -> None:
        async with opened as world:
            await test(world)

    if kind == "sim":
        clock.run(main(), limit=VIRTUAL_LIMIT)
    else:
        asyncio.run(main())


def _made(test: Test, *, controllers: bool) -> Contract:
    def run(kind: str, request: pytest.FixtureRequest) -> None:
        if kind == REAL:
            opened = _real(request.getfixturevalue("cluster").kubeconfig)
        else:
            opened = _simulated(kind, controllers=controllers)
        _run(opened, test, kind)

    run.__name__ = run.__qualname__ = getattr(test, "__name__", "test")
    run.__doc__, run.__module__ = test.__doc__, test.__module__
    return run


@overload
def contract(test: Test, /) -> Contract: ...


@overload
def contract(*, controllers: bool) -> Callable[[Test], Contract]: ...


def contract(
    test: Test | None = None, /, *, controllers: bool = False
) -> Contract | Callable[[Test], Contract]:
    """Make one test per world of a coroutine that takes a World."""
    if test is not None:
        return _made(test, controllers=controllers)
    return lambda given: _made(given, controllers=controllers)
