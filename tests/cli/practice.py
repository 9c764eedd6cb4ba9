# SPDX-License-Identifier: Apache-2.0
"""A person who types commands against a whole cluster with its Prometheus, both standing still."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import Result

from controller.sim import clock
from controller.sim.world import World
from tests.cli.room import Room, room, thread_serving
from tests.engine.house import house
from tests.support.realtime import prometheus_serving


def quiet_world(
    change: Callable[[World], object] | None = None, *, seconds: float = 120.0, **how: Any
) -> World:
    """A target that a daemon has taken up, with so many seconds of requests behind it."""

    async def story() -> World:
        async with house(**how) as found:
            if change is not None:
                change(found.world)
            await asyncio.sleep(seconds)
            await found.stop()
            return found.world

    return clock.run(story())


class _Today:
    """The wall clock of a store that stands still: its last sample was taken just now."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def timestamp(self) -> float:
        return time.time() + self.ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Practice:
    """A person with a kubeconfig and the address of a Prometheus."""

    room: Room
    prometheus: str

    def type(self, *words: str, target: str = "shop/checkout") -> Result:
        return self.room.type("doctor", target, "--prometheus", self.prometheus, *words)

    def checks(self, *words: str, target: str = "checkout") -> Result:
        asked = ("checks", "test", target, "-n", "shop", "--prometheus", self.prometheus)
        return self.room.type(*asked, *words)

    def told(self, *words: str, code: int = 0) -> dict[str, Any]:
        result = self.type(*words, "-o", "json")
        assert result.exit_code == code, result.output
        told: dict[str, Any] = json.loads(result.stdout)
        assert told["ok"] is (code == 0)
        return told


def findings(told: dict[str, Any], topic: str = "", level: str = "") -> list[dict[str, Any]]:
    """Those of a report of `doctor` that are of this topic and level."""
    return [
        finding
        for finding in told["findings"]
        if topic in ("", finding["topic"]) and level in ("", finding["level"])
    ]


def facts(told: dict[str, Any]) -> dict[str, Any]:
    """Everything that is known of the metrics."""
    return {
        key: value
        for finding in findings(told, "metrics")
        for key, value in finding["facts"].items()
    }


@contextlib.contextmanager
def practice(
    world: World, folder: Path, *, old: float = 0.0, ahead: float = 0.0
) -> Iterator[Practice]:
    """Serve a world that stands still, with its newest sample so many seconds old.

    The store's clock is so far ahead of this machine's, as its samples and its answers tell.
    """
    store, today = world.prometheus, _Today(ahead)
    shift = today.timestamp() - store._wall.timestamp() - old
    for series in store._series.values():
        series.times = [at + shift for at in series.times]
    store._wall = today  # type: ignore[assignment]

    def serving() -> AbstractAsyncContextManager[str]:
        return prometheus_serving(store, clock=today.timestamp)

    with room(world, folder) as found, thread_serving(serving) as url:
        yield Practice(room=found, prometheus=url)
