# SPDX-License-Identifier: Apache-2.0
"""Reduce the OpenAPI documents of an API server to the simulated server's `schema.json`.

Field names, types, merge keys, limits and defaults are facts that nobody should type by hand. Fetch
the documents with `kubectl get --raw /openapi/v3/<group version>` into a folder, one file each, and
run `python -m tests.contract.openapi FOLDER`. The result has one kind or definition per line, and
what is only part of it on the same line, so that a newer Kubernetes shows up as a readable
difference; a contract test compares the file with the server at hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from controller.sim.apiserver import schema
from controller.sim.apiserver.resources import RESOURCES

SCHEMA_FILE = Path(schema.__file__).with_name("schema.json")
_DROPPED = frozenset({"description", "x-kubernetes-validations", "example", "x-kubernetes-unions"})
_REF = "#/components/schemas/"
_ALSO_SERVED = (
    "io.k8s.api.autoscaling.v1.Scale",
    "io.k8s.api.authentication.v1.TokenReview",
    "io.k8s.api.authentication.v1.TokenRequest",
    "io.k8s.api.authorization.v1.SubjectAccessReview",
    "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
)


def _reduced(node: Any, *, named: bool = False) -> Any:
    """Return a schema without prose; `named` says that the keys are field names."""
    if isinstance(node, list):
        return [_reduced(item) for item in node]
    if not isinstance(node, dict):
        return node
    if named:
        return {name: _reduced(item) for name, item in node.items()}
    out: dict[str, Any] = {}
    for key, item in node.items():
        if key in _DROPPED:
            continue
        if key == "allOf" and len(item) == 1 and "$ref" in item[0]:
            out["$ref"] = item[0]["$ref"].removeprefix(_REF)
        elif key == "$ref":
            out["$ref"] = item.removeprefix(_REF)
        elif key in ("default", "enum"):
            out[key] = item
        else:
            out[key] = _reduced(item, named=key == "properties")
    return out


def _hoist(name: str, node: Any, definitions: dict[str, Any]) -> Any:
    """Move inline objects (custom resources have nothing else) into definitions of their own."""
    if not isinstance(node, dict):
        return node
    out = dict(node)
    if "properties" in out:
        out["properties"] = {
            key: _hoist(f"{name}.{key}", item, definitions)
            for key, item in out["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = _hoist(name + "[]", out[key], definitions)
    if name in definitions or "properties" not in out:
        return out
    shared = {key: out.pop(key) for key in ("default", "nullable") if key in out}
    definitions[name] = out
    return {"$ref": name, **shared}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for item in node.values():
            yield from _references(item)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def reduce(documents: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the kinds (by `apiVersion/kind`) and the definitions they reach."""
    found: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    wanted = {f"{served.api_version}/{served.kind}" for served in RESOURCES}
    for document in documents:
        for name, given in document["components"]["schemas"].items():
            for gvk in given.get("x-kubernetes-group-version-kind", []):
                group = f"{gvk['group']}/" if gvk["group"] else ""
                identity = f"{group}{gvk['version']}/{gvk['kind']}"
                if identity in wanted or name in _ALSO_SERVED:
                    kinds[identity] = name
            found[name] = _reduced(
                {k: v for k, v in given.items() if k != "x-kubernetes-group-version-kind"}
            )
    definitions: dict[str, Any] = {}
    pending = sorted(kinds.values())
    while pending:
        name = pending.pop()
        if name in definitions or name not in found:
            continue
        definitions[name] = {}
        definitions[name] = _hoist(name, found[name], definitions)
        pending.extend(_references(definitions))
    return {"kinds": dict(sorted(kinds.items())), "definitions": dict(sorted(definitions.items()))}


def render(reduced: dict[str, Any]) -> str:
    """Return the file's text: one kind or definition per line, with what lies inside it."""
    parts = []
    for section, entries in reduced.items():
        lines: list[list[str]] = []
        whole = "\n"  # No name begins with it, so the first one opens a line.
        for name, entry in entries.items():
            if not name.startswith((f"{whole}.", f"{whole}[")):
                whole = name
                lines.append([])
            told = json.dumps(entry, separators=(",", ":"), sort_keys=True)
            lines[-1].append(f"{json.dumps(name)}:{told}")
        text = ",\n".join(",".join(line) for line in lines)
        parts.append(f"{json.dumps(section)}:{{\n{text}\n}}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _files(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.json")):
        text = file.read_text(encoding="utf-8")
        # kubectl leaves an empty file where a group version is not served.
        if text:
            yield json.loads(text)


if __name__ == "__main__":
    SCHEMA_FILE.write_text(render(reduce(_files(Path(sys.argv[1])))), encoding="utf-8")
