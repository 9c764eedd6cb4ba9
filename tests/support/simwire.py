# SPDX-License-Identifier: Apache-2.0
"""The simulated API server behind the product's wire, in one process and in any kind of time."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from controller.adapters.kube.wire import Request, Response
from controller.core.errors import Unavailable
from controller.sim.apiserver.server import ApiServer


class SimWire:
    """`wire.Wire` over `ApiServer.handle`; counts what was sent."""

    def __init__(self, api: ApiServer, *, agent: str = "switchgear/test") -> None:
        """Send to `api` under this user agent."""
        self.api = api
        self.agent = agent
        self.sent: list[Request] = []
        self.before: list[Callable[[Request], None]] = []
        """Called with each request before it goes out; may raise `Unavailable`."""

    async def send(self, request: Request) -> Response:
        """One request to the simulated server."""
        self.sent.append(request)
        for hook in list(self.before):
            hook(request)
        headers = {"user-agent": self.agent, **request.headers}
        try:
            answer = await self.api.handle(
                request.method, request.path, request.query, headers, request.body
            )
        except OSError as error:
            # A broken connection is told as the real transport tells it.
            raise Unavailable(f"{request.method} {request.path}: {error}") from error
        body: Any = answer.body

        async def close() -> None:
            if isinstance(body, AsyncGenerator):
                with contextlib.suppress(RuntimeError):
                    await body.aclose()

        return Response(
            status=answer.status,
            headers={key.lower(): value for key, value in answer.headers.items()},
            body=answer.body,
            aclose=close,
        )

    async def aclose(self) -> None:
        """Nothing is held."""

    def writes(self) -> list[Request]:
        """What was sent besides reads."""
        return [request for request in self.sent if request.method != "GET"]


async def once(content: bytes) -> AsyncIterator[bytes]:
    """A body of one piece."""
    yield content
