# SPDX-License-Identifier: Apache-2.0
"""The scale subresource: replicas of any workload through one small object."""

from __future__ import annotations

from controller.sim.apiserver import errors, ownership
from controller.sim.apiserver.checks import at_least
from controller.sim.apiserver.decode import parse
from controller.sim.apiserver.errors import JsonObject, invalid
from controller.sim.apiserver.ownership import Writer
from controller.sim.apiserver.patch import json_patch, merge_patch
from controller.sim.apiserver.request import Request, Target
from controller.sim.apiserver.store import Store, clone


def get(store: Store, target: Target) -> JsonObject:
    """Return the Scale of a workload. Raises ApiError 404."""
    return render(_require(store, target))


def put(store: Store, request: Request, target: Target, writer: Writer) -> JsonObject:
    """Replace the Scale of a workload. Raises ApiError 404, 409, 422."""
    asked = parse(request.body, request.content_type, "Scale")
    return _write(store, target, asked, writer)


def patch(store: Store, request: Request, target: Target, writer: Writer) -> JsonObject:
    """Patch the Scale of a workload. Raises ApiError 404, 409, 422."""
    current = get(store, target)
    content = parse(request.body, "application/json", "Scale") if _is_merge(request) else None
    if content is not None:
        return _write(store, target, merge_patch(current, content), writer)
    operations = _operations(request)
    return _write(store, target, json_patch(current, operations), writer)


def render(workload: JsonObject) -> JsonObject:
    """Return the Scale object of a workload."""
    meta, spec = workload["metadata"], workload.get("spec") or {}
    labels = ((spec.get("selector") or {}).get("matchLabels")) or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    replicas = spec.get("replicas", 0)
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: meta[name] for name in kept if name in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {
            "replicas": (workload.get("status") or {}).get("replicas", 0),
            "selector": selector,
        },
    }


def _is_merge(request: Request) -> bool:
    return request.content_type != "application/json-patch+json"


def _operations(request: Request) -> object:
    wrapped = b'{"operations":' + request.body + b"}"
    return parse(wrapped, "application/json", "Scale")["operations"]


def _require(store: Store, target: Target) -> JsonObject:
    served = target.resource
    found = store.peek(served, target.namespace, target.name)
    if found is None:
        raise errors.not_found(served.plural, served.group, target.name)
    return found


def _write(store: Store, target: Target, asked: JsonObject, writer: Writer) -> JsonObject:
    old = _require(store, target)
    replicas = (asked.get("spec") or {}).get("replicas", 0)
    causes = at_least("spec.replicas", replicas, 0)
    if causes:
        raise invalid("Scale", "autoscaling", target.name, causes)
    version = (asked.get("metadata") or {}).get("resourceVersion")
    served = target.resource
    if version and version != old["metadata"]["resourceVersion"]:
        raise errors.stale(served.plural, served.group, target.name)
    new = clone(old)
    new["spec"]["replicas"] = replicas
    ownership.record_update(served, old, new, writer)
    return render(store.update(served, new))
