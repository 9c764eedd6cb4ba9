# SPDX-License-Identifier: Apache-2.0
"""The chart as Helm brings it into a cluster: installed, upgraded, and taken off again.

What Helm has made is compared with what the API server makes of the kustomization, one by one. What
it makes in a namespace of another name holds a change there and brings it through.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SYSTEM, monitored, obeyed, specs, unguarded
from tests.cluster.lab import records
from tests.cluster.lab.application import App, of_git, until
from tests.cluster.lab.worker import Cluster, Refusal
from tests.cluster.people import enter
from tests.cluster.pipelines import helm
from tests.manifests.rendered import MANIFESTS, Json, key, kustomized
from tests.support.api import real_client

pytestmark = pytest.mark.timeout(600)

Key = tuple[str, str, str, str]
LISTEN = "$(POD_IP):8340"
"""On the lab all pods share one network."""

POLICY = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s"}
READY_SECONDS = 60.0
WRITTEN = {"configmap/switchgear-cluster", "lease.coordination.k8s.io/switchgear"}
"""What the controller itself has written when no run has begun: who leads, and the latches."""

MADE_FOR_EVERYBODY = {"configmap/kube-root-ca.crt", "serviceaccount/default"}


@pytest.fixture
async def bare(cluster: Cluster) -> AsyncIterator[Cluster]:
    """The cluster without anything of ours, before and afterwards."""
    await asyncio.to_thread(_remove, cluster)
    try:
        yield cluster
    finally:
        await asyncio.to_thread(_remove, cluster)
        await unguarded(cluster)


def _remove(cluster: Cluster) -> None:
    helm(cluster, "uninstall", "switchgear", "--ignore-not-found", f"--namespace={SYSTEM}")
    cluster.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found", "--wait=true")


def _upgrade(cluster: Cluster, *settings: str, home: str = SYSTEM) -> str:
    """`helm upgrade --install`, until everything is ready."""
    return helm(
        cluster,
        *("upgrade", "--install", "switchgear", MANIFESTS / "chart"),
        *(f"--namespace={home}", "--create-namespace", "--wait", "--timeout=80s"),
        *(f"--set=listen={LISTEN}", f"--set=prometheus={cluster.prometheus_url}"),
        *settings,
    )


def _uninstall(cluster: Cluster, home: str = SYSTEM) -> None:
    helm(cluster, "uninstall", "switchgear", f"--namespace={home}", "--wait", "--timeout=80s")


def _wanted(cluster: Cluster) -> list[Json]:
    """The objects of the kustomization with the values that the chart is given."""
    text = yaml.safe_dump_all(kustomized("overlays/central"))
    text = text.replace("http://prometheus.monitoring:9090", cluster.prometheus_url)
    return list(yaml.safe_load_all(text.replace("0.0.0.0:8340", LISTEN)))


def _completed(cluster: Cluster) -> dict[Key, Json]:
    """What the API server would store of the kustomization, where nothing of it is yet."""
    create = ("create", "--dry-run=server", "-o", "json", "-f", "-")
    objects = _wanted(cluster)
    space = [item for item in objects if item["kind"] == "Namespace"]
    told = cluster.kubectl(*create, stdin=yaml.safe_dump_all(space))
    # What is in a namespace is only tried where that is there.
    cluster.kubectl("create", "namespace", SYSTEM)
    others = [item for item in objects if item["kind"] != "Namespace"]
    told += cluster.kubectl(*create, stdin=yaml.safe_dump_all(others))
    cluster.kubectl("delete", "namespace", SYSTEM, "--wait=true")
    return _by_key(told)


def _live(cluster: Cluster) -> dict[Key, Json]:
    """Those that are there of the objects of the kustomization."""
    get = ("get", "--ignore-not-found", "-o", "json", "-f", "-")
    return _by_key(cluster.kubectl(*get, stdin=yaml.safe_dump_all(_wanted(cluster))))


def _by_key(told: str) -> dict[Key, Json]:
    """Objects as kubectl puts them out, one after the other or as a list, without what varies."""
    found: dict[Key, Json] = {}
    decoder = json.JSONDecoder()
    while told := told.strip():
        value, end = decoder.raw_decode(told)
        told = told[end:]
        for item in value["items"] if value["kind"] == "List" else [value]:
            found[key(item)] = _plain(item)
    return found


def _plain(item: Json) -> Json:
    """An object without what is given to it when it is made, and without the marks of Helm."""
    left = of_git(item)
    meta = left["metadata"]
    for name in ("uid", "creationTimestamp"):
        meta.pop(name, None)
    notes = meta.pop("annotations", None) or {}
    marks = ("meta.helm.sh/", "helm.sh/")
    ours = {name: text for name, text in notes.items() if not name.startswith(marks)}
    if ours:
        meta["annotations"] = ours
    if meta.get("labels", {}).get("app.kubernetes.io/managed-by") == "Helm":
        del meta["labels"]["app.kubernetes.io/managed-by"]
    if left["kind"] == "Namespace":
        # `--create-namespace` puts it on.
        meta["labels"].pop("name", None)
    if left["kind"] == "Service":
        for name in ("clusterIP", "clusterIPs"):
            left["spec"].pop(name)
    return left


def _names(cluster: Cluster, *args: str, namespaced: bool = False) -> set[str]:
    """Kind and name of every object of every kind that can be listed, but for Events."""
    scope = ("--namespaced=true",) if namespaced else ()
    kinds = cluster.kubectl("api-resources", "--verbs=list", "-o", "name", *scope).split()
    wanted = ",".join(kind for kind in kinds if not kind.startswith("events"))
    return set(cluster.kubectl("get", wanted, "--ignore-not-found", "-o", "name", *args).split())


async def _led(cluster: Cluster) -> None:
    """A pod that runs holds the Lease."""

    async def look() -> bool:
        pods = cluster.kubectl(
            *("get", "pods", "-n", SYSTEM, "--field-selector=status.phase=Running"),
            *("-o", "jsonpath={.items[*].metadata.name}"),
        ).split()
        lease: dict[str, Any] = json.loads(
            cluster.kubectl("get", "lease", "-n", SYSTEM, "-o", "json", "switchgear")
        )
        return str(lease["spec"].get("holderIdentity") or "").rpartition("_")[0] in pods

    await until(look, READY_SECONDS, lambda: cluster.pod_log(SYSTEM, "switchgear-*"))


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("own_namespace", [True, pytest.param(False, marks=pytest.mark.deep)])
async def test_installed_upgraded_and_taken_off(bare: Cluster, *, own_namespace: bool) -> None:
    """With a namespace of the release's own, and in one that is not its business."""
    settings = ("--set=namespace.create=true",) if own_namespace else ()
    expected = await asyncio.to_thread(_completed, bare)
    space = ("v1", "Namespace", "", SYSTEM)
    # A namespace of a test before may take its time to end, with what was ours in it.
    others = await asyncio.to_thread(_left, bare)

    await asyncio.to_thread(_upgrade, bare, *settings)
    found = await asyncio.to_thread(_live, bare)
    if not own_namespace:
        del expected[space], found[space]
    assert found.keys() == expected.keys()
    for name, item in expected.items():
        assert found[name] == item, name
    await _led(bare)

    changed = (
        *("--set=replicas=1", "--set=admission.mutating=false"),
        "--set=monitoring.enabled=true",
    )
    await asyncio.to_thread(_upgrade, bare, *settings, *changed)
    upgraded = await asyncio.to_thread(_live, bare)
    if not own_namespace:
        del upgraded[space]
    daemon = expected["apps/v1", "Deployment", SYSTEM, "switchgear"]
    daemon["spec"]["replicas"] = 1
    gone = {name for name in expected if name[1].startswith("MutatingAdmissionPolicy")}
    assert gone
    gone.add(("policy/v1", "PodDisruptionBudget", SYSTEM, "switchgear"))
    assert upgraded == {name: item for name, item in expected.items() if name not in gone}
    assert monitored(bare) == specs(kustomized("monitoring"))
    await _led(bare)

    await asyncio.to_thread(_uninstall, bare)
    await until(lambda: _left_nothing(bare, others), READY_SECONDS, lambda: str(_left(bare)))
    left = _live(bare)
    assert left.keys() == {space}, "the namespace stays, whoever made it"
    inside = _names(bare, "-n", SYSTEM, namespaced=True) - MADE_FOR_EVERYBODY
    assert inside == WRITTEN, "documents outlive the controller, and nothing else does"


def _left(cluster: Cluster) -> set[str]:
    """What still bears our name but for the namespace, and pods that have not ended yet."""
    try:
        found = _names(cluster, "-A", "-l", "app.kubernetes.io/name=switchgear")
        return found - {f"namespace/{SYSTEM}"}
    except Refusal as error:
        return {str(error)}


async def _left_nothing(cluster: Cluster, others: set[str]) -> bool:
    return await asyncio.to_thread(_left, cluster) <= others


@pytest.mark.deep
async def test_in_another_namespace_a_change_is_held_and_promoted(
    bare: Cluster, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """And in one namespace alone; whatever went on meaning `switchgear` would be missed here.

    The account that the policies exempt, the namespace whose documents they guard, the seats at the
    API server, and where the rights on documents and Lease are.
    """
    shop, home = app(), space.system

    def told() -> str:
        return bare.pod_log(home, "switchgear-*")

    try:
        watched = f"--set=namespaces={{{space.name}}}"
        await asyncio.to_thread(_upgrade, bare, watched, home=home)
        await obeyed(bare, mutating=True, home=home)
        await shop.start(annotations=POLICY, replicas=2)
        alice, _ = enter(bare, space.name)
        await shop.adopted(told, READY_SECONDS)
        await lab.load(shop)
        image = ("set", "image", "deployment/checkout", "app=registry.example/app:v2")
        await asyncio.to_thread(bare.kubectl, *image, "-n", space.name, kubeconfig=alice)
        assert (await shop.read("deployments"))["spec"]["paused"], "before a pod of it exists"
        await records.ended(lab.api, home, "promoted", told)
        await shop.complete()
        assert await shop.ready() == {"v2": 2}
        journal = await records.journal(lab.api, home)
        assert [record["actor"] for record in journal if record["kind"] == "begun"] == ["alice"]
        account = await asyncio.to_thread(bare.kubeconfig_for_service_account, home, "switchgear")
        await _seated(bare, account, home)
        for namespace in ("default", SYSTEM):
            with pytest.raises(Refusal, match="forbidden"):
                bare.kubectl("get", "deployments", "-n", namespace, kubeconfig=account)
    finally:
        await asyncio.to_thread(_uninstall, bare, home)
        await unguarded(bare, home)


async def _seated(cluster: Cluster, account: Path, home: str) -> None:
    """The API server serves the account by our FlowSchema."""
    ours = json.loads(cluster.kubectl("get", "flowschema", "switchgear", "-o", "json"))
    async with real_client(account) as client:
        answer = await client.get(f"/api/v1/namespaces/{home}/configmaps")
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"] == ours["metadata"]["uid"]
