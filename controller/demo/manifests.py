# SPDX-License-Identifier: Apache-2.0
"""The objects that the demo's team has in git: a Deployment, a Service, a route and a gateway."""

from collections.abc import Mapping
from typing import Any, Final

NAMESPACE: Final = "shop"
SYSTEM: Final = "switchgear"
"""Where the daemon keeps its documents by default."""

APP: Final = "checkout"
PORT: Final = 8080
PREFIX: Final = "switchgear.dev/"

Manifest = dict[str, Any]


def namespace(name: str) -> Manifest:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def gateway_class() -> Manifest:
    """The class that Traefik answers for."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "traefik"},
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    }


def gateway(port: int) -> Manifest:
    """The Gateway, whose listener is the port of Traefik's entry point."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": NAMESPACE},
        "spec": {
            "gatewayClassName": "traefik",
            "listeners": [{"name": "web", "protocol": "HTTP", "port": port}],
        },
    }


def route() -> Manifest:
    """Everything that comes in goes to the Service."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": APP, "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [{"name": APP, "port": 80}],
                }
            ],
        },
    }


def service() -> Manifest:
    """The Service, which selects the pods by the team's own label alone."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": APP, "namespace": NAMESPACE},
        "spec": {"selector": {"app": APP}, "ports": [{"port": 80, "targetPort": PORT}]},
    }


def deployment(
    version: str, env: Mapping[str, str], annotations: Mapping[str, str], *, replicas: int = 4
) -> Manifest:
    """The team's Deployment; `annotations` without their prefix."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": APP,
            "namespace": NAMESPACE,
            "annotations": {PREFIX + key: value for key, value in annotations.items()},
        },
        "spec": {
            "replicas": replicas,
            # A change is held by watching for it, and the native roll is some milliseconds ahead:
            # with maxUnavailable 0 it cannot take a serving pod in that time.
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": {"app": APP}},
            "template": {
                "metadata": {"labels": {"app": APP}},
                "spec": {"containers": [container(version, env)]},
            },
        },
    }


def container(version: str, env: Mapping[str, str]) -> Manifest:
    """The application's container at one version."""
    return {
        "name": "app",
        "image": f"registry.example/{APP}:{version}",
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "ports": [{"containerPort": PORT}],
    }


def new_version(version: str, env: Mapping[str, str]) -> Manifest:
    """The strategic merge patch by which a pipeline deploys `version`.

    The whole environment is replaced, since the faults of the version before must not stay.
    """
    changed = container(version, env)
    changed["env"].append({"$patch": "replace"})
    return {"spec": {"template": {"spec": {"containers": [changed]}}}}
