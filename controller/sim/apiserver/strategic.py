# SPDX-License-Identifier: Apache-2.0
"""Strategic merge patch: a merge patch that knows which lists have keys.

Containers merge by name, conditions by type, and so on, as the kind's schema says. The directives
`$patch`, `$retainKeys`, `$deleteFromPrimitiveList` and `$setElementOrder` are those that kubectl
sends.
"""

from __future__ import annotations

from typing import Any

from controller.sim.apiserver.errors import bad_request
from controller.sim.apiserver.schema import Node
from controller.sim.apiserver.store import clone

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def strategic_merge(node: Node, target: Any, patch: Any) -> Any:
    """Return `target` with the patch merged into it."""
    if not isinstance(patch, dict):
        return clone(patch)
    directive = patch.get(_DIRECTIVE)
    content = {key: value for key, value in patch.items() if not key.startswith("$")}
    if directive == "delete":
        return {}
    if directive == "replace":
        return clone(content)
    if directive not in (None, "merge"):
        raise bad_request(f"unknown patch type found: {directive}")
    out = _without(dict(target) if isinstance(target, dict) else {}, patch)
    for key, value in content.items():
        child = node.field(key) or Node({})
        if value is None:
            out.pop(key, None)
        elif isinstance(value, list):
            out[key] = _merge_list(child, out.get(key), value)
        else:
            out[key] = strategic_merge(child, out.get(key), value)
    return _in_order(node, out, patch)


def _without(out: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Apply the directives that take something away."""
    if _RETAIN in patch:
        out = {key: value for key, value in out.items() if key in patch[_RETAIN]}
    for key, value in patch.items():
        if key.startswith(_DELETE_FROM):
            name = key.removeprefix(_DELETE_FROM)
            out[name] = [item for item in out.get(name) or [] if item not in value]
    return out


def _in_order(node: Node, out: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Apply the directives that say in which order items stand."""
    for key, value in patch.items():
        name = key.removeprefix(_ORDER)
        if key.startswith(_ORDER) and isinstance(out.get(name), list):
            out[name] = _ordered(node.field(name) or Node({}), out[name], value)
    return out


def _merge_list(node: Node, target: Any, patch: list[Any]) -> list[Any]:
    current = list(target) if isinstance(target, list) else []
    if "merge" not in node.strategies:
        return [clone(item) for item in patch]
    if not node.merge_key:
        return current + [clone(item) for item in patch if item not in current]
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in patch):
        return [
            clone(item) for item in patch if not (isinstance(item, dict) and _DIRECTIVE in item)
        ]
    key = node.merge_key
    fresh: list[Any] = []
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        where = next((i for i, have in enumerate(current) if have.get(key) == item[key]), None)
        if item.get(_DIRECTIVE) == "delete":
            current = [have for have in current if have.get(key) != item[key]]
        elif where is None:
            fresh.append(strategic_merge(node.items, {}, item))
        else:
            current[where] = strategic_merge(node.items, current[where], item)
    return current + fresh


def _ordered(node: Node, items: list[Any], order: list[Any]) -> list[Any]:
    key = node.merge_key
    wanted = [entry.get(key) if isinstance(entry, dict) else entry for entry in order]

    def position(item: Any) -> int:
        identity = item.get(key) if isinstance(item, dict) else item
        return wanted.index(identity) if identity in wanted else -1

    # Items that the order does not name are the server's own; they keep their place in front.
    return sorted(items, key=position)
