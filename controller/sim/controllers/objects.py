# SPDX-License-Identifier: Apache-2.0
"""Reading Kubernetes objects: selectors, owners, conditions, and what readiness means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from controller.sim.apiserver.errors import JsonObject
from controller.sim.clock import parse_rfc3339

HASH_LABEL = "pod-template-hash"


def meta(obj: JsonObject) -> JsonObject:
    """The metadata of an object."""
    found: JsonObject = obj["metadata"]
    return found


def labels(obj: JsonObject) -> dict[str, str]:
    """The labels of an object, empty if it has none."""
    return obj["metadata"].get("labels") or {}


def notes_of(obj: JsonObject) -> dict[str, str]:
    """The annotations of an object, empty if it has none."""
    return obj["metadata"].get("annotations") or {}


def spec_replicas(obj: JsonObject) -> int:
    """How many replicas a scalable object asks for (one if it does not say)."""
    asked = obj["spec"].get("replicas")
    return 1 if asked is None else int(asked)


def status_count(obj: JsonObject, name: str) -> int:
    """A count out of the status of an object, zero if absent."""
    return int((obj.get("status") or {}).get(name) or 0)


def key_of(obj: JsonObject) -> tuple[str, str]:
    """Namespace and name."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def deleting(obj: JsonObject) -> bool:
    """Tell whether the deletion of an object has begun."""
    return "deletionTimestamp" in obj["metadata"]


def controller_of(obj: JsonObject) -> JsonObject | None:
    """The owner reference that says who controls an object."""
    for ref in obj["metadata"].get("ownerReferences") or ():
        if ref.get("controller"):
            found: JsonObject = ref
            return found
    return None


def controller_ref(owner: JsonObject) -> JsonObject:
    """An owner reference that makes ``owner`` the controller of an object."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def selects(selector: JsonObject | None, have: Mapping[str, str]) -> bool:
    """Tell whether a LabelSelector matches labels; no selector matches nothing."""
    if selector is None:
        return False
    wanted: dict[str, str] = selector.get("matchLabels") or {}
    if any(have.get(name) != value for name, value in wanted.items()):
        return False
    return all(_expression(item, have) for item in selector.get("matchExpressions") or ())


def _expression(item: JsonObject, have: Mapping[str, str]) -> bool:
    name, values = item["key"], item.get("values") or ()
    match item["operator"]:
        case "In":
            return have.get(name) in values
        case "NotIn":
            return have.get(name) not in values
        case "Exists":
            return name in have
        case "DoesNotExist":
            return name not in have
        case other:
            raise ValueError(f"unknown selector operator {other!r}")


def scaled(value: Any, total: int, *, up: bool) -> int:
    """An int-or-percent resolved against ``total``, rounded up or down."""
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total / 100
        return math.ceil(share) if up else math.floor(share)
    return int(value)


def condition(obj: JsonObject, kind: str) -> JsonObject | None:
    """The condition of type ``kind`` in the status of an object."""
    for item in (obj.get("status") or {}).get("conditions") or ():
        if item["type"] == kind:
            found: JsonObject = item
            return found
    return None


def pod_ready(pod: JsonObject) -> bool:
    """Tell whether the Ready condition of a pod is true."""
    ready = condition(pod, "Ready")
    return ready is not None and ready["status"] == "True"


def pod_active(pod: JsonObject) -> bool:
    """Tell whether a pod counts as a replica: neither finished nor on its way out."""
    phase = (pod.get("status") or {}).get("phase")
    return phase not in {"Succeeded", "Failed"} and not deleting(pod)


def pod_available_at(pod: JsonObject, min_ready: int) -> float | None:
    """When a pod became or becomes available (seconds since 1970), or None if it is not ready."""
    ready = condition(pod, "Ready")
    if ready is None or ready["status"] != "True":
        return None
    return parse_rfc3339(ready["lastTransitionTime"]) + min_ready


def created(obj: JsonObject) -> tuple[str, str]:
    """A sort key by age, as Kubernetes compares: whole seconds, then names."""
    return obj["metadata"].get("creationTimestamp", ""), obj["metadata"]["name"]


def pruned(value: Any) -> Any:
    """A JSON value without its empty parts, which Kubernetes treats as equal to absent ones."""
    if isinstance(value, dict):
        kept = {key: pruned(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, {}, [])}
    if isinstance(value, list):
        return [pruned(item) for item in value]
    return value
