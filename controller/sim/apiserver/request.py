# SPDX-License-Identifier: Apache-2.0
"""Requests, responses and the meaning of paths."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from controller.sim.apiserver.errors import ApiError, no_such_path
from controller.sim.apiserver.resources import RESOURCES, Resource

_JSON = {"Content-Type": "application/json"}
_TRUE = frozenset({"1", "true", "True", "t", "T"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, however it arrived. Header names are lower case."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def param(self, name: str, default: str = "") -> str:
        """Return the first value of a query parameter."""
        return next((value for key, value in self.query if key == name), default)

    def flag(self, name: str) -> bool:
        """Return whether a query parameter says yes."""
        return self.param(name) in _TRUE

    def number(self, name: str) -> int:
        """Return a numeric query parameter, 0 where it is absent. Raises ApiError 400."""
        text = self.param(name)
        if not text:
            return 0
        try:
            return int(text)
        except ValueError as error:
            reason = f'strconv.ParseInt: parsing "{text}": invalid syntax'
            raise ApiError(400, "BadRequest", reason) from error

    @property
    def content_type(self) -> str:
        """Return the media type of the body, without parameters."""
        return self.headers.get("content-type", "").split(";")[0].strip()

    @property
    def manager(self) -> str:
        """Return the field manager: the one named, or the program of the user agent."""
        named = self.param("fieldManager")
        return named or self.headers.get("user-agent", "").split("/")[0] or "unknown"


@dataclass(slots=True, kw_only=True)
class Response:
    """Status, headers and the body as it comes; a watch's body ends when the server closes."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]

    async def read(self) -> bytes:
        """Return the whole body; only for bodies that end."""
        return b"".join([chunk async for chunk in self.body])


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def json_response(status: int, value: Any, warnings: Sequence[str] = ()) -> Response:
    """Return a response with a JSON body, and a Warning header if there is something to warn of."""
    headers = dict(_JSON)
    if warnings:
        quoted = ('"' + text.replace('"', '\\"') + '"' for text in warnings)
        headers["Warning"] = ", ".join(f"299 - {text}" for text in quoted)
    return Response(status=status, headers=headers, body=_once(msgspec.json.encode(value)))


def text_response(status: int, text: str) -> Response:
    """Return a response with a plain text body."""
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    return Response(status=status, headers=headers, body=_once(text.encode()))


def error_response(error: ApiError) -> Response:
    """Return the response for a refusal, with Retry-After where the error has one."""
    response = json_response(error.status, error.render())
    seconds = error.details.get("retryAfterSeconds")
    if seconds is not None:
        response.headers["Retry-After"] = str(seconds)
    return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path names: a collection, an object or a subresource of one."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


_SERVED = {(res.group, res.version, res.plural): res for res in RESOURCES}


def target_of(path: str) -> Target:
    """Return what a resource path names. Raises ApiError 404 for a path that is not served."""
    parts = path.strip("/").split("/")
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_path()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    served = _SERVED.get((group, version, rest[0]))
    if served is None or len(rest) > 3 or (namespace and not served.namespaced):
        raise no_such_path()
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if subresource and subresource not in served.subresources:
        raise no_such_path()
    if served.namespaced and name and not namespace:
        raise no_such_path()
    return Target(resource=served, namespace=namespace, name=name, subresource=subresource)
