# SPDX-License-Identifier: Apache-2.0
"""Surroundings that do as they like: quotas, drains, scalers to 0, deletions, a frozen daemon.

In each case the run ends, the world is as it was or with the new version, and the journal holds.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SYSTEM, Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import PREFIX, App, Object, until
from tests.cluster.lab.kubelet.nodes import NODES
from tests.cluster.lab.traffic import Traffic
from tests.cluster.lab.worker import Refusal
from tests.cluster.people import killed_by
from tests.cluster.scenes import shipped
from tests.support.dialects import MERGE

pytestmark = pytest.mark.timeout(600)

POLICY = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s", "after-trip": "next-revision"}
LONG = {**POLICY, "steps": "50@30s"}
DRAINS = {"DRAIN_SECONDS": "4"}
"""Pods that are evicted under traffic fail nothing only if they go on answering for a while."""


async def untouched(app: App) -> bool:
    """Nothing of ours is left but annotations that tell how a target is seen, and a pause."""
    names = [d["metadata"]["name"] for d in await app.every("deployments")]
    services = [s["metadata"]["name"] for s in await app.every("services")]
    selector = (await app.read("services"))["spec"]["selector"]
    weights = await app.weights()
    return (names, services, selector, weights) == (
        [app.name],
        [app.name],
        {"app": app.name},
        {app.name: 1},
    )


def quota(pods: int) -> Object:
    return {"metadata": {"name": "room"}, "spec": {"hard": {"pods": str(pods)}}}


async def set_quota(app: App, pods: int) -> None:
    """Set it, and wait until the API server's controller has counted by it."""
    path = f"/api/v1/namespaces/{app.namespace}/resourcequotas"
    if (await app.send("POST", path, quota(pods))).status == 409:
        answer = await app.send("PATCH", f"{path}/room", quota(pods), MERGE)
        assert answer.status == 200, answer.content

    async def counted() -> bool:
        found = (await app.send("GET", f"{path}/room")).json.get("status") or {}
        return found.get("hard") == {"pods": str(pods)} and "pods" in (found.get("used") or {})

    await until(counted, 60.0, "the quota is counted")


@pytest.mark.once
async def test_a_quota_before_and_in_mid_run(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Refused with the numbers; when there is room it begins; when that is taken away it ends."""
    shop = app()
    daemon, own = await shipped(gate, lab, space, options=("--ready-seconds=10",))
    await shop.start(annotations=POLICY, replicas=2)
    await set_quota(shop, 3)
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    await shop.deploy("v2")
    state = await records.reached(lab.api, own.system, "Held", log=daemon.log)
    assert "needs 2 more pods and the quota leaves 1" in state["reason"]
    assert await untouched(shop)

    await set_quota(shop, 6)
    await records.reached(lab.api, own.system, "Judging", log=daemon.log)
    # One canary pod is there; the second, for the bake, has no room any more.
    await set_quota(shop, 3)
    state = await records.ended(lab.api, own.system, "inconclusive", daemon.log)
    assert state["reason"].startswith("1 of 2 canary pods are ready after")
    await until(lambda: untouched(shop), 30.0, "nothing of ours is left")
    assert await shop.ready() == {"v1": 2}
    await load.until_answered(100)
    assert load.failures == {}
    await records.journal(lab.api, own.system)


async def scaled(app: App, replicas: int) -> None:
    """Do what KEDA does, and wait until it is so."""
    answer = await app.send(
        "PATCH",
        f"{app.path('deployments', app.name)}/scale",
        {"spec": {"replicas": replicas}},
        MERGE,
    )
    assert answer.status == 200, answer.content

    async def so() -> bool:
        found = await app.read("deployments")
        return int(found.get("status", {}).get("readyReplicas", 0)) == replicas

    await until(so, 90.0, f"{replicas} pods are ready")


@dataclass(slots=True, kw_only=True)
class Nights:
    """When a scaler left nobody to answer, as seconds since 1970, from its word to the first quiet
    second after its next one.
    """

    shop: App
    load: Traffic
    spans: list[tuple[float, float]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def fallen(self) -> AsyncIterator[None]:
        """To 0, and back to two when the block is over."""
        begin = time.time()
        await scaled(self.shop, 0)
        yield
        await scaled(self.shop, 2)
        await self.load.quiet(1.0)
        self.spans.append((begin, time.time()))

    def by_day(self) -> list[float]:
        """The ends of all slots in which something failed outside of them."""
        failed = self.load.failed_at()
        return [at for at in failed if not any(begin < at < end for begin, end in self.spans)]


@pytest.mark.once
async def test_scaled_to_0_and_back(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """At rest, in mid-run and while a failed version is held.

    Clients lose what comes while there is nobody, and nothing before and after; and whoever met
    another version than stable met it in its step.
    """
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    await shop.start(annotations=LONG, replicas=2)
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    nights = Nights(shop=shop, load=load)
    async with nights.fallen():
        assert await shop.pods() == []
    assert await shop.ready() == {"v1": 2}

    await shop.deploy("v2")
    await records.reached(lab.api, own.system, "Judging", log=daemon.log)

    async def empty() -> bool:
        return await shop.pods() == [] and await untouched(shop)

    async with nights.fallen():
        await until(empty, 60.0, lambda: f"the canary has followed: {daemon.log()}")
    assert (await shop.ready())["v1"] == 2
    bad = {"metadata": {"annotations": {PREFIX + "steps": "50@3s"}}}
    assert (await shop.patch("deployments", bad)).status == 200
    await shop.deploy("v3", {"ERROR_RATE": "0.6"})

    async def overtaken() -> bool:
        return len(await records.runs(lab.api, own.system)) == 2

    await until(overtaken, 60.0, daemon.log)
    await records.tripped_in(lab.api, own.system, "Judging", daemon.log, most_bp=5_000)
    async with nights.fallen():
        assert await shop.pods() == []
    assert await shop.ready() == {"v1": 2}
    assert (await shop.read("deployments"))["spec"]["paused"] is True
    held, back = nights.spans[-1]
    await load.until_answered(100)
    assert nights.by_day() == [], load.failures
    assert load.direct().keys() == {"v1"}
    assert load.answers("v1").bad == load.answers("v2").bad == 0
    assert load.answers("v1", since=back).total >= 100
    assert load.answers("v3").bad > 0
    assert load.answers("v3", since=held + 1.0).total == 0, "it is held"
    await records.journal(lab.api, own.system)


@pytest.mark.once
async def test_a_node_is_drained_in_mid_run(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Pods of both tracks are evicted as the budget allows; the run goes on and ends well."""
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    await shop.start(annotations=LONG, replicas=4, env=DRAINS)
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": shop.name}}}
    await shop.create("poddisruptionbudgets", {"metadata": {"name": "one"}, "spec": budget})
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    await shop.deploy("v2", DRAINS)
    await records.reached(lab.api, own.system, "Judging", log=daemon.log)
    before = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in await shop.pods()}
    # The scheduler spreads them over all pods of a node, so that which one has both tracks varies.
    canary = f"{shop.name}-canary-"
    tracks = {
        node: {name.startswith(canary) for name, place in before.items() if place == node}
        for node in NODES
    }
    drained = max(tracks, key=lambda node: (len(tracks[node]), True in tracks[node]))
    assert True in tracks[drained]
    try:
        await asyncio.to_thread(
            lab.cluster.kubectl,
            *("drain", drained, "--force", "--ignore-daemonsets", "--delete-emptydir-data"),
            *(f"--pod-selector=app={shop.name}", "--timeout=80s"),
        )
    finally:
        await asyncio.to_thread(lab.cluster.kubectl, "uncordon", drained)
    await records.ended(lab.api, own.system, "promoted", daemon.log)
    await shop.complete()
    assert await shop.ready() == {"v2": 4}
    await until(lambda: untouched(shop), 30.0, "nothing of ours is left")
    assert load.failures == {}
    await records.journal(lab.api, own.system)


@pytest.mark.once
async def test_a_budget_that_allows_nothing_does_not_hinder_a_run(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """We evict nobody: a bad version goes although no pod may be disrupted."""
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    await shop.start(annotations=POLICY, replicas=2)
    budget = {"maxUnavailable": 0, "selector": {"matchLabels": {"app": shop.name}}}
    await shop.create("poddisruptionbudgets", {"metadata": {"name": "none"}, "spec": budget})
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    await shop.deploy("v2", {"ERROR_RATE": "0.6"})
    await records.tripped_in(lab.api, own.system, "Judging", daemon.log, most_bp=500)
    assert await shop.ready() == {"v1": 2}
    assert await untouched(shop)
    with pytest.raises(Refusal, match="disruption budget"):
        await asyncio.to_thread(_evict, lab, shop, (await shop.pods())[0]["metadata"]["name"])
    assert load.failures == {}


def _evict(lab: Lab, shop: App, name: str) -> None:
    path = f"/api/v1/namespaces/{shop.namespace}/pods/{name}/eviction"
    body = (
        f'{{"apiVersion": "policy/v1", "kind": "Eviction",'
        f' "metadata": {{"name": "{name}", "namespace": "{shop.namespace}"}}}}'
    )
    lab.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=body)


async def test_the_namespace_is_deleted_in_mid_run(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """The run ends, the daemon goes on, and the namespace made again is served like any other."""
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    await shop.start(annotations=LONG, replicas=2)
    await daemon.start()
    await shop.adopted(daemon.log)
    await lab.load(shop)
    await shop.deploy("v2")
    await records.reached(lab.api, own.system, "Judging", log=daemon.log)
    await asyncio.to_thread(lab.cluster.kubectl, "delete", "namespace", space.name, "--wait=true")
    await records.ended(lab.api, own.system, "gone", daemon.log)
    await records.journal(lab.api, own.system)
    await asyncio.to_thread(lab.cluster.kubectl, "create", "namespace", space.name)

    async def accounts() -> bool:
        path = f"/api/v1/namespaces/{space.name}/serviceaccounts/default"
        return (await lab.api.request("GET", path, {}, {}, b"")).status == 200

    await until(accounts, 30.0, "the default service account")
    await shop.start(annotations=POLICY, replicas=1)
    await shop.adopted(daemon.log)
    assert await untouched(shop)
    assert daemon.process is not None
    assert daemon.process.returncode is None


def oncall(lab: Lab) -> Path:
    """A person who may stop everything: by the roles that are shipped for it, and no other."""
    cluster = lab.cluster
    whole = ("clusterrolebinding", "oncall-kill")
    own = ("rolebinding", "oncall-kill", f"--namespace={SYSTEM}")
    cluster.kubectl("create", *whole, "--clusterrole=switchgear-killer", "--user=oncall")
    lab.stack.callback(cluster.kubectl, "delete", *whole)
    cluster.kubectl("create", *own, "--role=switchgear-killer", "--user=oncall")
    lab.stack.callback(cluster.kubectl, "delete", *own)
    return cluster.kubeconfig_for("oncall")


@pytest.mark.once
async def test_a_frozen_daemon(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """The weight stays where it is; continued the run goes on, and a kill meanwhile is obeyed."""
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    await shop.start(annotations={**POLICY, "steps": "5@6s,50@6s"}, replicas=2)
    before = (await shop.of_git())["httproutes"]["spec"]
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    assert daemon.process is not None
    await shop.deploy("v2")
    await records.reached(lab.api, own.system, "Judging", log=daemon.log)
    daemon.process.send_signal(signal.SIGSTOP)
    weights = await shop.weights()
    assert 0 < weights[f"{shop.name}-canary"] * 19 <= weights[shop.name]
    await load.until_answered(1000, within=90.0)
    assert await shop.weights() == weights
    daemon.process.send_signal(signal.SIGCONT)
    await records.ended(lab.api, own.system, "promoted", daemon.log)
    await shop.complete()

    await shop.deploy("v3")
    await until(lambda: _exposed(shop), 90.0, daemon.log())
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        # Before the commit it needs nobody's help: weight 0 is written and read back. What the
        # daemon had on its way cannot arrive any more, and the policies let that mark pass as well.
        status, told = await killed_by(oncall(lab), own.system)
        assert status == 0, told
        notes = (await shop.read("httproutes"))["metadata"]["annotations"]
        assert notes[PREFIX + "epoch"] == "0"
        assert (await shop.weights())[f"{shop.name}-canary"] == 0
        assert (await shop.ready())["v2"] >= 2
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    state = await records.ended(lab.api, own.system, "killed", daemon.log)
    assert state["phase"] == "Held"
    assert await shop.ready() == {"v2": 2}
    assert (await shop.of_git())["httproutes"]["spec"] == before
    assert await untouched(shop)
    assert load.failures == {}
    await records.journal(lab.api, own.system)


async def _exposed(app: App) -> bool:
    return any(
        weight > 0 for name, weight in (await app.weights()).items() if name.endswith("-canary")
    )
