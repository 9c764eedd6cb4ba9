# SPDX-License-Identifier: Apache-2.0
"""Time as a port: no other place knows it."""

from typing import Protocol


class Clock(Protocol):
    """A monotonic clock for durations, a wall clock for stamps that people read."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def stamp(self) -> str:
        """Wall-clock time as RFC 3339 in UTC, to the millisecond. Never compared, only shown."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def jitter(self) -> float:
        """A fresh random number in [0, 1), for spreading retries."""
        ...
