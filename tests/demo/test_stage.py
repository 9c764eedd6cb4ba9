# SPDX-License-Identifier: Apache-2.0
"""The real parts around a canary that is steered by hand: Traefik splits, Prometheus sees it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from controller.demo import binaries, manifests, measure, simulated
from controller.demo.counts import share
from controller.demo.measure import LAG_SECONDS, Weights
from controller.demo.stage import Stage, stage
from tests.support import by_hand

pytestmark = pytest.mark.slow

DEADLINE_SECONDS = 30.0


async def until(question: Callable[[], Awaitable[Any]]) -> Any:
    """The first true answer to a question that is asked again and again."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if found := await question():
                return found
            await asyncio.sleep(0.05)


def runs(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


async def split(scene: Stage) -> None:
    """10 % for long enough to count, then nothing."""
    weights = Weights()
    watch = asyncio.ensure_future(weights.follow(scene.api, manifests.NAMESPACE))

    async def watched() -> bool:
        return bool(weights.changes)

    await until(watched)
    await by_hand.weigh(scene.api, 10)
    begin = time.time() + LAG_SECONDS

    async def counted() -> bool:
        recent = scene.seen.between(begin, time.time())
        return sum(slot.tracks["v2"].bad for slot in recent if "v2" in slot.tracks) >= 100

    await until(counted)
    got = share(scene.seen.between(begin, time.time()), lambda version: version == "v2")
    assert got == pytest.approx(0.1, abs=0.01)

    async def visible() -> float | None:
        return await measure.first_bad(scene.ground)

    # A scrape cannot show what had not happened yet.
    assert await until(visible) >= begin - LAG_SECONDS
    asked = time.time()
    await by_hand.weigh(scene.api, 0)

    async def stopped() -> bool:
        last = scene.seen.last("v2")
        return last is not None and time.time() - last > 1.0

    await until(stopped)
    watch.cancel()
    assert [weight for _, weight in weights.changes] == [0, 1000, 0]
    assert (weights.zero_after(asked) or 0) >= asked


async def test_weights_by_hand_reach_clients_and_metrics(tmp_path: Path) -> None:
    ground = simulated.ground(binaries.find(), tmp_path)
    async with stage(
        ground, tmp_path, annotations={"policy": "fast"}, rate=200.0, with_daemon=False
    ) as scene:
        await by_hand.pin(scene.api)
        await by_hand.canary(scene.api, {"ERROR_RATE": "1"})
        await split(scene)
        pids = dict(scene.pids)
        assert scene.seen.failures() == {}
        assert {v for slot in scene.seen.slots for v in slot.direct} == {"v1"}
        assert {name for name, pid in pids.items() if runs(pid)} == set(pids)
    assert {name for name, pid in pids.items() if runs(pid)} == set()
