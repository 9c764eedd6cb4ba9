# SPDX-License-Identifier: Apache-2.0
"""The simulated API server over real HTTP on loopback, for kubectl, a gateway and the daemon.

uvicorn waits for open responses at shutdown; watches never end by themselves, so they are closed
first.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import StreamingResponse
from starlette.routing import Route

from controller.sim.apiserver.server import ApiServer

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
SHUTDOWN_SECONDS = 5
"""Watches are closed before shutdown begins, so nothing should need this long."""

TICK_SECONDS = 0.1
"""uvicorn's own rhythm for its Date header."""


def application(api: ApiServer) -> Starlette:
    """Return the ASGI application that hands every request to the server."""

    async def endpoint(http: HttpRequest) -> StreamingResponse:
        response = await api.handle(
            http.method,
            http.url.path,
            http.query_params.multi_items(),
            dict(http.headers),
            await http.body(),
        )
        return StreamingResponse(
            response.body, status_code=response.status, headers=response.headers
        )

    return Starlette(routes=[Route("/{path:path}", endpoint, methods=_METHODS)])


@contextlib.asynccontextmanager
async def serving(api: ApiServer, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve until the block is left; yields the base URL (a free port by default)."""
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, the head and
    # the body of every answer would lie 40 ms apart.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    config = uvicorn.Config(
        application(api),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = _QuietServer(config)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(0.01)
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        api.close()
        server.stop()
        await task
        listener.close()


class _QuietServer(uvicorn.Server):
    """uvicorn as a guest in somebody else's process: no signal handlers, and it stops at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leave = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield

    async def main_loop(self) -> None:
        """Tick as uvicorn does, but without finishing a tick after `stop`."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks = (ticks + 1) % 864_000
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leave.wait(), TICK_SECONDS)

    def stop(self) -> None:
        """End the main loop."""
        self.should_exit = True
        self._leave.set()


def kubeconfig(url: str, token: str = "") -> str:
    """Return a kubeconfig for the server at `url`."""
    user = f'{{token: "{token}"}}' if token else "{}"
    return (
        "apiVersion: v1\nkind: Config\ncurrent-context: sim\n"
        f'clusters: [{{name: sim, cluster: {{server: "{url}"}}}}]\n'
        f"users: [{{name: sim, user: {user}}}]\n"
        "contexts: [{name: sim, context: {cluster: sim, user: sim}}]\n"
    )
