# SPDX-License-Identifier: Apache-2.0
"""The objects that contract tests start from; each call returns a new one."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data or {"a": "1"}}


def labelled(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "data": {"a": "1"}}


def deployment(name: str, *, replicas: int = 0, image: str = "lab/pause:1", **spec: Any) -> Object:
    container = {
        "name": "app",
        "image": image,
        "ports": [{"containerPort": 8080}],
        "env": [{"name": "A", "value": "1"}],
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    content = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}}
    return {"metadata": {"name": name}, "spec": {**content, "template": template, **spec}}


def lingering(deployment: Object, seconds: int) -> Object:
    """The same, whose containers take so long to end.

    A hook and no handler of signals, which a container that has just started may not have yet.
    """
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": seconds}}}
    return deployment


def service(name: str, **spec: Any) -> Object:
    content = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"metadata": {"name": name}, "spec": {**content, **spec}}


def route(name: str, *backends: str) -> Object:
    refs = [{"name": backend, "port": 80} for backend in backends or ("stable",)]
    spec = {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": refs}]}
    return {"metadata": {"name": name}, "spec": spec}


def lease(name: str, holder: str = "a") -> Object:
    moment = "2026-01-05T09:00:00.000000Z"
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": moment}
    return {"metadata": {"name": name}, "spec": spec}


def endpoint_slice(name: str, *addresses: str) -> Object:
    endpoints = [{"addresses": [address]} for address in addresses]
    return {
        "metadata": {"name": name},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"port": 80}],
    }


def pod(name: str) -> Object:
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "app", "image": "lab/pause:1"}]},
    }


def job(name: str, **spec: Any) -> Object:
    container = {"name": "app", "image": "lab/pause:1"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    return {"metadata": {"name": name}, "spec": {"template": template, **spec}}
