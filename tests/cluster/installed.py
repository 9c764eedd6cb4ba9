# SPDX-License-Identifier: Apache-2.0
"""The shipped manifests on the lab's cluster: applied for a test, and taken off again."""

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.cluster.lab import build
from tests.cluster.lab.application import App, until
from tests.cluster.lab.worker import Cluster, Refusal
from tests.manifests.rendered import Json, Right, kustomized

SYSTEM = "switchgear"
"""The namespace of the manifests, and of the service account that the policies exempt."""

ACTIVE_SECONDS = 30.0
"""How long the API server may take to obey policies that it was given; it takes one or two."""


SELDOM: dict[Right, str] = {
    ("", "persistentvolumeclaims", "get", ""): "a pod with a volume, which one node may hold alone",
    ("", "pods", "delete", ""): "the undo of a native roll",
    ("", "services", "get", "checkout-canary"): "a twin whose name was taken a moment ago",
    ("apps", "replicasets", "get", ""): "`on-failure: revert`",
    ("apps", "replicasets", "patch", ""): "a hold that comes after the first pod",
    ("apps", "replicasets", "delete", ""): "what was begun before such a hold",
}
"""Rights of the sidecars that a promotion and a kill may leave alone, each with what needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What is there after an installation."""

    cluster: Cluster
    controller: Path
    """Kubeconfig of the controller's service account."""

    def as_controller(self, *args: str) -> str:
        """Run kubectl with the controller's own rights."""
        return self.cluster.kubectl(*args, kubeconfig=self.controller)

    def forget(self) -> None:
        """Take away what an earlier daemon left in the controller's own namespace."""
        listed = self.as_controller("get", "configmaps", "-n", SYSTEM, "-o", "name").split()
        ours = [name for name in listed if not name.endswith("/kube-root-ca.crt")]
        if ours:
            self.as_controller("delete", "-n", SYSTEM, *ours)

    def adopt(self, app: App, uid: str) -> None:
        """Mark a Deployment as the controller does at first sight."""
        mark = f"switchgear.dev/managed={uid}/hash/digest"
        self.as_controller("annotate", "deployment", app.name, "-n", app.namespace, mark)


def sidecar_objects(namespace: str) -> dict[str, Json]:
    """The objects of `overlays/sidecar`, moved to another namespace.

    By kind, but for the role that is for people, which is the `Killer`.
    """
    found: dict[str, Json] = {}
    for item in kustomized("overlays/sidecar"):
        people = item["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "people"
        found["Killer" if people else item["kind"]] = copy.deepcopy(item)
    for item in found.values():
        item["metadata"]["namespace"] = namespace
    found["RoleBinding"]["subjects"][0]["namespace"] = namespace
    return found


def without_pods(objects: tuple[Json, ...]) -> list[Json]:
    """The objects but for those that start pods: the test has the daemon as a process."""
    return [item for item in objects if item["kind"] not in {"Deployment", "PodDisruptionBudget"}]


@contextlib.contextmanager
def operated(cluster: Cluster) -> Iterator[None]:
    """The kinds of the Prometheus Operator that the manifests use, and nobody who acts on them."""
    kinds = json.loads(build.programs(make=False).operator.read_text(encoding="utf-8"))
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": kinds})
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    try:
        wait = ("wait", "--for=condition=Established", "--timeout=30s", "-f", "-")
        cluster.kubectl(*wait, stdin=text)
        yield
    finally:
        cluster.kubectl("delete", "-f", "-", stdin=text)


def specs(objects: Sequence[Json]) -> dict[str, Json]:
    """What is asked for, by kind, of objects of different kinds."""
    return {item["kind"]: item["spec"] for item in objects}


def monitored(cluster: Cluster) -> dict[str, Json]:
    """What of the monitoring manifests is in the cluster."""
    get = ("get", "podmonitors,prometheusrules", "-n", SYSTEM, "-o", "json")
    return specs(json.loads(cluster.kubectl(*get))["items"])


@contextlib.asynccontextmanager
async def installed(
    cluster: Cluster,
    *folders: str,
    pods: bool = False,
    overlay: Callable[[Json], None] = lambda _: None,
) -> AsyncIterator[Installed]:
    """Apply folders of `manifests/`; everything is deleted afterwards.

    `overlay` may change each object, as an overlay of a user's own would. Returns when the service
    account is there and the admission policies, if any, are obeyed.
    """
    objects = [copy.deepcopy(item) for folder in folders for item in kustomized(folder)]
    for item in objects:
        overlay(item)
    if not pods:
        objects = without_pods(tuple(objects))
    text = yaml.safe_dump_all(objects)
    # On the lab names of Services are not resolved, and all pods share one network.
    text = text.replace("http://prometheus.monitoring:9090", cluster.prometheus_url)
    text = text.replace("--listen=0.0.0.0:8340", "--listen=$(POD_IP):8340")

    def kubectl(*args: str) -> str:
        return cluster.kubectl(*args, stdin=text)

    await asyncio.to_thread(kubectl, "apply", "--server-side", "-f", "-")
    try:
        path = await asyncio.to_thread(cluster.kubeconfig_for_service_account, SYSTEM, SYSTEM)
        found = Installed(cluster=cluster, controller=path)
        names = {item["metadata"]["name"] for item in objects}
        if "switchgear-guard-kill" in names:
            await obeyed(cluster, mutating="switchgear-hold" in names)
        yield found
    finally:
        await taken_off(cluster, objects)


async def taken_off(cluster: Cluster, objects: Sequence[Json]) -> None:
    """Delete what is there of these, and wait until none of the policies is obeyed any more."""
    # Policies first: they would forbid the end of what they guard.
    policies = [item for item in objects if "AdmissionPolicy" in item["kind"]]
    rest = [item for item in objects if "AdmissionPolicy" not in item["kind"]]
    for part in (policies, rest):
        if part:
            await asyncio.to_thread(
                cluster.kubectl,
                *("delete", "--ignore-not-found", "--wait=true", "-f", "-"),
                stdin=yaml.safe_dump_all(part),
            )
    if policies:
        await unguarded(cluster)


async def unguarded(cluster: Cluster, home: str = SYSTEM) -> None:
    """Wait until the API server obeys no policy of ours any more, which it does for a moment."""
    await until(lambda: _free(cluster, home), ACTIVE_SECONDS, "the policies are gone")


async def obeyed(cluster: Cluster, *, mutating: bool, home: str = SYSTEM) -> None:
    """Both kinds of policy are in force: what they forbid or change is tried as a dry run.

    `home` is the namespace of the controller, whose documents are guarded.
    """
    valid = "the validating policies are obeyed"
    await until(lambda: _refused(cluster, home), ACTIVE_SECONDS, valid)
    if mutating:
        await until(lambda: _changed(cluster), ACTIVE_SECONDS, "the mutating policies are obeyed")


async def _refused(cluster: Cluster, home: str) -> bool:
    labels = {"switchgear.dev/run": "forged"}
    about = {"name": "forged", "namespace": home, "labels": labels}
    forged = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about}
    try:
        await asyncio.to_thread(_try, cluster, forged)
    except Refusal as error:
        return "Switchgear" in str(error)
    return False


async def _changed(cluster: Cluster) -> bool:
    try:
        return await _stripped(cluster)
    except Refusal:
        return False  # The kinds of routes may have been installed a moment ago.


async def _stripped(cluster: Cluster) -> bool:
    """The last of the mutating policies by name is obeyed, and so are the others."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "forged",
            "namespace": "default",
            "annotations": {"switchgear.dev/original": "{}"},
        },
        "spec": {"ports": [{"port": 80}]},
    }
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": service["metadata"],
        "spec": {"rules": [{"backendRefs": [{"name": "x", "port": 80}]}]},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": service["metadata"],
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "a", "image": "pause:1"}]},
            },
        },
    }
    for item in (service, route, deployment):
        if "switchgear.dev/original" in await asyncio.to_thread(_try, cluster, item):
            return False
    return True


def _try(cluster: Cluster, item: object) -> str:
    """What would be created, by a server-side dry run."""
    args = ("create", "--dry-run=server", "-o", "yaml", "-f", "-")
    return cluster.kubectl(*args, stdin=yaml.safe_dump(item))


async def _free(cluster: Cluster, home: str) -> bool:
    return not (await _stripped(cluster) or await _refused(cluster, home))
