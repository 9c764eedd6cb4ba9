# SPDX-License-Identifier: Apache-2.0
"""`doctor` on a whole cluster with its Prometheus, before anything was ever rolled out."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from controller.sim import clock
from controller.sim.world import World
from tests.cli.room import Room, room, thread_serving, typed
from tests.engine.house import NAMESPACE, POLICY, House, house
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
