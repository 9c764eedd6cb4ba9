# SPDX-License-Identifier: Apache-2.0
"""The simulated Prometheus as a transport under the real client."""

import httpx

from controller.sim.prometheus import Prometheus


class SimPrometheus(httpx.AsyncBaseTransport):
    """Hands each request of an httpx client to the simulated store."""

    def __init__(self, store: Prometheus) -> None:
        """`store` may be switched to any of its failures at any time."""
        self._store = store

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request; a refused connection is what httpx makes of it."""
        body = await request.aread()
        try:
            status, headers, answer = await self._store.handle(
                request.method, request.url.path, request.url.query.decode(),
                dict(request.headers), body,
            )  # fmt: skip
        except ConnectionRefusedError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        return httpx.Response(status, headers=headers, content=answer, request=request)
