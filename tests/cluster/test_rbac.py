# SPDX-License-Identifier: Apache-2.0
"""The shipped rights, judged by the API server's audit log: enough, and used to the last."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from tests.cluster.conftest import QUICK, Lab, Space
from tests.cluster.installed import SYSTEM, Installed, installed
from tests.cluster.lab import records
from tests.cluster.lab.application import UNHURRIED, App, deployment, service, until
from tests.cluster.lab.worker import Cluster, Refusal
from tests.cluster.people import P
from tests.manifests.rendered import CONTROLLER, kustomized, rules_of
from tests.support.realtime import plain

pytestmark = pytest.mark.timeout(600)

Object = dict[str, Any]
POLICY = {
    "policy": "fast",
    "steps": "5@3s,50@3s",
    "bake": "3s",
    # A second bad version in a row has to get its own run.
    "after-trip": "next-revision",
}

NOT_BY_A_RUN: dict[tuple[str, str, str], str] = {
    ("", "pods", "delete"): "the undo of a native roll: test_undo",
    ("gateway.networking.k8s.io", "referencegrants", "list"): "a route in another namespace",
    ("coordination.k8s.io", "leases", "create"): "leader election: test_manifests",
    ("coordination.k8s.io", "leases", "get"): "leader election: test_manifests",
    ("coordination.k8s.io", "leases", "patch"): "leader election: test_manifests",
}
"""Rules whose use other tests show; each with what uses it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rights(cluster: Cluster) -> AsyncIterator[Installed]:
    """The roles alone: without the admission policies the controller needs all that it may do.

    Nothing is bound in the whole cluster, as where only some namespaces are watched.
    """
    async with installed(cluster, "base") as found:
        cluster.kubectl("delete", "clusterrolebinding", "switchgear")
        yield found


def _granted() -> set[tuple[str, str, str]]:
    found: set[tuple[str, str, str]] = set()
    for rule in rules_of(kustomized("overlays/central"), "switchgear"):
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found |= {(group, resource, verb) for verb in rule["verbs"]}
    return found


def _used(event: Object) -> tuple[str, str, str]:
    ref = event["objectRef"]
    name = ref["resource"] + (f"/{ref['subresource']}" if ref.get("subresource") else "")
    return ref.get("apiGroup", ""), name, event["verb"]


async def _volume(app: App) -> None:
    """A Deployment with a claim, whose pods never start: the preflight asks for the claim."""
    body = deployment(app.name, replicas=1, annotations=POLICY)
    spec = body["spec"]["template"]["spec"]
    claim = {"claimName": "data"}
    spec["volumes"] = [{"name": "data", "persistentVolumeClaim": claim}]
    await app.create("deployments", body)


async def _grpc(app: App) -> None:
    """A Deployment behind a GRPCRoute that nobody calls."""
    await app.create("deployments", deployment(app.name, replicas=1, annotations=POLICY))
    await app.create("services", service(app.name))
    parents = [{"name": app.gateway, "namespace": "lab"}]
    backends = [{"name": app.name, "port": 80}]
    body = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GRPCRoute",
        "metadata": {"name": app.name},
        "spec": {
            "hostnames": [app.host],
            "parentRefs": parents,
            "rules": [{"backendRefs": backends}],
        },
    }
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{app.namespace}/grpcroutes"
    answer = await app.send("POST", path, body)
    assert answer.status == 201, answer.content
    await app.complete()


@pytest.mark.once
async def test_a_set_of_runs_uses_every_rule_and_is_refused_nothing(
    rights: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Good, held and reverted; behind both kinds of route; with a claim; killed and released."""
    bind = ("create", "rolebinding", "switchgear", "--clusterrole=switchgear")
    account = f"--serviceaccount={SYSTEM}:switchgear"
    lab.cluster.kubectl(*bind, account, "-n", space.name)
    since = lab.cluster.audit()[-1]["requestReceivedTimestamp"]
    daemon = lab.daemon(
        Space(name=space.name, system=SYSTEM), kubeconfig=rights.controller, options=QUICK
    )
    shop, claims, grpc = app(), app("claims"), app("grpc")
    await shop.start(annotations=POLICY, replicas=2)
    await _volume(claims)
    await _grpc(grpc)
    await daemon.start()
    for each in (shop, claims, grpc):
        await each.adopted(daemon.log)
    load = await lab.load(shop)
    await claims.deploy("v2")
    await grpc.deploy("v2")
    await shop.deploy("v2", UNHURRIED)
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

    assert load.failures == {}, [datetime.fromtimestamp(at, UTC) for at in load.failed_at()]

    def ours(event: Object) -> bool:
        return bool(event["user"]["username"] == CONTROLLER and "objectRef" in event)

    events = lab.cluster.audited(ours, since=since)
    refused = {_used(e) for e in events if e["responseStatus"]["code"] == 403}
    assert refused == set()
    used = {_used(event) for event in events}
    assert used <= _granted(), used - _granted()
    assert _granted() - used == set(NOT_BY_A_RUN)


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
