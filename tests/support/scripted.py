# SPDX-License-Identifier: Apache-2.0
"""A wire whose answers a test writes down, for servers that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from controller.adapters.kube.wire import Request, Response
from controller.core.errors import Unavailable


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer: status, headers, the chunks of its body, and how the body ends."""

    status: int = 200
    body: Sequence[bytes] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: str = "close"
    """`close`, `reset` or `silence`."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body."""
        for chunk in self.body:
            yield chunk
        if self.ending == "reset":
            raise Unavailable("connection reset")
        if self.ending == "silence":
            await asyncio.get_running_loop().create_future()


Script = Callable[[Request], Answer]


class ScriptedWire:
    """`wire.Wire` that asks a function for each answer."""

    def __init__(self, script: Script) -> None:
        """Answer as `script` says."""
        self.script = script
        self.sent: list[Request] = []

    async def send(self, request: Request) -> Response:
        """One request."""
        self.sent.append(request)
        answer = self.script(request)
        return Response(status=answer.status, headers=answer.headers, body=answer.chunks())

    async def aclose(self) -> None:
        """Nothing is held."""


def watching(request: Request) -> bool:
    """Whether a request is a watch."""
    return ("watch", "1") in request.query


def asked(request: Request, key: str) -> str:
    """A query parameter."""
    return dict(request.query).get(key, "")


def lines(*events: tuple[str, Any]) -> bytes:
    """Watch events as they stand on the wire."""
    frames = [msgspec.json.encode({"type": kind, "object": obj}) for kind, obj in events]
    return b"".join(frame + b"\n" for frame in frames)


def page(items: Sequence[Any], version: str, token: str = "") -> Answer:
    """One page of a list."""
    meta = {"resourceVersion": version, "continue": token}
    return Answer(body=(msgspec.json.encode({"metadata": meta, "items": list(items)}),))


def config_map(name: str, version: str, uid: str = "u", **data: str) -> dict[str, Any]:
    """A small object."""
    meta = {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": version}
    return {"metadata": meta, "data": data}
