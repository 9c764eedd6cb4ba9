# SPDX-License-Identifier: Apache-2.0
"""Who may come in: on loopback everybody on the machine, beyond it the holder of the token.

The token is one shared secret, so it proves that the caller may act and not who the caller is; the
name that a caller gives goes into the journal as claimed.
"""

import hmac
from pathlib import Path
from typing import Final

from starlette.requests import Request

MOST_ACTOR: Final = 200
"""Longest name that a caller may claim, in characters."""


class Access:
    """Checks the bearer token of each request."""

    def __init__(self, token_file: Path | None) -> None:
        """The file is read at each check, so that a rotated token counts at once."""
        self._file = token_file

    def allowed(self, request: Request) -> bool:
        """Whether the caller may use the doors below /v1. An unreadable file lets nobody in."""
        if self._file is None:
            return True
        try:
            token = self._file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            return False
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        return bool(token) and hmac.compare_digest(given.encode(), token.encode())

    def actor(self, request: Request) -> str:
        """Who the caller says to be, and how the caller came in."""
        claimed = request.headers.get("x-switchgear-actor", "unnamed")[:MOST_ACTOR]
        return f"{claimed} ({'token' if self._file else 'loopback'})"
