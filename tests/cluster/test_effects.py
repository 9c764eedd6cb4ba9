# SPDX-License-Identifier: Apache-2.0
"""What the audit log is judged by: bodies that are what an effect asks for, and some that are not.

Without a cluster: the bodies are as the API server's audit log has them of a run.
"""

from typing import Any

import pytest

from tests.cluster.lab import effects

Object = dict[str, Any]

TARGET = {"namespace": "shop", "name": "checkout"}
HASH = "5d9c7b6f48"
UID = {"op": "test", "path": "/metadata/uid", "value": "1"}
UNPAUSED = [
    {"op": "remove", "path": "/spec/paused"},
    {"op": "remove", "path": "/metadata/annotations/switchgear.dev~1hold"},
]
PAUSED = [{"op": "add", "path": "/spec/paused", "value": True}]


def template(version: str, **labels: str) -> Object:
    image = {"name": "app", "image": f"registry.example/app:{version}"}
    return {
        "metadata": {"labels": {"app": "checkout", **labels}},
        "spec": {"containers": [image], "securityContext": {}},
    }


def written(found: Object) -> Object:
    return {"op": "replace", "path": "/spec/template", "value": found}


def selector(labels: dict[str, str]) -> list[Object]:
    value = {"app": "checkout", **labels}
    return [{"op": "replace", "path": "/spec/selector", "value": value}]


def rule(*names: str) -> list[Object]:
    refs = [{"name": name, "weight": 0 if "canary" in name else 10_000} for name in names]
    return [{"op": "replace", "path": "/spec/rules/0/backendRefs", "value": refs}]


def held(*, paused: bool, why: str) -> Object:
    return {
        "metadata": {"uid": "1", "annotations": {"switchgear.dev/hold": why}},
        "spec": {"paused": paused},
    }


def noted(text: str | None) -> Object:
    return {"metadata": {"uid": "1", "annotations": {"switchgear.dev/managed": text}}}


def confined(hash_: str, track: str | None) -> Object:
    return {"spec": {"selector": {"pod-template-hash": hash_, "switchgear.dev/track": track}}}


PIN = {"effect": "PinService", "key": "pod-template-hash", "value": HASH}
BY_HASH = selector({"pod-template-hash": HASH})
BY_TRACK = selector({"switchgear.dev/track": "canary"})
FREE = selector({})
NOTE = [{"op": "add", "path": "/metadata/annotations", "value": {"switchgear.dev/original": "{}"}}]
SPLIT = {"canary": "checkout-canary"}

CASES: list[tuple[Object, str, Any, Any]] = [
    ({"effect": "Resume"}, "deployments", UNPAUSED, PAUSED),
    ({"effect": "Resume"}, "deployments", UNPAUSED[1:], [*UNPAUSED, written(template("v1"))]),
    ({"effect": "Roll"}, "deployments", UNPAUSED, PAUSED),
    ({"effect": "Roll"}, "deployments", UNPAUSED[:1], BY_HASH),
    ({"effect": "Revert"}, "deployments", [written(template("v1"))], [written(template("v2"))]),
    ({"effect": "Revert"}, "deployments", [written(template("v1")), *UNPAUSED], UNPAUSED),
    ({"effect": "Revert"}, "deployments", [written(template("v1")), *UNPAUSED],
     [written(template("v1")), *PAUSED]),
    ({"effect": "Revert"}, "deployments", [written(template("v1"))], [written({})]),
    ({"effect": "Pause", "why": "template"}, "deployments", held(paused=True, why="template"),
     held(paused=False, why="template")),
    ({"effect": "Annotate", "annotations": {"managed": None}}, "deployments", noted(None),
     noted("1/hash/digest")),
    ({"effect": "StartCanary", "replicas": 2}, "deployments",
     [{"op": "replace", "path": "/spec/replicas", "value": 2}],
     [{"op": "replace", "path": "/spec/replicas", "value": 3}]),
    (PIN, "services", BY_HASH, FREE),
    (PIN, "services", NOTE, PAUSED),
    ({"effect": "FollowCanary"}, "services", BY_TRACK, BY_HASH),
    ({"effect": "UnpinService"}, "services", FREE, BY_TRACK),
    ({"effect": "Admit"}, "services", FREE, BY_HASH),
    ({"effect": "Confine", "hash": HASH}, "services", confined(HASH, None),
     confined(HASH, "canary")),
    ({"effect": "Confine", "hash": HASH}, "services", confined(HASH, None),
     confined("other", None)),
    ({"effect": "AttachBackend", "split": SPLIT}, "httproutes", rule("checkout", "checkout-canary"),
     rule("checkout")),
    ({"effect": "DetachBackend", "split": SPLIT}, "httproutes", rule("checkout"),
     rule("checkout", "checkout-canary")),
]  # fmt: skip


@pytest.mark.parametrize(("body", "resource", "right", "wrong"), CASES)
def test_only_what_is_asked_for_is_right(
    body: Object, resource: str, right: Any, wrong: Any
) -> None:
    """What changes nothing is not: where all is in place nothing is written."""
    nothing: Any = [UID] if isinstance(right, list) else {"metadata": {"uid": "1"}}
    said = [UID, *right] if isinstance(right, list) else right
    assert amiss(body, resource, said) == ""
    assert amiss(body, resource, wrong) != ""
    assert amiss(body, resource, nothing) != ""


def amiss(body: Object, resource: str, said: Any) -> str:
    """As stable there is a ReplicaSet of v1."""
    ref = {"resource": resource, **TARGET}
    event = {"verb": "patch", "objectRef": ref, "requestObject": said}
    stable = template("v1", **{"pod-template-hash": HASH})
    return effects.amiss({"target": TARGET, **body}, event, stable)
