# SPDX-License-Identifier: Apache-2.0
"""What the server fills in where the client said nothing.

Defaults matter to a client that compares: a Deployment that is read back is never the one that was
written. Custom resources take theirs from the schema, built-in kinds from the code below.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.resources import Resource
from controller.sim.apiserver.schema import Node, schema_for
from controller.sim.apiserver.store import clone


def apply_defaults(served: Resource, obj: JsonObject, old: JsonObject | None) -> None:
    """Complete an object in place; `old` is what it replaces."""
    if served.custom:
        if isinstance(obj.get("spec"), dict):
            _from_schema(schema_for(served), obj)
        return
    fill = _FILLERS.get(served.key)
    if fill is not None:
        fill(obj, old)


def _from_schema(node: Node, value: Any) -> None:
    if isinstance(value, dict):
        for name in node.names():
            child = node.field(name)
            if child is None or name == "metadata":
                continue
            if name not in value and "default" in child.raw and name != "status":
                value[name] = clone(child.raw["default"])
            if name in value:
                _from_schema(child, value[name])
    elif isinstance(value, list):
        for item in value:
            _from_schema(node.items, item)


def _set(target: JsonObject, **values: Any) -> None:
    for name, value in values.items():
        target.setdefault(name, clone(value))


def _probe(probe: JsonObject) -> None:
    _set(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    if "httpGet" in probe:
        _set(probe["httpGet"], path="/", scheme="HTTP")


def _container(container: JsonObject) -> None:
    image = str(container.get("image", ""))
    tagged = ":" in image.rsplit("/", 1)[-1] and not image.endswith(":latest")
    _set(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy="IfNotPresent" if tagged or "@" in image else "Always",
    )
    for port in container.get("ports") or []:
        _set(port, protocol="TCP")
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        if name in container:
            _probe(container[name])
    for entry in container.get("env") or []:
        field = (entry.get("valueFrom") or {}).get("fieldRef")
        if field is not None:
            _set(field, apiVersion="v1")


def _pod_spec(spec: JsonObject) -> None:
    _set(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    if "serviceAccountName" in spec:
        _set(spec, serviceAccount=spec["serviceAccountName"])
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        _container(container)
    for volume in spec.get("volumes") or []:
        for source in ("configMap", "secret", "projected"):
            if source in volume:
                _set(volume[source], defaultMode=420)


def _template(spec: JsonObject) -> None:
    template = spec.get("template")
    if isinstance(template, dict):
        template.setdefault("metadata", {})
        _pod_spec(template.setdefault("spec", {}))


def _deployment(obj: JsonObject, _old: JsonObject | None) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, replicas=1, strategy={}, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec["strategy"]
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(strategy, rollingUpdate={})
        _set(strategy["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    _template(spec)
    obj.setdefault("status", {})


def _replica_set(obj: JsonObject, _old: JsonObject | None) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, replicas=1)
    _template(spec)
    obj.setdefault("status", {"replicas": 0})


def _pod(obj: JsonObject, old: JsonObject | None) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, serviceAccountName="default", enableServiceLinks=True)
    _pod_spec(spec)
    if old is None:
        obj["status"] = {"phase": "Pending", **(obj.get("status") or {})}


def _service(obj: JsonObject, old: JsonObject | None) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, type="ClusterIP", sessionAffinity="None")
    for port in spec.get("ports") or []:
        _set(port, protocol="TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port")
    if spec["type"] != "ExternalName":
        _set(spec, internalTrafficPolicy="Cluster")
        _set(spec, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
        before = (old or {}).get("spec") or {}
        for name in ("clusterIP", "clusterIPs"):
            if name in before:
                _set(spec, **{name: before[name]})
        if "clusterIP" in spec:
            _set(spec, clusterIPs=[spec["clusterIP"]])
    obj.setdefault("status", {"loadBalancer": {}})


def _job(obj: JsonObject, _old: JsonObject | None) -> None:
    spec = obj.setdefault("spec", {})
    if "parallelism" not in spec and "completions" not in spec:
        _set(spec, completions=1)
    _set(
        spec,
        parallelism=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        manualSelector=False,
        podReplacementPolicy="TerminatingOrFailed",
    )
    _template(spec)
    meta = obj["metadata"]
    uid = meta.get("uid", "")
    _set(spec, selector={"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
    for prefix in ("batch.kubernetes.io/", ""):
        labels.setdefault(f"{prefix}controller-uid", uid)
        labels.setdefault(f"{prefix}job-name", meta.get("name", ""))
    meta["labels"] = {**labels, **(meta.get("labels") or {})}
    obj.setdefault("status", {})


def _autoscaler(obj: JsonObject, _old: JsonObject | None) -> None:
    spec = obj.setdefault("spec", {})
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    _set(spec, minReplicas=1, metrics=[{"type": "Resource", "resource": cpu}])
    obj.setdefault("status", {"desiredReplicas": 0, "currentMetrics": None})


def _namespace(obj: JsonObject, old: JsonObject | None) -> None:
    meta = obj["metadata"]
    meta.setdefault("labels", {})["kubernetes.io/metadata.name"] = meta.get("name", "")
    if old is None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}


def _secret(obj: JsonObject, _old: JsonObject | None) -> None:
    plain = obj.pop("stringData", None) or {}
    for name, value in plain.items():
        encoded = base64.b64encode(str(value).encode()).decode()
        obj.setdefault("data", {})[name] = encoded
    obj.setdefault("type", "Opaque")


def _claim(obj: JsonObject, _old: JsonObject | None) -> None:
    _set(obj.setdefault("spec", {}), volumeMode="Filesystem")
    obj.setdefault("status", {"phase": "Pending"})


def _budget(obj: JsonObject, _old: JsonObject | None) -> None:
    zero = dict.fromkeys(
        ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"), 0
    )
    obj.setdefault("status", zero)


def _slice(obj: JsonObject, _old: JsonObject | None) -> None:
    for port in obj.get("ports") or []:
        _set(port, name="", protocol="TCP")
    for endpoint in obj.get("endpoints") or []:
        _set(endpoint, conditions={})


def _event(obj: JsonObject, _old: JsonObject | None) -> None:
    _set(obj, source={}, firstTimestamp=None, lastTimestamp=None, eventTime=None)
    _set(obj, reportingComponent="", reportingInstance="")


def _ingress(obj: JsonObject, _old: JsonObject | None) -> None:
    obj.setdefault("status", {"loadBalancer": {}})


_FILLERS: dict[str, Callable[[JsonObject, JsonObject | None], None]] = {
    "deployments.apps": _deployment,
    "replicasets.apps": _replica_set,
    "pods": _pod,
    "services": _service,
    "jobs.batch": _job,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "namespaces": _namespace,
    "secrets": _secret,
    "persistentvolumeclaims": _claim,
    "poddisruptionbudgets.policy": _budget,
    "endpointslices.discovery.k8s.io": _slice,
    "events": _event,
    "ingresses.networking.k8s.io": _ingress,
}
