# SPDX-License-Identifier: Apache-2.0
"""What a write may touch: the rest of the object comes from what is stored.

System metadata is the server's own; the status subresource changes status and hardly anything
else, every other write leaves status alone; and the generation moves only with what the owner asks
for.
"""

from __future__ import annotations

from controller.sim.apiserver.deletion import check_new_finalizers
from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.resources import Generation, Resource
from controller.sim.apiserver.values import clone

WHOLE = "*"
"""The pseudo subresource under which a write may touch spec, status and metadata alike."""

SYSTEM_METADATA = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)


def merged(served: Resource, old: JsonObject, new: JsonObject, subresource: str) -> JsonObject:
    """Return `new` (which is consumed) with everything that this write may not touch."""
    before: JsonObject = old["metadata"]
    meta: JsonObject = new.setdefault("metadata", {})
    new["apiVersion"], new["kind"] = served.api_version, served.kind
    for name in (*SYSTEM_METADATA, "resourceVersion", "namespace", "generateName"):
        if name in before:
            meta[name] = before[name]
        else:
            meta.pop(name, None)
    check_new_finalizers(served, meta, before)
    if subresource == "status":
        return _status_only(served, clone(old), new)
    if "status" in served.subresources and subresource != WHOLE:
        new.pop("status", None)
        if "status" in old:
            new["status"] = clone(old["status"])
    return new


def moves_generation(served: Resource, new: JsonObject, old: JsonObject, subresource: str) -> bool:
    """Return whether a write counts as a new wish of the object's owner."""
    # A status write may change annotations, and a binding the spec; neither asks for anything.
    if subresource in ("status", WHOLE) or "generation" not in old["metadata"]:
        return False
    return _moves(served.generation, new, old)


def _status_only(served: Resource, kept: JsonObject, new: JsonObject) -> JsonObject:
    kept.pop("status", None)
    if "status" in new:
        kept["status"] = new["status"]
    # Built-in kinds let a status write change annotations (and the field owners) as well;
    # for custom resources only the field owners follow.
    beside = ("managedFields",) if served.custom else ("managedFields", "annotations")
    for name in beside:
        kept["metadata"].pop(name, None)
        if new["metadata"].get(name):
            kept["metadata"][name] = new["metadata"][name]
    return kept


def _content(obj: JsonObject) -> JsonObject:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _moves(what: Generation, new: JsonObject, old: JsonObject) -> bool:
    match what:
        case Generation.NONE:
            return False
        case Generation.SPEC:
            return bool(new.get("spec") != old.get("spec"))
        case Generation.SPEC_OR_ANNOTATIONS:
            annotations = new["metadata"].get("annotations") or {}
            before = old["metadata"].get("annotations") or {}
            return bool(new.get("spec") != old.get("spec") or annotations != before)
        case Generation.CONTENT:
            return _content(new) != _content(old)
