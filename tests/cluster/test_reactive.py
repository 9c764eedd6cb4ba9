# SPDX-License-Identifier: Apache-2.0
"""Interception where the mutating policies are not served: the daemon watches, and is a bit late.

What it may cost is known from the Deployment's own strategy: surging pods are taken away before one
of them serves, and of the stable pods as many go as may be unavailable in a native roll.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SYSTEM, Installed, installed
from tests.cluster.lab import records
from tests.cluster.lab.application import PREFIX, App, Object, is_ready, until
from tests.cluster.lab.worker import Cluster
from tests.cluster.scenes import shipped
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
class Pods:
    """The pods of a namespace by the API server's own watch, so that no state is missed."""

    app: App
    now: dict[str, Object] = field(default_factory=dict)
    least: dict[str, int] = field(default_factory=lambda: dict.fromkeys(UNAVAILABLE, REPLICAS))
    """The fewest stable pods of each application that were ready and not going away."""
    early: set[str] = field(default_factory=set)
    """Pods of a new version that were ready without being a canary."""
    canaries: set[str] = field(default_factory=set)
    """Applications one of whose canaries has been ready."""
    begun: set[str] = field(default_factory=set)
    """Applications that have begun to roll by themselves: a pod of the new version is there."""

    def take(self, event: Object) -> None:
        """One event of the watch."""
        pod = event["object"]
        meta = pod["metadata"]
        self.now[meta["name"]] = pod
        if event["type"] == "DELETED":
            del self.now[meta["name"]]
        name, canary = meta["labels"]["app"], PREFIX + "track" in meta["labels"]
        if canary and is_ready(pod):
            self.canaries.add(name)
        elif not canary and _version(pod) != "v1":
            self.begun.add(name)
            if is_ready(pod):
                self.early.add(meta["name"])
        self.least[name] = min(self.least[name], self._stable(name))

    def went(self) -> dict[str, int]:
        """How many stable pods of each application were missing at the worst moment."""
        return {name: REPLICAS - least for name, least in self.least.items()}

    def _stable(self, name: str) -> int:
        return sum(
            _version(pod) == "v1"
            and pod["metadata"]["labels"]["app"] == name
            and is_ready(pod)
            and "deletionTimestamp" not in pod["metadata"]
            for pod in self.now.values()
        )

    async def follow(self, since: str) -> None:
        """Take every event from a version of the collection on, until cancelled."""
        about = {"watch": "true", "resourceVersion": since}
        async with self.app.port.lines(self.app.path("pods"), about) as lines:
            async for line in lines:
                self.take(json.loads(line))


def _version(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"].rpartition(":")[2])


async def _held(shops: Mapping[str, App]) -> bool:
    found = [await shop.read("deployments") for shop in shops.values()]
    return all(deployment["spec"].get("paused") for deployment in found)


@contextlib.asynccontextmanager
async def followed(shop: App) -> AsyncIterator[Pods]:
    """Follow the pods of the shop's namespace; a watch that ends too early fails the test."""
    listed = (await shop.send("GET", shop.path("pods"))).json
    found = Pods(app=shop, now={pod["metadata"]["name"]: pod for pod in listed["items"]})
    task = asyncio.ensure_future(found.follow(listed["metadata"]["resourceVersion"]))
    try:
        yield found
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def rolled_late(daemon: Daemon, shops: Mapping[str, App], pods: Pods) -> None:
    """Deploy while the daemon is busy for a moment, so that each native roll does its first step.

    Left alone it wins against the second half of that step most of the time.
    """
    assert daemon.process is not None

    async def first_step() -> bool:
        wanted = {name: most for name, (_, most) in UNAVAILABLE.items()}
        return pods.begun == set(shops) and pods.went() == wanted

    daemon.process.send_signal(signal.SIGSTOP)
    try:
        for shop in shops.values():
            await shop.deploy("v2", ENV)
        await until(first_step, 10.0, lambda: f"{pods.begun}, {pods.went()}", every=0.01)
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
    async with followed(shops["none"]) as pods:
        await rolled_late(daemon, shops, pods)
        late = time.monotonic()
        await until(lambda: _held(shops), 30.0, daemon.log, every=0.05)
        took = time.monotonic() - late
        await until(lambda: _all_in(lab, "Judging"), 90.0, daemon.log)
        sys.stderr.write(f"held after {took:.1f} s; stable pods that went: {pods.went()}\n")
        assert pods.canaries == set(shops)
        assert pods.early == set()
        assert pods.went() == {name: most for name, (_, most) in UNAVAILABLE.items()}
    await until(lambda: _all_in(lab, *records.AT_REST), records.RUN_SECONDS, daemon.log)
    runs = await records.runs(lab.api, SYSTEM)
    assert [run["outcome"] for run in runs] == ["promoted"] * 2, daemon.log()
    for shop in shops.values():
        await shop.complete()
        assert not (await shop.read("deployments"))["spec"].get("paused")
    assert await shops["none"].ready() == {"v2": 2 * REPLICAS}
    # What may be unavailable may cost requests; where nothing may, nothing does.
    assert loads["none"].failures == {}
