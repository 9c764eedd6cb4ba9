# SPDX-License-Identifier: Apache-2.0
"""Objects of ours against ways that name none of them: whole collections, owners, finalizers."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml

from tests.cluster.conftest import Lab
from tests.cluster.installed import SYSTEM, Installed
from tests.cluster.lab.application import until
from tests.cluster.lab.worker import Cluster, Refusal
from tests.cluster.people import Desk, Object, P, killed_by

pytestmark = pytest.mark.timeout(400)

MANAGED = "app.kubernetes.io/managed-by"
MAPS = f"/api/v1/namespaces/{SYSTEM}/configmaps"
LATCH = "switchgear-kill"
SCOPE = {"namespace.shop": "x"}


def _config_map(name: str, *, data: dict[str, str] | None = None, **more: object) -> Object:
    meta: Object = {"name": name, "namespace": SYSTEM, **more}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data or {}}


def _create(cluster: Cluster, body: Object, user: Path | None = None) -> None:
    cluster.kubectl("create", "-f", "-", stdin=yaml.safe_dump(body), kubeconfig=user)


@contextlib.contextmanager
def _bound(cluster: Cluster, user: str, *, role: str) -> Iterator[Path]:
    """Somebody with a role in the controller's namespace; documents are gone afterwards."""
    bind = ("create", "rolebinding", user, "-n", SYSTEM, f"--{role}", f"--user={user}")
    cluster.kubectl(*bind)
    try:
        yield cluster.kubeconfig_for(user)
    finally:
        cluster.kubectl("delete", "rolebinding", user, "-n", SYSTEM)
        # An administrator is a person with every verb, for collections as well.
        for chosen in (
            {"labelSelector": P + "run"},
            {"fieldSelector": "metadata.name=switchgear-cluster"},
            {"fieldSelector": f"metadata.name={LATCH}"},
        ):
            cluster.kubectl("delete", "--raw", f"{MAPS}?{urlencode(chosen)}")
        assert not _ours(cluster)


def _ours(cluster: Cluster) -> dict[str, Object]:
    """Documents as they stand."""
    found = json.loads(cluster.kubectl("get", "configmaps", "-n", SYSTEM, "-o", "json"))["items"]
    return {
        item["metadata"]["name"]: item
        for item in found
        if P + "run" in item["metadata"].get("labels", {})
        or item["metadata"]["name"] in {LATCH, "switchgear-cluster"}
    }


def _named(cluster: Cluster, name: str) -> bool:
    get = ("get", "configmap", name, "-n", SYSTEM, "--ignore-not-found", "-o", "name")
    return bool(cluster.kubectl(*get))


async def test_a_deleted_collection_leaves_documents_and_the_latch(
    gate: Installed, lab: Lab
) -> None:
    """Such a request names no object, and `edit` has the verb for it."""
    cluster = lab.cluster
    with _bound(cluster, "carol", role="clusterrole=edit") as carol:
        _create(cluster, _config_map("r1", labels={P + "run": "r1"}), gate.controller)
        _create(cluster, _config_map("switchgear-cluster", data={"epoch": "1"}), gate.controller)
        _create(cluster, _config_map(LATCH, data=SCOPE), gate.controller)
        for name in ("mine", "yours"):
            _create(cluster, _config_map(name), carol)
        before = _ours(cluster)
        assert set(before) == {"r1", "switchgear-cluster", LATCH}
        for chosen, words in (
            ({"fieldSelector": f"metadata.name={LATCH}"}, "lifting it"),
            ({"fieldSelector": "metadata.name=switchgear-cluster"}, "Switchgear alone"),
            ({"fieldSelector": "metadata.name=r1"}, "Switchgear alone"),
            ({"labelSelector": P + "run"}, "Switchgear alone"),
            ({"labelSelector": f"!{P}run"}, r"Switchgear alone|lifting it"),
            ({}, r"Switchgear alone|lifting it"),
        ):
            with pytest.raises(Refusal, match=words):
                cluster.kubectl("delete", "--raw", f"{MAPS}?{urlencode(chosen)}", kubeconfig=carol)
            assert _ours(cluster) == before
        for name in ("mine", "yours"):
            # The wider ones above stop at the first that is refused, in no order.
            if not _named(cluster, name):
                _create(cluster, _config_map(name), carol)
        # Whose name the server makes up is none of ours either.
        nameless = _config_map("")
        nameless["metadata"] = {"generateName": "mine-", "namespace": SYSTEM}
        _create(cluster, nameless, carol)
        mine = urlencode({"fieldSelector": "metadata.name=mine"})
        cluster.kubectl("delete", "--raw", f"{MAPS}?{mine}", kubeconfig=carol)
        assert (_named(cluster, "mine"), _named(cluster, "yours")) == (False, True)
        cluster.kubectl("delete", "configmap", "yours", "-n", SYSTEM, kubeconfig=carol)


async def test_the_latch_is_not_sealed_against_the_next_kill(gate: Installed, lab: Lab) -> None:
    """Neither made so nor turned into it; the kill itself stays free."""
    cluster = lab.cluster
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0-0-0"}
    finalizers = ["example.com/mine"]
    plain = _config_map(LATCH, data=SCOPE)
    with _bound(cluster, "dave", role="role=switchgear-killer") as dave:
        for sealed in (
            {**plain, "immutable": True},
            _config_map(LATCH, data=SCOPE, ownerReferences=[owner]),
            _config_map(LATCH, data=SCOPE, finalizers=finalizers),
        ):
            with pytest.raises(Refusal, match="could not be written into it"):
                _create(cluster, sealed, dave)
            assert not _ours(cluster)
        _create(cluster, plain, dave)
        before = _ours(cluster)

        def patch(body: Object) -> None:
            act = ("patch", "configmap", LATCH, "-n", SYSTEM, "--type=merge", "-p")
            cluster.kubectl(*act, json.dumps(body), kubeconfig=dave)

        for change in (
            {"immutable": True},
            {"immutable": True, "data": {"all": "x"}},
            {"metadata": {"ownerReferences": [owner]}},
            {"metadata": {"finalizers": finalizers}},
        ):
            with pytest.raises(Refusal, match="could not be written into it"):
                patch(change)
            assert _ours(cluster) == before
        patch({"data": {"all": "x"}})
        assert set(_ours(cluster)[LATCH]["data"]) == {"all", "namespace.shop"}
    assert gate.controller.exists()


async def test_a_kill_gets_into_a_latch_that_is_immutable(gate: Installed, lab: Lab) -> None:
    """As one from before the policies is; `switchgear kill` makes it again with what it said."""
    cluster = lab.cluster
    with _bound(cluster, "carol", role="clusterrole=edit") as carol:
        _create(cluster, {**_config_map(LATCH, data=SCOPE), "immutable": True}, gate.controller)
        sealed = _ours(cluster)
        # Deleting it is what lifts a kill, so that takes more than `edit`.
        status, said = await killed_by(carol, SYSTEM)
        assert status != 0, said
        assert _ours(cluster) == sealed
        status, said = await killed_by(cluster.kubeconfig, SYSTEM)
        assert status == 0, said
        found = _ours(cluster)[LATCH]
        assert set(found["data"]) == {"all", "namespace.shop"}
        assert found["data"]["namespace.shop"] == "x"
        assert not found.get("immutable")


def _twin(desk: Desk) -> Object:
    """The canary as the controller makes it, at no replicas; returns its metadata."""
    stable = desk.get()
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "checkout",
        "uid": stable["metadata"]["uid"],
        "controller": False,
        "blockOwnerDeletion": False,
    }
    body = {key: stable[key] for key in ("apiVersion", "kind", "spec")}
    body["metadata"] = {
        "name": "checkout-canary",
        "labels": {MANAGED: "switchgear", P + "track": "canary"},
        "ownerReferences": [owner],
    }
    body["spec"]["replicas"] = 0
    for part in (
        body["spec"]["template"]["metadata"]["labels"],
        body["spec"]["selector"]["matchLabels"],
    ):
        part[P + "track"] = "canary"
    desk.kubectl("create", "-f", "-", stdin=yaml.safe_dump(body), user=desk.gate.controller)
    return _meta(desk)


def _meta(desk: Desk) -> Object:
    """What people could change of it; its status is written all the time."""
    meta: Object = desk.get(name="checkout-canary")["metadata"]
    return {key: meta.get(key) for key in ("uid", "labels", "ownerReferences", "finalizers")}


def _ways(desk: Desk) -> tuple[Callable[..., str], ...]:
    """To write its metadata: as it is, and through its status."""
    return desk.patch, functools.partial(desk.patch, sub="status")


async def test_the_canary_is_not_orphaned_in_any_way(desk: Desk) -> None:
    """One by one or as a collection, in the new form and in the old, now or later."""
    before = _twin(desk)
    every = f"/apis/apps/v1/namespaces/{desk.app.namespace}/deployments"
    ours = {"labelSelector": f"{MANAGED}=switchgear"}
    for how in ({"propagationPolicy": "Orphan"}, {"orphanDependents": "true"}):
        for path in (
            f"{every}/checkout-canary?{urlencode(how)}",
            f"{every}?{urlencode({**ours, **how})}",
        ):
            with pytest.raises(Refusal, match="delete the canary with its pods"):
                desk.kubectl("delete", "--raw", path)
            assert _meta(desk) == before
    later = {"metadata": {"finalizers": ["orphan"]}}
    for patch in _ways(desk):
        with pytest.raises(Refusal, match="delete the canary with its pods"):
            patch(later, name="checkout-canary")
        assert _meta(desk) == before
    desk.patch({"metadata": {"finalizers": ["example.com/mine"]}}, name="checkout-canary")
    desk.patch({"metadata": {"finalizers": None}}, name="checkout-canary")
    # With its pods it may go, and the Deployment that it stands for is not touched.
    desk.kubectl("delete", "--raw", f"{every}?{urlencode(ours)}")
    await until(lambda: _gone(desk), 20.0, "the canary is deleted")
    assert desk.get()["metadata"]["name"] == "checkout"


async def _gone(desk: Desk) -> bool:
    get = ("get", "deployment", "checkout-canary", "--ignore-not-found", "-o", "name")
    return not desk.kubectl(*get)


async def test_the_canary_keeps_its_owner(desk: Desk) -> None:
    """But for the garbage collector, which takes away an owner that left its dependents."""
    before = _twin(desk)
    (owner,) = before["ownerReferences"]
    for owners in (
        None,
        [{**owner, "name": "other", "uid": "0-0-0"}],
        [owner, {**owner, "uid": "1"}],
    ):
        for patch in _ways(desk):
            with pytest.raises(Refusal, match="Deployment that it stands for"):
                patch({"metadata": {"ownerReferences": owners}}, name="checkout-canary")
            assert _meta(desk) == before
    desk.kubectl("scale", "deployment/checkout-canary", "--replicas=1")
    desk.kubectl("annotate", "deployment/checkout-canary", "team=web")
    assert _meta(desk) == before
    desk.kubectl("delete", "deployment", "checkout", "--cascade=orphan")

    async def orphaned() -> bool:
        return not _meta(desk)["ownerReferences"]

    await until(orphaned, 30.0, "the garbage collector takes the owner away")
    desk.kubectl("delete", "deployment", "checkout-canary")
