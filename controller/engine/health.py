# SPDX-License-Identifier: Apache-2.0
"""Whether the controller sees the cluster, as probes and people ask."""

from collections.abc import Callable
from typing import Final

STALE_SECONDS: Final = 120.0
"""Two missed bookmarks and a reconnect; beyond that the picture is old."""


class Health:
    """Answers from what the adapters report of themselves."""

    def __init__(
        self,
        *,
        synced: Callable[[], bool],
        stale_seconds: Callable[[], float],
        requests: Callable[[], int],
    ) -> None:
        """`synced`: all caches are filled; `stale_seconds`: age of the oldest; requests sent."""
        self._synced = synced
        self._stale = stale_seconds
        self._requests = requests

    def problems(self) -> list[str]:
        """Why the controller is not ready; empty: it is."""
        if not self._synced():
            return ["the caches are not filled yet"]
        age = self._stale()
        if age > STALE_SECONDS:
            return [f"nothing was heard from the API server for {age:.0f} s"]
        return []

    def requests(self) -> int:
        """Requests sent to the API server since the start."""
        return self._requests()
