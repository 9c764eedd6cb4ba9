# SPDX-License-Identifier: Apache-2.0
"""Checks that many kinds share: names, labels, ranges, and what a schema forbids."""

from __future__ import annotations

import json
import re
from typing import Any

from controller.sim.apiserver.errors import Cause, JsonObject
from controller.sim.apiserver.schema import Node

ANNOTATIONS_LIMIT = 256 * 1024
"""Bytes that all annotations of an object may have together, as in Kubernetes."""

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_NAME_PART = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_DNS_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must"
    " start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for"
    " validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.',"
    " and must start and end with an alphanumeric character (e.g. 'example.com', regex used for"
    r" validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_NAME_PART_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end"
    " with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for"
    " validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.',"
    " and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or"
    " '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def _quoted(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def bad(field: str, value: Any, why: str) -> Cause:
    """Return the cause for a value that is not acceptable."""
    message = f"Invalid value: {_quoted(value)}: {why}"
    return Cause(reason="FieldValueInvalid", message=message, field=field)


def missing(field: str, why: str = "") -> Cause:
    """Return the cause for a field that must be there."""
    message = f"Required value: {why}" if why else "Required value"
    return Cause(reason="FieldValueRequired", message=message, field=field)


def denied(field: str, why: str) -> Cause:
    """Return the cause for a field that must not be there, or not be changed."""
    return Cause(reason="FieldValueForbidden", message=f"Forbidden: {why}", field=field)


def duplicate(field: str, value: Any) -> Cause:
    """Return the cause for a value that must be unique and is not."""
    message = f"Duplicate value: {_quoted(value)}"
    return Cause(reason="FieldValueDuplicate", message=message, field=field)


def unsupported(field: str, value: Any, supported: list[Any]) -> Cause:
    """Return the cause for a value outside an enumeration."""
    listed = ", ".join(_quoted(item) for item in sorted(filter(None, supported)))
    message = f"Unsupported value: {_quoted(value)}: supported values: {listed}"
    return Cause(reason="FieldValueNotSupported", message=message, field=field)


def too_long(field: str, limit: int) -> Cause:
    """Return the cause for content beyond a number of bytes."""
    message = f"Too long: may not be more than {limit} bytes"
    return Cause(reason="FieldValueTooLong", message=message, field=field)


def dns_label(field: str, value: str) -> list[Cause]:
    """Check a name without dots, at most 63 letters long."""
    if len(value) > 63:
        return [bad(field, value, "must be no more than 63 bytes")]
    return [] if re.fullmatch(_LABEL, value) else [bad(field, value, _DNS_LABEL_TEXT)]


def dns_subdomain(field: str, value: str) -> list[Cause]:
    """Check a name with dots, at most 253 letters long."""
    if len(value) > 253:
        return [bad(field, value, "must be no more than 253 bytes")]
    return [] if re.fullmatch(_SUBDOMAIN, value) else [bad(field, value, _SUBDOMAIN_TEXT)]


def qualified_name(field: str, value: str) -> list[Cause]:
    """Check the key of a label or an annotation: `name`, or `prefix/name`."""
    prefix, slash, name = value.rpartition("/")
    if slash and not re.fullmatch(_SUBDOMAIN, prefix):
        return [bad(field, value, f"prefix part {_SUBDOMAIN_TEXT}")]
    if not name:
        return [bad(field, value, "name part must be non-empty")]
    if len(name) > 63:
        return [bad(field, value, "name part must be no more than 63 bytes")]
    return [] if re.fullmatch(_NAME_PART, name) else [bad(field, value, _NAME_PART_TEXT)]


def label_map(field: str, values: JsonObject) -> list[Cause]:
    """Check a map of labels."""
    causes = []
    for key, value in values.items():
        causes += qualified_name(field, key)
        if len(value) > 63:
            causes.append(bad(field, value, "must be no more than 63 bytes"))
        elif not re.fullmatch(_VALUE, value):
            causes.append(bad(field, value, _VALUE_TEXT))
    return causes


def annotation_map(field: str, values: JsonObject) -> list[Cause]:
    """Check a map of annotations: keys and the size of all together."""
    causes = []
    for key in values:
        causes += qualified_name(field, key.lower() if "/" not in key else key)
    size = sum(len(key.encode()) + len(str(value).encode()) for key, value in values.items())
    if size > ANNOTATIONS_LIMIT:
        causes.append(too_long(field, ANNOTATIONS_LIMIT))
    return causes


def port(field: str, value: Any) -> list[Cause]:
    """Check a port number."""
    if isinstance(value, int) and not 1 <= value <= 65535:
        return [bad(field, value, "must be between 1 and 65535, inclusive")]
    return []


def at_least(field: str, value: Any, least: int) -> list[Cause]:
    """Check a number that may be absent."""
    if isinstance(value, int) and value < least:
        return [bad(field, value, f"must be greater than or equal to {least}")]
    return []


def metadata(meta: JsonObject, *, label_name: bool) -> list[Cause]:
    """Check what all objects have; `label_name` says that the name must have no dots."""
    name = str(meta.get("name", ""))
    if not name:
        return [missing("metadata.name", "name or generateName is required")]
    causes = (dns_label if label_name else dns_subdomain)("metadata.name", name)
    causes += label_map("metadata.labels", meta.get("labels") or {})
    causes += annotation_map("metadata.annotations", meta.get("annotations") or {})
    for index, owner in enumerate(meta.get("ownerReferences") or []):
        causes += [
            missing(f"metadata.ownerReferences[{index}].{field}", "must not be empty")
            for field in ("apiVersion", "kind", "name", "uid")
            if not owner.get(field)
        ]
    for finalizer in meta.get("finalizers") or []:
        causes += qualified_name("metadata.finalizers", finalizer)
    return causes


def enums(node: Node, value: Any, path: str = "") -> list[Cause]:
    """Check the enumerations of a built-in kind."""
    causes: list[Cause] = []
    if isinstance(value, dict):
        for key, item in value.items():
            child = node.field(key)
            if child is not None and key != "metadata":
                causes += enums(child, item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            causes += enums(node.items, item, f"{path}[{index}]")
    elif "enum" in node.raw and value not in node.raw["enum"] and value != "":
        causes.append(unsupported(path, value, node.raw["enum"]))
    return causes
