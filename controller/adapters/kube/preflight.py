# SPDX-License-Identifier: Apache-2.0
"""What is asked once before a run: ways around our routes, volumes, autoscaler, quota, policies.

Nothing of it is cached, because it is needed once per run. Kinds of the core must be readable, or
the run does not begin; kinds that a cluster may not have are looked at where we may.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
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


@dataclass(frozen=True, slots=True)
class _Kind:
    """Objects of one kind, in whichever of these versions the cluster serves, newest first."""

    group: str
    versions: tuple[str, ...]
    plural: str
    name: str


INGRESS: Final = _Kind("networking.k8s.io", ("v1",), "ingresses", "Ingress")
OTHER_PATHS: Final = (
    _Kind(GROUP, ("v1", "v1alpha3", "v1alpha2"), "tlsroutes", "TLSRoute"),
    _Kind(GROUP, ("v1", "v1alpha2"), "tcproutes", "TCPRoute"),
    _Kind(
        "networking.istio.io", ("v1", "v1beta1", "v1alpha3"), "virtualservices", "VirtualService"
    ),
    _Kind("traefik.io", ("v1alpha1",), "ingressroutes", "IngressRoute"),
)
"""Kinds that lead requests to a Service, of their own namespace or another, and that we cannot
weigh. Each costs a right to list, so these are what leads HTTP requests to a Service in practice.
"""

BACKEND_TLS: Final = _Kind(GROUP, ("v1", "v1alpha3"), "backendtlspolicies", "BackendTLSPolicy")
GRANTS: Final = _Kind(GROUP, ("v1", "v1beta1"), "referencegrants", "ReferenceGrant")

PAGE: Final = "500"
"""Objects of one answer; further pages are read one after the other."""


async def ask(
    calls: Calls, cache: Cache, target: TargetRef, view: View, namespaces: Collection[str] = ()
) -> Preflight:
    """Everything at once. Raises `Forbidden` if a kind of the core may not be read.

    Paths to the Services are looked for in these namespaces (none: in all).
    """
    services = [service.name for service in view.services]
    claims = view.deployment.claims if view.deployment else ()
    unweighable, uncovered, ungranted, once, autoscaler, quota = await asyncio.gather(
        _unweighable(calls, target, services, namespaces),
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
        autoscaler_external=autoscaler.external,
        autoscaler_max=autoscaler.most,
        pods_left=quota,
        uncovered=uncovered,
        ungranted=ungranted,
    )


async def _each(calls: Calls, path: str) -> AsyncIterator[Json]:
    """The objects of a collection, page by page."""
    token = ""
    while True:
        page = await calls.get(path, (("limit", PAGE), *([("continue", token)] if token else [])))
        for item in page.get("items") or ():
            if isinstance(item, dict):
                yield item
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return


async def _list(calls: Calls, path: str) -> list[Json]:
    try:
        return [item async for item in _each(calls, path)]
    except Missing:
        return []


async def _held(
    calls: Calls, kind: _Kind, namespace: str, wanted: Callable[[Json], bool]
) -> list[Json] | None:
    """The wanted objects of one namespace, or of all for an empty name; None: we may not look.

    A cluster that does not have the kind has none of them.
    """
    for version in kind.versions:
        path = paths.grouped(kind.group, version, namespace, kind.plural)
        try:
            return [item async for item in _each(calls, path) if wanted(item)]
        except Missing:
            continue
        except Forbidden:
            # An API server says so as well of a kind that it does not have.
            return None
    return []


async def _optional(calls: Calls, kind: _Kind, namespace: str) -> list[Json]:
    return await _held(calls, kind, namespace, lambda _: True) or []


async def _unweighable(
    calls: Calls, target: TargetRef, services: Collection[str], namespaces: Collection[str]
) -> list[str]:
    hosts = {f"{name}.{target.namespace}" for name in services}

    def leads(item: Json) -> bool:
        return not hosts.isdisjoint(_led_to(item.get("spec"), item["metadata"]["namespace"]))

    async def found(kind: _Kind) -> list[str]:
        items: list[Json] = []
        for namespace in namespaces or ("",):
            some = await _held(calls, kind, namespace, leads)
            if some is None and not namespace:
                some = await _held(calls, kind, target.namespace, leads)
            items += some or []
        return [_told(kind, item) for item in items]

    async def ingresses() -> list[str]:
        path = paths.grouped(INGRESS.group, "v1", target.namespace, INGRESS.plural)
        return [_told(INGRESS, item) for item in await _list(calls, path) if leads(item)]

    every = await asyncio.gather(ingresses(), *map(found, OTHER_PATHS))
    return [name for names in every for name in names]


def _told(kind: _Kind, item: Json) -> str:
    return f"{kind.name} {item['metadata']['namespace']}/{item['metadata']['name']}"


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
        routes = _Kind(GROUP, ("v1",), f"{kind.value.lower()}s", kind.value)
        for item in await _optional(calls, routes, namespace):
            name = item["metadata"]["name"]
            leads = any(text in told for text, _ in _named(item.get("spec")))
            if leads and (kind.value, name) not in only.routes:
                found.append(f"{kind.value} {namespace}/{name} (name it with --route)")
    return found


def _led_to(value: object, namespace: str) -> Iterator[str]:
    """Everything that may be the name of a Service in it, as `checkout.shop`.

    Hosts are written in full or, like the names of backends, short: then their namespace stands
    beside them, or is the object's own.
    """
    for name, beside in _named(value):
        host = name.split(".svc", 1)[0]
        yield host if "." in host else f"{host}.{beside or namespace}"


def _named(value: object, key: str = "", beside: str = "") -> Iterator[tuple[str, str]]:
    """Every text under a key by which these kinds name a Service, however deep.

    Each with the namespace that stands beside it, or nothing.
    """
    if isinstance(value, dict):
        near = value.get("namespace")
        for name, inner in value.items():
            yield from _named(inner, name, near if isinstance(near, str) else "")
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, key, beside)
    elif isinstance(value, str) and key in {"name", "host", "serviceName"}:
        yield value, beside


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
    found = [
        _told(BACKEND_TLS, item)
        for item in await _optional(calls, BACKEND_TLS, target.namespace)
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
    grants = await _optional(calls, GRANTS, target.namespace)
    specs = [item.get("spec") or {} for item in grants]
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
    external: tuple[str, ...] = ()
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
        external = {found for metric in metrics if (found := _external(metric))}
        return _Autoscaler(
            runs_away=_runs_away(name, most) if any(map(_on_memory, metrics)) else "",
            starves=_starves(name, services[0]) if services else "",
            external=tuple(sorted(external)),
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


def _external(metric: Json) -> str:
    """The name of a metric from outside of the cluster, or nothing."""
    return str(((metric.get("external") or {}).get("metric") or {}).get("name") or "")


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
