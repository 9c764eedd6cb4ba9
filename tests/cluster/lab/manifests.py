# SPDX-License-Identifier: Apache-2.0
"""The objects that stand in every lab before the first test: data planes and their rights."""

import json
from typing import Final

from tests.cluster.lab import addresses
from tests.cluster.lab.api import Object

SYSTEM: Final = "lab"
"""Namespace of the data planes and of Prometheus."""

GATEWAY_GROUP: Final = "gateway.networking.k8s.io"

_READ: Final = ["get", "list", "watch"]
_ROUTES: Final = ("httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes")


def _rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


_STATUS: Final = _rule(
    GATEWAY_GROUP,
    [f"{plural}/status" for plural in ("gatewayclasses", "gateways", "listenersets", *_ROUTES)]
    + ["backendtlspolicies/status"],
    ["update", "patch"],
)

RULES: Final[dict[str, list[Object]]] = {
    "traefik": [
        _rule("", ["namespaces", "services", "secrets", "configmaps"], _READ),
        _rule("discovery.k8s.io", ["endpointslices"], _READ),
        _rule(GATEWAY_GROUP, ["*"], _READ),
        _STATUS,
    ],
    "contour": [
        _rule("", ["namespaces", "services", "secrets", "configmaps"], _READ),
        _rule("discovery.k8s.io", ["endpointslices"], _READ),
        _rule("networking.k8s.io", ["ingresses"], _READ),
        _rule(GATEWAY_GROUP, ["*"], _READ),
        _rule("projectcontour.io", ["*"], _READ),
        _rule("", ["events"], ["create", "get", "update"]),
        _STATUS,
    ],
}
"""What each part may do at the API server, as the charts of these products have it."""


def accounts() -> list[tuple[str, Object]]:
    """Path and object of everything that gives the parts their identities."""
    made: list[tuple[str, Object]] = [
        ("/api/v1/namespaces", {"metadata": {"name": name}}) for name in (SYSTEM, "switchgear")
    ]
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    for name, rules in RULES.items():
        meta = {"metadata": {"name": f"lab-{name}"}}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole"}
        made += [
            (f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", {"metadata": {"name": name}}),
            (f"{rbac}/clusterroles", {**meta, "rules": rules}),
            (
                f"{rbac}/clusterrolebindings",
                {**meta, "roleRef": {**role, "name": f"lab-{name}"}, "subjects": [subject]},
            ),
        ]
    return made


def measures() -> list[tuple[str, Object]]:
    """What makes the API server ask us for metrics."""
    name = "measures"
    services = f"/api/v1/namespaces/{SYSTEM}/services"
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{SYSTEM}/endpointslices"
    port = {"port": addresses.MEASURES_PORT, "name": "https"}
    made: list[tuple[str, Object]] = [
        (services, {"metadata": {"name": name}, "spec": {"ports": [{**port, "port": 443}]}}),
        (
            slices,
            {
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [addresses.ADVERTISED], "conditions": {"ready": True}}],
                "ports": [port],
            },
        ),
    ]
    served = {"": "v1beta1", "custom.": "v1beta2", "external.": "v1beta1"}
    for kind, version in served.items():
        group = f"{kind}metrics.k8s.io"
        spec = {
            "service": {"namespace": SYSTEM, "name": name, "port": 443},
            "group": group,
            "version": version,
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        }
        api = {"metadata": {"name": f"{version}.{group}"}, "spec": spec}
        made.append(("/apis/apiregistration.k8s.io/v1/apiservices", api))
    return made


def gateway_class(name: str, controller: str) -> tuple[str, Object]:
    """The class of one data plane."""
    version = f"{GATEWAY_GROUP}/v1"
    return f"/apis/{version}/gatewayclasses", {
        "apiVersion": version,
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": controller},
    }


def gateway(name: str, port: int) -> tuple[str, Object]:
    """The Gateway of a data plane, which routes of every namespace may use."""
    version = f"{GATEWAY_GROUP}/v1"
    listener = {"name": "web", "protocol": "HTTP", "port": port}
    return f"/apis/{version}/namespaces/{SYSTEM}/gateways", {
        "apiVersion": version,
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": SYSTEM},
        "spec": {
            "gatewayClassName": name,
            "listeners": [{**listener, "allowedRoutes": {"namespaces": {"from": "All"}}}],
        },
    }


def prometheus(targets: str) -> str:
    """Prometheus' configuration: the data planes, and every pod that asks to be scraped.

    `targets` is the file in which the kubelet names pods.
    """
    annotation = "__meta_kubernetes_pod_annotation_prometheus_io_"
    pods = {
        "job_name": "pods",
        "file_sd_configs": [{"files": [targets], "refresh_interval": "5s"}],
        "relabel_configs": [
            {"source_labels": [f"{annotation}scrape"], "action": "keep", "regex": "true"},
            {
                "source_labels": ["__meta_kubernetes_pod_phase"],
                "action": "keep",
                "regex": "Running",
            },
            {
                "source_labels": ["__meta_kubernetes_pod_ip", f"{annotation}port"],
                "separator": ":",
                "target_label": "__address__",
            },
            {
                "source_labels": [f"{annotation}path"],
                "regex": "(.+)",
                "target_label": "__metrics_path__",
            },
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ],
    }
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {"job_name": "traefik", "static_configs": [{"targets": [addresses.TRAEFIK_METRICS]}]},
            {
                "job_name": "envoy",
                "metrics_path": "/stats/prometheus",
                "static_configs": [{"targets": [addresses.ENVOY_METRICS]}],
            },
            pods,
        ],
    }
    return json.dumps(config, indent=1)
