# SPDX-License-Identifier: Apache-2.0
"""Our own objects: the canary Deployment and the canary Service, made from the user's.

They are owned by the user's Deployment, so that its deletion takes them along, but not controlled
by it, since its controller must not count their pods. Labels by which GitOps tools recognise what
is theirs are not copied: such a tool would prune the twin.
"""

from typing import Any, Final, TypeAlias

from controller.core.errors import Refused
from controller.core.values import (
    CANARY_TRACK,
    HASH_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    TRACK_LABEL,
    TargetRef,
    canary_name,
)

Json: TypeAlias = dict[str, Any]

FOREIGN_PREFIXES: Final = (
    "toolkit.fluxcd.io/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "helm.sh/",
    "meta.helm.sh/",
    "argocd.argoproj.io/",
)
FOREIGN: Final = ("app.kubernetes.io/instance", "applyset.kubernetes.io/part-of")

SERVICE_FIELDS: Final = (
    "sessionAffinity",
    "sessionAffinityConfig",
    "publishNotReadyAddresses",
    "internalTrafficPolicy",
    "trafficDistribution",
    "ipFamilyPolicy",
    "ipFamilies",
)
"""What of a Service's spec changes how requests reach its pods from inside the cluster."""


def _labels(labels: dict[str, str] | None) -> dict[str, str]:
    copied = {
        key: value
        for key, value in (labels or {}).items()
        if key not in FOREIGN and not key.startswith(FOREIGN_PREFIXES)
    }
    return {**copied, MANAGED_BY_LABEL: MANAGED_BY, TRACK_LABEL: CANARY_TRACK}


def owner(deployment: str, uid: str) -> Json:
    """The reference by which a twin goes when its Deployment does."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": deployment,
        "uid": uid,
        "controller": False,
    }


def canary_deployment(live: Json) -> Json:
    """The twin of a Deployment: the same template with our label, at 0 replicas."""
    meta, spec = live["metadata"], live["spec"]
    template = dict(spec["template"])
    template_meta = {
        key: value
        for key, value in (template.get("metadata") or {}).items()
        if key in {"labels", "annotations"} and value
    }
    template_meta["labels"] = {**(template_meta.get("labels") or {}), TRACK_LABEL: CANARY_TRACK}
    template["metadata"] = template_meta
    selector = dict(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), TRACK_LABEL: CANARY_TRACK}
    copied = {key: value for key, value in spec.items() if key not in {"paused", "replicas"}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": canary_name(meta["name"]),
            "namespace": meta["namespace"],
            "labels": _labels(meta.get("labels")),
            "ownerReferences": [owner(meta["name"], meta["uid"])],
        },
        "spec": {**copied, "replicas": 0, "selector": selector, "template": template},
    }


def canary_service(live: Json, target: TargetRef, owner_uid: str, original: dict[str, str]) -> Json:
    """The twin of a Service, selecting the canary track.

    Raises `Refused` for a Service that selects nothing: there is no way to split it.
    """
    meta, spec = live["metadata"], live["spec"]
    if spec.get("type") == "ExternalName" or not original:
        raise Refused(f"Service {target.namespace}/{meta['name']} selects no pods")
    ports = [
        {key: value for key, value in port.items() if key != "nodePort"}
        for port in spec.get("ports") or ()
    ]
    own = {key: value for key, value in original.items() if key != HASH_LABEL}
    twin: Json = {key: spec[key] for key in SERVICE_FIELDS if key in spec}
    twin |= {"type": "ClusterIP", "selector": {**own, TRACK_LABEL: CANARY_TRACK}}
    if ports:
        twin["ports"] = ports
    if spec.get("clusterIP") == "None":
        twin["clusterIP"] = "None"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": canary_name(meta["name"]),
            "namespace": meta["namespace"],
            "labels": _labels(meta.get("labels")),
            "ownerReferences": [owner(target.name, owner_uid)],
        },
        "spec": twin,
    }
