# SPDX-License-Identifier: Apache-2.0
"""Who owns which field: `managedFields` for every write, and server-side apply.

The rules are those of structured merge: an apply states all that its manager wants, what it stated
before and states no longer goes away unless somebody else owns it, and a value that somebody else
owns with another value is a conflict unless forced. Any other write just takes what it changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from controller.sim.apiserver import fields
from controller.sim.apiserver.errors import ApiError, Cause, JsonObject
from controller.sim.apiserver.fields import Path, Paths
from controller.sim.apiserver.resources import Resource
from controller.sim.apiserver.schema import Node, schema_for
from controller.sim.apiserver.store import clone


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One entry of `managedFields`."""

    manager: str
    operation: str
    version: str
    subresource: str
    time: str
    paths: Paths

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Return what makes two writes those of the same owner."""
        return (self.manager, self.operation, self.version, self.subresource)

    def render(self) -> JsonObject:
        """Return the entry as it stands in the object."""
        out: JsonObject = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields.to_fields(self.paths),
        }
        if self.subresource:
            out["subresource"] = self.subresource
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """On whose behalf a write happens, and when."""

    manager: str
    operation: str = "Update"
    subresource: str = ""
    time: str

    def entry(self, served: Resource, paths: Iterable[Path]) -> Owner:
        """Return the owner entry of this writer for `paths`."""
        return Owner(
            manager=self.manager,
            operation=self.operation,
            version=served.api_version,
            subresource=self.subresource,
            time=self.time,
            paths=frozenset(paths),
        )


def owners(obj: JsonObject | None) -> list[Owner]:
    """Return the owners that an object records."""
    listed = ((obj or {}).get("metadata") or {}).get("managedFields") or []
    return [
        Owner(
            manager=str(entry.get("manager", "")),
            operation=str(entry.get("operation", "Update")),
            version=str(entry.get("apiVersion", "")),
            subresource=str(entry.get("subresource", "")),
            time=str(entry.get("time", "")),
            paths=frozenset(fields.from_fields(entry.get("fieldsV1") or {})),
        )
        for entry in listed
    ]


def _store(obj: JsonObject, listed: Iterable[Owner]) -> None:
    kept = [owner for owner in listed if owner.paths]
    kept.sort(key=lambda owner: (owner.operation != "Apply", owner.time, owner.manager))
    obj["metadata"].pop("managedFields", None)
    if kept:
        obj["metadata"]["managedFields"] = [owner.render() for owner in kept]


def _writable(served: Resource, subresource: str, paths: Iterable[Path]) -> frozenset[Path]:
    """Return the fields that a write through `subresource` can own at all."""
    if subresource == "status":
        roots = ("f:status",) if served.custom else ("f:status", "f:metadata")
        return frozenset(path for path in paths if path[0] in roots)
    if "status" in served.subresources:
        return frozenset(path for path in paths if path[0] != "f:status")
    return frozenset(paths)


def record_update(
    served: Resource, old: JsonObject | None, new: JsonObject, writer: Writer
) -> None:
    """Give the writer what it changed, and take that from everybody else."""
    given = new["metadata"].get("managedFields")
    # Whoever sends entries may take some out; none at all begins the record anew.
    before = owners(old if given is None else new)
    if given == [{}]:
        before = []
    node = schema_for(served)
    found = fields.compare(node, fields.owned(old or {}), fields.owned(new))
    changed = _writable(served, writer.subresource, found.added | found.modified)
    gone = found.removed | changed
    mine = writer.entry(served, changed)
    out: list[Owner] = []
    for owner in before:
        if owner.identity == mine.identity:
            kept = (owner.paths - found.removed) | changed
            if kept != owner.paths:
                owner = replace(owner, paths=kept, time=writer.time)  # noqa: PLW2901
            mine = owner
        elif owner.paths & gone:
            out.append(replace(owner, paths=owner.paths - gone))
        else:
            out.append(owner)
    _store(new, [*out, mine])


def merge_applied(node: Node, live: Any, config: Any) -> Any:
    """Return the live value with an applied configuration laid over it."""
    if isinstance(config, dict) and isinstance(live, dict) and not node.atomic:
        out = dict(live)
        for name, value in config.items():
            child = node.field(name) or Node({})
            out[name] = merge_applied(child, live[name], value) if name in live else clone(value)
        return out
    if isinstance(config, list) and isinstance(live, list) and not node.atomic:
        if node.list_type == "set":
            return live + [clone(item) for item in config if item not in live]
        if node.list_type == "map":
            merged = {fields.item_key(node, item): item for item in live}
            for item in config:
                key = fields.item_key(node, item)
                have = merged.get(key)
                fresh = clone(item) if have is None else merge_applied(node.items, have, item)
                merged[key] = fresh
            return list(merged.values())
    return clone(config)


def apply(
    served: Resource,
    live: JsonObject | None,
    config: JsonObject,
    writer: Writer,
    *,
    force: bool,
) -> JsonObject:
    """Return the object after a server-side apply, with its new owners.

    Raises ApiError 409 that names each field and its owner, unless `force`.
    """
    node = schema_for(served)
    stated = fields.applied(node, fields.owned(config))
    claimed = _writable(served, writer.subresource, stated)
    config = clone(config)
    config["metadata"].pop("managedFields", None)
    merged = config if live is None else merge_applied(node, clone(live), config)
    before = owners(live)
    mine = writer.entry(served, claimed)
    others = [owner for owner in before if owner.identity != mine.identity]
    previous = next((owner for owner in before if owner.identity == mine.identity), None)
    if live is not None:
        found = fields.compare(node, fields.owned(live), fields.owned(merged))
        contested = found.modified | found.added
        others = _settle(others, frozenset(contested & claimed), force=force)
    if previous is not None:
        held = frozenset().union(*(owner.paths for owner in others)) if others else frozenset()
        # Whole items first: an item that has lost its key cannot be found any more.
        for path in sorted(previous.paths - claimed, key=len):
            if not any(other[: len(path)] == path for other in held):
                _drop(node, merged, path)
        if previous.paths == claimed:
            mine = previous
    exists = fields.everything(node, fields.owned(merged))
    present = exists | {path[:index] for path in exists for index in range(1, len(path))}
    others = [_limited(owner, present) for owner in others]
    _store(merged, [*others, mine])
    return merged


def _limited(owner: Owner, present: set[Path]) -> Owner:
    kept = owner.paths & present
    return owner if kept == owner.paths else replace(owner, paths=kept)


def _settle(others: list[Owner], contested: frozenset[Path], *, force: bool) -> list[Owner]:
    causes: list[Cause] = []
    out = []
    for owner in others:
        lost = owner.paths & contested
        if lost:
            using = f" using {owner.version}" if owner.operation == "Update" else ""
            through = f' with subresource "{owner.subresource}"' if owner.subresource else ""
            message = f'conflict with "{owner.manager}"{through}{using}'
            causes += [
                Cause(reason="FieldManagerConflict", message=message, field=fields.describe(path))
                for path in sorted(lost)
            ]
            owner = replace(owner, paths=owner.paths - lost)  # noqa: PLW2901
        out.append(owner)
    if causes and not force:
        raise _conflicts(causes)
    return out


def _conflicts(causes: list[Cause]) -> ApiError:
    count = len(causes)
    noun = "conflict" if count == 1 else "conflicts"
    listed = ", ".join(f"{cause.message}: {cause.field}" for cause in causes)
    text = f"Apply failed with {count} {noun}: {listed}"
    return ApiError(409, "Conflict", text, {"causes": [cause.render() for cause in causes]})


def _drop(node: Node, value: Any, path: Path) -> None:
    """Remove the place that a path names, where it still exists."""
    for element in path[:-1]:
        found = next((part for part in children_of(node, value) if part[0] == element), None)
        if found is None:
            return
        _, node, value = found
    last = path[-1]
    if _is_key(path):
        return
    if isinstance(value, dict):
        value.pop(last.removeprefix("f:"), None)
    elif isinstance(value, list):
        value[:] = [item for (element, _, item) in children_of(node, value) if element != last]


def _is_key(path: Path) -> bool:
    """Return whether a path is a field that tells an item from the others of its list."""
    if len(path) < 2 or not path[-2].startswith("k:"):
        return False
    return path[-1].removeprefix("f:") in json.loads(path[-2].removeprefix("k:"))


def children_of(node: Node, value: Any) -> list[tuple[str, Node, Any]]:
    """Return the parts of a place, none for an indivisible one."""
    return fields.children(node, value) or []
