# SPDX-License-Identifier: Apache-2.0
"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386).

A JSON patch whose `test` fails or whose path is not there is a 422, which is what compare-and-set
by `test` relies on; a document that is no patch at all is a 400.
"""

from __future__ import annotations

from typing import Any

from controller.sim.apiserver.errors import ApiError, bad_request, unprocessable
from controller.sim.apiserver.store import clone

# The real server counts operations before it applies any; beyond this it answers 413.
MAX_OPERATIONS = 10_000
_REJECTED = "the server rejected our request due to an error in our request"
_VALUED = frozenset({"add", "replace", "test"})
_MOVED = frozenset({"move", "copy"})


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` with the merge patch applied: null deletes, lists are replaced."""
    if not isinstance(patch, dict):
        return clone(patch)
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge_patch(out.get(key), value)
    return out


def json_patch(target: Any, operations: Any) -> Any:
    """Return a copy of `target` with the operations applied in order, or raise without effect."""
    if not isinstance(operations, list) or not all(isinstance(op, dict) for op in operations):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal into []handlers.jsonPatchOp"
        )
    if len(operations) > MAX_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}"
        raise ApiError(413, "RequestEntityTooLarge", f"{text}, got {len(operations)}")
    document = clone(target)
    for operation in operations:
        document = _apply(document, operation)
    return document


def _rejected() -> ApiError:
    return unprocessable(_REJECTED)


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise _rejected()
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(token: str, *, end: int) -> int:
    if not token.isdigit() or (len(token) > 1 and token[0] == "0") or int(token) > end:
        raise _rejected()
    return int(token)


def _lookup(document: Any, path: list[str]) -> Any:
    found = document
    for token in path:
        if isinstance(found, list):
            found = found[_index(token, end=len(found) - 1)]
        elif isinstance(found, dict) and token in found:
            found = found[token]
        else:
            raise _rejected()
    return found


def _apply(document: Any, operation: dict[str, Any]) -> Any:
    kind = operation.get("op")
    path = _pointer(operation.get("path"))
    if kind in _VALUED and "value" not in operation:
        raise _rejected()
    value = clone(operation.get("value"))
    if kind == "test":
        if not _same(_lookup_or_none(document, path, value), value):
            raise _rejected()
        return document
    if kind in _MOVED:
        source = _pointer(operation.get("from"))
        value = clone(_lookup(document, source))
        if kind == "move":
            document = _remove(document, source)
        return _add(document, path, value)
    if kind == "add":
        return _add(document, path, value)
    if kind == "replace":
        _lookup(document, path)
        return _replace(document, path, value)
    if kind == "remove":
        return _remove(document, path)
    raise _rejected()


def _lookup_or_none(document: Any, path: list[str], expected: Any) -> Any:
    if expected is not None:
        return _lookup(document, path)
    # A test for null holds where nothing stands, so that absence can be asserted.
    try:
        return _lookup(document, path)
    except ApiError:
        return None


def _same(left: Any, right: Any) -> bool:
    """Compare as JSON does: true is not 1, 1 is 1.0."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _lookup(document, path[:-1])
    last = path[-1]
    if isinstance(parent, list):
        where = len(parent) if last == "-" else _index(last, end=len(parent))
        parent.insert(where, value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise _rejected()
    return document


def _replace(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _lookup(document, path[:-1])
    if isinstance(parent, list):
        parent[_index(path[-1], end=len(parent) - 1)] = value
    else:
        parent[path[-1]] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise _rejected()
    _lookup(document, path)
    parent = _lookup(document, path[:-1])
    if isinstance(parent, list):
        del parent[_index(path[-1], end=len(parent) - 1)]
    else:
        del parent[path[-1]]
    return document
