# SPDX-License-Identifier: Apache-2.0
"""From the caches to what the core looks at: everything of one target."""

import math
from collections.abc import Collection
from dataclasses import replace

from controller.adapters.kube.cache import Cache
from controller.adapters.kube.objects import Held
from controller.core.observation import Deployment, Pod, ReplicaSet, Route, Service, View
from controller.core.values import TargetRef, canary_name


def view_of(cache: Cache, target: TargetRef, lost: Collection[str] = ()) -> View:
    """The target as the caches have it now, with the routes to Services that may be gone."""
    held = cache.deployments.get(target.namespace, target.name)
    canary = cache.deployments.get(target.namespace, target.canary)
    services = _services(cache, target, held)
    names = sorted({*lost, *(service.name for service in services)})
    return View(
        deployment=held.value if held else None,
        replica_sets=_replica_sets(cache, held),
        canary=canary.value if canary else None,
        services=services,
        canary_services=_twins(cache, target, names, held),
        routes=_routes(cache, target, names),
        pods=_pods(cache, canary),
        stale_seconds=cache.stale_seconds if cache.synced else math.inf,
    )


def _replica_sets(cache: Cache, held: Held[Deployment] | None) -> tuple[ReplicaSet, ...]:
    keys = cache.sets_of.get(held.uid) if held else ()
    found = (cache.replica_sets.get(*key) for key in keys)
    sets = [item.value for item in found if item is not None]
    return tuple(sorted(sets, key=lambda item: (item.revision, item.name)))


def _services(
    cache: Cache, target: TargetRef, held: Held[Deployment] | None
) -> tuple[Service, ...]:
    """Services that select the template's pods by their own selector, or that we pinned."""
    labels = set(held.value.pod_labels) if held else set()
    candidates = cache.by_service.candidates(target.namespace, tuple(sorted(labels)))
    names = {*candidates, *cache.by_service.pinned_for(target.namespace, target.name)}
    services: list[Service] = []
    for name in sorted(names):
        service = cache.services.get(target.namespace, name)
        if service is None or service.value.ours:
            continue
        selector = service.value.own_selector
        pinned = service.value.annotations.get("target") == target.name
        if pinned or (selector and labels.issuperset(selector)):
            shared = _shared(cache, target, service.value)
            found = service.value
            services.append(replace(found, shared_with=shared) if shared else found)
    return tuple(services)


def _shared(cache: Cache, target: TargetRef, service: Service) -> tuple[str, ...]:
    """Other people's Deployments whose pods the Service selects as well."""
    selector = service.own_selector
    names = []
    for name in cache.by_deployment.candidates(target.namespace, selector):
        other = cache.deployments.get(target.namespace, name)
        if other is None or name == target.name or other.value.ours:
            continue
        if set(other.value.pod_labels).issuperset(selector):
            names.append(name)
    return tuple(sorted(names))


def _twins(
    cache: Cache, target: TargetRef, services: list[str], held: Held[Deployment] | None
) -> tuple[Service, ...]:
    """What stands under the names of our twins, and our twins whose Service has gone."""
    names = {canary_name(name) for name in services}
    if held is not None:
        names.update(name for _, name in cache.twins_of.get(held.uid))
    twins = []
    for name in sorted(names):
        service = cache.services.get(target.namespace, name)
        if service is not None:
            ready = cache.endpoints.ready(target.namespace, name)
            found = service.value
            twins.append(replace(found, ready_endpoints=ready) if ready else found)
    return tuple(twins)


def _routes(cache: Cache, target: TargetRef, services: list[str]) -> tuple[Route, ...]:
    found = []
    for kind, namespace, name in cache.by_route.leading_to(target.namespace, services):
        held = cache.routes[kind].get(namespace, name)
        route = held.value.reduced(services, target.namespace) if held else None
        if route is not None:
            found.append(route)
    return tuple(found)


def _pods(cache: Cache, canary: Held[Deployment] | None) -> tuple[Pod, ...]:
    """Pods of the canary Deployment, by way of its ReplicaSets."""
    if canary is None:
        return ()
    found = []
    for key in cache.sets_of.get(canary.uid):
        owner = cache.replica_sets.get(*key)
        for pod in cache.pods_of.get(owner.uid) if owner else ():
            held = cache.pods.get(*pod)
            if held is not None:
                found.append(held.value)
    return tuple(sorted(found, key=lambda pod: pod.name))
