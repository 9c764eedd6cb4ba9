# SPDX-License-Identifier: Apache-2.0
"""Runs beside an autoscaler that does its work: followed where that is safe, refused where not."""

import json
import sys
from collections.abc import Callable, Collection
from typing import Any

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import PREFIX, App, Object, deployment, until
from tests.cluster.scenes import followed, shipped

pytestmark = [pytest.mark.timeout(600), pytest.mark.once]

POLICY = {"policy": "fast", "steps": "5@4s,50@20s", "bake": "20s"}
ROLL = {**POLICY, "promotion": "roll"}
PODS = {"policy": "fast", "traffic": "replicas", "steps": "50@4s", "bake": "20s"}
ENV = {"CPU_MS": "10", "MEMORY_MB": "70"}
DRAINS = {**ENV, "DRAIN_SECONDS": "4"}
"""Pods that an autoscaler takes away under traffic fail nothing only if they answer a while yet."""

CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "400m"}},
}
"""120 requests/s at 10 ms are 1.2 CPUs, so three pods; another 100 make it six."""

MEMORY = {
    "type": "Resource",
    "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "80M"}},
}
"""Each pod has 70 MB, whatever the load and however many there are: 87.5 % of the aim."""


def per_service(name: str) -> Object:
    """Requests of one Service alone."""
    return {
        "type": "Object",
        "object": {
            "metric": {"name": "requests_per_second"},
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": name},
            "target": {"type": "Value", "value": "100"},
        },
    }


def outside(name: str, metric: str) -> Object:
    """Requests as an adapter for metrics from outside of the cluster tells them: 40 for a pod."""
    named = {"name": metric, "selector": {"matchLabels": {"service": name}}}
    target = {"type": "AverageValue", "averageValue": "40"}
    return {"type": "External", "external": {"metric": named, "target": target}}


def autoscaler(name: str, metric: Object, least: int, most: int) -> Object:
    aim = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    spec = {"scaleTargetRef": aim, "minReplicas": least, "maxReplicas": most, "metrics": [metric]}
    return {"metadata": {"name": name}, "spec": spec}


async def _replicas(app: App, name: str = "") -> int:
    found: Any = (await app.read("deployments", name or app.name))["spec"]["replicas"]
    return int(found)


async def _measured(app: App, least: int) -> None:
    """Wait until the autoscaler has metrics, and wants and has no fewer pods than these."""

    async def looked() -> bool:
        status = (await app.read("horizontalpodautoscalers")).get("status") or {}
        wanted = status.get("desiredReplicas", 0) if status.get("currentMetrics") else 0
        return min(wanted, await _replicas(app)) >= least

    await until(looked, 60.0, f"the autoscaler has metrics, and {least} pods by them")


async def test_cpu_up_and_down_in_mid_run(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Stable and canary grow with the load, shrink with it, and nobody fails."""
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    await shop.start(annotations=POLICY, env=DRAINS, replicas=3)
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop, rate=120.0, direct_rate=1.0)
    await load.until_answered(600)
    await shop.create("horizontalpodautoscalers", autoscaler(shop.name, CPU, 1, 8))
    await _measured(shop, 3)
    await shop.deploy("v2", DRAINS)
    await records.reached(lab.api, own.system, "Judging", log=daemon.log)
    more = await lab.load(shop, direct_rate=1.0)
    least = 9

    async def grown() -> bool:
        nonlocal least
        least = min(least, await _replicas(shop))
        return await _replicas(shop) >= 5

    await until(grown, 90.0, daemon.log())
    # Canary pods are counted with stable's and take nothing away from the three that the load
    # wants. A third of it would have to be missing before the autoscaler itself wanted fewer.
    assert least >= 3
    wanted = await _replicas(shop)

    async def followed() -> bool:
        canary = await shop.every("deployments")
        sizes = [d["spec"]["replicas"] for d in canary if d["metadata"]["name"] != shop.name]
        return bool(sizes) and sizes[0] >= wanted - 1

    await until(followed, 120.0, f"the canary bakes with {wanted} pods: {daemon.log()}")
    await more.stop()

    async def shrunk() -> bool:
        return await _replicas(shop) < wanted

    await until(shrunk, 120.0, "the autoscaler has followed the load down")
    (run,) = await records.runs(lab.api, own.system)
    assert run["phase"] not in records.AT_REST, "it shrank when the run was over"
    sys.stderr.write(f"shrank to {await _replicas(shop)} of {wanted} in {run['phase']}\n")
    await records.ended(lab.api, own.system, "promoted", daemon.log)
    await records.journal(lab.api, own.system)
    await shop.complete()
    assert (await shop.ready()).keys() == {"v2"}
    assert load.failures == {}
    assert more.failures == {}


async def test_cpu_under_a_roll_has_no_more_than_the_roll_takes(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """The canary's pods are counted as well, and have their part of the load: the number stays."""
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    await shop.start(annotations=ROLL, env=DRAINS, replicas=4)
    await daemon.start()
    await shop.adopted(daemon.log)
    # 1.4 CPUs are three and a half pods, so that neither three nor five are wanted.
    load = await lab.load(shop, rate=140.0, direct_rate=1.0)
    await load.until_answered(700)
    await shop.create("horizontalpodautoscalers", autoscaler(shop.name, CPU, 1, 20))
    await _measured(shop, 4)
    sizes: set[int] = set()
    most = 0

    def look(pods: Collection[Object]) -> None:
        nonlocal most
        most = max(most, sum("deletionTimestamp" not in pod["metadata"] for pod in pods))

    async def over() -> bool:
        sizes.add(await _replicas(shop))
        (run,) = await records.runs(lab.api, own.system) or [{"phase": ""}]
        return run["phase"] in records.AT_REST

    async with followed(shop, look):
        await shop.deploy("v2", DRAINS)
        await until(over, records.RUN_SECONDS, daemon.log)
    await records.ended(lab.api, own.system, "promoted", daemon.log)
    await shop.complete()
    sys.stderr.write(f"sizes {sizes}, {most} pods at most\n")
    assert sizes == {4}
    # Four, half as many beside them in the last step, and one more while they are rolled; or two,
    # where a new one is there before the old one's ReplicaSet has chosen who goes.
    assert 4 + 2 + 1 <= most <= 4 + 2 + 2
    assert (await shop.ready()).keys() == {"v2"}
    assert load.failures == {}


async def test_a_load_from_outside_of_both_versions_starves_nobody(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """The team has said so; half of the requests go to the canary, and stable keeps its pods."""
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    told = {**POLICY, "total-load": "load_of_both"}
    await shop.start(annotations=told, env={"DRAIN_SECONDS": "4"}, replicas=1)
    await daemon.start()
    await shop.adopted(daemon.log)
    # 2.5 pods' load: half of it would be one pod's and a quarter.
    load = await lab.load(shop, rate=100.0, direct_rate=1.0)
    await load.until_answered(500)
    metric = outside(shop.name, "load_of_both")
    await shop.create("horizontalpodautoscalers", autoscaler(shop.name, metric, 1, 8))
    await _measured(shop, 3)
    await shop.deploy("v2", {"DRAIN_SECONDS": "4"})
    sizes: set[int] = set()

    async def over() -> bool:
        sizes.add(await _replicas(shop))
        (run,) = await records.runs(lab.api, own.system) or [{"phase": ""}]
        return run["phase"] in records.AT_REST

    await until(over, records.RUN_SECONDS, daemon.log)
    await records.ended(lab.api, own.system, "promoted", daemon.log)
    await shop.complete()
    sys.stderr.write(f"sizes {sizes}\n")
    assert sizes == {3}
    assert (await shop.ready()).keys() == {"v2"}
    assert load.failures == {}


async def test_memory_and_one_service_alone_are_refused_in_every_way(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Each with its reason; stable serves on, and no canary was made. But one that cannot move."""
    daemon, own = await shipped(gate, lab, space)
    wanted: dict[str, tuple[dict[str, str], Object, int]] = {
        "greedy": (POLICY, MEMORY, 1),
        "greedy-roll": (ROLL, MEMORY, 1),
        "greedy-pods": (PODS, MEMORY, 1),
        "starved": (POLICY, per_service("starved"), 1),
        "starved-roll": (ROLL, per_service("starved-roll"), 1),
        "unknown": (POLICY, outside("unknown", "load_of_one"), 1),
        "unknown-roll": (
            {**ROLL, "total-load": "load_of_both"},
            outside("unknown-roll", "load_of_one"),
            1,
        ),
        "fixed": (ROLL, MEMORY, 2),
    }
    apps = {name: app(name) for name in wanted}
    for name, (policy, metric, least) in wanted.items():
        await apps[name].start(annotations=policy, env={"MEMORY_MB": "80"}, replicas=1)
        made = autoscaler(name, metric, least, 2)
        await apps[name].create("horizontalpodautoscalers", made)
    await daemon.start()
    for shop in apps.values():
        await shop.adopted(daemon.log)
        await shop.deploy("v2")
    reasons: dict[str, str] = {}
    others: set[str] = set()

    async def every() -> bool:
        for run in await records.runs(lab.api, own.system):
            if run["phase"] == "Held":
                reasons[run["target"]["name"]] = run["reason"]
            elif run["phase"] == "Judging":
                others.add(run["target"]["name"])
        return len(reasons) == 7 and others == {"fixed"}

    await until(every, 60.0, lambda: f"{reasons}, {others}: {daemon.log()}")
    for name, why in reasons.items():
        kind, _, way = name.partition("-")
        told = {
            "greedy": "scales on memory",
            "starved": f"scales on the load of the Service {name!r} alone",
            "unknown": "scales on the External metric 'load_of_one'",
        }
        assert told[kind] in why, way
        assert "minReplicas" in why, way
    found = {item["metadata"]["name"] for item in await apps["fixed"].every("deployments")}
    assert found == {*wanted, "fixed-canary"}
    assert (await apps["fixed"].ready())["v2"] == 1, "the fixed one's canary"


async def test_on_memory_pods_beside_the_deployment_run_away(
    gate: Installed, app: Callable[..., App]
) -> None:
    """Why that is refused: pods with the canary's labels, made by hand, and no controller of ours.

    Each pod has less than the aim, so four alone stay four. Four more of the same labels are
    counted with them, and the number that is wanted grows with every look.
    """
    shop = app()
    await shop.start(env=ENV, replicas=4)
    await shop.create("horizontalpodautoscalers", autoscaler(shop.name, MEMORY, 4, 20))
    await _measured(shop, 4)
    assert await _replicas(shop) == 4
    beside = deployment(shop.name, version="v2", env=ENV, replicas=4)
    track = {PREFIX + "track": "canary"}
    beside["metadata"] |= {"name": f"{shop.name}-beside", "namespace": shop.namespace}
    beside["spec"]["selector"]["matchLabels"] |= track
    beside["spec"]["template"]["metadata"]["labels"] |= track
    # The policies let nobody else make pods with this label.
    gate.cluster.kubectl("create", "-f", "-", stdin=json.dumps(beside), kubeconfig=gate.controller)
    seen: list[int] = []

    async def run_away() -> bool:
        now = await _replicas(shop)
        if now not in seen:
            seen.append(now)
        return now == 20

    await until(run_away, 120.0, "as many as the autoscaler may start")
    assert seen == sorted(seen)
    assert len(seen) > 2, "step by step"
