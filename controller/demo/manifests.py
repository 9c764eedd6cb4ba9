# SPDX-License-Identifier: Apache-2.0
"""The objects that the demo's team has in git: a Deployment, a Service, a route and a gateway."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

NAMESPACE: Final = "shop"
SYSTEM: Final = "switchgear"
"""Where the daemon keeps its documents by default."""

APP: Final = "checkout"
PORT: Final = 8080
PREFIX: Final = "switchgear.dev/"

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """What differs between the places at which the team has its objects."""

    namespace: str = NAMESPACE
    image: str = ""
    """An image of Switchgear, which has the application in it; empty where no images are pulled."""
    gateway: Mapping[str, str] = field(default_factory=lambda: {"name": "edge"})
    """The route's `parentRef`."""
    host: str = ""
    """The name under which clients ask for the application; empty: any."""


HERE: Final = Team()
"""On the stage that the demo makes itself."""


def namespace(name: str, labels: Mapping[str, str] | None = None) -> Manifest:
    """A namespace."""
    metadata: Manifest = {"name": name, **({"labels": dict(labels)} if labels else {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


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


def route(team: Team = HERE) -> Manifest:
    """Everything that comes in for the application's name goes to the Service."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": APP, "namespace": team.namespace},
        "spec": {
            "parentRefs": [dict(team.gateway)],
            **({"hostnames": [team.host]} if team.host else {}),
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [{"name": APP, "port": 80}],
                }
            ],
        },
    }


def service(team: Team = HERE) -> Manifest:
    """The Service, which selects the pods by the team's own label alone."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": APP, "namespace": team.namespace},
        "spec": {"selector": {"app": APP}, "ports": [{"port": 80, "targetPort": PORT}]},
    }


def deployment(
    version: str,
    env: Mapping[str, str],
    annotations: Mapping[str, str],
    *,
    replicas: int = 4,
    team: Team = HERE,
) -> Manifest:
    """The team's Deployment; `annotations` without their prefix."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": APP,
            "namespace": team.namespace,
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
                "spec": {"containers": [container(version, env, team)], **_pod(team)},
            },
        },
    }


def _pod(team: Team) -> Manifest:
    """What real pods need besides: rights that every admission level accepts, and an end in time.

    Nothing is needed where no images are pulled.
    """
    if not team.image:
        return {}
    return {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 10,
    }


def container(version: str, env: Mapping[str, str], team: Team = HERE) -> Manifest:
    """The application's container at one version."""
    plain = [{"name": key, "value": value} for key, value in env.items()]
    if not team.image:
        return {
            "name": "app",
            "image": f"registry.example/{APP}:{version}",
            "env": plain,
            "ports": [{"containerPort": PORT}],
        }
    return {
        "name": "app",
        "image": team.image,
        "command": ["python", "-m", "controller.demo.workload"],
        # All versions are one image, so that it must be told which one it is.
        "env": [
            {"name": "VERSION", "value": version},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            *plain,
        ],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
        "resources": {
            "requests": {"cpu": "50m", "memory": "32Mi"},
            "limits": {"memory": "128Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def new_version(version: str, env: Mapping[str, str], team: Team = HERE) -> Manifest:
    """The strategic merge patch by which a pipeline deploys `version`.

    The whole environment is replaced, since the faults of the version before must not stay.
    """
    changed = container(version, env, team)
    changed["env"].append({"$patch": "replace"})
    return {"spec": {"template": {"spec": {"containers": [changed]}}}}
