# SPDX-License-Identifier: Apache-2.0
"""Which target is looked at when: one tick at a time for each, all targets side by side.

A target is woken by a change in its view, a new scrape, a request, the kill latch or its own timer.
Waking it while it ticks makes it tick once more; waking it ten times is the same as once, so
nothing queues up and the work is bounded by the number of targets.

An end in good order lets the ticks that are under way finish, and makes durable what they noted:
else whoever leads next would find writes whose outcome nobody has told.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from controller.core import errors
from controller.core.lifecycle.table import FOLLOWED
from controller.core.values import TargetRef
from controller.engine import carry
from controller.engine.desk import Card, Desk
from controller.engine.feed import Feed
from controller.engine.measurer import Measurer
from controller.engine.tick import Ticker
from controller.ports import trail
from controller.ports.cluster import Cluster
from controller.ports.documents import Documents

FAILED_SECONDS: Final = 1.0
"""Pause after a tick that an error of the outside ended; the reads below it back off as well."""

FINISH_SECONDS: Final = 1.0
"""For ticks under way when all of it ends, their records included; they take milliseconds."""

LEAST_SECONDS: Final = 0.001
"""Shortest timer: what is left of a wait may round to less than a clock can tell, and spin."""

log = structlog.get_logger(__name__)


class Loop:
    """Wakes targets and runs their ticks."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        documents: Documents,
        feed: Feed,
        measurer: Measurer,
        desk: Desk,
        ticker: Ticker,
    ) -> None:
        """Nothing runs until `run`."""
        self._cluster = cluster
        self._documents = documents
        self._feed = feed
        self._measurer = measurer
        self._desk = desk
        self._ticker = ticker
        self._dirty: set[TargetRef] = set()
        self._busy: dict[TargetRef, asyncio.Task[None]] = {}
        self._timers: dict[TargetRef, asyncio.TimerHandle] = {}
        self._group: asyncio.TaskGroup | None = None
        self.ticks = 0
        self.leading: Callable[[], bool] = lambda: True
        """Whether our lease cannot have run out. A process that was stopped and wakes up finds its
        timers due before anybody tells it that another one leads."""
        self.ours: Callable[[], bool] = lambda: True
        """Whether nobody else can have begun to act, so that the end may be one in good order."""
        cluster.subscribe(self.wake)
        documents.subscribe(self.wake_all)
        feed.on_scrape(self.wake)
        measurer.on_reading(self.wake)

    async def run(self) -> None:
        """Until cancelled. A task that fails in an unforeseen way ends all of it."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.wake_all()
                group.create_task(self._measurer.run_gauges(), name="gauges")
                group.create_task(self._measurer.run_checks(), name="checks")
                try:
                    # Here and not in a task of its own: however it ends, everything else does.
                    await self._feed.run()
                finally:
                    # From here on nothing begins: what wakes a target now finds nobody in charge.
                    self._group = None
                    if self.ours():
                        await self._finished()
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
            self._dirty.clear()
            self._busy.clear()

    def wake_all(self) -> None:
        """Look at every target: at the start, and when the kill latch moved."""
        for target in self._cluster.targets():
            self.wake(target)
        for card in self._desk.running():
            self.wake(card.target)

    def wake(self, target: TargetRef) -> None:
        """Look at this target soon; without effect while nobody runs the loop."""
        if self._group is None:
            return
        self._dirty.add(target)
        if target not in self._busy:
            # Whatever wakes it, a kill for one, its writes are not part of that.
            with trail.call(""):
                task = self._group.create_task(self._serve(target), name=f"target {target}")
            self._busy[target] = task

    async def _serve(self, target: TargetRef) -> None:
        while self._group is not None and target in self._dirty and self.leading():
            self._dirty.discard(target)
            timer = self._timers.pop(target, None)
            if timer is not None:
                timer.cancel()
            wait = await self._tick(target)
            if target not in self._dirty and self._group is not None:
                loop = asyncio.get_running_loop()
                self._timers[target] = loop.call_later(max(wait, LEAST_SECONDS), self.wake, target)
        # Not where a tick was cut off: what it noted must not become durable with an older state.
        del self._busy[target]

    async def _finished(self) -> None:
        """Ticks come to their end; then their last records become durable. As time allows."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                if self._busy:
                    await asyncio.wait(self._busy.values())
                whole = (card for card in self._desk.running() if card.target not in self._busy)
                await asyncio.gather(*map(_left, whole))

    async def _tick(self, target: TargetRef) -> float:
        self.ticks += 1
        try:
            wait = await self._ticker.tick(target)
        except errors.InvariantBroken:
            log.exception("a rule broke the table", target=str(target))
            return 5.0
        except errors.SwitchgearError as error:
            log.warning("tick ended early", target=str(target), why=error.diagnostics())
            return FAILED_SECONDS
        card = self._desk.find(target)
        memory = card.memory if card is not None else None
        if memory is not None:
            if memory.phase in FOLLOWED:
                self._feed.follow(memory)
                self._measurer.follow(memory)
            else:
                self._feed.forget(memory.run)
                self._measurer.forget(memory.run)
        return wait


async def _left(card: Card) -> None:
    try:
        await carry.leave(card)
    except errors.SwitchgearError as error:
        log.warning("last records lost", target=str(card.target), why=error.diagnostics())
