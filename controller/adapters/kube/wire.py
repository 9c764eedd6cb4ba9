# SPDX-License-Identifier: Apache-2.0
"""The seam: a request in; a status, headers and chunks of bytes out.

The HTTP transport and the simulated API server both stand behind it, so that everything above
(reflector, patches, classification, leases) is production code in every test.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request below the API server's root."""

    method: str
    path: str
    """Already quoted, as `/api/v1/namespaces/shop/services/checkout`."""
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    timeout_seconds: float
    """From the first byte sent to the last one read; a watch gives its whole life."""


async def _nothing() -> None:
    """Close what holds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back. `aclose` must be called, also after the body was read to its end."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: AsyncIterator[bytes]
    """Raises `Unavailable` when the connection breaks off."""
    aclose: Callable[[], Awaitable[None]] = _nothing


class Wire(Protocol):
    """Whatever carries requests to an API server."""

    async def send(self, request: Request) -> Response:
        """Send, and return as soon as status and headers are there.

        Raises `Unavailable` if they do not come; any status that does come is no error here.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
