# SPDX-License-Identifier: Apache-2.0
"""The shipped rights, judged by the API server's audit log: enough, and used to the last."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SYSTEM, Installed, installed
from tests.cluster.lab import records
from tests.cluster.lab.application import UNHURRIED, App, deployment, service, until
from tests.cluster.lab.trail import stray, used
from tests.cluster.lab.worker import Cluster, Refusal
from tests.cluster.people import P, asked_by
from tests.cluster.scenes import shipped
from tests.manifests.rendered import CONTROLLER, kustomized, rights_of, rules_of
from tests.support.realtime import Daemon, plain
from tests.support.runbook import block

pytestmark = pytest.mark.timeout(600)

Object = dict[str, Any]
POLICY = {
    "policy": "fast",
    "steps": "5@3s,50@3s",
    "bake": "3s",
    # A second bad version in a row has to get its own run.
    "after-trip": "next-revision",
}

UNDONE = {"policy": "fast", "traffic": "replicas", "steps": "50@1s", "bake": "10m"}
"""Nothing is measured there: a person lets the step pass, and aborts the roll."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rights(cluster: Cluster) -> AsyncIterator[Installed]:
    """The roles alone: without the admission policies the controller needs all that it may do.

    Nothing is bound in the whole cluster, as where only some namespaces are watched.
    """
    async with installed(cluster, "base") as found:
        cluster.kubectl("delete", "clusterrolebinding", "switchgear")
        yield found


def _bind(cluster: Cluster, namespace: str) -> None:
    """By the RoleBinding that is printed; elsewhere the account may do nothing any more."""
    binding = yaml.safe_load(block("one-namespace", "kubernetes.md"))
    binding["metadata"]["namespace"] = namespace
    cluster.kubectl("create", "-f", "-", stdin=yaml.safe_dump(binding))
    for resource in ("deployments.apps", "services", "httproutes.gateway.networking.k8s.io"):
        ask = ("auth", "can-i", "patch", resource, f"--as={CONTROLLER}")
        assert cluster.kubectl(*ask, "-n", namespace).strip() == "yes"
        for elsewhere in (("-n", "default"), ("-A",)):
            with pytest.raises(Refusal):
                cluster.kubectl(*ask, *elsewhere)


async def _volume(app: App) -> None:
    """A Deployment with a claim, whose pods never start: the preflight asks for the claim."""
    body = deployment(app.name, replicas=1, annotations=POLICY)
    spec = body["spec"]["template"]["spec"]
    claim = {"claimName": "data"}
    spec["volumes"] = [{"name": "data", "persistentVolumeClaim": claim}]
    await app.create("deployments", body)


async def _grpc(app: App, home: str) -> None:
    """A Deployment behind a GRPCRoute of another namespace, as a grant allows; nobody calls it."""
    await app.create("deployments", deployment(app.name, replicas=1, annotations=POLICY))
    await app.create("services", service(app.name))
    group = "gateway.networking.k8s.io"
    grant = {
        "apiVersion": f"{group}/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": app.name},
        "spec": {
            "from": [{"group": group, "kind": "GRPCRoute", "namespace": home}],
            "to": [{"group": "", "kind": "Service"}],
        },
    }
    path = f"/apis/{group}/v1beta1/namespaces/{app.namespace}/referencegrants"
    answer = await app.send("POST", path, grant)
    assert answer.status == 201, answer.content
    parents = [{"name": app.gateway, "namespace": "lab"}]
    backends = [{"name": app.name, "namespace": app.namespace, "port": 80}]
    body = {
        "apiVersion": f"{group}/v1",
        "kind": "GRPCRoute",
        "metadata": {"name": app.name},
        "spec": {
            "hostnames": [app.host],
            "parentRefs": parents,
            "rules": [{"backendRefs": backends}],
        },
    }
    answer = await app.send("POST", f"/apis/{group}/v1/namespaces/{home}/grpcroutes", body)
    assert answer.status == 201, answer.content
    await app.complete()


def _idle(version: str) -> Object:
    """The Deployment whose roll is undone: its pods are ready at once and do nothing."""
    made = deployment("undone", version=version, replicas=2, annotations=UNDONE)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container["image"] = f"registry.example/pause:{version}"
    del container["readinessProbe"]
    return made


async def _undone(lab: Lab, app: App, daemon: Daemon) -> None:
    """A native roll begins and is taken back, for which pods are deleted."""
    template = _idle("v2")["spec"]["template"]
    answer = await app.patch("deployments", {"spec": {"template": template}})
    assert answer.status == 200, answer.content
    await _in(lab, app, "Judging", daemon.log)
    async with plain(daemon.url) as http:
        path = f"/v1/targets/{app.namespace}/{app.name}/promote"
        said = await http.post(path, json={"reason": "nothing is measured here"})
        assert said.status_code < 300, said.text
    await _in(lab, app, "Baking", daemon.log)
    await app.patch("deployments", {"metadata": {"annotations": {P + "abort": "true"}}})
    await _ends(lab, app, "aborted", daemon.log)


@pytest.mark.once
async def test_a_set_of_runs_uses_every_rule_and_is_refused_nothing(
    rights: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Good, held and reverted; behind both kinds of route; with a claim; undone; killed; released.

    As it is shipped the daemon competes for a lease. The GRPCRoute is in a namespace of its own.
    """
    for namespace in (space.name, space.system):
        _bind(lab.cluster, namespace)
    options = (f"--namespace={space.system}", "--leader-election=on")
    daemon, _ = await shipped(rights, lab, space, options=options)
    shop, claims, grpc, undone = app(), app("claims"), app("grpc"), app("undone")
    await shop.start(annotations=POLICY, replicas=2)
    await _volume(claims)
    await _grpc(grpc, space.system)
    await undone.create("deployments", _idle("v1"))
    await undone.create("services", service(undone.name))
    await undone.complete()
    await daemon.start()
    for each in (shop, claims, grpc, undone):
        await each.adopted(daemon.log)
    load = await lab.load(shop)
    await claims.deploy("v2")
    await grpc.deploy("v2")
    await shop.deploy("v2", UNHURRIED)
    await _undone(lab, undone, daemon)
    await _ends(lab, shop, "promoted", daemon.log)
    await shop.deploy("v3", {**UNHURRIED, "ERROR_RATE": "0.5"})
    await _ends(lab, shop, "rolled-back", daemon.log, 2)
    await shop.patch("deployments", {"metadata": {"annotations": {P + "on-failure": "revert"}}})
    await shop.deploy("v4", {**UNHURRIED, "ERROR_RATE": "0.5"})
    await _ends(lab, shop, "rolled-back", daemon.log, 3)
    await grpc.patch("deployments", {"metadata": {"annotations": {P + "abort": "true"}}})
    await _ends(lab, grpc, "aborted", daemon.log)
    async with plain(daemon.url, seconds=20.0) as http:
        assert (await http.post("/v1/kill")).status_code == 200
        assert (await http.post("/v1/release")).status_code == 200

    await _viewed(lab, space)
    assert load.failures == {}, [datetime.fromtimestamp(at, UTC) for at in load.failed_at()]

    (trail,) = lab.trails
    events = trail.events()
    granted = rights_of(rules_of(kustomized("overlays/central"), "switchgear"))
    assert stray(events, granted) == []
    assert granted - used(events, granted) == set()


async def _viewed(lab: Lab, space: Space) -> None:
    """Whom the viewer's role is bound to reads every run past the daemon, and does nothing else."""
    bind = ("create", "rolebinding", "view", "--role=switchgear-viewer", "--user=carol")
    await asyncio.to_thread(lab.cluster.kubectl, *bind, "-n", SYSTEM)
    carol, target = lab.cluster.kubeconfig_for("carol"), f"{space.name}/checkout"
    wanted = {("get",): "aborted", ("status", target): "rolled-back", ("explain", target): "begun"}
    told = [await asked_by(carol, SYSTEM, *command) for command in wanted]
    for (status, text), words in zip(told, wanted.values(), strict=True):
        assert status == 0, text
        assert words in text
    status, text = await asked_by(carol, SYSTEM, "kill", target)
    assert status != 0, text
    assert "forbidden" in text.lower()
    listed = ("get", "configmaps", "-n", SYSTEM, "-o", "name")
    documents = await asyncio.to_thread(lab.cluster.kubectl, *listed, kubeconfig=carol)
    run = next(name for name in documents.split() if "checkout" in name)
    for args in (
        ("get", "secrets", "-n", SYSTEM),
        ("get", "leases", "-n", SYSTEM),
        ("annotate", run, "a=b", "-n", SYSTEM),
        ("delete", run, "-n", SYSTEM),
        ("get", "configmaps", "-n", space.name),
        ("get", "deployments", "-n", space.name),
        ("get", "httproutes", "-n", space.name),
    ):
        with pytest.raises(Refusal, match=r"is forbidden|\(Forbidden\)"):
            await asyncio.to_thread(lab.cluster.kubectl, *args, kubeconfig=carol)


async def _in(lab: Lab, app: App, phase: str, log: Callable[[], str]) -> None:
    """The application's only run is in this phase."""

    async def look() -> bool:
        every = await records.runs(lab.api, SYSTEM)
        return [run["phase"] for run in every if run["target"]["name"] == app.name] == [phase]

    await until(look, 60.0, lambda: f"{phase}: {log()}")


async def _ends(lab: Lab, app: App, outcome: str, log: Callable[[], str], number: int = 1) -> None:
    """The run of this number of the application's has ended so."""
    found: list[Object] = []

    async def look() -> bool:
        every = await records.runs(lab.api, SYSTEM)
        found[:] = [run for run in every if run["target"]["name"] == app.name]
        last = found[number - 1 :]
        return bool(last) and last[0]["phase"] in records.AT_REST and bool(last[0]["outcome"])

    try:
        await until(look, records.RUN_SECONDS, outcome, every=0.2)
    except AssertionError as error:
        raise AssertionError(f"{outcome}, but {found[-1:]}: {log()}") from error
    assert found[number - 1]["outcome"] == outcome, log()


@pytest.mark.parametrize(
    ("verb", "allowed"),
    [("release", True), ("override", True), ("promote", False)],
)
async def test_kubectl_answers_for_our_verbs(
    rights: Installed, lab: Lab, space: Space, verb: str, allowed: bool
) -> None:
    """`kubectl auth can-i` asks the API server, which knows them by a virtual subresource."""
    assert rights.controller.exists()
    cluster = lab.cluster
    cluster.kubectl(
        *("-n", space.name, "create", "rolebinding", "r", "--clusterrole=switchgear-releaser"),
        "--user=bob",
    )
    cluster.kubectl(
        *("-n", space.name, "create", "rolebinding", "a", "--clusterrole=admin", "--user=alice")
    )
    ask = ("auth", "can-i", verb, "deployments.apps/checkout", "--subresource=canary")
    where = ("-n", space.name)
    bob, alice = cluster.kubeconfig_for("bob"), cluster.kubeconfig_for("alice")
    if allowed:
        assert cluster.kubectl(*ask, *where, kubeconfig=bob).strip() == "yes"
    else:
        with pytest.raises(Refusal):
            cluster.kubectl(*ask, *where, kubeconfig=bob)
    with pytest.raises(Refusal):
        cluster.kubectl(*ask, *where, kubeconfig=alice)
