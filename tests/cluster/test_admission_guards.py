# SPDX-License-Identifier: Apache-2.0
"""What a hold by the API server stands against: resuming, forging, stripping, going round it."""

import functools
import json
from collections.abc import Callable

import pytest
import yaml

from tests.cluster.lab.application import until
from tests.cluster.lab.worker import Refusal
from tests.cluster.people import V2, Desk, Object, P, of_git, template

pytestmark = pytest.mark.timeout(400)


def _refusal(act: Callable[[], object]) -> str:
    """The complaint of a write that must be refused."""
    with pytest.raises(Refusal) as caught:
        act()
    return str(caught.value)


def _hold(desk: Desk) -> Object:
    """A change by alice, held by the policy."""
    desk.kubectl("set", "image", "deployment/checkout", f"app={V2}")
    found = desk.get()
    assert desk.notes()["hold"] == "template"
    return found


async def test_a_held_deployment_is_not_resumed(desk: Desk) -> None:
    """By no way of writing, and the person at the terminal is told why."""
    _hold(desk)
    attempts: list[Callable[[], object]] = [
        lambda: desk.kubectl("rollout", "resume", "deployment/checkout"),
        lambda: desk.patch({"spec": {"paused": None}}),
        lambda: desk.patch([{"op": "remove", "path": "/spec/paused"}]),
        lambda: desk.patch(
            {"metadata": {"annotations": {P + "hold": None}}, "spec": {"paused": False}}
        ),
        lambda: desk.patch({"metadata": {"annotations": {P + "hold": "user-paused"}}}),
        lambda: desk.kubectl("replace", "-f", "-", stdin=of_git(desk, V2)),
        # The verb alone is no act, and neither is a reason without the verb.
        lambda: desk.patch({"spec": {"paused": False}}, user=desk.bob),
    ]
    for attempt in attempts:
        attempt()
        assert desk.get()["spec"]["paused"] is True
        assert desk.notes()["hold"] == "template"
        assert desk.notes()["maker"] == "alice"
    words = _refusal(
        lambda: desk.patch(
            {"metadata": {"annotations": {P + "override": "please"}}, "spec": {"paused": False}}
        )
    )
    assert "`override`" in words
    await desk.seen()
    assert desk.sets() == 1


async def test_a_person_with_the_verb_and_a_reason_gets_past(desk: Desk) -> None:
    """In one write; the reason stays for the controller to tell, and is used up by it."""
    _hold(desk)
    act = {
        "metadata": {"annotations": {P + "override": "controller is down"}},
        "spec": {"paused": False},
    }
    desk.patch(act, user=desk.bob)
    assert not desk.get()["spec"].get("paused")
    assert "hold" not in desk.notes()
    await desk.app.complete()
    assert await desk.app.ready() == {"v2": 1}
    # The same reason does not count for the next change.
    desk.patch(template("registry.example/app:v3"), user=desk.bob, form="strategic")
    assert desk.notes()["hold"] == "template"
    assert desk.notes()["maker"] == "bob"


async def test_each_of_the_two_verbs_is_enough(desk: Desk) -> None:
    """For going past a hold, and for the end of a kill."""
    cluster, space = desk.gate.cluster, ("-n", desk.app.namespace)
    for verb in ("override", "release"):
        rule = {"apiGroups": ["apps"], "resources": ["deployments/canary"], "verbs": [verb]}
        role = {"kind": "Role", "metadata": {"name": verb}, "rules": [rule]}
        text = yaml.safe_dump({"apiVersion": "rbac.authorization.k8s.io/v1", **role})
        cluster.kubectl(*space, "create", "-f", "-", stdin=text)
        for given in (f"--role={verb}", "--clusterrole=edit"):
            name = f"{verb}{given.partition('=')[0]}"
            cluster.kubectl(*space, "create", "rolebinding", name, given, f"--user={verb}")
        person = cluster.kubeconfig_for(verb)
        desk.patch(template(f"registry.example/app:{verb}"), form="strategic")
        assert desk.notes()["hold"] == "template"
        reason = {"metadata": {"annotations": {P + "override": f"by {verb}"}}}
        desk.patch({**reason, "spec": {"paused": False}}, user=person)
        assert "hold" not in desk.notes()
        assert not desk.get()["spec"].get("paused")
        desk.kubectl("annotate", "deployment/checkout", P + "kill=now")
        desk.kubectl("annotate", "deployment/checkout", P + "kill-", user=person)
        assert "kill" not in desk.notes()


async def test_a_service_account_is_no_person(desk: Desk) -> None:
    """Many of them hold every verb."""
    cluster, space = desk.gate.cluster, desk.app.namespace
    cluster.kubectl("-n", space, "create", "serviceaccount", "robot")
    cluster.kubectl(
        *("-n", space, "create", "rolebinding", "robot", "--clusterrole=cluster-admin"),
        f"--serviceaccount={space}:robot",
    )
    robot = cluster.kubeconfig_for_service_account(space, "robot")
    _hold(desk)
    act = {"metadata": {"annotations": {P + "override": "x"}}, "spec": {"paused": False}}
    assert "override" in _refusal(lambda: desk.patch(act, user=robot))
    desk.patch({"spec": {"paused": False}}, user=robot)
    assert desk.get()["spec"]["paused"] is True
    assert "person" in _refusal(lambda: desk.patch(_without_policy(), user=robot))


def _without_policy() -> Object:
    return {"metadata": {"annotations": {P + "policy": None}}}


async def test_the_gate_is_taken_away_by_people_with_the_verb_alone(desk: Desk) -> None:
    """Neither by removing the policy nor by `observe`, and not together with a new template."""
    observe = {"metadata": {"annotations": {P + "policy": "observe"}}}
    both = {**_without_policy(), "spec": {"template": {"metadata": {"labels": {"x": "y"}}}}}
    assert "release" in _refusal(lambda: desk.patch(_without_policy()))
    assert "release" in _refusal(lambda: desk.patch(observe))
    assert "new template" in _refusal(lambda: desk.patch(both, user=desk.bob))
    desk.patch(observe, user=desk.bob)
    desk.patch(template(V2), form="strategic")
    await desk.app.complete()
    assert await desk.app.ready() == {"v2": 1}
    desk.patch({"metadata": {"annotations": {P + "policy": "fast"}}})
    desk.patch(_without_policy(), user=desk.bob)
    assert "policy" not in desk.notes()


async def test_our_annotations_cannot_be_forged_or_removed(desk: Desk) -> None:
    """Through the Deployment, its status and its scale; the rest of each write is taken."""
    before = desk.notes()
    forged = {P + key: "x" for key in ("hold", "maker", "managed", "original", "run", "status")}
    gone = dict.fromkeys(forged)
    writes: list[Callable[[], object]] = [
        lambda: desk.patch({"metadata": {"annotations": forged}}),
        lambda: desk.patch({"metadata": {"annotations": gone}}),
        lambda: desk.patch({"metadata": {"annotations": forged}}, sub="status"),
        lambda: desk.patch({"metadata": {"annotations": gone}}, sub="status"),
        lambda: desk.patch({"metadata": {"annotations": forged}}, sub="scale"),
        lambda: desk.kubectl("replace", "-f", "-", stdin=of_git(desk, "registry.example/app:v1")),
    ]
    for write in writes:
        write()
        assert desk.notes() == before
        assert not desk.get()["spec"].get("paused")
    desk.patch({"metadata": {"annotations": {**forged, "team": "web"}}})
    assert desk.get()["metadata"]["annotations"]["team"] == "web"


async def test_a_forged_maker_of_a_change_is_stamped_over(desk: Desk) -> None:
    forged = {"metadata": {"annotations": {P + "maker": "bob"}}}
    desk.patch({**forged, **template(V2)}, form="strategic")
    notes = desk.notes()
    assert (notes["hold"], notes["maker"]) == ("template", "alice")


async def test_a_kill_on_the_deployment_is_anybodys_and_its_end_is_not(desk: Desk) -> None:
    desk.kubectl("annotate", "deployment/checkout", P + "kill=now")
    assert "release" in _refusal(
        lambda: desk.kubectl("annotate", "deployment/checkout", P + "kill-")
    )
    desk.kubectl("annotate", "deployment/checkout", P + "kill-", user=desk.bob)
    assert "kill" not in desk.notes()


async def test_a_pause_of_its_owner_is_respected(desk: Desk) -> None:
    """A change under it is held, and his resume gives it to the controller instead of shipping."""
    desk.kubectl("rollout", "pause", "deployment/checkout")
    desk.kubectl("set", "image", "deployment/checkout", f"app={V2}")
    assert desk.notes()["hold"] == "user-paused"
    desk.kubectl("set", "image", "deployment/checkout", "app=registry.example/app:v3")
    assert desk.notes()["hold"] == "user-paused"
    desk.kubectl("rollout", "resume", "deployment/checkout")
    assert desk.notes()["hold"] == "template"
    assert desk.get()["spec"]["paused"] is True
    await desk.seen()
    assert desk.sets() == 1


async def test_made_anew_it_rolls_natively_and_brings_no_mark_along(desk: Desk) -> None:
    """Deleted and created, restored from a backup of a held one: never paused by us for ever."""
    _hold(desk)
    backup = desk.get()
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        del backup["metadata"][key]
    del backup["status"]
    desk.kubectl("replace", "--force", "-f", "-", stdin=yaml.safe_dump(backup))
    assert desk.notes() == {"policy": "fast"}
    assert not desk.get()["spec"].get("paused")
    await desk.app.complete()
    assert await desk.app.ready() == {"v2": 1}


def _marked(desk: Desk, kind: str) -> str:
    """A workload whose pods would be taken for the canary's, or such a pod itself."""
    spec = desk.get()["spec"]["template"]["spec"]
    labels = {"app": "checkout", P + "track": "canary"}
    meta = {"name": "stowaway"}
    group = {"Job": "batch/v1", "Pod": "v1", "ReplicationController": "v1"}
    body: Object = {"apiVersion": group.get(kind, "apps/v1"), "kind": kind, "metadata": meta}
    if kind == "Pod":
        return yaml.safe_dump({**body, "metadata": {**meta, "labels": labels}, "spec": spec})
    if kind == "Job":
        spec = {**spec, "restartPolicy": "Never"}
    body["spec"] = {"template": {"metadata": {"labels": labels}, "spec": spec}}
    if kind == "ReplicationController":
        body["spec"]["selector"] = labels
    elif kind != "Job":
        body["spec"]["selector"] = {"matchLabels": labels}
    if kind == "StatefulSet":
        body["spec"]["serviceName"] = "checkout"
    return yaml.safe_dump(body)


async def test_nobody_else_makes_pods_of_the_canary(desk: Desk) -> None:
    """They would get its requests: not bare, not by any workload, and not by an administrator."""
    kinds = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController", "Job")
    create = ("-n", desk.app.namespace, "create", "-f", "-")
    for kind in ("Pod", *kinds):
        as_admin = functools.partial(desk.gate.cluster.kubectl, *create, stdin=_marked(desk, kind))
        words = _refusal(as_admin)
        assert "Switchgear alone" in " ".join(words.split()), kind
    mark = {"spec": {"template": {"metadata": {"labels": {P + "track": "canary"}}}}}
    assert "out of the template" in " ".join(_refusal(lambda: desk.patch(mark)).split())
    # The controller's own canary gets its pods, and others may scale it.
    canary = _marked(desk, "Deployment").replace("stowaway", "checkout-canary")
    desk.kubectl("create", "-f", "-", stdin=canary, user=desk.gate.controller)
    twin = "deployment/checkout-canary"
    for count in (1, 2):
        desk.kubectl("scale", twin, f"--replicas={count}")

        async def look(count: int = count) -> bool:
            told = desk.kubectl("get", "pods", "-l", f"{P}track=canary", "-o", "json")
            return len(json.loads(told)["items"]) == count

        await until(look, 20.0, f"{count} pods of the canary")
    desk.kubectl("delete", twin)


async def test_server_side_apply_sees_no_drift(desk: Desk) -> None:
    """What the policy sets has no owner: a pipeline that applies the same again changes nothing."""
    file = ("--server-side", "--field-manager=flux", "--force-conflicts", "-f", "-")
    desk.kubectl("apply", *file, stdin=of_git(desk, V2))
    version = desk.get()["metadata"]["resourceVersion"]
    desk.kubectl("apply", *file, stdin=of_git(desk, V2))
    found = desk.get()
    assert found["metadata"]["resourceVersion"] == version
    assert desk.notes()["hold"] == "template"
    assert found["spec"]["paused"] is True


async def test_the_person_at_the_terminal_is_told(desk: Desk) -> None:
    """By a warning, which kubectl, Helm and Argo CD all show."""

    async def warning(plural: str, body: Object) -> str | None:
        answer = await desk.app.patch(plural, body)
        assert answer.status == 200
        return answer.headers.get("warning")

    said = await warning("deployments", template(V2))
    assert said is not None
    assert "goes to a canary first" in said
    assert "switchgear status" in said
    resumed = await warning("deployments", {"spec": {"paused": False}})
    assert resumed is not None
    assert "resume by hand has no effect" in resumed
    # To something that is not held.
    assert await warning("services", {"metadata": {"labels": {"a": "b"}}}) is None
