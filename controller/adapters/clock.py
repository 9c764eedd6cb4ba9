# SPDX-License-Identifier: Apache-2.0
"""The one place of the product that knows what time it is.

Durations come from the running loop's own clock, so that a loop in virtual time gives virtual
durations without this module knowing.
"""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime


class LoopClock:
    """`ports.clock.Clock` over the running event loop."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """`wall` gives seconds since 1970, `dice` a number in [0, 1); both may be replaced."""
        self._wall = wall
        self._dice = dice

    def monotonic(self) -> float:
        """Seconds on the loop's clock."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """Seconds since 1970, for adapters whose other side tells no time itself."""
        return self._wall()

    def stamp(self) -> str:
        """RFC 3339 in UTC, to the millisecond."""
        moment = datetime.fromtimestamp(self._wall(), UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    async def sleep(self, seconds: float) -> None:
        """Wait on the loop's clock."""
        await asyncio.sleep(seconds)

    def jitter(self) -> float:
        """A fresh random number in [0, 1)."""
        return self._dice()
