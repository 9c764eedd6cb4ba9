# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what its pods, its data plane and its Prometheus do is what a cluster does."""

import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.lab import leftovers
from tests.cluster.lab.application import App, deployment, until
from tests.cluster.lab.kubelet.nodes import NODES
from tests.cluster.lab.worker import Cluster
from tests.support.dialects import MERGE
from tests.support.realtime import ROOT
from tests.support.untested import untested
from tests.support.world import REAL, World

SERIES = {
    "traefik": 'traefik_service_requests_total{{service=~".*{}-checkout.*"}} > 50',
    "envoy": 'envoy_cluster_upstream_rq{{envoy_cluster_name=~"{}_checkout_.*"}} > 50',
}

pytestmark = pytest.mark.timeout(180)


async def waiting(app: App) -> set[str]:
    """The reasons for which containers wait."""
    return {
        status["state"].get("waiting", {}).get("reason", "")
        for pod in await app.pods()
        for status in pod.get("status", {}).get("containerStatuses", ())
    }


async def test_pods_become_ready_and_answer(lab: Lab, app: Callable[..., App]) -> None:
    shop = app()
    await shop.start(replicas=3)
    assert await shop.ready() == {"v1": 3}
    load = await lab.load(shop)
    await load.until_answered(100)
    assert load.failures == {}
    assert load.direct().keys() == {"v1"}
    slices = await shop.every("endpointslices")
    assert sum(len(found["endpoints"]) for found in slices) == 3


@pytest.mark.parametrize(
    ("image", "env", "reason"),
    [
        ("app:v1", {"CRASH": "1"}, "CrashLoopBackOff"),
        ("app:missing", {}, "ImagePullBackOff"),
    ],
)
async def test_containers_that_do_not_start(
    app: Callable[..., App], image: str, env: dict[str, str], reason: str
) -> None:
    shop = app()
    version = image.partition(":")[2]
    await shop.create("deployments", deployment("checkout", version=version, env=env, replicas=1))

    async def so() -> bool:
        return reason in await waiting(shop)

    await until(so, 30.0, reason)
    assert await shop.ready() == {}


async def test_a_crash_and_running_out_of_memory_are_told_apart(app: Callable[..., App]) -> None:
    shop = app()
    for name, key in (("crash", "CRASH_SECONDS"), ("memory", "OOM_SECONDS")):
        await shop.create("deployments", deployment(name, replicas=1, env={key: "0.5"}))
    found: dict[str, Any] = {}

    async def both() -> bool:
        for pod in await shop.pods():
            status = pod["status"].get("containerStatuses", [{}])[0]
            ended = status.get("lastState", {}).get("terminated")
            if ended and status["restartCount"]:
                found[pod["metadata"]["labels"]["app"]] = (ended["exitCode"], ended["reason"])
        return len(found) == 2

    await until(both, 30.0, "two containers were restarted")
    assert found == {"crash": (1, "Error"), "memory": (137, "OOMKilled")}


async def test_a_pod_without_a_place_is_pending(app: Callable[..., App]) -> None:
    shop = app()
    made = deployment("checkout", replicas=1)
    made["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "none"}
    await shop.create("deployments", made)

    async def told() -> bool:
        pods = await shop.pods()
        conditions = [c for pod in pods for c in pod.get("status", {}).get("conditions", ())]
        return any(c.get("reason") == "Unschedulable" for c in conditions)

    await until(told, 20.0, "Unschedulable")
    assert [pod["status"]["phase"] for pod in await shop.pods()] == ["Pending"]


async def test_a_drained_node_moves_its_pods(lab: Lab, app: Callable[..., App]) -> None:
    """Of a node that has some: which one that is depends on what other tests have left there."""
    shop = app()
    await shop.start(replicas=4)
    node = str((await shop.pods())[0]["spec"]["nodeName"])
    drain = ("drain", node, "--force", f"--pod-selector=app={shop.name}", "--timeout=60s")
    try:
        await asyncio.to_thread(lab.cluster.kubectl, *drain)
        await shop.complete()
        assert {pod["spec"]["nodeName"] for pod in await shop.pods()} == set(NODES) - {node}
    finally:
        lab.cluster.kubectl("uncordon", node)


async def test_pods_that_drain_answer_until_they_are_gone(
    lab: Lab, app: Callable[..., App]
) -> None:
    """A restart of pods that drain fails nobody."""
    shop = app()
    await shop.start(replicas=2, env={"DRAIN_SECONDS": "4"})
    load = await lab.load(shop)
    await asyncio.to_thread(
        lab.cluster.kubectl, "rollout", "restart", "deployment/checkout", "-n", shop.namespace
    )
    await shop.complete()
    await load.until_answered(200)
    assert load.failures == {}


@pytest.mark.parametrize("gateway", ["traefik", "envoy"])
async def test_weights_split_traffic(lab: Lab, app: Callable[..., App], gateway: str) -> None:
    """Two gateways stand side by side, and each sees only the routes that name it."""
    assert getattr(lab, gateway)
    one, two = app(gateway=gateway), app("other", gateway=gateway)
    await one.start(replicas=1)
    await two.start(replicas=1, version="v2")
    backends = [{"name": n, "port": 80, "weight": w} for n, w in (("checkout", 80), ("other", 20))]
    change = {"spec": {"rules": [{"backendRefs": backends}]}}
    answer = await one.patch("httproutes", change, mime=MERGE)
    assert answer.status == 200, answer.content
    load = await lab.load(one)

    async def both() -> bool:
        return load.answers("v2").total > 0

    await until(both, 20.0, "the second version answers")
    before = load.answers("v1").total, load.answers("v2").total
    await load.until_answered(1000)
    first, second = (load.answers(v).total - n for v, n in zip(("v1", "v2"), before, strict=True))
    # Traefik deals exactly, Envoy throws dice: four standard deviations of 1,000 are 5 %.
    assert abs(second / (first + second) - 0.2) < 0.05
    assert load.failures == {}


@pytest.mark.parametrize("gateway", ["traefik", "envoy"])
async def test_prometheus_has_series_of_the_gateway_and_of_pods(
    lab: Lab, space: Space, app: Callable[..., App], gateway: str
) -> None:
    assert getattr(lab, gateway)
    shop = app(gateway=gateway)
    await shop.start(replicas=2)
    load = await lab.load(shop)
    own = f'http_requests_total{{namespace="{space.name}", code="200"}}'
    series = SERIES[gateway].format(space.name)

    async def counted() -> bool:
        pods = [value for _, value in await lab.query(own) if value]
        return len(pods) == 2 and bool(await lab.query(series))

    await load.until_answered(100)
    await until(counted, 20.0, f"{own} and {series}", every=0.5)
    assert {labels["pod"] for labels, _ in await lab.query(own)} == {
        pod["metadata"]["name"] for pod in await shop.pods()
    }


async def test_people_and_service_accounts_have_names_and_limits(lab: Lab, space: Space) -> None:
    """And whatever anybody did stands in the audit log."""
    cluster = lab.cluster
    alice = cluster.kubeconfig_for("alice", groups=("shop-team",))
    said = cluster.kubectl("auth", "whoami", "-o", "json", kubeconfig=alice)
    assert '"alice"' in said
    assert '"shop-team"' in said
    with pytest.raises(Exception, match="cannot list"):
        cluster.kubectl("get", "pods", "-n", space.name, kubeconfig=alice)
    robot = cluster.kubeconfig_for_service_account(space.name, "default")
    assert f"system:serviceaccount:{space.name}:default" in cluster.kubectl(
        "auth", "whoami", kubeconfig=robot
    )
    refused = cluster.audited(
        lambda event: event.get("objectRef", {}).get("namespace") == space.name, user="alice"
    )
    assert {event["responseStatus"]["code"] for event in refused} == {403}


async def test_what_a_controller_leaves_in_a_space_is_taken_away(lab: Lab, space: Space) -> None:
    """Nothing else is: a test may look at what is a team's own until its end."""
    world = World(kind=REAL, port=lab.api, namespace=space.name)
    for plural in ("leases", "configmaps"):
        labels = {"app.kubernetes.io/managed-by": "switchgear"}
        await world.made(plural, {"metadata": {"name": "ours", "labels": labels}})
        await world.made(plural, {"metadata": {"name": "theirs"}})
    await leftovers.gone(lab.api, space.name)
    for plural in ("leases", "configmaps"):
        assert await world.names(plural, fieldSelector="metadata.name=ours") == []
        assert await world.names(plural, fieldSelector="metadata.name=theirs") == ["theirs"]


@pytest.mark.parametrize(
    ("how", "ends"),
    [((), "signal"), (("unshare", "--user", "--map-root-user"), "end of input")],
    ids=["as it is", "in a user namespace"],
)
async def test_a_lab_by_hand(
    cluster: Cluster, tmp_path: Path, how: tuple[str, ...], ends: str
) -> None:
    """It lasts until a signal where nobody is at its standard input, and until that has an end."""
    if how and shutil.which(how[0]) is None:
        untested(f"there is no `{how[0]}`, with which whoever is not root has a lab")
    nobody = ends == "signal"
    process = await asyncio.create_subprocess_exec(
        *(*how, sys.executable, "-m", "tests.cluster.lab", "up", str(tmp_path / "lab")),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL if nobody else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        parts = json.loads(await asyncio.wait_for(process.stdout.readline(), 120.0))[
            "pids"
        ].values()
        # In another network, since the ports are the same.
        assert set(parts).isdisjoint(cluster.pids.values())
        if nobody:
            process.terminate()
        elif process.stdin is not None:
            process.stdin.close()
        _, complaints = await asyncio.wait_for(process.communicate(), 60.0)
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, complaints.decode()) == (0, "")
    assert not any(_lives(pid) for pid in parts)


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
