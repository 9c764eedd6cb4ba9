# SPDX-License-Identifier: Apache-2.0
"""What the fields of each served kind are: types, merge keys, limits, defaults.

Decoding, strategic merge, server-side apply and validation all ask this one source. The data is
`schema.json`, made from a real API server (and held to it by a contract test); a kind without a
schema is open: every field is accepted, lists are atomic.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from controller.sim.apiserver.resources import Resource


class Node:
    """One place in an object: a scalar, a struct, a map or a list."""

    __slots__ = ("_extra", "_fields", "_items", "raw")

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self._fields: dict[str, Node] = {}
        self._items: Node | None = None
        self._extra: Node | None = None

    @property
    def type(self) -> str:
        """Return the JSON type, empty where any is accepted."""
        return str(self.raw.get("type", ""))

    @property
    def is_struct(self) -> bool:
        """Return whether the place has named fields (and no others)."""
        return "properties" in self.raw

    @property
    def is_open(self) -> bool:
        """Return whether any content is accepted."""
        return "properties" not in self.raw and "additionalProperties" not in self.raw

    @property
    def atomic(self) -> bool:
        """Return whether apply replaces (and owns) the place as a whole."""
        if self.type == "array":
            return self.list_type == "atomic"
        return self.raw.get("x-kubernetes-map-type") == "atomic"

    @property
    def list_type(self) -> str:
        """Return `atomic`, `set` or `map`."""
        return str(self.raw.get("x-kubernetes-list-type", "atomic"))

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the fields that identify an item of a `map` list."""
        return tuple(self.raw.get("x-kubernetes-list-map-keys", ()))

    @property
    def merge_key(self) -> str:
        """Return the field by which a strategic merge matches items, empty for scalars."""
        return str(self.raw.get("x-kubernetes-patch-merge-key", ""))

    @property
    def strategies(self) -> frozenset[str]:
        """Return the strategic merge strategies of the place (`merge`, `retainKeys`)."""
        return frozenset(str(self.raw.get("x-kubernetes-patch-strategy", "")).split(","))

    @property
    def required(self) -> tuple[str, ...]:
        """Return the fields that must be there."""
        return tuple(self.raw.get("required", ()))

    def names(self) -> tuple[str, ...]:
        """Return the names of all fields of a struct."""
        return tuple(self.raw.get("properties", ()))

    def field(self, name: str) -> Node | None:
        """Return the place of one key, or None where the key is not known."""
        found = self._fields.get(name)
        if found is not None:
            return found
        if self.is_struct:
            raw = self.raw["properties"].get(name)
            if raw is None:
                return None
            found = self._fields[name] = Node(_resolved(raw))
            return found
        return self.extra

    @property
    def extra(self) -> Node:
        """Return the place of any key of a map."""
        if self._extra is None:
            raw = self.raw.get("additionalProperties")
            self._extra = Node(_resolved(raw)) if isinstance(raw, dict) else OPEN
        return self._extra

    @property
    def items(self) -> Node:
        """Return the place of any item of a list."""
        if self._items is None:
            raw = self.raw.get("items")
            self._items = Node(_resolved(raw)) if isinstance(raw, dict) else OPEN
        return self._items


OPEN = Node({})
"""The place where anything goes."""


@cache
def _document() -> dict[str, Any]:
    text = Path(__file__).with_name("schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def definitions() -> dict[str, Any]:
    """Return all definitions by name, not to be changed."""
    found: dict[str, Any] = _document()["definitions"]
    return found


def kinds() -> dict[str, str]:
    """Return the name of the definition of each `apiVersion/kind`."""
    found: dict[str, str] = _document()["kinds"]
    return found


def _resolved(raw: dict[str, Any]) -> dict[str, Any]:
    name = raw.get("$ref")
    if name is None:
        return raw
    target = definitions().get(name, {})
    beside = {key: value for key, value in raw.items() if key != "$ref"}
    return {**target, "x-definition": name, **beside}


@cache
def schema_of(identity: str) -> Node:
    """Return the schema of `apiVersion/kind`, open where there is none."""
    name = kinds().get(identity)
    if name is None:
        return Node(_open_object())
    return Node(_resolved({"$ref": name}))


def schema_for(served: Resource) -> Node:
    """Return the schema of a served kind."""
    return schema_of(f"{served.api_version}/{served.kind}")


def _open_object() -> dict[str, Any]:
    meta = {"$ref": "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    anything: dict[str, Any] = {"type": "object"}
    text = {"type": "string"}
    fields = {"apiVersion": text, "kind": text, "metadata": meta, "spec": anything}
    return {"type": "object", "properties": {**fields, "status": anything}}
