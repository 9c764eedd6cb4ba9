# SPDX-License-Identifier: Apache-2.0
"""The work queue under every simulated controller.

Work is synchronous, since the store is, so a key's turn is one timer of the loop and not a task:
that keeps ten minutes of a rollout cheap and its order the same in every run.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from controller.sim.apiserver.errors import ApiError
from controller.sim.apiserver.store import Event, Store
from controller.sim.clock import WallClock

KeyT = TypeVar("KeyT", bound=tuple[str, ...])
Name = tuple[str, str]
"""Namespace and name."""

# A write refused (a quota, a conflict) is tried again as client-go's rate limiter does: from five
# milliseconds, doubling; the ceiling is far below its 1,000 s, so that no simulation waits for it.
RETRY_FIRST = 0.005
RETRY_CEILING = 8.0

# Two timers that are due within this are one turn: floating-point sums must not make two of them.
SAME_MOMENT = 1e-6


@dataclass(slots=True, kw_only=True)
class Cluster:
    """What all controllers of one cluster share."""

    store: Store
    wall: WallClock
    rng: random.Random
    loop: asyncio.AbstractEventLoop
    errors: list[BaseException] = field(default_factory=list)
    """Mistakes of the simulation itself; a world with any of them is not to be trusted."""

    def blame(self, error: BaseException) -> None:
        """Note a mistake of the simulation; the first hundred are enough to find it."""
        if len(self.errors) < 100:
            self.errors.append(error)


class Controller(Generic[KeyT]):
    """A queue of keys, each worked on a little after something happened to it."""

    latency: ClassVar[tuple[float, float]] = (0.002, 0.010)
    """Seconds between an event and the work it causes, drawn evenly."""

    def __init__(self, cluster: Cluster) -> None:
        """Follow the store of ``cluster`` from now on."""
        self.cluster = cluster
        self.store = cluster.store
        self._due: dict[KeyT, tuple[float, asyncio.TimerHandle]] = {}
        self._failures: dict[KeyT, int] = {}
        self._suspended: set[KeyT] | None = None
        self._end: Callable[[], None] = self.store.subscribe(self.observe)

    def observe(self, event: Event) -> None:
        """Turn an event into keys."""
        raise TypeError(f"{type(self).__name__} observes nothing: {event.type}")

    def sync(self, key: KeyT) -> None:
        """Bring the world one step nearer to what ``key`` asks for."""
        raise TypeError(f"{type(self).__name__} does nothing about {key}")

    def enqueue(self, key: KeyT, after: float | None = None) -> None:
        """Work on ``key`` in ``after`` seconds, or sooner if that is planned already."""
        if self._suspended is not None:
            self._suspended.add(key)
            return
        delay = self.cluster.rng.uniform(*self.latency) if after is None else after
        when = self.cluster.loop.time() + delay
        planned = self._due.get(key)
        if planned is not None:
            if planned[0] <= when + SAME_MOMENT:
                return
            planned[1].cancel()
        self._due[key] = (when, self.cluster.loop.call_at(when, self._turn, key))

    def suspend(self) -> None:
        """Stop working, as when the controller manager is down; events are kept as keys."""
        if self._suspended is None:
            waiting = set(self._due)
            self._drop_timers()
            self._suspended = waiting

    def resume(self) -> None:
        """Go on working, with everything that happened in between."""
        waiting, self._suspended = self._suspended, None
        for key in sorted(waiting or ()):
            self.enqueue(key)

    def busy_within(self, seconds: float) -> bool:
        """Tell whether work is planned within the next ``seconds``."""
        horizon = self.cluster.loop.time() + seconds
        return any(when <= horizon for when, _ in self._due.values())

    def stop(self) -> None:
        """End for good."""
        self._end()
        self._drop_timers()

    def _drop_timers(self) -> None:
        for _, timer in self._due.values():
            timer.cancel()
        self._due.clear()

    def _turn(self, key: KeyT) -> None:
        self._due.pop(key, None)
        try:
            self.sync(key)
        except ApiError:
            tries = self._failures.get(key, 0)
            self._failures[key] = tries + 1
            self.enqueue(key, min(RETRY_CEILING, RETRY_FIRST * 2.0 ** min(tries, 20)))
        except Exception as error:  # noqa: BLE001 - a mistake must reach the test, not the loop's log
            self.cluster.blame(error)
        else:
            self._failures.pop(key, None)
