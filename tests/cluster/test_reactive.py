# SPDX-License-Identifier: Apache-2.0
"""Interception where the mutating policies are not served: the daemon watches, and is a bit late.

What it may cost is known from the Deployment's own strategy: surging pods are taken away before one
of them serves, and of the stable pods as many go as may be unavailable in a native roll.
"""

import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SYSTEM, Installed, installed
from tests.cluster.lab import records
from tests.cluster.lab.application import PREFIX, App, Object, is_ready, until, version_of
from tests.cluster.lab.worker import Cluster
from tests.cluster.scenes import followed, shipped
from tests.support.realtime import Daemon

pytestmark = [pytest.mark.timeout(500), pytest.mark.once]

POLICY = {"policy": "fast", "steps": "25@3s", "bake": "3s"}
REPLICAS = 4

ENV = {"READY_SECONDS": "2"}
"""Pods that serve at once are found in labs alone; these leave a busy machine time to react."""

UNAVAILABLE = {"none": (0, 0), "quarter": ("25%", 1)}
"""By application: what its strategy lets be unavailable, and how many pods of four these are."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(cluster: Cluster) -> AsyncIterator[Installed]:
    """As on Kubernetes before 1.36: rights and refusals, and nothing that holds a change."""
    async with installed(cluster, "overlays/before-1.36") as found:
        yield found


@dataclass(slots=True, kw_only=True)
class Seen:
    """What was seen of the pods of a namespace, from one event to the next."""

    least: dict[str, int] = field(default_factory=lambda: dict.fromkeys(UNAVAILABLE, REPLICAS))
    """The fewest stable pods of each application that were ready and not going away."""
    early: set[str] = field(default_factory=set)
    """Pods of a new version that were ready without being a canary."""
    canaries: set[str] = field(default_factory=set)
    """Applications one of whose canaries has been ready."""
    begun: set[str] = field(default_factory=set)
    """Applications that have begun to roll by themselves: a pod of the new version is there."""

    def look(self, pods: Collection[Object]) -> None:
        """All pods as they are now."""
        stable: Counter[str] = Counter()
        for pod in pods:
            meta = pod["metadata"]
            name, ready = meta["labels"]["app"], is_ready(pod)
            if PREFIX + "track" in meta["labels"]:
                self.canaries |= {name} if ready else set()
            elif version_of(pod) != "v1":
                self.begun.add(name)
                self.early |= {meta["name"]} if ready else set()
            elif ready and "deletionTimestamp" not in meta:
                stable[name] += 1
        self.least = {name: min(least, stable[name]) for name, least in self.least.items()}

    def went(self) -> dict[str, int]:
        """How many stable pods of each application were missing at the worst moment."""
        return {name: REPLICAS - least for name, least in self.least.items()}


async def _held(shops: Mapping[str, App]) -> bool:
    found = [await shop.read("deployments") for shop in shops.values()]
    return all(deployment["spec"].get("paused") for deployment in found)


async def rolled_late(daemon: Daemon, shops: Mapping[str, App], seen: Seen) -> None:
    """Deploy while the daemon is busy for a moment, so that each native roll does its first step.

    Left alone it wins against the second half of that step most of the time.
    """
    assert daemon.process is not None

    async def first_step() -> bool:
        wanted = {name: most for name, (_, most) in UNAVAILABLE.items()}
        return seen.begun == set(shops) and seen.went() == wanted

    daemon.process.send_signal(signal.SIGSTOP)
    try:
        for shop in shops.values():
            await shop.deploy("v2", ENV)
        await until(first_step, 10.0, lambda: f"{seen.begun}, {seen.went()}", every=0.01)
    finally:
        daemon.process.send_signal(signal.SIGCONT)


async def _all_in(lab: Lab, *phases: str) -> bool:
    runs = await records.runs(lab.api, SYSTEM)
    return len(runs) == len(UNAVAILABLE) and all(run["phase"] in phases for run in runs)


async def test_no_new_pod_serves_before_the_canary_and_the_strategy_bounds_the_price(
    guarded: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """A change that nobody held in time is held all the same, and then tried and promoted."""
    daemon, _ = await shipped(guarded, lab, space)
    shops = {name: app(name) for name in UNAVAILABLE}
    for name, shop in shops.items():
        rolling = {"maxUnavailable": UNAVAILABLE[name][0], "maxSurge": 1}
        about = {"annotations": POLICY, "env": ENV, "strategy": {"rollingUpdate": rolling}}
        await shop.start(replicas=REPLICAS, **about)
    await daemon.start()
    for shop in shops.values():
        await shop.adopted(daemon.log)
    loads = {name: await lab.load(shop, rate=60.0) for name, shop in shops.items()}
    seen = Seen()
    async with followed(shops["none"], seen.look):
        await rolled_late(daemon, shops, seen)
        late = time.monotonic()
        await until(lambda: _held(shops), 30.0, daemon.log, every=0.05)
        took = time.monotonic() - late
        await until(lambda: _all_in(lab, "Judging"), 90.0, daemon.log)
        sys.stderr.write(f"held after {took:.1f} s; stable pods that went: {seen.went()}\n")
        assert seen.canaries == set(shops)
        assert seen.early == set()
        assert seen.went() == {name: most for name, (_, most) in UNAVAILABLE.items()}
    await until(lambda: _all_in(lab, *records.AT_REST), records.RUN_SECONDS, daemon.log)
    runs = await records.runs(lab.api, SYSTEM)
    assert [run["outcome"] for run in runs] == ["promoted"] * 2, daemon.log()
    for shop in shops.values():
        await shop.complete()
        assert not (await shop.read("deployments"))["spec"].get("paused")
    assert await shops["none"].ready() == {"v2": 2 * REPLICAS}
    # What may be unavailable may cost requests; where nothing may, nothing does.
    assert loads["none"].failures == {}
