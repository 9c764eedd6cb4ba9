# SPDX-License-Identifier: Apache-2.0
"""While a run is on: the pin and the canary's share under other writers, and documents of ours.

There is no controller here either; its account pins and weighs as the controller would.
"""

import json
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Lab
from tests.cluster.installed import SYSTEM, Installed
from tests.cluster.lab.worker import Refusal
from tests.cluster.people import Desk, Object, P

pytestmark = pytest.mark.timeout(400)

STABLE = "aaaaaaaaaa"


def pin(desk: Desk, key: str = "pod-template-hash", value: str = STABLE) -> None:
    """What the controller writes on the Service."""
    selector: dict[str, Any] = {"app": "checkout", "pod-template-hash": None, P + "track": None}
    notes = {P + "original": '{"app":"checkout"}', P + "target": "checkout", P + "stable": STABLE}
    desk.as_controller(
        {"metadata": {"annotations": notes}, "spec": {"selector": {**selector, key: value}}},
        kind="service",
    )


def service(selector: dict[str, str] | None, **more: Any) -> str:
    """The Service as git has it."""
    spec: Object = {"ports": [{"port": 80, "targetPort": 8080}], **more}
    if selector is not None:
        spec["selector"] = selector
    return yaml.safe_dump(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "checkout"}, "spec": spec}
    )


@pytest.mark.parametrize("key", ["pod-template-hash", P + "track"])
async def test_a_pin_is_kept_whatever_it_is_to(desk: Desk, key: str) -> None:
    """Other edits of the Service go through, even of its selector."""
    value = STABLE if key == "pod-template-hash" else "canary"
    pin(desk, key, value)
    notes = desk.notes("service")
    own = {"app": "checkout"}
    flux = ("apply", "--server-side", "--force-conflicts", "--field-manager=flux", "-f", "-")
    desk.kubectl(*flux, stdin=service(own))
    desk.kubectl("apply", "-f", "-", stdin=service(own))
    desk.kubectl("replace", "-f", "-", stdin=service(own, sessionAffinity="ClientIP"))
    desk.patch([{"op": "replace", "path": "/spec/selector", "value": own}], kind="service")
    desk.patch({"metadata": {"annotations": dict.fromkeys(map(P.__add__, notes))}}, kind="service")
    desk.patch({"spec": {"selector": {key: "bbbbbbbbbb", "team": "web"}}}, kind="service")
    found = desk.get("service")
    assert found["spec"]["selector"] == {"app": "checkout", "team": "web", key: value}
    assert found["spec"]["sessionAffinity"] == "ClientIP"
    assert desk.notes("service") == notes


async def test_anybody_may_lead_the_service_back_to_stable(desk: Desk) -> None:
    """In the commit the Service follows the canary, and a kill has to take it back."""
    pin(desk, P + "track", "canary")
    desk.patch(
        {"spec": {"selector": {P + "track": None, "pod-template-hash": STABLE}}}, kind="service"
    )
    expected = {"app": "checkout", "pod-template-hash": STABLE}
    assert desk.get("service")["spec"]["selector"] == expected


async def test_a_service_that_is_not_pinned_is_the_teams_own(desk: Desk) -> None:
    """Its selector is free; only our notes cannot be forged."""
    forged = {P + "original": "{}", P + "target": "checkout", "team": "web"}
    desk.patch(
        {"metadata": {"annotations": forged}, "spec": {"selector": {"pod-template-hash": "x"}}},
        kind="service",
    )
    assert desk.get("service")["spec"]["selector"]["pod-template-hash"] == "x"
    assert desk.notes("service") == {}


async def test_a_person_with_the_verb_unpins_with_a_reason(desk: Desk) -> None:
    pin(desk)
    act = {
        "metadata": {"annotations": {P + "override": "controller is down"}},
        "spec": {"selector": {"pod-template-hash": None}},
    }
    desk.patch(act, kind="service")
    assert "pod-template-hash" in desk.get("service")["spec"]["selector"]
    desk.patch({"metadata": {"annotations": {P + "override": None}}}, kind="service")
    desk.patch(act, kind="service", user=desk.bob)
    assert desk.get("service")["spec"]["selector"] == {"app": "checkout"}


def weigh(desk: Desk, bp: int) -> None:
    """What the controller writes into the route."""
    found = desk.get("httproute")
    rules = found["spec"]["rules"]
    for rule in rules:
        first = {**rule["backendRefs"][0], "weight": 10_000 - bp}
        rule["backendRefs"] = [first, {**first, "name": "checkout-canary", "weight": bp}]
    note = json.dumps([{"rule": 0, "index": 0, "service": "checkout", "weight": None}])
    desk.patch(
        [
            {"op": "add", "path": "/metadata/annotations", "value": {P + "original": note}},
            {"op": "replace", "path": "/spec/rules", "value": rules},
        ],
        kind="httproute",
        user=desk.gate.controller,
    )


def weights(desk: Desk) -> list[dict[str, int]]:
    """The weights of every rule."""
    return [
        {backend["name"]: backend.get("weight", 1) for backend in rule.get("backendRefs", ())}
        for rule in desk.get("httproute")["spec"]["rules"]
    ]


HELD = {"checkout": 9_500, "checkout-canary": 500}


async def test_the_share_is_kept_and_the_rest_of_the_route_is_taken(desk: Desk) -> None:
    git = desk.get("httproute")
    git = {
        "apiVersion": git["apiVersion"],
        "kind": "HTTPRoute",
        "metadata": {"name": "checkout"},
        "spec": git["spec"],
    }
    weigh(desk, 500)
    notes = desk.notes("httproute")
    flux = ("apply", "--server-side", "--force-conflicts", "--field-manager=flux", "-f", "-")
    desk.kubectl(*flux, stdin=yaml.safe_dump(git))
    assert weights(desk) == [HELD]
    git["spec"]["hostnames"] = ["other.example"]
    git["spec"]["rules"][0]["timeouts"] = {"request": "10s"}
    git["spec"]["rules"].append({"backendRefs": [{"name": "else", "port": 80}]})
    desk.kubectl("replace", "-f", "-", stdin=yaml.safe_dump(git))
    found = desk.get("httproute")["spec"]
    assert weights(desk) == [HELD, {"else": 1}]
    assert found["hostnames"] == ["other.example"]
    assert found["rules"][0]["timeouts"] == {"request": "10s"}
    assert desk.notes("httproute") == notes


@pytest.mark.parametrize("stable", [9_500, 0])
async def test_nobody_else_raises_the_share(desk: Desk, stable: int) -> None:
    """Neither by the canary's weight nor by stable's, nor in a rule that is new."""
    weigh(desk, 500)
    base = "/spec/rules/0/backendRefs"
    desk.patch(
        [
            {"op": "replace", "path": f"{base}/1/weight", "value": 5_000 if stable else 500},
            {"op": "replace", "path": f"{base}/0/weight", "value": stable},
        ],
        kind="httproute",
    )
    assert weights(desk) == [HELD]
    rule = {"backendRefs": [{"name": "checkout-canary", "port": 80}]}
    with pytest.raises(Refusal, match="share"):
        desk.patch([{"op": "add", "path": "/spec/rules/1", "value": rule}], kind="httproute")


async def test_weight_0_by_anybody_passes(desk: Desk) -> None:
    """As `switchgear kill` writes it, and as a person in a hurry does."""
    base = "/spec/rules/0/backendRefs"
    zero = {"op": "add", "path": f"{base}/1/weight", "value": 0}
    for more in ([], [{"op": "add", "path": f"{base}/0/weight", "value": 10_000}]):
        weigh(desk, 500)
        desk.patch([zero, *more], kind="httproute")
        assert weights(desk)[0]["checkout-canary"] == 0


def _config_map(name: str, labels: dict[str, str], data: dict[str, str]) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": SYSTEM, "labels": labels},
            "data": data,
        }
    )


async def test_documents_are_the_controllers_alone(gate: Installed, lab: Lab) -> None:
    """Even for an administrator; deleting a damaged one is left to people with the verb."""
    cluster = lab.cluster
    run = {P + "run": "r1"}
    for name, labels in (("r1", run), ("switchgear-cluster", {})):
        text = _config_map(name, labels, {"state": "{}"})
        with pytest.raises(Refusal, match="Switchgear alone"):
            cluster.kubectl("create", "-f", "-", stdin=text)
        cluster.kubectl("create", "-f", "-", stdin=text, kubeconfig=gate.controller)
        for change in ({"data": {"state": "x"}}, {"metadata": {"labels": {P + "run": None}}}):
            if name == "r1" or "data" in change:
                with pytest.raises(Refusal, match="Switchgear alone"):
                    cluster.kubectl(
                        *("patch", "configmap", name, "-n", SYSTEM, "--type=merge"),
                        *("-p", json.dumps(change)),
                    )
    writer = cluster.kubeconfig_for("carol")
    cluster.kubectl(
        *("create", "rolebinding", "carol", "-n", SYSTEM, "--clusterrole=edit", "--user=carol")
    )
    try:
        with pytest.raises(Refusal, match="Switchgear alone"):
            cluster.kubectl("delete", "configmap", "r1", "-n", SYSTEM, kubeconfig=writer)
        # Other ConfigMaps, and the same label elsewhere, are nobody's business.
        for text in (_config_map("mine", {}, {"a": "b"}),):
            cluster.kubectl("apply", "-f", "-", stdin=text, kubeconfig=writer)
            cluster.kubectl("delete", "-f", "-", stdin=text, kubeconfig=writer)
        elsewhere = _config_map("r1", run, {}).replace(f"namespace: {SYSTEM}", "namespace: default")
        cluster.kubectl("apply", "-f", "-", stdin=elsewhere)
        cluster.kubectl("delete", "-f", "-", stdin=elsewhere)
    finally:
        cluster.kubectl("delete", "rolebinding", "carol", "-n", SYSTEM)
        cluster.kubectl("delete", "configmap", "r1", "switchgear-cluster", "-n", SYSTEM)


async def test_the_kill_latch_is_widened_by_anybody_and_narrowed_by_few(
    gate: Installed, lab: Lab
) -> None:
    assert gate.controller.exists()
    cluster = lab.cluster
    dave = cluster.kubeconfig_for("dave")
    cluster.kubectl(
        *("create", "rolebinding", "dave", "-n", SYSTEM, "--role=switchgear-killer", "--user=dave")
    )

    def patch(data: dict[str, str | None]) -> None:
        cluster.kubectl(
            *("patch", "configmap", "switchgear-kill", "-n", SYSTEM, "--type=merge"),
            *("-p", json.dumps({"data": data})),
            kubeconfig=dave,
        )

    try:
        text = _config_map("switchgear-kill", {}, {"namespace.shop": "x"})
        cluster.kubectl("create", "-f", "-", stdin=text, kubeconfig=dave)
        patch({"all": "everything"})
        fewer: tuple[dict[str, str | None], ...] = (
            {"all": None},
            {"namespace.shop": None},
            {"all": None, "namespace.pay": "x"},
        )
        for less in fewer:
            with pytest.raises(Refusal, match="lifting it"):
                patch(less)
        edit = _config_map("switchgear-kill", {}, {})
        admin = cluster.kubeconfig_for("erin")
        cluster.kubectl(
            *("create", "rolebinding", "erin", "-n", SYSTEM, "--clusterrole=edit", "--user=erin")
        )
        for act in (
            ("delete", "configmap", "switchgear-kill", "-n", SYSTEM),
            ("replace", "-f", "-"),
        ):
            with pytest.raises(Refusal, match="lifting it"):
                cluster.kubectl(*act, stdin=edit, kubeconfig=admin)
    finally:
        # An administrator is a person with every verb.
        cluster.kubectl("delete", "configmap", "switchgear-kill", "-n", SYSTEM)
        cluster.kubectl("delete", "rolebinding", "dave", "erin", "-n", SYSTEM, "--ignore-not-found")


async def test_objects_with_our_labels_are_ours(desk: Desk) -> None:
    """They are neither forged nor turned into something else, and not orphaned."""
    labels = {"app.kubernetes.io/managed-by": "switchgear", P + "track": "canary"}
    canary = desk.get()
    canary["metadata"] = {"name": "checkout-canary", "labels": labels}
    canary.pop("status")
    canary["spec"]["replicas"] = 0
    for part in (
        canary["spec"]["template"]["metadata"]["labels"],
        canary["spec"]["selector"]["matchLabels"],
    ):
        part[P + "track"] = "canary"
    text = yaml.safe_dump(canary)
    with pytest.raises(Refusal, match=r"by Switchgear alone|mark Switchgear's own"):
        desk.kubectl("create", "-f", "-", stdin=text)
    desk.kubectl("create", "-f", "-", stdin=text, user=desk.gate.controller)
    twin = "deployment/checkout-canary"
    for act in (
        ("set", "image", twin, "app=registry.example/app:v9"),
        ("label", twin, f"{P}track-"),
        ("label", twin, "app.kubernetes.io/managed-by-"),
        ("label", "deployment/checkout", f"{P}track=canary"),
        ("label", "deployment/checkout", "app.kubernetes.io/managed-by=switchgear"),
        ("label", "pods", "-l", "app=checkout", f"{P}track=canary"),
        ("delete", twin, "--cascade=orphan"),
    ):
        with pytest.raises(Refusal, match=r"Switchgear|canary"):
            desk.kubectl(*act)
    desk.kubectl("scale", twin, "--replicas=1")
    desk.kubectl("delete", twin)
