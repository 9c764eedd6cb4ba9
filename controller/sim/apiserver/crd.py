# SPDX-License-Identifier: Apache-2.0
"""What the schema of a custom resource forbids: ranges, patterns, lengths, missing fields.

Rules in CEL are not evaluated; the few that a route controller can run into are written out in
`validation`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from controller.sim.apiserver import checks
from controller.sim.apiserver.errors import Cause, JsonObject
from controller.sim.apiserver.schema import Node


def causes(node: Node, value: Any, path: str = "") -> list[Cause]:
    """Return everything in `value` that its schema refuses."""
    found = _own(node, value, path)
    if isinstance(value, dict):
        found += [
            _required(f"{path}.{name}" if path else name)
            for name in node.required
            if name not in value
        ]
        for key, item in value.items():
            child = node.field(key)
            if child is not None and key != "metadata":
                found += causes(child, item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += causes(node.items, item, f"{path}[{index}]")
    return found


def _required(path: str) -> Cause:
    return Cause(reason="FieldValueRequired", message="Required value", field=path)


def _refused(path: str, value: Any, why: str) -> Cause:
    message = f"Invalid value: {json.dumps(value)}: {path} in body {why}"
    return Cause(reason="FieldValueInvalid", message=message, field=path)


def _own(node: Node, value: Any, path: str) -> list[Cause]:
    raw = node.raw
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return _number(raw, value, path)
    if isinstance(value, str):
        return _text(raw, value, path)
    if isinstance(value, list):
        return _count(raw, len(value), path, "items")
    return []


def _number(raw: JsonObject, value: float, path: str) -> list[Cause]:
    if "minimum" in raw and value < raw["minimum"]:
        return [_refused(path, value, f"should be greater than or equal to {raw['minimum']}")]
    if "maximum" in raw and value > raw["maximum"]:
        return [_refused(path, value, f"should be less than or equal to {raw['maximum']}")]
    return []


def _text(raw: JsonObject, value: str, path: str) -> list[Cause]:
    if "enum" in raw and value not in raw["enum"]:
        return [checks.unsupported(path, value, raw["enum"])]
    if len(value) < raw.get("minLength", 0):
        return [_refused(path, value, f"should be at least {raw['minLength']} chars long")]
    if "maxLength" in raw and len(value) > raw["maxLength"]:
        limit = raw["maxLength"]
        message = f"Too long: may not be more than {limit} bytes"
        return [Cause(reason="FieldValueTooLong", message=message, field=path)]
    if "pattern" in raw and not re.search(raw["pattern"], value):
        return [_refused(path, value, f"should match '{raw['pattern']}'")]
    return []


def _count(raw: JsonObject, count: int, path: str, what: str) -> list[Cause]:
    if "minItems" in raw and count < raw["minItems"]:
        return [_refused(path, count, f"should have at least {raw['minItems']} {what}")]
    if "maxItems" in raw and count > raw["maxItems"]:
        message = f"Too many: {count}: must have at most {raw['maxItems']} {what}"
        return [Cause(reason="FieldValueTooMany", message=message, field=path)]
    return []
