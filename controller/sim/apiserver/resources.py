# SPDX-License-Identifier: Apache-2.0
"""The table of served kinds, and how each of them differs from the others.

Discovery, routing, storage and patching all read this one table, so that a kind is either served
in full or not at all. The traits (who may be overwritten without a version, what moves the
generation) are those of a real API server; the contract tests compare them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Generation(Enum):
    """What a write must change before `metadata.generation` moves."""

    NONE = "the kind has no generation"
    SPEC = "spec"
    SPEC_OR_ANNOTATIONS = "spec or annotations"
    CONTENT = "anything but metadata and status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One served kind."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()
    generation: Generation = Generation.NONE
    custom: bool = False
    unconditional_update: bool = True
    create_on_update: bool = False

    @property
    def api_version(self) -> str:
        """Return `group/version`, or the bare version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> str:
        """Return the unique name of the resource, for example `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def singular(self) -> str:
        """Return the name that discovery calls the singular."""
        return self.kind.lower()

    @property
    def prefix(self) -> str:
        """Return the path below which the group version is served."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


_STATUS = frozenset({"status"})
_SCALED = frozenset({"status", "scale"})
_GATEWAY = "gateway.networking.k8s.io"


def _core(plural: str, kind: str, *short: str, **traits: object) -> Resource:
    return Resource(
        group="",
        version="v1",
        plural=plural,
        kind=kind,
        short_names=short,
        **traits,  # type: ignore[arg-type]
    )


def _gateway(plural: str, kind: str, *short: str, **traits: object) -> Resource:
    defaults: dict[str, object] = {
        "version": "v1",
        "subresources": _STATUS,
        "categories": ("gateway-api",),
    }
    return Resource(
        group=_GATEWAY,
        plural=plural,
        kind=kind,
        short_names=short,
        generation=Generation.CONTENT,
        custom=True,
        unconditional_update=False,
        **{**defaults, **traits},  # type: ignore[arg-type]
    )


RESOURCES: tuple[Resource, ...] = (
    _core(
        "namespaces",
        "Namespace",
        "ns",
        namespaced=False,
        subresources=frozenset({"status", "finalize"}),
    ),
    _core("nodes", "Node", "no", namespaced=False, subresources=_STATUS),
    _core(
        "pods",
        "Pod",
        "po",
        categories=("all",),
        generation=Generation.SPEC,
        subresources=frozenset({"status", "binding", "eviction"}),
    ),
    _core(
        "services",
        "Service",
        "svc",
        categories=("all",),
        subresources=_STATUS,
        create_on_update=True,
    ),
    _core("endpoints", "Endpoints", "ep", create_on_update=True),
    _core("configmaps", "ConfigMap", "cm"),
    _core("secrets", "Secret"),
    _core("serviceaccounts", "ServiceAccount", "sa", subresources=frozenset({"token"})),
    _core("events", "Event", "ev", create_on_update=True),
    _core("persistentvolumeclaims", "PersistentVolumeClaim", "pvc", subresources=_STATUS),
    _core("resourcequotas", "ResourceQuota", "quota", subresources=_STATUS),
    Resource(
        group="apps",
        version="v1",
        plural="deployments",
        kind="Deployment",
        short_names=("deploy",),
        categories=("all",),
        subresources=_SCALED,
        generation=Generation.SPEC_OR_ANNOTATIONS,
    ),
    Resource(
        group="apps",
        version="v1",
        plural="replicasets",
        kind="ReplicaSet",
        short_names=("rs",),
        categories=("all",),
        subresources=_SCALED,
        generation=Generation.SPEC,
    ),
    Resource(
        group="batch",
        version="v1",
        plural="jobs",
        kind="Job",
        categories=("all",),
        subresources=_STATUS,
        generation=Generation.SPEC,
    ),
    Resource(
        group="autoscaling",
        version="v2",
        plural="horizontalpodautoscalers",
        kind="HorizontalPodAutoscaler",
        short_names=("hpa",),
        categories=("all",),
        subresources=_STATUS,
    ),
    Resource(
        group="policy",
        version="v1",
        plural="poddisruptionbudgets",
        kind="PodDisruptionBudget",
        short_names=("pdb",),
        subresources=_STATUS,
        generation=Generation.SPEC,
        unconditional_update=False,
    ),
    Resource(
        group="networking.k8s.io",
        version="v1",
        plural="ingresses",
        kind="Ingress",
        short_names=("ing",),
        subresources=_STATUS,
        generation=Generation.SPEC,
    ),
    Resource(
        group="discovery.k8s.io",
        version="v1",
        plural="endpointslices",
        kind="EndpointSlice",
        generation=Generation.CONTENT,
    ),
    Resource(
        group="coordination.k8s.io",
        version="v1",
        plural="leases",
        kind="Lease",
        unconditional_update=False,
        create_on_update=True,
    ),
    _gateway("gatewayclasses", "GatewayClass", "gc", namespaced=False),
    _gateway("gateways", "Gateway", "gtw"),
    _gateway("httproutes", "HTTPRoute"),
    _gateway("grpcroutes", "GRPCRoute"),
    _gateway("tcproutes", "TCPRoute", version="v1alpha2"),
    _gateway("tlsroutes", "TLSRoute"),
    _gateway("backendtlspolicies", "BackendTLSPolicy", "btlspolicy"),
    _gateway(
        "referencegrants", "ReferenceGrant", "refgrant", version="v1beta1", subresources=frozenset()
    ),
)

_BY_KEY = {resource.key: resource for resource in RESOURCES}
_BY_PLURAL = {resource.plural: resource for resource in RESOURCES}
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in RESOURCES}


def resource(name: Resource | str) -> Resource:
    """Return the served kind called `name` (`deployments`, or `deployments.apps`).

    Raises KeyError for a kind that is not served.
    """
    if isinstance(name, Resource):
        return name
    return _BY_PLURAL.get(name) or _BY_KEY[name]


def resource_of_kind(api_version: str, kind: str) -> Resource | None:
    """Return the served kind behind `apiVersion` and `kind`, or None."""
    return _BY_KIND.get((api_version, kind))
