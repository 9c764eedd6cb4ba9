# SPDX-License-Identifier: Apache-2.0
"""The engine put together over ports; tests hand in the adapters of a simulated world."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from controller.core import errors
from controller.engine.act import Actor
from controller.engine.desk import Desk
from controller.engine.feed import Feed
from controller.engine.fleet import Fleet
from controller.engine.halt import Killer
from controller.engine.leader import Leader
from controller.engine.loop import Loop
from controller.engine.measurer import Measurer
from controller.engine.meters import Meters
from controller.engine.observe import Bounds, Observer
from controller.engine.records import Records
from controller.engine.recover import recover
from controller.engine.requests import Requests
from controller.engine.tick import Ticker
from controller.ports.clock import Clock
from controller.ports.cluster import Cluster
from controller.ports.documents import Documents
from controller.ports.metrics import Metrics

MOST_PAUSE: Final = 10.0
"""Longest pause between two attempts to begin, in seconds."""

log = structlog.get_logger(__name__)

Found = TypeVar("Found")


@dataclass(slots=True, kw_only=True)
class Engine:
    """Every part of a running controller that a door may need."""

    cluster: Cluster
    documents: Documents
    clock: Clock
    desk: Desk
    feed: Feed
    measurer: Measurer
    loop: Loop
    actor: Actor
    killer: Killer
    requests: Requests
    fleet: Fleet
    records: Records
    meters: Meters

    async def run(self) -> None:
        """Claim the epoch, take up every run, then tick until cancelled. Needs filled caches.

        What it knew is forgotten at the end, so that it may be called again.
        """
        try:
            self.actor.epoch = await self._insisting(self.documents.claim_epoch)
            self.meters.claimed(self.actor.epoch)
            going = await self._insisting(self._recover)
            self.desk.known = True
            log.info("taking over", epoch=self.actor.epoch, runs=going)
            async with asyncio.TaskGroup() as group:
                latching = group.create_task(self.fleet.run(), name="fleet breaker")
                try:
                    await self.loop.run()
                finally:
                    latching.cancel()
        finally:
            self.desk.clear()
            self.feed.clear()
            self.measurer.clear()

    def led_by(self, leader: Leader) -> None:
        """This replica acts while that one holds the lease, and ends as the lease allows."""
        self.actor.leading = self.loop.leading = lambda: leader.leading
        self.loop.ours = lambda: leader.ours

    async def _recover(self) -> int:
        going = await recover(
            documents=self.documents, clock=self.clock, desk=self.desk, epoch=self.actor.epoch
        )
        self.fleet.recall(self.desk)
        return going

    async def _insisting(self, work: Callable[[], Awaitable[Found]]) -> Found:
        """Try until it works: nothing may be raised before the epoch and the runs are known."""
        pause = 0.5
        while True:
            try:
                return await work()
            except errors.SwitchgearError as error:
                log.warning("not begun yet", why=error.diagnostics())
                await self.clock.sleep(pause * (1 + self.clock.jitter()))
                pause = min(pause * 2, MOST_PAUSE)


def assemble(
    *, cluster: Cluster, documents: Documents, metrics: Metrics, clock: Clock, bounds: Bounds
) -> Engine:
    """All rooms of the engine, joined."""
    meters, desk = Meters(), Desk()
    records = Records(documents=documents, clock=clock)
    feed = Feed(metrics=metrics, clock=clock, meters=meters)
    measurer = Measurer(metrics=metrics, clock=clock, meters=meters)
    observer = Observer(
        clock=clock, documents=documents, feed=feed, measurer=measurer, bounds=bounds
    )
    actor = Actor(cluster=cluster, documents=documents, epoch=0)
    fleet = Fleet(documents=documents, clock=clock)
    ticker = Ticker(
        cluster=cluster,
        documents=documents,
        clock=clock,
        feed=feed,
        measurer=measurer,
        observer=observer,
        actor=actor,
        desk=desk,
        fleet=fleet,
        meters=meters,
    )
    loop = Loop(
        cluster=cluster, documents=documents, feed=feed, measurer=measurer, desk=desk, ticker=ticker
    )
    killer = Killer(
        cluster=cluster,
        documents=documents,
        clock=clock,
        desk=desk,
        loop=loop,
        meters=meters,
        records=records,
        settle=bounds.settle,
    )
    requests = Requests(documents=documents, desk=desk, loop=loop)
    return Engine(
        cluster=cluster,
        documents=documents,
        clock=clock,
        desk=desk,
        feed=feed,
        measurer=measurer,
        loop=loop,
        actor=actor,
        killer=killer,
        requests=requests,
        fleet=fleet,
        records=records,
        meters=meters,
    )
