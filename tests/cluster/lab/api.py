# SPDX-License-Identifier: Apache-2.0
"""Requests of the lab's own parts to its API server, as administrator.

Deliberately not the product's client: a mistake there must not decide how the lab behaves.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

Object = dict[str, Any]

SERVER = "https://127.0.0.1:6443"
CALL_SECONDS = 60.0
"""Two dozen kinds at once have taken more than fifteen on two cores with other work to do."""
CONNECTIONS = 64
"""Two hundred pods that change at once are served in a second by so many connections."""

_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A status and the decoded body."""

    status: int
    body: Object

    @property
    def fine(self) -> bool:
        """Whether it was done."""
        return self.status < 300


class Refused(Exception):
    """The API server said no to something that the lab needs."""


class Api:
    """A client of one event loop."""

    def __init__(self, pki: Path) -> None:
        """Credentials are `admin.crt` and `admin.key` in the folder `pki`."""
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(str(pki / "admin.crt"), str(pki / "admin.key"))
        self._session = aiohttp.ClientSession(
            SERVER,
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context),
            headers={"User-Agent": "lab"},
            read_bufsize=2**20,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def call(
        self, method: str, path: str, body: Any = None, *, mime: str = _JSON, **query: str
    ) -> Reply:
        """Send one request; raises OSError, aiohttp.ClientError or TimeoutError."""
        async with self._session.request(
            method,
            path,
            params=query,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": mime},
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS),
        ) as answer:
            text = await answer.read()
            found = json.loads(text) if text.startswith(b"{") else {"text": text.decode()}
            return Reply(status=answer.status, body=found)

    async def make(self, path: str, body: Object) -> Object:
        """Create an object unless it is there; raises Refused."""
        reply = await self.call("POST", path, body)
        if not reply.fine and reply.status != 409:
            raise Refused(f"{path}: {reply.status} {reply.body.get('message', reply.body)}")
        return reply.body

    async def follow(self, path: str) -> AsyncIterator[tuple[str, Object]]:
        """A list as `ADDED`, then its changes, until the server ends the watch.

        `SYNCED` with the whole list stands between the two. Raises OSError or aiohttp.ClientError.
        """
        listed = (await self.call("GET", path)).body
        for item in listed["items"]:
            yield "ADDED", item
        yield "SYNCED", listed
        version = listed["metadata"]["resourceVersion"]
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS)
        async with self._session.get(path, params=query, timeout=timeout) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]


async def until_ready(api: Api, path: str, seconds: float) -> None:
    """Poll a health door of the server; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                if (await api.call("GET", path)).fine:
                    return
            except (OSError, aiohttp.ClientError):
                pass
            await asyncio.sleep(0.05)
