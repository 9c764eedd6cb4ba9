# SPDX-License-Identifier: Apache-2.0
"""Label and field selectors: their grammar and whether an object matches."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from controller.sim.apiserver.errors import JsonObject, bad_request
from controller.sim.apiserver.resources import Resource

Predicate = Callable[[JsonObject], bool]

_KEY = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_FORMS = (
    ("in", re.compile(rf"^(?P<key>{_KEY})\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")),
    ("absent", re.compile(rf"^!\s*(?P<key>{_KEY})$")),
    ("compare", re.compile(rf"^(?P<key>{_KEY})\s*(?P<op>[<>])\s*(?P<values>-?\d+)$")),
    ("equal", re.compile(rf"^(?P<key>{_KEY})\s*(?P<op>!=|==|=)\s*(?P<values>{_VALUE})$")),
    ("exists", re.compile(rf"^(?P<key>{_KEY})$")),
)
_FIELDS = {
    "pods": ("spec.nodeName", "status.phase", "spec.serviceAccountName", "status.podIP"),
    "events": (
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.uid",
        "reason",
        "type",
    ),
    "secrets": ("type",),
    "namespaces": ("status.phase",),
    "jobs.batch": ("status.successful",),
    "replicasets.apps": ("status.replicas",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Requirement:
    key: str
    operator: str
    values: frozenset[str]

    def matches(self, labels: dict[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "absent":
                return value is None
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
            case _:
                return self._compares(value)

    def _compares(self, value: str | None) -> bool:
        if value is None or not re.fullmatch(r"-?\d+", value):
            return False
        (limit,) = self.values
        return int(value) > int(limit) if self.operator == ">" else int(value) < int(limit)


def split(text: str) -> list[str]:
    """Return the requirements of a selector: commas inside brackets do not separate."""
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    parts.append(text[start:].strip())
    return parts


def _requirement(text: str) -> _Requirement:
    for form, pattern in _FORMS:
        found = pattern.match(text)
        if found is None:
            continue
        values = (found.groupdict().get("values") or "").strip()
        if form in ("exists", "absent"):
            return _Requirement(key=found["key"], operator=form, values=frozenset())
        if form == "in":
            listed = frozenset(item.strip() for item in values.split(","))
            return _Requirement(key=found["key"], operator=found["op"], values=listed)
        operator = {"=": "in", "==": "in", "!=": "notin"}.get(found["op"], found["op"])
        return _Requirement(key=found["key"], operator=operator, values=frozenset({values}))
    raise bad_request(f"unable to parse requirement: {text!r}")


def label_selector(text: str) -> Predicate | None:
    """Return what a label selector asks, None for an empty one. Raises ApiError 400."""
    if not text.strip():
        return None
    requirements = [_requirement(part) for part in split(text)]

    def matches(obj: JsonObject) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(requirement.matches(labels) for requirement in requirements)

    return matches


def _field(obj: JsonObject, path: str) -> str:
    found: object = obj
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return "" if found is None else str(found)


def field_selector(served: Resource, text: str) -> Predicate | None:
    """Return what a field selector asks, None for an empty one. Raises ApiError 400."""
    if not text.strip():
        return None
    known = ("metadata.name", "metadata.namespace", *_FIELDS.get(served.key, ()))
    wanted: list[tuple[str, bool, str]] = []
    for part in text.split(","):
        found = re.match(r"^\s*([^=!\s]+)\s*(!=|==|=)\s*(.*?)\s*$", part)
        if found is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        path, operator, value = found.groups()
        if path not in known:
            only = ", ".join(f'"{name}"' for name in known[:2])
            raise bad_request(f'"{path}" is not a known field selector: only {only}')
        wanted.append((path, operator != "!=", value))

    def matches(obj: JsonObject) -> bool:
        return all((_field(obj, path) == value) is equal for path, equal, value in wanted)

    return matches


def both(first: Predicate | None, second: Predicate | None) -> Predicate | None:
    """Return the predicate that asks what both ask."""
    if first is None or second is None:
        return first or second
    one, two = first, second
    return lambda obj: one(obj) and two(obj)
