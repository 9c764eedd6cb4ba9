# SPDX-License-Identifier: Apache-2.0
"""Two replicas on one world, and a guard that never two lead at once and no epoch goes down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from controller.core.values import EPOCH
from controller.sim import clock
from controller.sim.apiserver.store import Event
from tests.engine.house import House, house


class Pair:
    """Two replicas, of which one leads, and a guard over what they do."""

    def __init__(self, first: House, second: House) -> None:
        """`first` has been started and leads."""
        self.world = first.world
        self.houses = [first, second]
        self.problems: list[str] = []
        self._epochs: dict[tuple[str, str], int] = {}

    @property
    def leading(self) -> list[House]:
        """Who believes to lead."""
        return [item for item in self.houses if item.leads]

    def see(self, event: Event) -> None:
        """Epochs on objects and in the cluster document never go down; a kill's 0 aside."""
        meta = event.obj["metadata"]
        key = (event.resource.plural, meta["uid"])
        text = (meta.get("annotations") or {}).get(EPOCH)
        if meta["name"] == "switchgear-cluster":
            text = (event.obj.get("data") or {}).get("epoch")
        if text is None or text == "0" or event.type == "DELETED":
            return
        if int(text) < self._epochs.get(key, 0):
            self.problems.append(f"epoch {text} after {self._epochs[key]} on {key}")
        self._epochs[key] = int(text)

    async def watch(self) -> None:
        """Never two at once."""
        while True:
            if len(self.leading) > 1:
                self.problems.append("two lead at once")
            await asyncio.sleep(0.05)

    async def leads(self, found: House, within: float = 30.0) -> float:
        """Wait until this one leads and has taken the runs up; returns how long that took."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await found.until(lambda: found.leads and _acts(found), within)
        return loop.time() - begin


def _acts(found: House) -> bool:
    return found.engine is not None and found.engine.desk.known


@contextlib.asynccontextmanager
async def pair(**how: Any) -> AsyncIterator[Pair]:
    """The usual scene with two replicas; the first leads and has adopted the target."""
    async with house(start=False, **how) as world_of:
        first = House(world_of.world, replica="a")
        second = House(world_of.world, replica="b")
        found = Pair(first, second)
        end = found.world.store.subscribe(found.see)
        await first.start()
        await found.leads(first)
        await second.start()
        guard = asyncio.ensure_future(found.watch())
        await first.until(lambda: _adopted(found) and _stands_by(second), within=30)
        try:
            yield found
            assert found.problems == []
        finally:
            guard.cancel()
            end()
            await first.stop()
            await second.stop()


def _stands_by(found: House) -> bool:
    return found.leader is not None and found.leader.seen is not None


def _adopted(found: Pair) -> bool:
    deployment = found.world.get("deployments", "shop", "checkout")
    return "switchgear.dev/managed" in deployment["metadata"]["annotations"]


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """In virtual time."""
    clock.run(story())
