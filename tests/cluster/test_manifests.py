# SPDX-License-Identifier: Apache-2.0
"""The shipped manifests, applied as they are, and the product running from them as pods."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.cluster import sockets
from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SYSTEM, Installed, installed, monitored, specs
from tests.cluster.lab import records
from tests.cluster.lab.application import App, until
from tests.cluster.lab.worker import Cluster, Refusal
from tests.cluster.people import enter
from tests.cluster.replicas import READY_SECONDS, available, leader, log, pods
from tests.manifests.rendered import FOLDERS, kustomized

pytestmark = pytest.mark.timeout(600)

Object = dict[str, Any]
POLICY = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def central(cluster: Cluster) -> AsyncIterator[Installed]:
    """`overlays/central` with its pods, and the token of the doors."""
    async with installed(cluster, "overlays/central", pods=True) as found:
        secret = ("create", "secret", "generic", "switchgear-doors", "--from-literal=token=t0ken")
        await asyncio.to_thread(cluster.kubectl, *secret, "-n", SYSTEM)
        yield found


@pytest.mark.usefixtures("operator")
async def test_everything_is_valid_by_a_server_side_dry_run(cluster: Cluster) -> None:
    """Each object of each folder, where the kinds of the Prometheus Operator are known."""
    spaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for name in (SYSTEM, "shop")
    ]
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(spaces))
    try:
        for folder in FOLDERS:
            objects = kustomized(folder)
            text = yaml.safe_dump_all(objects)
            apply = ("apply", "--server-side", "--dry-run=server", "-f", "-")
            said = cluster.kubectl(*apply, stdin=text)
            assert said.count("serverside-applied (server dry run)") == len(objects)
    finally:
        cluster.kubectl("delete", "namespace", SYSTEM, "shop")


@pytest.mark.usefixtures("operator")
async def test_the_monitoring_is_what_the_prometheus_operator_takes(cluster: Cluster) -> None:
    """By the operator's own schema, which refuses what it does not know."""
    async with installed(cluster, "base", "monitoring"):
        assert monitored(cluster) == specs(kustomized("monitoring"))
        text = yaml.safe_dump_all(kustomized("monitoring")).replace("path:", "paths:")
        with pytest.raises(Refusal, match=r"podMetricsEndpoints.*paths"):
            cluster.kubectl("apply", "--server-side", "-f", "-", stdin=text)


async def test_two_replicas_run_and_one_leads(central: Installed, cluster: Cluster) -> None:
    """Both are ready, so that both obey a kill; the lease names one of them."""
    await available(cluster)

    async def led() -> bool:
        return bool(leader(cluster))

    await until(led, READY_SECONDS, f"somebody leads: {log(cluster)}")
    names = {pod["metadata"]["name"] for pod in pods(cluster)}
    assert len(names) == 2
    assert leader(cluster) in names
    assert central.controller.exists()


@pytest.mark.once
async def test_a_run_from_the_manifests_and_its_maker(
    central: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Held by admission, judged by the pod that leads, promoted; the journal names who made it."""
    await available(lab.cluster)
    shop = app()
    await shop.start(annotations=POLICY)
    alice, _ = enter(lab.cluster, space.name)
    await shop.adopted(lambda: log(lab.cluster), READY_SECONDS)
    load = await lab.load(shop)
    lab.cluster.kubectl(
        *("-n", space.name, "set", "image", "deployment/checkout", "app=registry.example/app:v2"),
        kubeconfig=alice,
    )
    await records.ended(lab.api, SYSTEM, "promoted", lambda: log(lab.cluster))
    assert load.failures == {}
    await shop.complete()
    assert await shop.ready() == {"v2": 4}
    journal = await records.journal(lab.api, SYSTEM)
    assert [record["actor"] for record in journal if record["kind"] == "begun"] == ["alice"]
    assert await shop.annotation("hold") is None
    assert set(restarts(lab.cluster).values()) == {0}, "no probe has given one up"
    assert central.controller.exists()


@pytest.mark.deep
async def test_a_replica_that_hangs_is_started_again(central: Installed, cluster: Cluster) -> None:
    """The probes that are shipped find nothing until then; the other replica leads meanwhile."""
    await available(cluster)
    assert set(restarts(cluster).values()) == {0}
    hung = leader(cluster)
    for pid, name in sockets.of_pods("SWITCHGEAR_POD_NAME").items():
        if name == hung:
            os.kill(pid, signal.SIGSTOP)

    async def other() -> bool:
        return leader(cluster) not in {"", hung}

    async def again() -> bool:
        return restarts(cluster)[hung] == 1

    await until(other, 15.0, f"the other replica leads: {log(cluster)}")
    # Three periods of the probe, and the grace of the pod, which does not hear SIGTERM.
    await until(again, 90.0, lambda: f"{restarts(cluster)}")
    await available(cluster)
    assert sorted(restarts(cluster).values()) == [0, 1]
    assert central.controller.exists()


def restarts(cluster: Cluster) -> dict[str, int]:
    """How often the only container of each of our pods was started again."""
    return {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in pods(cluster)
    }


async def test_the_leader_is_replaced(central: Installed, cluster: Cluster) -> None:
    """A pod that is deleted gives the lease back, and the other one takes it."""
    await available(cluster)
    before = leader(cluster)
    await asyncio.to_thread(cluster.kubectl, "delete", "pod", before, "-n", SYSTEM)

    async def other() -> bool:
        return leader(cluster) not in {"", before}

    await until(other, 15.0, f"the other replica leads: {log(cluster)}")
    await available(cluster)
    assert central.controller.exists()


async def test_only_restricted_pods_are_let_into_the_namespace(
    central: Installed, cluster: Cluster
) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": SYSTEM},
        "spec": {"containers": [{"name": "a", "image": "pause:1"}]},
    }
    with pytest.raises(Refusal, match="restricted"):
        cluster.kubectl("create", "-f", "-", stdin=yaml.safe_dump(pod))
    assert central.controller.exists()


async def test_a_drain_leaves_one_replica(central: Installed, cluster: Cluster) -> None:
    """The budget lets one pod be evicted, and not the other before it is replaced."""
    await available(cluster)
    first, second = (pod["metadata"]["name"] for pod in pods(cluster))
    await asyncio.to_thread(_evict, cluster, first)
    with pytest.raises(Refusal, match="disruption budget"):
        await asyncio.to_thread(_evict, cluster, second)
    await available(cluster)
    assert central.controller.exists()


def _evict(cluster: Cluster, name: str) -> None:
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": SYSTEM},
    }
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{name}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
