# SPDX-License-Identifier: Apache-2.0
"""The bytes of lists and watches: pages, and one JSON object per line.

A last line without its newline is a frame that was cut off: it is dropped, never parsed, because
half an object may well be valid JSON for something else.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import msgspec

from controller.adapters.kube.calls import Status
from controller.core.errors import Unavailable

LINE_LIMIT: Final = 16 * 1024 * 1024
"""Longest line: etcd holds at most 1.5 MB per object, and escaping rarely doubles it."""

EMPTY: Final = msgspec.Raw(b"{}")


class _ListMeta(msgspec.Struct, frozen=True, gc=False, rename={"token": "continue"}):
    token: str = ""
    resourceVersion: str = ""  # noqa: N815 - as it is spelt on the wire.


class _List(msgspec.Struct, frozen=True, gc=False):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list."""

    items: list[msgspec.Raw]
    version: str
    token: str
    """Of the next page; empty after the last."""


_LIST: Final = msgspec.json.Decoder(_List)


def page_of(body: bytes) -> Page:
    """Decode a page. Raises `Unavailable` when it is none (a proxy's page under a 200)."""
    try:
        found = _LIST.decode(body)
    except msgspec.MsgspecError as error:
        raise Unavailable("LIST: the answer is no list") from error
    if not found.metadata.resourceVersion:
        raise Unavailable("LIST: the answer has no resourceVersion")
    return Page(
        items=found.items or [],
        version=found.metadata.resourceVersion,
        token=found.metadata.token,
    )


class _Event(msgspec.Struct, frozen=True, gc=False):
    type: str
    object: msgspec.Raw = EMPTY


class _Version(msgspec.Struct, frozen=True, gc=False):
    resourceVersion: str = ""  # noqa: N815 - as it is spelt on the wire.


class _Versioned(msgspec.Struct, frozen=True, gc=False):
    metadata: _Version = _Version()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One watch event."""

    type: str
    object: msgspec.Raw
    version: str
    """Empty when the object does not say it."""
    status: Status
    """What an ERROR says."""


_EVENT: Final = msgspec.json.Decoder(_Event)
_VERSIONED: Final = msgspec.json.Decoder(_Versioned)


def frame_of(line: bytes, what: str) -> Frame:
    """Decode one line. Raises `Unavailable` when it is no event."""
    try:
        event = _EVENT.decode(line)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"{what}: a line that is no event") from error
    if event.type == "ERROR":
        try:
            status = msgspec.json.decode(event.object, type=Status)
        except msgspec.MsgspecError:
            status = Status(message="an ERROR without a status")
        return Frame(type=event.type, object=event.object, version="", status=status)
    try:
        version = _VERSIONED.decode(event.object).metadata.resourceVersion
    except msgspec.MsgspecError:
        version = ""
    return Frame(type=event.type, object=event.object, version=version, status=Status())


async def frames(body: AsyncIterator[bytes], idle: float, what: str) -> AsyncIterator[Frame]:
    """The events of a watch until its end.

    Raises `Unavailable` after `idle` seconds without a byte, and when the stream ends within a
    line.
    """
    rest = bytearray()
    while True:
        try:
            async with asyncio.timeout(idle):
                chunk = await anext(body, None)
        except TimeoutError as error:
            raise Unavailable(f"{what}: silent for {idle:g} s") from error
        if chunk is None:
            break
        rest += chunk
        if b"\n" in chunk:
            *lines, tail = bytes(rest).split(b"\n")
            rest = bytearray(tail)
            for line in lines:
                if line.strip():
                    yield frame_of(line, what)
        if len(rest) > LINE_LIMIT:
            raise Unavailable(f"{what}: a line of more than {LINE_LIMIT} bytes")
    if rest.strip():
        raise Unavailable(f"{what}: cut off within a line")
