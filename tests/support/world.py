# SPDX-License-Identifier: Apache-2.0
"""One namespace of an API server, simulated or real, as a test uses it: through raw requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from controller.sim.apiserver.resources import resource
from tests.support.api import Answer, Port
from tests.support.dialects import APPLY, JSON_PATCH, MERGE, STRATEGIC

REAL = "real"
WATCHED_SECONDS = "5"
"""So long a watch is kept open for frames that may be late on a busy machine."""
ALL = 1_000

DIALECTS = {"json": JSON_PATCH, "merge": MERGE, "strategic": STRATEGIC, "apply": APPLY}
Object = dict[str, Any]


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
