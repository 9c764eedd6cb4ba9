# SPDX-License-Identifier: Apache-2.0
"""From the body of a request to an object as the server keeps it.

Fields that the kind does not have are dropped (and reported), empty values that Go leaves out are
left out, and values of a wrong type are refused. Built-in kinds and custom resources differ in the
status of that refusal (400 and 422), as on a real API server.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from controller.sim.apiserver import protobuf
from controller.sim.apiserver.errors import ApiError, Cause, JsonObject, bad_request, invalid
from controller.sim.apiserver.resources import Resource
from controller.sim.apiserver.schema import Node, schema_for
from controller.sim.apiserver.store import clone

# Go leaves these out when they are zero; fields that are pointers there keep their zero.
_DROPPED_ZEROS = frozenset(
    {
        "active",
        "availableReplicas",
        "failed",
        "fullyLabeledReplicas",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostPort",
        "initialDelaySeconds",
        "minReadySeconds",
        "nodePort",
        "observedGeneration",
        "paused",
        "publishNotReadyAddresses",
        "readOnly",
        "readyReplicas",
        "stdin",
        "stdinOnce",
        "succeeded",
        "tty",
        "unavailableReplicas",
        "updatedReplicas",
    }
)
_KEPT_EMPTY = frozenset({"name"})
_MOMENT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
_ZONE = r"(Z|[+-]\d\d:\d\d)$"
_TIME = re.compile(rf"{_MOMENT}(\.\d+)?{_ZONE}")
_MICRO_TIME = re.compile(rf"{_MOMENT}\.\d{{6}}{_ZONE}")
_JSON_NAMES = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}
_SCHEMA_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


@dataclass(slots=True)
class _Walk:
    """What one pass over an object collects."""

    custom: bool
    kind: str
    version: str
    unknown: list[str] = field(default_factory=list)
    wrong: list[Cause] = field(default_factory=list)


def parse(body: bytes, content_type: str, kind: str) -> JsonObject:
    """Return the object in a request's body. Raises ApiError 400 or 415."""
    media = content_type.split(";", 1)[0].strip() or "application/json"
    try:
        if media in ("application/yaml", "application/apply-patch+yaml"):
            loaded = yaml.safe_load(body)
        elif media == "application/json":
            loaded = json.loads(body)
        elif media == protobuf.MEDIA_TYPE:
            loaded = protobuf.decode(body)
        else:
            accepted = "application/json, application/yaml"
            text = "the body of the request was in an unknown format - accepted media types include"
            raise ApiError(415, "UnsupportedMediaType", f"{text}: {accepted}")
    except (ValueError, yaml.YAMLError) as error:
        text = f"the object provided is unrecognized (must be of type {kind}): {error}"
        raise bad_request(text) from error
    if not isinstance(loaded, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind})")
    return loaded


def decode(
    served: Resource, obj: JsonObject, *, strict: bool = False
) -> tuple[JsonObject, list[str]]:
    """Return the object with only known fields, and a warning for each field that was dropped.

    Raises ApiError: 400 for a value of a wrong type in a built-in kind, 422 in a custom one, 400
    for an unknown field when `strict`.
    """
    walk = _Walk(custom=served.custom, kind=served.kind, version=served.version)
    out = _struct(walk, schema_for(served), obj, "")
    out["apiVersion"], out["kind"] = served.api_version, served.kind
    out.setdefault("metadata", {})
    if walk.wrong:
        name = str((obj.get("metadata") or {}).get("name", ""))
        raise invalid(served.kind, served.group, name, walk.wrong)
    warnings = [f'unknown field "{path}"' for path in walk.unknown]
    if strict and warnings:
        text = f'{served.kind} in version "{served.version}" cannot be handled as a {served.kind}: '
        raise bad_request(text + "strict decoding error: " + ", ".join(warnings))
    return out, warnings


def _value(walk: _Walk, node: Node, value: Any, path: str) -> Any:
    if isinstance(value, dict):
        _expect(walk, node, value, path, ("object", ""))
        if node.is_struct:
            return _struct(walk, node, value, path)
        if node.is_open:
            return clone(value)
        return {
            key: _value(walk, node.extra, item, f"{path}.{key}")
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        _expect(walk, node, value, path, ("array", ""))
        return [
            _value(walk, node.items, item, f"{path}[{index}]") for index, item in enumerate(value)
        ]
    _expect(walk, node, value, path, _accepted(value))
    _expect_time(walk, node, value)
    return value


def _accepted(value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        return ("boolean", "")
    if isinstance(value, int):
        return ("integer", "number", "")
    if isinstance(value, float):
        return ("number", "", "integer") if value.is_integer() else ("number", "")
    return ("string", "")


def _struct(walk: _Walk, node: Node, value: JsonObject, path: str) -> JsonObject:
    out: JsonObject = {}
    for key, item in value.items():
        child = node.field(key)
        where = f"{path}.{key}" if path else key
        if child is None:
            walk.unknown.append(where)
            continue
        if item is None:
            continue
        decoded = _value(walk, child, item, where)
        # Custom resources are kept as they were sent; Go structs leave out what is empty.
        verbatim = walk.custom and not path.startswith("metadata") and key != "metadata"
        if verbatim or not _left_out(child, key, decoded):
            out[key] = decoded
    return out


def _left_out(node: Node, key: str, value: Any) -> bool:
    if value == [] or (value == {} and not node.is_struct and not node.is_open):
        return True
    if value == "" and isinstance(value, str):
        return "default" not in node.raw and key not in _KEPT_EMPTY
    return key in _DROPPED_ZEROS and not value and "default" not in node.raw


def _expect(walk: _Walk, node: Node, value: Any, path: str, accepted: tuple[str, ...]) -> None:
    if node.type in accepted:
        return
    if walk.custom and not path.startswith("metadata"):
        have = "object" if isinstance(value, dict) else _SCHEMA_NAMES[type(value)]
        message = f'Invalid value: "{have}": {path} in body must be of type {node.type}: "{have}"'
        walk.wrong.append(Cause(reason="FieldValueTypeInvalid", message=message, field=path))
        return
    have = "object" if isinstance(value, dict) else _JSON_NAMES[type(value)]
    want = node.raw.get("format") or {"boolean": "bool"}.get(node.type, node.type)
    text = (
        f'{walk.kind} in version "{walk.version}" cannot be handled as a {walk.kind}: '
        f"json: cannot unmarshal {have} into Go struct field {walk.kind}.{path} of type {want}"
    )
    raise bad_request(text)


def _expect_time(walk: _Walk, node: Node, value: Any) -> None:
    if node.raw.get("format") != "date-time" or not isinstance(value, str):
        return
    precise = str(node.raw.get("x-definition", "")).endswith(".MicroTime")
    if (_MICRO_TIME if precise else _TIME).match(value):
        return
    layout = "2006-01-02T15:04:05.000000Z07:00" if precise else "2006-01-02T15:04:05Z07:00"
    text = f'{walk.kind} in version "{walk.version}" cannot be handled as a {walk.kind}: '
    raise bad_request(f'{text}parsing time "{value}" as "{layout}"')
