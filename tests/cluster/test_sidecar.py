# SPDX-License-Identifier: Apache-2.0
"""The controller as a sidecar in the target's own pods, with a Role that names its objects.

What is watched beside the outcome: which pod leads. It must never be a canary, nor before the
commit a pod of a template that nobody has judged.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.lab import application, records
from tests.cluster.lab.application import App, Object, until

POLICY = {"policy": "fast", "steps": "5@5s,50@5s", "bake": "3s"}
ACCOUNT = "checkout-switchgear"

# Each pod brings a controller of its own, on a machine that has two cores.
pytestmark = pytest.mark.timeout(600)

NAMED: list[tuple[str, str, list[str], list[str]]] = [
    ("apps", "deployments", ["get", "list", "watch", "patch"], ["checkout", "checkout-canary"]),
    ("apps", "deployments", ["delete"], ["checkout-canary"]),
    ("", "services", ["get", "watch", "patch"], ["checkout", "checkout-canary"]),
    ("", "services", ["delete"], ["checkout-canary"]),
    ("gateway.networking.k8s.io", "httproutes", ["get", "watch", "patch"], ["checkout"]),
    ("", "configmaps", ["watch"], ["switchgear-kill", "switchgear-cluster.checkout"]),
    ("coordination.k8s.io", "leases", ["get", "patch"], ["switchgear.checkout"]),
]
UNNAMED: list[tuple[str, str, list[str]]] = [
    ("apps", "deployments", ["create"]),
    ("apps", "replicasets", ["get", "list", "watch", "patch", "delete"]),
    ("", "services", ["list", "create"]),
    ("gateway.networking.k8s.io", "httproutes", ["list"]),
    ("gateway.networking.k8s.io", "grpcroutes", ["list"]),
    ("", "pods", ["list", "watch"]),
    ("discovery.k8s.io", "endpointslices", ["list", "watch"]),
    ("", "configmaps", ["get", "list", "create", "patch", "delete"]),
    ("coordination.k8s.io", "leases", ["create"]),
    ("", "events", ["create"]),
    ("networking.k8s.io", "ingresses", ["list"]),
    ("autoscaling", "horizontalpodautoscalers", ["list"]),
    ("", "resourcequotas", ["list"]),
    ("", "persistentvolumeclaims", ["get"]),
]


def rights(namespace: str) -> list[tuple[str, Object]]:
    """Service account, Role and binding, as (collection, object)."""
    rules: list[Object] = [
        {"apiGroups": [group], "resources": [kind], "verbs": verbs, "resourceNames": names}
        for group, kind, verbs, names in NAMED
    ]
    rules += [
        {"apiGroups": [group], "resources": [kind], "verbs": verbs}
        for group, kind, verbs in UNNAMED
    ]
    group = "rbac.authorization.k8s.io"
    return [
        (f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": ACCOUNT}}),
        (
            f"/apis/{group}/v1/namespaces/{namespace}/roles",
            {"metadata": {"name": ACCOUNT}, "rules": rules},
        ),
        (
            f"/apis/{group}/v1/namespaces/{namespace}/rolebindings",
            {
                "metadata": {"name": ACCOUNT},
                "roleRef": {"apiGroup": group, "kind": "Role", "name": ACCOUNT},
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
            },
        ),
        (
            f"/api/v1/namespaces/{namespace}/configmaps",
            {"metadata": {"name": "switchgear-token"}, "data": {"token": "a-long-random-line"}},
        ),
    ]


def sidecar(prometheus: str) -> Object:
    """A native sidecar: an init container that goes on running."""

    def of(name: str, path: str) -> Object:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    return {
        "name": "switchgear",
        "image": "registry.example/switchgear:dev",
        "restartPolicy": "Always",
        "args": ["run", "--settle-seconds=2.5", "--drain-seconds=1", "--ready-seconds=120"],
        "env": [
            of("POD_IP", "status.podIP"),
            of("SWITCHGEAR_NAMESPACE", "metadata.namespace"),
            of("SWITCHGEAR_POD_NAME", "metadata.name"),
            of("SWITCHGEAR_POD_HASH", "metadata.labels['pod-template-hash']"),
            of("SWITCHGEAR_POD_TRACK", "metadata.labels['switchgear.dev/track']"),
            {"name": "SWITCHGEAR_TARGET", "value": "deployment/checkout"},
            {"name": "SWITCHGEAR_PROMETHEUS", "value": prometheus},
            {"name": "SWITCHGEAR_LISTEN", "value": "$(POD_IP):8340"},
            {"name": "SWITCHGEAR_TOKEN_FILE", "value": "/etc/switchgear/token"},
            {"name": "SWITCHGEAR_SERVICE_ACCOUNT_DIR", "value": "/var/run/switchgear"},
        ],
        "volumeMounts": [
            {"name": "switchgear-account", "mountPath": "/var/run/switchgear", "readOnly": True},
            {"name": "switchgear-token", "mountPath": "/etc/switchgear", "readOnly": True},
        ],
    }


def deployment(prometheus: str) -> Object:
    """The application with the sidecar in its pods."""
    found = application.deployment("checkout", replicas=2, annotations=POLICY)
    sources: list[Object] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {
            "configMap": {
                "name": "kube-root-ca.crt",
                "items": [{"key": "ca.crt", "path": "ca.crt"}],
            }
        },
    ]
    found["spec"]["template"]["spec"] |= {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "initContainers": [sidecar(prometheus)],
        "volumes": [
            {"name": "switchgear-account", "projected": {"sources": sources}},
            {"name": "switchgear-token", "configMap": {"name": "switchgear-token"}},
        ],
    }
    return found


@dataclass
class Leaders:
    """Who held the lease, look by look."""

    shop: App
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Holder and phase, each new pair once."""

    async def watch(self, api: Any) -> None:
        """Look until cancelled."""
        while True:
            answer = await self.shop.send("GET", self.shop.path("leases", "switchgear.checkout"))
            if answer.status == 200:
                runs = await records.runs(api, self.shop.namespace)
                phase = runs[-1]["phase"] if runs else ""
                holder = str(answer.json["spec"].get("holderIdentity", "")).rpartition("_")[0]
                if not self.seen or self.seen[-1] != (holder, phase):
                    self.seen.append((holder, phase))
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def started(lab: Lab, shop: App) -> AsyncIterator[Leaders]:
    """The application with its sidecars; the Deployment is adopted by one of them."""
    for path, obj in rights(shop.namespace):
        answer = await shop.send("POST", path, obj)
        assert answer.status == 201, answer.content
    await shop.create("services", application.service(shop.name))
    await shop.create("httproutes", application.route(shop.name, shop.host))
    await shop.create("deployments", deployment(lab.prometheus_url))
    await shop.complete(120.0)
    leaders = Leaders(shop=shop)
    task = asyncio.ensure_future(leaders.watch(lab.api))

    async def managed() -> bool:
        return await shop.annotation("managed") is not None

    try:
        await until(managed, 90.0, "the Deployment is adopted by a sidecar")
        yield leaders
    finally:
        task.cancel()
        sys.stderr.write(f"led by: {leaders.seen}\n")


BEFORE = {"Holding", "Checking", "Preparing", "Scaling", "Raising", "Judging", "Committing"}


def judge(leaders: Leaders, stable: str) -> None:
    """Never a canary; before the commit only a pod of the stable template."""
    holders = {holder for holder, _ in leaders.seen if holder}
    assert holders
    assert [name for name in holders if name.startswith("checkout-canary-")] == []
    early = {holder for holder, phase in leaders.seen if holder and phase in BEFORE}
    assert {name.rsplit("-", 1)[0] for name in early} == {f"checkout-{stable}"}


async def stable_hash(shop: App) -> str:
    mark = await shop.annotation("managed")
    assert mark is not None
    return mark.split("/")[1]


async def test_a_good_version_is_promoted_by_the_pods_that_it_replaces(
    lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Every pod that could lead is replaced in the roll, and the lead is handed on."""
    del space
    shop = app()
    async with started(lab, shop) as leaders:
        stable = await stable_hash(shop)
        load = await lab.load(shop, rate=50.0)
        await shop.deploy("v2")
        await records.ended(lab.api, shop.namespace, "promoted", within=300.0)
        await shop.complete()
        assert await shop.ready() == {"v2": 2}
        assert load.failures == {}
        await until(_led_by(leaders, await stable_hash(shop)), 30.0, "a new pod leads")
    judge(leaders, stable)


def _led_by(leaders: Leaders, hash_: str) -> Callable[[], Any]:
    async def look() -> bool:
        return leaders.seen[-1][0].startswith(f"checkout-{hash_}-")

    return look


async def test_a_bad_version_is_rolled_back_by_the_pods_that_stay(
    lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    del space
    shop = app()
    async with started(lab, shop) as leaders:
        stable = await stable_hash(shop)
        load = await lab.load(shop, rate=100.0)
        await shop.deploy("v2", {"ERROR_RATE": "0.5"})
        await records.ended(lab.api, shop.namespace, "rolled-back", within=300.0)
        assert load.failures == {}
        assert await shop.ready() == {"v1": 2}
    judge(leaders, stable)
