# SPDX-License-Identifier: Apache-2.0
"""What is asked once before a run: ways around our routes, volumes, autoscaler, quota, policies.

Nothing of it is cached, because it is needed once per run. Kinds of the core must be readable, or
the run does not begin; kinds that a cluster may not have are looked at where we may.
"""

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from controller.adapters.kube import paths
from controller.adapters.kube.cache import Cache, Only
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.routes import GROUP
from controller.core.errors import Forbidden, Missing
from controller.core.observation import Preflight, View
from controller.core.values import RouteKind, RouteRef, TargetRef, canary_name

Json: TypeAlias = dict[str, Any]

INGRESS: Final = ("networking.k8s.io", "v1", "ingresses", "Ingress")
OTHER_PATHS: Final = (
    (GROUP, "v1", "tlsroutes", "TLSRoute"),
    (GROUP, "v1alpha2", "tcproutes", "TCPRoute"),
    ("networking.istio.io", "v1", "virtualservices", "VirtualService"),
    ("traefik.io", "v1alpha1", "ingressroutes", "IngressRoute"),
)
"""Kinds that lead requests to a Service and that we cannot weigh.

Each costs a right to list, so the list is of what leads HTTP requests to a Service in practice."""

POLICIES: Final = ((GROUP, "v1", "backendtlspolicies", "BackendTLSPolicy"),)
GRANTS: Final = tuple(
    (GROUP, version, "referencegrants", "ReferenceGrant") for version in ("v1beta1", "v1")
)
"""The same objects, in whichever version the cluster serves."""

LIST_LIMIT: Final = "500"
"""One page: a namespace with more of one of these kinds does not exist in practice."""


async def ask(calls: Calls, cache: Cache, target: TargetRef, view: View) -> Preflight:
    """Everything at once. Raises `Forbidden` if a kind of the core may not be read."""
    services = [service.name for service in view.services]
    claims = view.deployment.claims if view.deployment else ()
    unweighable, uncovered, ungranted, once, autoscaler, quota = await asyncio.gather(
        _unweighable(calls, target, services),
        _uncovered(calls, target, services),
        _ungranted(calls, target, view, services),
        _once_claims(calls, target, claims),
        _autoscaler(calls, target),
        _pods_left(calls, target),
    )
    if cache.only is not None:
        unweighable += await _unwatched(calls, cache.only, view)
    mesh = [*_mesh(cache, target, services), *_ambiguous(cache, target, services)]
    return Preflight(
        unweighable=tuple(sorted({*unweighable, *mesh})),
        once_claims=once,
        autoscaler_runs_away=autoscaler.runs_away,
        autoscaler_starves=autoscaler.starves,
        autoscaler_max=autoscaler.most,
        pods_left=quota,
        uncovered=uncovered,
        ungranted=ungranted,
    )


async def _list(calls: Calls, path: str, *, optional: bool = False) -> list[Json]:
    try:
        found = await calls.get(path, (("limit", LIST_LIMIT),))
    except Missing:
        return []
    except Forbidden:
        # An API server says so as well of a kind that it does not have.
        if optional:
            return []
        raise
    items = found.get("items") or []
    return [item for item in items if isinstance(item, dict)]


def _kind_path(kind: tuple[str, str, str, str], namespace: str) -> str:
    return paths.grouped(kind[0], kind[1], namespace, kind[2])


async def _unweighable(calls: Calls, target: TargetRef, services: Collection[str]) -> list[str]:
    kinds = (INGRESS, *OTHER_PATHS)
    lists = await asyncio.gather(
        *(
            _list(calls, _kind_path(kind, target.namespace), optional=kind is not INGRESS)
            for kind in kinds
        )
    )
    hosts = {*services, *(f"{name}.{target.namespace}" for name in services)}
    return [
        f"{kind[3]} {target.namespace}/{item['metadata']['name']}"
        for kind, items in zip(kinds, lists, strict=True)
        for item in items
        if any(_short(name) in hosts for name in _named(item.get("spec")))
    ]


async def _unwatched(calls: Calls, only: Only, view: View) -> list[str]:
    """Services in front of the pods, and routes to them, that a sidecar was not told of."""
    namespace = only.target.namespace
    labels = dict(view.deployment.pod_labels) if view.deployment else {}
    told = {*only.services, *(canary_name(name) for name in only.services)}
    found: list[str] = []
    for item in await _list(calls, paths.core(namespace, "services")):
        selector = (item.get("spec") or {}).get("selector") or {}
        name = item["metadata"]["name"]
        if selector and selector.items() <= labels.items() and name not in told:
            found.append(f"Service {namespace}/{name} (name it with --service)")
    for kind in RouteKind:
        path = paths.grouped(GROUP, "v1", namespace, f"{kind.value.lower()}s")
        for item in await _list(calls, path, optional=True):
            name = item["metadata"]["name"]
            leads = any(text in told for text in _named(item.get("spec")))
            if leads and (kind.value, name) not in only.routes:
                found.append(f"{kind.value} {namespace}/{name} (name it with --route)")
    return found


def _short(host: str) -> str:
    """`checkout.shop` out of `checkout.shop.svc.cluster.local`; a plain name stays."""
    return host.split(".svc", 1)[0]


def _named(value: object, key: str = "") -> Iterator[str]:
    """Every text under a key by which these kinds name a Service, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _named(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, key)
    elif isinstance(value, str) and key in {"name", "host", "serviceName"}:
        yield value


def _mesh(cache: Cache, target: TargetRef, services: Collection[str]) -> Iterator[str]:
    """Routes that a mesh applies to calls of the Service from inside the cluster."""
    for kind, namespace, name in cache.by_route.leading_to(target.namespace, services):
        held = cache.routes[kind].get(namespace, name)
        if held is not None and namespace == target.namespace:
            for service in set(held.value.mesh) & set(services):
                yield f"{held.value.ref} (mesh route of Service {service})"


def _ambiguous(cache: Cache, target: TargetRef, services: Collection[str]) -> Iterator[str]:
    """Routes that name another namespace's Service of the same name: a name is all we test."""
    names = {*services, *(canary_name(name) for name in services)}
    for kind, namespace, name in cache.by_route.leading_to(target.namespace, services):
        held = cache.routes[kind].get(namespace, name)
        entries = [seen for rule in held.value.rules for seen in rule] if held else []
        if held and any(s.service in names and s.namespace != target.namespace for s in entries):
            yield f"{held.value.ref} (it also names a namesake in another namespace)"


async def _uncovered(calls: Calls, target: TargetRef, services: Collection[str]) -> tuple[str, ...]:
    """Policies that name a Service and not its twin."""
    lists = await asyncio.gather(
        *(_list(calls, _kind_path(kind, target.namespace), optional=True) for kind in POLICIES)
    )
    found = [
        f"{kind[3]} {target.namespace}/{item['metadata']['name']}"
        for kind, items in zip(POLICIES, lists, strict=True)
        for item in items
        if _escapes((item.get("spec") or {}).get("targetRefs") or (), services)
    ]
    return tuple(sorted(found))


async def _ungranted(
    calls: Calls, target: TargetRef, view: View, services: Collection[str]
) -> tuple[str, ...]:
    """Routes of other namespaces, each with a twin that no grant lets it lead to.

    A gateway answers for such a backend with an error of its own. A grant that cannot be read is
    none: what it would say is not known.
    """
    wanted = {
        (route.ref, canary_name(name))
        for route in view.routes
        for name in services
        if route.ref.namespace != target.namespace and route.names(name)
    }
    if not wanted:
        return ()
    lists = await asyncio.gather(
        *(_list(calls, _kind_path(kind, target.namespace), optional=True) for kind in GRANTS)
    )
    specs = [item.get("spec") or {} for items in lists for item in items]
    return tuple(
        sorted(
            f"{route} lead to the Service {target.namespace}/{twin}"
            for route, twin in wanted
            if not any(_lets(spec, route, twin) for spec in specs)
        )
    )


def _lets(grant: Json, route: RouteRef, service: str) -> bool:
    """Whether a grant's spec lets a route lead to a Service of the grant's namespace."""
    whose = {"group": GROUP, "kind": route.kind, "namespace": route.namespace}
    return whose in (grant.get("from") or ()) and any(
        (to.get("group"), to.get("kind")) == ("", "Service") and to.get("name") in {None, service}
        for to in grant.get("to") or ()
    )


def _escapes(refs: Collection[Json], services: Collection[str]) -> bool:
    named = {ref.get("name") for ref in refs if ref.get("kind") == "Service"}
    return any(name in named and canary_name(name) not in named for name in services)


async def _once_claims(calls: Calls, target: TargetRef, claims: Collection[str]) -> tuple[str, ...]:
    async def once(name: str) -> bool:
        try:
            found = await calls.get(paths.core(target.namespace, "persistentvolumeclaims", name))
        except Missing:
            return False
        modes = set((found.get("spec") or {}).get("accessModes") or ())
        return not modes & {"ReadWriteMany", "ReadOnlyMany"}

    answers = await asyncio.gather(*(once(name) for name in claims))
    return tuple(name for name, alone in zip(claims, answers, strict=True) if alone)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Autoscaler:
    """The one of the target; the texts as in `Preflight`."""

    runs_away: str = ""
    starves: str = ""
    most: int | None = None


async def _autoscaler(calls: Calls, target: TargetRef) -> _Autoscaler:
    path = paths.grouped("autoscaling", "v2", target.namespace, "horizontalpodautoscalers")
    for item in await _list(calls, path):
        spec = item.get("spec") or {}
        aim = spec.get("scaleTargetRef") or {}
        if (aim.get("kind"), aim.get("name")) != ("Deployment", target.name):
            continue
        most = spec.get("maxReplicas")
        if spec.get("minReplicas", 1) == most:
            # It moves nothing, whatever it measures.
            return _Autoscaler(most=most)
        metrics, name = spec.get("metrics") or (), item["metadata"]["name"]
        services = [found for metric in metrics if (found := _service_of(metric))]
        return _Autoscaler(
            runs_away=_runs_away(name, most) if any(map(_on_memory, metrics)) else "",
            starves=_starves(name, services[0]) if services else "",
            most=most,
        )
    return _Autoscaler()


_FIXED: Final = "or set minReplicas to maxReplicas while a run lasts"


def _on_memory(metric: Json) -> bool:
    resource = metric.get("resource") or metric.get("containerResource") or {}
    return bool(resource.get("name") == "memory")


def _runs_away(name: str, most: object) -> str:
    return (
        f"the HorizontalPodAutoscaler {name!r} scales on memory, which does not fall with more "
        "pods, and counts the canary's among its own: it would run away, to its maxReplicas of "
        f"{most}; scale on CPU, {_FIXED}"
    )


def _service_of(metric: Json) -> str:
    """The Service whose load alone is measured, or nothing."""
    described = (metric.get("object") or {}).get("describedObject") or {}
    return str(described.get("name")) if described.get("kind") == "Service" else ""


def _starves(name: str, service: str) -> str:
    return (
        f"the HorizontalPodAutoscaler {name!r} scales on the load of the Service {service!r} "
        "alone, which falls while the canary takes a share of it: stable would be starved, and "
        f"too small when everything comes back; scale on CPU or on the load of both, {_FIXED}"
    )


async def _pods_left(calls: Calls, target: TargetRef) -> int | None:
    """The least room that any quota on pods leaves."""
    left: list[int] = []
    for item in await _list(calls, paths.core(target.namespace, "resourcequotas")):
        if (item.get("spec") or {}).get("scopes") or (item.get("spec") or {}).get("scopeSelector"):
            # It counts only some pods; whether ours are among them is the scheduler's business.
            continue
        status = item.get("status") or {}
        for key in ("pods", "count/pods"):
            hard = str((status.get("hard") or {}).get(key, ""))
            used = str((status.get("used") or {}).get(key, "0"))
            if hard.isdigit() and used.isdigit():
                left.append(max(0, int(hard) - int(used)))
    return min(left, default=None)
