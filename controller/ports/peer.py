# SPDX-License-Identifier: Apache-2.0
"""Another replica's doors, for a request that only the leader can carry out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the other replica answered."""

    status: int
    kind: str
    """Its content type."""
    body: bytes


class Peer(Protocol):
    """Errors of its method: `Unavailable`."""

    async def post(self, address: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Pass a request on to the doors at HOST:PORT; it has a deadline of its own."""
        ...
