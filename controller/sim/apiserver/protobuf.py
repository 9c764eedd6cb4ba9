# SPDX-License-Identifier: Apache-2.0
"""As much protobuf as kubectl insists on.

`kubectl create configmap`, `create namespace` and `auth can-i` send built-in kinds as protobuf and
do not fall back to JSON; they read JSON answers gladly. The tables hold the field numbers of the
kinds that people make by hand; everything else stays a 415.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controller.sim.apiserver.errors import JsonObject, unsupported_media_type

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Field number to (name, form); a form is a table, or one of the words below.
_META: dict[int, tuple[str, Any]] = {
    1: ("name", "text"),
    2: ("generateName", "text"),
    3: ("namespace", "text"),
    11: ("labels", "map"),
    12: ("annotations", "map"),
    14: ("finalizers", "texts"),
}
_ATTRIBUTES: dict[int, tuple[str, Any]] = {
    number: (name, "text")
    for number, name in enumerate(
        ("namespace", "verb", "group", "version", "resource", "subresource", "name"), start=1
    )
}
_PATHS: dict[int, tuple[str, Any]] = {1: ("path", "text"), 2: ("verb", "text")}
_ACCESS = {1: ("resourceAttributes", _ATTRIBUTES), 2: ("nonResourceAttributes", _PATHS)}
_TOKEN: dict[int, tuple[str, Any]] = {1: ("audiences", "texts"), 4: ("expirationSeconds", "number")}
_KINDS: dict[str, dict[int, tuple[str, Any]]] = {
    "ConfigMap": {1: ("metadata", _META), 2: ("data", "map"), 4: ("immutable", "flag")},
    "Namespace": {1: ("metadata", _META)},
    "ServiceAccount": {1: ("metadata", _META)},
    "SelfSubjectAccessReview": {1: ("metadata", _META), 2: ("spec", _ACCESS)},
    "TokenRequest": {1: ("metadata", _META), 2: ("spec", _TOKEN)},
    "Eviction": {1: ("metadata", _META)},
}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _records(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}[kind]
        yield key >> 3, data[at : at + size]
        at += size


def _entry(data: bytes) -> tuple[str, str]:
    found = {number: value for number, value in _records(data) if isinstance(value, bytes)}
    return found.get(1, b"").decode(), found.get(2, b"").decode()


def _message(data: bytes, table: dict[int, tuple[str, Any]]) -> JsonObject:
    out: JsonObject = {}
    for number, value in _records(data):
        if number not in table:
            continue
        name, form = table[number]
        if isinstance(value, int):
            out[name] = bool(value) if form == "flag" else value
        elif isinstance(form, dict):
            out[name] = _message(value, form)
        elif form == "map":
            key, text = _entry(value)
            out.setdefault(name, {})[key] = text
        elif form == "texts":
            out.setdefault(name, []).append(value.decode())
        else:
            out[name] = value.decode()
    return out


def decode(body: bytes) -> JsonObject:
    """Return the object in a protobuf body. Raises ApiError 415 for what is not understood."""
    try:
        envelope = {
            number: value
            for number, value in _records(body.removeprefix(_MAGIC))
            if isinstance(value, bytes)
        }
        version, kind = _entry(envelope.get(1, b""))
        return {"apiVersion": version, "kind": kind, **_message(envelope[2], _KINDS[kind])}
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise unsupported_media_type(["application/json", "application/yaml"]) from error
