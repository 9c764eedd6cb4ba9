# SPDX-License-Identifier: Apache-2.0
"""`ports.peer.Peer` over HTTP, from pod to pod."""

from collections.abc import Mapping
from typing import Final

import httpx

from controller.core.errors import Unavailable
from controller.ports.peer import Reply

SECONDS: Final = 5.0
"""An act is some writes of documents; whoever waits longer asks again."""

MOST_BYTES: Final = 1_000_000
"""Of an answer: an act is answered with a sentence."""

MOST_AT_ONCE: Final = 8
"""Requests under way: people act one by one."""


class HttpPeer:
    """Calls another replica."""

    def __init__(self) -> None:
        """The connection is made with the first call."""
        limits = httpx.Limits(max_connections=MOST_AT_ONCE)
        self._client = httpx.AsyncClient(timeout=SECONDS, limits=limits, trust_env=False)

    async def post(self, address: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Pass a request on. Raises Unavailable."""
        try:
            answer = await self._client.post(
                f"http://{address}{path}", headers=dict(headers), content=body
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            message = f"the leader at {address} was not reached: {type(error).__name__}: {error}"
            raise Unavailable(message, advice="Ask again in some seconds") from error
        if len(answer.content) > MOST_BYTES:
            message = f"{address} answered with more than {MOST_BYTES} bytes"
            raise Unavailable(message)
        return Reply(
            status=answer.status_code,
            kind=answer.headers.get("content-type", "application/json"),
            body=answer.content,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
