# SPDX-License-Identifier: Apache-2.0
"""The objects that a team would have written: short, and nothing that a default says as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.sim.apiserver.errors import JsonObject

GATEWAY = ("shop", "edge")
"""Namespace and name of the Gateway that every world has."""

PORT = 80
TARGET_PORT = 8080


def env_list(env: Mapping[str, object]) -> list[JsonObject]:
    """Environment variables as a container lists them."""
    return [{"name": name, "value": str(value)} for name, value in env.items()]


def deployment(
    namespace: str,
    name: str,
    *,
    replicas: int = 4,
    image: str = "registry.example/app:v1",
    env: Mapping[str, object] | None = None,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    **spec: Any,
) -> JsonObject:
    """A Deployment with one container; further fields of its spec by keyword."""
    carried = {"app": name, **(labels or {})}
    container: JsonObject = {
        "name": "app",
        "image": image,
        "ports": [{"name": "http", "containerPort": TARGET_PORT}],
    }
    if env:
        container["env"] = env_list(env)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": carried,
            "annotations": dict(annotations or {}),
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": carried}, "spec": {"containers": [container]}},
            **spec,
        },
    }


def service(
    namespace: str,
    name: str,
    *,
    selector: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    **spec: Any,
) -> JsonObject:
    """A Service in front of the pods labelled ``app: <name>``, or of those that it is told."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {"app": name})},
        "spec": {
            "selector": dict(selector or {"app": name}),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
            **spec,
        },
    }


def route(
    namespace: str,
    name: str,
    *,
    backends: Mapping[str, int] | None = None,
    kind: str = "HTTPRoute",
    rules: Sequence[JsonObject] | None = None,
    gateway: tuple[str, str] = GATEWAY,
    annotations: Mapping[str, str] | None = None,
) -> JsonObject:
    """A route of one rule to weighted backends (by default the Service of the same name)."""
    refs = [
        {"name": backend, "port": PORT, "weight": weight}
        for backend, weight in (backends or {name: 1}).items()
    ]
    rule: JsonObject = {"backendRefs": refs}
    if kind == "HTTPRoute":
        rule["matches"] = [{"path": {"type": "PathPrefix", "value": "/"}}]
    parent: JsonObject = {"name": gateway[1]}
    if gateway[0] != namespace:
        parent["namespace"] = gateway[0]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": dict(annotations or {}),
        },
        "spec": {
            "parentRefs": [parent],
            "hostnames": [f"{name}.example.test"],
            "rules": list(rules) if rules is not None else [rule],
        },
    }


def quota(namespace: str, name: str, pods: int) -> JsonObject:
    """No more than so many pods in the namespace."""
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hard": {"pods": str(pods)}},
    }


def gateway_class() -> JsonObject:
    """The GatewayClass of the simulated gateway."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "traefik"},
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    }


def gateway(namespace: str, name: str) -> JsonObject:
    """A Gateway that listens for HTTP and takes routes from every namespace."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "gatewayClassName": "traefik",
            "listeners": [
                {
                    "name": "web",
                    "port": 8000,
                    "protocol": "HTTP",
                    "allowedRoutes": {"namespaces": {"from": "All"}},
                }
            ],
        },
    }
