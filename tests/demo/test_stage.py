# SPDX-License-Identifier: Apache-2.0
"""The real parts around a canary that is steered by hand: Traefik splits, Prometheus sees it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from controller.demo import binaries, manifests, measure, simulated
from controller.demo.api import Api
from controller.demo.counts import share
from controller.demo.measure import LAG_SECONDS, Weights
from controller.demo.stage import Stage, stage

pytestmark = pytest.mark.slow

DEADLINE_SECONDS = 30.0
CANARY = {"app": manifests.APP, "track": "hand"}
WHERE = manifests.NAMESPACE, manifests.APP


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


async def weigh(api: Api, percent: int) -> None:
    """Send so much to the canary."""
    rules = manifests.route()["spec"]["rules"]
    rules[0]["backendRefs"] = [
        {"name": manifests.APP, "port": 80, "weight": 100 - percent},
        {"name": f"{manifests.APP}-canary", "port": 80, "weight": percent},
    ]
    await api.patch("HTTPRoute", *WHERE, {"spec": {"rules": rules}})


async def by_hand(api: Api) -> None:
    """Pin the Service and start a canary whose answers are all bad."""
    pods = await api.list("Pod", manifests.NAMESPACE)
    version = pods[0]["metadata"]["labels"]["pod-template-hash"]
    pin = {"spec": {"selector": {"pod-template-hash": version}}}
    await api.patch("Service", *WHERE, pin)
    deployment = manifests.deployment("v2", {"ERROR_RATE": "1"}, {}, replicas=1)
    deployment["metadata"]["name"] = f"{manifests.APP}-canary"
    deployment["spec"]["selector"]["matchLabels"] = CANARY
    deployment["spec"]["template"]["metadata"]["labels"] = CANARY
    service = manifests.service()
    service["metadata"]["name"] = f"{manifests.APP}-canary"
    service["spec"]["selector"] = CANARY
    await api.create(service)
    await api.create(deployment)

    async def ready() -> bool:
        found = await api.get("Deployment", manifests.NAMESPACE, f"{manifests.APP}-canary")
        return bool(found.get("status", {}).get("availableReplicas") == 1)

    await until(ready)


async def split(scene: Stage) -> None:
    """10 % for long enough to count, then nothing."""
    weights = Weights()
    watch = asyncio.ensure_future(weights.follow(scene.api, manifests.NAMESPACE))

    async def watched() -> bool:
        return bool(weights.changes)

    await until(watched)
    await weigh(scene.api, 10)
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
    await weigh(scene.api, 0)

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
        await by_hand(scene.api)
        await split(scene)
        pids = dict(scene.pids)
        assert scene.seen.failures() == {}
        assert {v for slot in scene.seen.slots for v in slot.direct} == {"v1"}
        assert {name for name, pid in pids.items() if runs(pid)} == set(pids)
    assert {name for name, pid in pids.items() if runs(pid)} == set()
