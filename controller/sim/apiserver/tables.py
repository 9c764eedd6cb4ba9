# SPDX-License-Identifier: Apache-2.0
"""Tables: what `kubectl get` prints is decided by the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.resources import Resource

Cells = Callable[[JsonObject], list[Any]]


def _spec(obj: JsonObject) -> JsonObject:
    return obj.get("spec") or {}


def _status(obj: JsonObject) -> JsonObject:
    return obj.get("status") or {}


def _deployment(obj: JsonObject) -> list[Any]:
    status = _status(obj)
    ready = f"{status.get('readyReplicas', 0)}/{_spec(obj).get('replicas', 0)}"
    return [ready, status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]


def _replica_set(obj: JsonObject) -> list[Any]:
    status = _status(obj)
    counts = (status.get("replicas", 0), status.get("readyReplicas", 0))
    return [_spec(obj).get("replicas", 0), *counts]


def _pod(obj: JsonObject) -> list[Any]:
    statuses = _status(obj).get("containerStatuses") or []
    ready = sum(1 for one in statuses if one.get("ready"))
    phase = _status(obj).get("phase", "Unknown")
    for one in statuses:
        phase = (one.get("state") or {}).get("waiting", {}).get("reason", phase)
    if obj["metadata"].get("deletionTimestamp"):
        phase = "Terminating"
    total = len(_spec(obj).get("containers") or [])
    return [f"{ready}/{total}", phase, sum(int(one.get("restartCount", 0)) for one in statuses)]


def _service(obj: JsonObject) -> list[Any]:
    spec = _spec(obj)
    ports = ",".join(
        f"{port['port']}/{port.get('protocol', 'TCP')}" for port in spec.get("ports") or []
    )
    return [spec.get("type"), spec.get("clusterIP", "None"), "<none>", ports or "<none>"]


def _slice(obj: JsonObject) -> list[Any]:
    ports = ",".join(str(port.get("port")) for port in obj.get("ports") or [])
    found = [address for one in obj.get("endpoints") or [] for address in one["addresses"]]
    return [obj.get("addressType"), ports or "<unset>", ",".join(found) or "<unset>"]


def _config_map(obj: JsonObject) -> list[Any]:
    return [len(obj.get("data") or {}) + len(obj.get("binaryData") or {})]


def _event(obj: JsonObject) -> list[Any]:
    involved = obj.get("involvedObject") or {}
    target = f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"
    return [obj.get("type"), obj.get("reason"), target, obj.get("message")]


def _condition(obj: JsonObject, name: str) -> str:
    listed = _status(obj).get("conditions") or []
    return next((one["status"] for one in listed if one["type"] == name), "Unknown")


def _gateway(obj: JsonObject) -> list[Any]:
    addresses = ",".join(str(one.get("value")) for one in _status(obj).get("addresses") or [])
    return [_spec(obj).get("gatewayClassName"), addresses, _condition(obj, "Programmed")]


_COLUMNS: dict[str, tuple[tuple[str, ...], Cells]] = {
    "deployments.apps": (("Ready", "Up-to-date", "Available"), _deployment),
    "replicasets.apps": (("Desired", "Current", "Ready"), _replica_set),
    "pods": (("Ready", "Status", "Restarts"), _pod),
    "services": (("Type", "Cluster-IP", "External-IP", "Port(s)"), _service),
    "endpointslices.discovery.k8s.io": (("AddressType", "Ports", "Endpoints"), _slice),
    "configmaps": (("Data",), _config_map),
    "events": (("Type", "Reason", "Object", "Message"), _event),
    "namespaces": (("Status",), lambda obj: [_status(obj).get("phase")]),
    "nodes": (("Ready",), lambda obj: [_condition(obj, "Ready")]),
    "leases.coordination.k8s.io": (("Holder",), lambda obj: [_spec(obj).get("holderIdentity")]),
    "httproutes.gateway.networking.k8s.io": (
        ("Hostnames",),
        lambda obj: [",".join(_spec(obj).get("hostnames") or [])],
    ),
    "gatewayclasses.gateway.networking.k8s.io": (
        ("Controller", "Accepted"),
        lambda obj: [_spec(obj).get("controllerName"), _condition(obj, "Accepted")],
    ),
    "gateways.gateway.networking.k8s.io": (("Class", "Address", "Programmed"), _gateway),
}


def duration(seconds: float) -> str:
    """Return an age as kubectl prints it."""
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole}s"
    if whole < 600:
        return f"{whole // 60}m{whole % 60}s" if whole % 60 else f"{whole // 60}m"
    if whole < 3 * 3600:
        return f"{whole // 60}m"
    return f"{whole // 3600}h" if whole < 48 * 3600 else f"{whole // 86400}d"


def table(
    served: Resource,
    objects: Iterable[JsonObject],
    meta: JsonObject,
    now: datetime,
    *,
    include: str = "Metadata",
) -> JsonObject:
    """Return objects as a Table; `include` says what of each object goes with its row."""
    columns, cells = _COLUMNS.get(served.key, ((), lambda _obj: []))
    definitions = [{"name": "Name", "type": "string", "format": "name", "priority": 0}]
    definitions += [{"name": name, "type": "string", "format": ""} for name in (*columns, "Age")]
    for definition in definitions:
        definition.update({"description": definition["name"], "priority": 0})
    rows = []
    for obj in objects:
        made = datetime.fromisoformat(obj["metadata"]["creationTimestamp"])
        age = duration((now - made).total_seconds())
        values = ["" if value is None else value for value in cells(obj)]
        row: JsonObject = {"cells": [obj["metadata"]["name"], *values, age]}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = partial(obj)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": definitions,
        "rows": rows,
    }


def partial(obj: JsonObject) -> JsonObject:
    """Return only the metadata of an object."""
    head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {**head, "metadata": obj["metadata"]}
