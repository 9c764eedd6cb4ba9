# SPDX-License-Identifier: Apache-2.0
"""A way to the API server on which one request is held up, as a network may do it.

What has been sent can neither be taken back nor be looked after by whoever sent it: it arrives when
it arrives, also when its sender has been stopped meanwhile.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from tests.cluster.lab.api import SERVER

KEPT: Final = ("Authorization", "Accept", "Content-Type", "Audit-ID", "User-Agent", "Retry-After")
"""Headers that are handed on, of requests and of answers."""


class Relay:
    """Requests and answers as they come, but for the first request that is `wanted`."""

    def __init__(self, wanted: Callable[[str, str, bytes], bool]) -> None:
        """`wanted` is asked with method, path and body."""
        self._wanted = wanted
        self._session: aiohttp.ClientSession
        self.held = asyncio.Event()
        """It has come, and waits."""
        self.free = asyncio.Event()
        """It may go on."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request; the answer to a watch is handed on piece by piece."""
        body = await request.read()
        if not self.held.is_set() and self._wanted(request.method, request.path, body):
            self.held.set()
            await self.free.wait()
        url = URL(f"{SERVER}{request.raw_path}", encoded=True)
        named = {key: request.headers[key] for key in KEPT if key in request.headers}
        forever = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method, url, headers=named, data=body, timeout=forever
        ) as answer:
            told = {key: answer.headers[key] for key in KEPT if key in answer.headers}
            response = web.StreamResponse(status=answer.status, headers=told)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response

    @contextlib.asynccontextmanager
    async def serving(self, kubeconfig: Path) -> AsyncIterator[Path]:
        """Yields a kubeconfig like this one, a token's, that goes this way."""
        runner = web.ServerRunner(web.Server(self.handle), shutdown_timeout=1.0)
        async with aiohttp.ClientSession(connector=_connector(kubeconfig)) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            try:
                yield _towards(f"http://{host}:{port}", kubeconfig)
            finally:
                self.free.set()
                await runner.cleanup()


def _connector(kubeconfig: Path) -> aiohttp.TCPConnector:
    """Connections to the server of a kubeconfig; each watch keeps one."""
    (cluster,) = json.loads(kubeconfig.read_text(encoding="utf-8"))["clusters"]
    authority = cluster["cluster"]["certificate-authority"]
    return aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=authority))


def _towards(server: str, kubeconfig: Path) -> Path:
    """A copy with another server."""
    found = json.loads(kubeconfig.read_text(encoding="utf-8"))
    (cluster,) = found["clusters"]
    cluster["cluster"] = {"server": server}
    path = kubeconfig.with_name(f"relayed-{kubeconfig.name}")
    path.write_text(json.dumps(found), encoding="utf-8")
    return path
