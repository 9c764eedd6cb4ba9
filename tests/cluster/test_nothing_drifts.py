# SPDX-License-Identifier: Apache-2.0
"""What a run leaves in the team's namespace: every object of every kind, byte for byte as before.

The API server itself says which kinds there are. Objects of a dozen kinds stand around the target,
so that whatever touches one of them shows.
"""

import asyncio
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import PREFIX, App, route, service, until
from tests.cluster.lab.manifests import GATEWAY_GROUP
from tests.cluster.lab.worker import Cluster
from tests.cluster.scenes import LEFT, shipped

pytestmark = [pytest.mark.timeout(600), pytest.mark.once]

Object = dict[str, Any]
Key = tuple[str, str]
"""Kind and name."""

SHIFT = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s", "after-trip": "next-revision"}
ROLL = {**SHIFT, "promotion": "roll"}
PODS = {**SHIFT, "traffic": "replicas", "steps": "50@3s"}
DRAINS = {"DRAIN_SECONDS": "3"}

CHURN = {
    "pods": "the workload's own",
    "pods.metrics.k8s.io": "no objects, but measurements",
    "replicasets.apps": "the Deployment controller's",
    "endpoints": "follow the pods",
    "endpointslices.discovery.k8s.io": "follow the pods",
    "events": "tell what happened",
    "events.events.k8s.io": "the same ones",
    "leases.coordination.k8s.io": "are renewed all the time",
}
"""Kinds that are not compared, each with the reason."""

OTHER = {"containers": [{"name": "a", "image": "registry.example/pause:v1"}]}
LABELS = {"app": "other"}
POD = {"metadata": {"labels": LABELS}, "spec": OTHER}
SELECTED = {"selector": {"matchLabels": LABELS}, "template": POD}
NOWHERE = [{"name": "nowhere"}]
"""No data plane takes it, for which it would stand in the way of every other test."""

BACKEND = {"name": "other", "port": 80}

AROUND: list[tuple[str, str, Object]] = [
    ("v1", "ConfigMap", {"data": {"level": "high"}}),
    ("v1", "Secret", {"stringData": {"token": "t0ken"}}),
    ("v1", "ServiceAccount", {}),
    ("v1", "PodTemplate", {"template": POD}),
    ("v1", "ResourceQuota", {"spec": {"hard": {"pods": "50"}}}),
    ("v1", "LimitRange", {"spec": {"limits": [{"type": "Container", "max": {"cpu": "8"}}]}}),
    (
        "v1",
        "PersistentVolumeClaim",
        {
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            }
        },
    ),
    ("v1", "ReplicationController", {"spec": {"replicas": 0, "selector": LABELS, "template": POD}}),
    ("apps/v1", "StatefulSet", {"spec": {**SELECTED, "replicas": 0, "serviceName": "other"}}),
    ("apps/v1", "DaemonSet", {"spec": SELECTED}),
    (
        "batch/v1",
        "CronJob",
        {
            "spec": {
                "schedule": "0 0 1 1 *",
                "suspend": True,
                "jobTemplate": {
                    "spec": {"template": {"spec": {**OTHER, "restartPolicy": "Never"}}}
                },
            }
        },
    ),
    ("networking.k8s.io/v1", "NetworkPolicy", {"spec": {"podSelector": {"matchLabels": LABELS}}}),
    (
        "networking.k8s.io/v1",
        "Ingress",
        {"spec": {"defaultBackend": {"service": {"name": "other", "port": {"number": 80}}}}},
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "Role",
        {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    ),
    (
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        {
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "other",
            },
            "subjects": [],
        },
    ),
    (
        "policy/v1",
        "PodDisruptionBudget",
        {"spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "checkout"}}}},
    ),
    (
        f"{GATEWAY_GROUP}/v1",
        "GRPCRoute",
        {"spec": {"parentRefs": NOWHERE, "rules": [{"backendRefs": [BACKEND]}]}},
    ),
    (
        f"{GATEWAY_GROUP}/v1",
        "BackendTLSPolicy",
        {
            "spec": {
                "targetRefs": [{"group": "", "kind": "Service", "name": "other"}],
                "validation": {"hostname": "other.example", "wellKnownCACertificates": "System"},
            }
        },
    ),
    (
        f"{GATEWAY_GROUP}/v1beta1",
        "ReferenceGrant",
        {
            "spec": {
                "from": [{"group": GATEWAY_GROUP, "kind": "HTTPRoute", "namespace": "edge"}],
                "to": [{"group": "", "kind": "Service", "name": "other"}],
            }
        },
    ),
]
"""Version, kind and content of what stands around the target, each called `other`."""


def around(shop: App) -> list[Object]:
    """The same as manifests; and a second way to the target, by a Service and by a route."""
    made = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": "other"}, **content}
        for version, kind, content in AROUND
    ]
    alone, inner = service("other"), service(shop.name)
    inner["metadata"]["name"] = f"{shop.name}-inner"
    outer = route(f"{shop.name}-outer", f"outer.{shop.host}")
    outer["spec"]["rules"][0]["backendRefs"][0] |= {"name": shop.name, "weight": 7}
    return [*made, alone, inner, outer]


def compared(cluster: Cluster) -> list[str]:
    """Kinds of namespaced objects by the API server's discovery, but for those that churn."""
    listed = cluster.kubectl("api-resources", "--namespaced=true", "--verbs=list", "-o", "name")
    kinds = listed.split()
    assert set(kinds) >= {"services", "deployments.apps", f"httproutes.{GATEWAY_GROUP}"}
    return [kind for kind in kinds if kind not in CHURN]


def everything(cluster: Cluster, namespace: str) -> dict[Key, str]:
    """All objects of a namespace as bytes, without what the API server counts for itself.

    And without the three marks by which the controller tells of a target at rest.
    """
    kinds = ",".join(compared(cluster))
    told = cluster.kubectl("get", kinds, "--ignore-not-found", "-n", namespace, "-o", "json")
    items = json.loads(told)["items"]
    return {(item["kind"], item["metadata"]["name"]): _bytes(item) for item in items}


def _bytes(item: Object) -> str:
    left = copy.deepcopy(item)
    left.pop("status", None)
    meta = left["metadata"]
    for name in ("managedFields", "resourceVersion", "generation"):
        meta.pop(name, None)
    if left["kind"] == "Deployment":
        notes = meta.get("annotations") or {}
        for name in ("deployment.kubernetes.io/revision", *(PREFIX + name for name in LEFT)):
            notes.pop(name, None)
    return json.dumps(left, sort_keys=True)


def differing(before: dict[Key, str], now: dict[Key, str]) -> dict[Key, tuple[object, object]]:
    """What is there on one side alone, or is not the same."""
    return {
        key: (before.get(key), now.get(key))
        for key in before.keys() | now.keys()
        if before.get(key) != now.get(key)
    }


@pytest.mark.parametrize(
    ("policy", "env"),
    [
        pytest.param(SHIFT, {}, id="shift"),
        pytest.param(ROLL, DRAINS, id="roll"),
        pytest.param(PODS, DRAINS, id="pods"),
    ],
)
async def test_after_a_run_every_object_is_as_before(
    *,
    gate: Installed,
    lab: Lab,
    space: Space,
    app: Callable[..., App],
    policy: dict[str, str],
    env: dict[str, str],
) -> None:
    """A good version, then a bad one that is put back; in mid-run what is ours does show."""
    shop, cluster = app(), lab.cluster
    daemon, own = await shipped(gate, lab, space)
    objects = yaml.safe_dump_all(around(shop))
    await asyncio.to_thread(cluster.kubectl, "-n", space.name, "create", "-f", "-", stdin=objects)
    await shop.start(annotations=policy, env=env, replicas=3)
    before = await asyncio.to_thread(everything, cluster, space.name)
    assert {kind for kind, _ in before} >= {kind for _, kind, _ in AROUND}
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)

    await shop.deploy("v2", env)
    await records.reached(lab.api, own.system, "Judging", log=daemon.log)
    during = differing(before, await asyncio.to_thread(everything, cluster, space.name))
    assert during.keys() >= {("Deployment", "checkout"), ("Deployment", "checkout-canary")}
    await records.ended(lab.api, own.system, "promoted", daemon.log)
    await shop.complete()
    key = ("Deployment", "checkout")
    before[key] = before[key].replace("registry.example/app:v1", "registry.example/app:v2")
    assert differing(before, await asyncio.to_thread(everything, cluster, space.name)) == {}

    await shop.deploy("v3", {**env, "ERROR_RATE": "0.5"})
    await _held(lab, own, daemon.log)
    await shop.deploy("v2", env)
    await shop.complete()
    assert differing(before, await asyncio.to_thread(everything, cluster, space.name)) == {}
    assert load.failures == {}


async def _held(lab: Lab, own: Space, log: Callable[[], str]) -> None:
    """The second run has ended as it should."""

    async def second() -> bool:
        return len(await records.runs(lab.api, own.system)) > 1

    await until(second, 60.0, log)
    await records.tripped_in(lab.api, own.system, "Judging", log)
