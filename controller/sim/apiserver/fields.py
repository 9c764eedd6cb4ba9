# SPDX-License-Identifier: Apache-2.0
"""Sets of field paths: what `managedFields` records and server-side apply reasons about.

A path is a tuple of elements as `FieldsV1` writes them: `f:name` for a field, `k:{...}` for an
item of a keyed list, `v:...` for an item of a set. Atomic places end a path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.schema import OPEN, Node

Path = tuple[str, ...]
Paths = frozenset[Path]

_SYSTEM = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "name",
        "namespace",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


@dataclass(slots=True)
class Changes:
    """What differs between two forms of an object."""

    added: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)


def item_key(node: Node, item: Any) -> str:
    """Return the path element of an item of a keyed list."""
    keys: JsonObject = {}
    for name in node.keys:
        value = item.get(name) if isinstance(item, dict) else None
        if value is None:
            place = node.items.field(name)
            value = place.raw.get("default") if place is not None else None
        if value is not None:
            keys[name] = value
    return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True)


def children(node: Node, value: Any) -> list[tuple[str, Node, Any]] | None:
    """Return the parts of a place, or None where it is one indivisible value."""
    if isinstance(value, dict) and not node.atomic:
        return [(f"f:{name}", node.field(name) or OPEN, item) for name, item in value.items()]
    if isinstance(value, list) and not node.atomic:
        if node.list_type == "map":
            return [(item_key(node, item), node.items, item) for item in value]
        if node.list_type == "set":
            return [("v:" + json.dumps(item), node.items, item) for item in value]
    return None


def owned(obj: JsonObject) -> JsonObject:
    """Return the part of an object whose fields can have owners."""
    out = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
    if "metadata" in out:
        kept = {key: value for key, value in out["metadata"].items() if key not in _SYSTEM}
        out.pop("metadata")
        if kept:
            out["metadata"] = kept
    return out


def applied(node: Node, value: Any, path: Path = ()) -> set[Path]:
    """Return the fields that an applied configuration claims."""
    parts = children(node, value)
    if not parts:
        return {path} if path else set()
    found: set[Path] = set()
    for element, child, item in parts:
        inner = (*path, element)
        if not element.startswith("f:"):
            found.add(inner)
        found |= applied(child, item, inner)
    return found


def everything(node: Node, value: Any, path: Path = ()) -> set[Path]:
    """Return all fields of a value that was not there before, containers included."""
    parts = children(node, value)
    if not parts:
        return {path} if path else set()
    found: set[Path] = set()
    if path and "default" not in node.raw and (node.type == "array" or not _is_root(path)):
        found.add(path)
    for element, child, item in parts:
        found |= everything(child, item, (*path, element))
    return found


def _is_root(path: Path) -> bool:
    return len(path) == 1 and path[0] in ("f:metadata", "f:spec", "f:status")


def compare(
    node: Node, old: Any, new: Any, path: Path = (), into: Changes | None = None
) -> Changes:
    """Return what was added, modified and removed from `old` to `new`."""
    found = Changes() if into is None else into
    before, after = children(node, old), children(node, new)
    if before is None or after is None:
        if old != new:
            found.modified.add(path)
        return found
    left = {element: (child, value) for element, child, value in before}
    right = {element: (child, value) for element, child, value in after}
    for element in left.keys() - right.keys():
        child, value = left[element]
        found.removed |= everything(child, value, (*path, element))
    for element, (child, value) in right.items():
        if element in left:
            compare(child, left[element][1], value, (*path, element), found)
        else:
            found.added |= everything(child, value, (*path, element))
    return found


def to_fields(paths: Iterable[Path]) -> JsonObject:
    """Return a set of paths as `FieldsV1`."""
    out: JsonObject = {}
    everything_listed = sorted(paths)
    inner = {path[:index] for path in everything_listed for index in range(1, len(path))}
    for path in everything_listed:
        place = out
        for element in path:
            place = place.setdefault(element, {})
        if path in inner:
            place["."] = {}
    return _sorted(out)


def _sorted(value: JsonObject) -> JsonObject:
    return {key: _sorted(value[key]) for key in sorted(value)}


def from_fields(value: JsonObject, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of a `FieldsV1`."""
    for element, inner in value.items():
        if element == ".":
            yield path
        elif inner:
            yield from from_fields(inner, (*path, element))
        else:
            yield (*path, element)


def describe(path: Path) -> str:
    """Return a path as people read it: `.spec.containers[name="c"].image`."""
    out = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            out += f".{rest}"
        elif kind == "k":
            pairs = json.loads(rest)
            out += "[" + ",".join(f"{key}={json.dumps(val)}" for key, val in pairs.items()) + "]"
        else:
            out += f"[={rest}]"
    return out
