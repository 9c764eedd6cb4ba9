# SPDX-License-Identifier: Apache-2.0
"""The worlds in which every contract test runs, and how to write one.

    from tests.contract.worlds import World, contract

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
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, overload

import pytest

from controller.sim import clock
from controller.sim.apiserver.resources import resource
from controller.sim.apiserver.reviews import Access
from controller.sim.apiserver.serve import serving
from controller.sim.apiserver.server import ApiServer
from controller.sim.apiserver.store import Store
from tests.cluster.lab import store as etcd
from tests.contract.port import SECONDS, Answer, InProcess, OverHttp, Port, real_client
from tests.support.realtime import plain

SIMULATED = ("sim", "http")
REAL = "real"
# Ten minutes of virtual time cost nothing; a test that needs more waits for what never comes.
VIRTUAL_LIMIT = 600.0
WATCHED_SECONDS = "5"
"""So long a watch is kept open for frames that may be late on a busy machine."""
ALL = 1_000

DIALECTS = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
Object = dict[str, Any]
Test = Callable[["World"], Awaitable[None]]
Contract = Callable[[str, pytest.FixtureRequest], None]
_serial = itertools.count()


async def _nothing() -> None:
    """Forget nothing."""


@dataclass(slots=True, kw_only=True)
class World:
    """An API server and a namespace in it."""

    kind: str
    port: Port
    namespace: str
    forget: Callable[[], Awaitable[None]] = _nothing
    """Let the server forget how things were until now, as it does every five minutes."""

    def path(self, plural: str, name: str = "", sub: str = "") -> str:
        """Return the path of a collection, an object or a subresource in this namespace."""
        served = resource(plural)
        space = f"/namespaces/{self.namespace}" if served.namespaced else ""
        parts = [part for part in (served.plural, name, sub) if part]
        return f"{served.prefix}{space}/{'/'.join(parts)}"

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        **query: str,
    ) -> Answer:
        """Send a request; `body` is bytes, or an object to encode as JSON."""
        content = body if isinstance(body, bytes) else b""
        if body is not None and not isinstance(body, bytes):
            content = json.dumps(body).encode()
        headers = {"Accept": accept}
        if content:
            headers["Content-Type"] = content_type
        return await self.port.request(method, path, query, headers, content)

    async def create(self, plural: str, obj: Object, **query: str) -> Answer:
        """POST an object, with the `apiVersion` and `kind` that custom resources insist on."""
        return await self.send("POST", self.path(plural), _typed(plural, obj), **query)

    async def made(self, plural: str, obj: Object) -> Object:
        """Create an object that must be accepted, and return it."""
        answer = await self.create(plural, obj)
        assert answer.status == 201, answer.content
        return dict(answer.json)

    async def get(self, plural: str, name: str = "", sub: str = "", **query: str) -> Answer:
        """GET an object, or a collection."""
        return await self.send("GET", self.path(plural, name, sub), **query)

    async def read(self, plural: str, name: str) -> Object:
        """Return an object that must be there."""
        answer = await self.get(plural, name)
        assert answer.status == 200, answer.content
        return dict(answer.json)

    async def names(self, plural: str, **query: str) -> list[str]:
        """Return the names in a list."""
        answer = await self.get(plural, **query)
        assert answer.status == 200, answer.content
        return [item["metadata"]["name"] for item in answer.json["items"]]

    async def put(self, plural: str, obj: Object, sub: str = "", **query: str) -> Answer:
        """PUT an object under its own name."""
        path = self.path(plural, obj["metadata"]["name"], sub)
        return await self.send("PUT", path, _typed(plural, obj) if not sub else obj, **query)

    async def patch(
        self,
        plural: str,
        name: str,
        body: Any,
        dialect: str = "merge",
        sub: str = "",
        **query: str,
    ) -> Answer:
        """PATCH an object in one of the DIALECTS."""
        if dialect == "apply":
            body = _typed(plural, body)
        path = self.path(plural, name, sub)
        return await self.send("PATCH", path, body, DIALECTS[dialect], **query)

    async def delete(
        self, plural: str, name: str = "", options: Object | None = None, **query: str
    ) -> Answer:
        """DELETE an object, or a collection."""
        return await self.send("DELETE", self.path(plural, name), options, **query)

    async def watched(self, path: str, count: int = ALL, **query: str) -> list[Object]:
        """Watch until `count` frames came or the server ended the watch, and return the frames."""
        frames: list[Object] = []
        seconds = "2" if count == ALL else WATCHED_SECONDS
        asked = {"watch": "true", "timeoutSeconds": seconds, **query}
        async with self.port.lines(path, asked) as lines:
            async for line in lines:
                frames.append(json.loads(line))
                if len(frames) >= count:
                    break
        return frames

    async def eventually(
        self, look: Callable[[], Awaitable[bool]], *, seconds: float = 20.0, what: str = ""
    ) -> None:
        """Look every 50 ms until it is so; fail after `seconds` of the world's time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not await look():
            assert loop.time() < deadline, f"not so within {seconds} s: {what or look}"
            await asyncio.sleep(0.05)


def _typed(plural: str, obj: Object) -> Object:
    served = resource(plural)
    return {"apiVersion": served.api_version, "kind": served.kind, **obj}


# --- the three worlds ----------------------------------------------------------------------------


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


RUNNING = ("horizontalpodautoscalers", "deployments", "replicasets", "jobs", "pods")
"""What goes on working in a namespace that nobody looks at any more."""


async def emptied(port: Port, namespace: str, *more: str) -> None:
    """Take away what goes on working in a namespace of a real cluster, and more kinds of objects.

    The rest ends with the cluster: for a namespace that is deleted the control plane asks for
    every kind of object there is twice, which together was half of all that it was asked for.
    """
    world = World(kind=REAL, port=port, namespace=namespace)
    for plural in (*RUNNING, *more):
        await world.send("DELETE", world.path(plural))


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
