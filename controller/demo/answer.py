# SPDX-License-Identifier: Apache-2.0
"""One answer over HTTP/1.1 as a client needs it: its status, who made it, and whether to go on."""

import asyncio
import ssl
from dataclasses import dataclass

from controller.demo.counts import Track

REQUEST_SECONDS = 5.0
"""An answer later than this is a failure: no one waits longer for a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One response; `version` is empty if no application made it."""

    status: int
    version: str
    keep: bool
    """Whether the connection can be used again."""


def parse(data: bytes) -> Answer | None:
    """The answer in `data`, or None while it is incomplete; raises ValueError for nonsense."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    if fields.get("transfer-encoding") == "chunked":
        if not body.endswith(b"0\r\n\r\n"):
            return None
    elif len(body) < int(fields.get("content-length", "0")):
        return None
    return Answer(
        status=int(first.split(" ", 2)[1]),
        version=fields.get("x-version", ""),
        keep=fields.get("connection", "").lower() != "close",
    )


def count(tracks: dict[str, Track], answer: Answer, *, slow: bool) -> None:
    """Add an answer to the track of its version."""
    track = tracks.setdefault(answer.version, Track())
    track.slow += slow
    if answer.status >= 500:
        track.bad += 1
    else:
        track.good += 1


async def fetch(
    host: str, port: int, path: str, *, whole: bool = False, tls: ssl.SSLContext | None = None
) -> bytes:
    """GET over a connection of its own: the body, or all bytes with `whole`; raises OSError."""
    async with asyncio.timeout(REQUEST_SECONDS):
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        try:
            head = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            data = await reader.read(-1)
        finally:
            writer.close()
    return data if whole else data.partition(b"\r\n\r\n")[2]
