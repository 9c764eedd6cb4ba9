# SPDX-License-Identifier: Apache-2.0
"""What is served: discovery, version, health and as much OpenAPI as kubectl asks for.

kubectl reads OpenAPI v3 to learn which paths take `fieldValidation` and how lists merge; the
schemas behind it are the ones that the server itself works with.
"""

from __future__ import annotations

import functools
from typing import Any

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.resources import RESOURCES, Resource
from controller.sim.apiserver.schema import definitions, kinds

VERSION = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.2",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.26",
    "compiler": "gc",
    "platform": "linux/amd64",
}
HEALTH = frozenset({"/readyz", "/livez", "/healthz"})

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_SUBRESOURCE_VERBS = ["get", "patch", "update"]
_CREATED = frozenset({"binding", "eviction", "token"})
_REVIEW_GROUPS = {
    "authentication.k8s.io/v1": ("TokenReview",),
    "authorization.k8s.io/v1": ("SelfSubjectAccessReview", "SubjectAccessReview"),
}
_SCALE = {"group": "autoscaling", "version": "v1", "kind": "Scale"}


@functools.cache  # Every request asks whether its path is one of these.
def _group_versions() -> dict[str, list[Resource]]:
    out: dict[str, list[Resource]] = {name: [] for name in _REVIEW_GROUPS}
    for served in RESOURCES:
        out.setdefault(served.api_version, []).append(served)
    return out


def document(path: str) -> JsonObject | None:
    """Return the discovery document at a path, or None where there is none."""
    path = path.rstrip("/")
    if path == "/version":
        return dict(VERSION)
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups()}
    if path == "/openapi/v3":
        return {"paths": {name: {"serverRelativeURL": f"/openapi/v3/{name}"} for name in _paths()}}
    if path.startswith("/openapi/v3/"):
        return _openapi(path.removeprefix("/openapi/v3/"))
    name = path.removeprefix("/apis/").removeprefix("/api/")
    if path in (f"/apis/{name}", f"/api/{name}") and name in _group_versions():
        return _resource_list(name)
    return next((group for group in _groups() if path == f"/apis/{group['name']}"), None)


@functools.cache
def _groups() -> list[JsonObject]:
    grouped: dict[str, list[str]] = {}
    for name in sorted(_group_versions()):
        group, slash, version = name.partition("/")
        if slash:
            grouped.setdefault(group, []).append(version)
    out = []
    for group, versions in grouped.items():
        listed = [
            {"groupVersion": f"{group}/{version}", "version": version} for version in versions
        ]
        head = {"kind": "APIGroup", "apiVersion": "v1", "name": group}
        out.append({**head, "versions": listed, "preferredVersion": listed[0]})
    return out


def _resource_list(name: str) -> JsonObject:
    resources: list[JsonObject] = []
    for served in _group_versions()[name]:
        entry: JsonObject = {
            "name": served.plural,
            "singularName": served.singular,
            "namespaced": served.namespaced,
            "kind": served.kind,
            "verbs": _VERBS,
        }
        if served.short_names:
            entry["shortNames"] = list(served.short_names)
        if served.categories:
            entry["categories"] = list(served.categories)
        resources.append(entry)
        resources += [_subresource(served, sub) for sub in sorted(served.subresources)]
    for kind in _REVIEW_GROUPS.get(name, ()):
        resources.append(
            {
                "name": kind.lower() + "s",
                "singularName": kind.lower(),
                "namespaced": False,
                "kind": kind,
                "verbs": ["create"],
            }
        )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": name,
        "resources": resources,
    }


def _subresource(served: Resource, sub: str) -> JsonObject:
    entry: JsonObject = {
        "name": f"{served.plural}/{sub}",
        "singularName": "",
        "namespaced": served.namespaced,
        "kind": served.kind,
        "verbs": ["create"] if sub in _CREATED else _SUBRESOURCE_VERBS,
    }
    if sub == "scale":
        entry.update(_SCALE)
    elif sub in _CREATED:
        entry["kind"] = {"binding": "Binding", "eviction": "Eviction", "token": "TokenRequest"}[sub]
    return entry


def _paths() -> list[str]:
    return [f"apis/{name}" if "/" in name else f"api/{name}" for name in sorted(_group_versions())]


def _openapi(name: str) -> JsonObject | None:
    if name not in _paths():
        return None
    version = name.split("/", 1)[1]
    paths: JsonObject = {}
    schemas: JsonObject = {}
    for served in _group_versions()[version]:
        group_kind = {"group": served.group, "version": served.version, "kind": served.kind}
        spaces = "/namespaces/{namespace}" if served.namespaced else ""
        operation: JsonObject = {
            "parameters": [{"name": key, "in": "query"} for key in ("fieldValidation", "dryRun")],
            "x-kubernetes-group-version-kind": group_kind,
            "responses": {},
        }
        base = f"{served.prefix}{spaces}/{served.plural}"
        paths[base] = {"post": operation}
        paths[base + "/{name}"] = {"patch": operation, "put": operation}
        schema_name = kinds().get(f"{served.api_version}/{served.kind}")
        if schema_name is not None:
            _collect(schema_name, schemas)
            schemas[schema_name]["x-kubernetes-group-version-kind"] = [group_kind]
    info = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
    return {
        "openapi": "3.0.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _collect(name: str, into: JsonObject) -> None:
    """Add a definition and all that it refers to, in the form that OpenAPI wants."""
    if name in into:
        return
    found: set[str] = set()
    into[name] = {}
    into[name] = _expanded(definitions().get(name, {}), found)
    for other in found:
        _collect(other, into)


def _expanded(node: Any, found: set[str]) -> Any:
    if isinstance(node, list):
        return [_expanded(item, found) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _expanded(item, found) for key, item in node.items() if key != "$ref"}
    target = node.get("$ref")
    if isinstance(target, str):
        found.add(target)
        reference = {"$ref": f"#/components/schemas/{target}"}
        return {**out, "allOf": [reference]} if out else reference
    return out
