# SPDX-License-Identifier: Apache-2.0
"""The poller ends when it is told to, also when its query fails in the very same moment.

A process that was stopped and wakes up meets just that: all its deadlines are over at once.
"""

import asyncio
from collections.abc import Collection

from controller.adapters.clock import LoopClock
from controller.core.errors import MetricsUnavailable
from controller.core.evidence.series import TrackKey
from controller.core.lifecycle.memory import Lane, Memory, Moments, Run
from controller.core.lifecycle.table import Phase
from controller.engine.feed import Feed
from controller.engine.meters import Meters
from controller.ports.metrics import Batch
from tests.support.ports import REF, TARGET

RUN = Run(
    name="run-1",
    target=TARGET,
    uid="u1",
    phase=Phase.JUDGING,
    stable_hash="h",
    stable_digest="d",
    digest="e",
    replicas=4,
    lanes=(Lane(route=REF, uid="r1", service="checkout", original=()),),
)


class _Late:
    """A store whose answer to a cancellation is that its deadline is over."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.asked = asyncio.Event()

    async def samples(self, since_seconds: float, keys: Collection[TrackKey]) -> Batch:
        """Never answers."""
        del since_seconds, keys
        self.asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError as error:
            raise MetricsUnavailable("no answer within 5 s") from error
        raise AssertionError("unreachable: nobody sets that future")

    async def history(self, key: TrackKey, seconds: float) -> Batch:
        """Nobody asks."""
        raise AssertionError(f"{key} {seconds}")


async def test_a_query_that_fails_at_the_end_does_not_keep_it_going() -> None:
    store = _Late()
    feed = Feed(metrics=store, clock=LoopClock(), meters=Meters())
    feed.follow(Memory(run=RUN, moments=Moments(entered=0.0)))
    task = asyncio.ensure_future(feed.run())
    await store.asked.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=20.0)
    assert task.cancelled()
