# SPDX-License-Identifier: Apache-2.0
"""Everything that is watched: one store per resource, the indexes over them, and the reflectors.

Pods and EndpointSlices are watched only where they carry the canary's label, so that a cluster's
thousands of other pods cost nothing.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, unquote

import msgspec

from controller.adapters.kube import objects, pods, routes
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.index import (
    Deployments,
    Multimap,
    Routes,
    Services,
    Slices,
    is_target,
    services_of,
)
from controller.adapters.kube.objects import Held, Meta
from controller.adapters.kube.pods import Slice
from controller.adapters.kube.reflector import Reflector, Settings, Source
from controller.adapters.kube.routes import RouteSeen
from controller.adapters.kube.store import Key, Store
from controller.core.errors import SwitchgearError
from controller.core.observation import Deployment, Pod, ReplicaSet, Service
from controller.core.values import CANARY_TRACK, TRACK_LABEL, TargetRef, canary_name

T = TypeVar("T")

CANARIES: Final = f"{TRACK_LABEL}={CANARY_TRACK}"
SUFFIX: Final = "-canary"


class _Details(msgspec.Struct, frozen=True, gc=False):
    uid: str = ""


class _Answer(msgspec.Struct, frozen=True, gc=False):
    """An object, or the Status of a deletion."""

    metadata: Meta = Meta()
    details: _Details = _Details()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched(Generic[T]):
    """One resource and the store that it goes to."""

    prefix: str
    plural: str
    store: Store[T]
    selector: str = ""
    optional: bool = False

    def source(self, namespace: str, name: str = "") -> Source:
        scope = f"/namespaces/{quote(namespace)}" if namespace else ""
        return Source(
            path=f"{self.prefix}{scope}/{self.plural}",
            scope=namespace,
            selector=self.selector,
            name=name,
            optional=self.optional,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """One target and the objects around it, by their names: all that a sidecar may watch."""

    target: TargetRef
    services: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]
    """Kind and name of each route, in the target's namespace."""

    def names(self, plural: str) -> tuple[str, ...]:
        """The names to watch of a resource; one empty name is all of the namespace."""
        match plural:
            case "deployments":
                return (self.target.name, self.target.canary)
            case "services":
                return tuple(n for name in self.services for n in (name, canary_name(name)))
            case "httproutes" | "grpcroutes":
                return tuple(name for kind, name in self.routes if f"{kind.lower()}s" == plural)
            case _:
                return ("",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlisted:
    """What could not be listed, where (empty: in all namespaces), and why."""

    plural: str
    namespace: str
    error: SwitchgearError


class Cache:
    """The stores and the indexes; `run` keeps them in step with the API server."""

    def __init__(self, only: Only | None = None) -> None:
        self.only = only
        self.deployments: Store[Deployment] = Store(objects.parse_deployment)
        self.replica_sets: Store[ReplicaSet] = Store(objects.parse_replica_set)
        self.services: Store[Service] = Store(objects.parse_service)
        self.slices: Store[Slice] = Store(pods.parse_slice)
        self.pods: Store[Pod] = Store(pods.parse_pod)
        self.routes: dict[str, Store[RouteSeen]] = {
            "HTTPRoute": Store(routes.parse_http_route),
            "GRPCRoute": Store(routes.parse_grpc_route),
        }
        self.by_deployment = Deployments()
        self.by_service = Services()
        self.by_route = Routes()
        self.endpoints = Slices()
        self.sets_of: Multimap[str, Key] = Multimap()
        self.pods_of: Multimap[str, Key] = Multimap()
        self.twins_of: Multimap[str, Key] = Multimap()
        """Services by the Deployment that owns them: ours, even if their model is gone."""
        self.reflectors: list[Reflector[Any]] = []
        self._listeners: list[Callable[[TargetRef], None]] = []
        self._follow()

    def _follow(self) -> None:
        """Indexes first, then the news about targets, which look into the indexes."""
        self.deployments.listen(self.by_deployment.change)
        self.services.listen(self.by_service.change)
        self.services.listen(lambda *change: _index(self.twins_of, *change))
        self.slices.listen(self.endpoints.change)
        self.replica_sets.listen(lambda *change: _index(self.sets_of, *change))
        self.pods.listen(lambda *change: _index(self.pods_of, *change))
        self.deployments.listen(self._of_deployment)
        self.replica_sets.listen(self._of_owned)
        self.pods.listen(self._of_pod)
        self.services.listen(self._of_service)
        self.slices.listen(self._of_slice)
        for store in self.routes.values():
            store.listen(self.by_route.change)
            store.listen(self._of_route)

    # --- running -------------------------------------------------------------------------------

    def _watched(self) -> Sequence[_Watched[Any]]:
        gateway = f"/apis/{routes.GROUP}/v1"
        return (
            _Watched(prefix="/apis/apps/v1", plural="deployments", store=self.deployments),
            _Watched(prefix="/apis/apps/v1", plural="replicasets", store=self.replica_sets),
            _Watched(prefix="/api/v1", plural="services", store=self.services),
            _Watched(prefix="/api/v1", plural="pods", store=self.pods, selector=CANARIES),
            _Watched(
                prefix="/apis/discovery.k8s.io/v1",
                plural="endpointslices",
                store=self.slices,
                selector=CANARIES,
            ),
            _Watched(
                prefix=gateway,
                plural="httproutes",
                store=self.routes["HTTPRoute"],
                optional=True,
            ),
            _Watched(
                prefix=gateway,
                plural="grpcroutes",
                store=self.routes["GRPCRoute"],
                optional=True,
            ),
        )

    async def run(
        self, calls: Calls, namespaces: Sequence[str] = (), settings: Settings | None = None
    ) -> None:
        """Keep everything in step until cancelled; no namespaces means all of them."""
        self.reflectors = [
            Reflector(calls, source, watched.store, settings)
            for watched in self._watched()
            for source in self._sources(watched, namespaces)
        ]
        async with asyncio.TaskGroup() as tasks:
            for reflector in self.reflectors:
                tasks.create_task(reflector.run(), name=f"reflector {reflector.source.path}")

    async def fill(self, calls: Calls, namespace: str) -> tuple[Unlisted, ...]:
        """List once what surrounds the targets of a namespace; says what could not be listed.

        Routes may stand in any namespace: all of them are looked at, or where the caller may not
        the target's own.
        """
        failed: list[Unlisted] = []

        async def listed(watched: _Watched[Any], scope: str) -> None:
            reflector = Reflector(calls, watched.source(scope), watched.store)
            try:
                await reflector.fill()
            except SwitchgearError as error:
                failed.append(Unlisted(plural=watched.plural, namespace=scope, error=error))
                if not scope:
                    await listed(watched, namespace)
            else:
                self.reflectors.append(reflector)

        self.reflectors = []
        await asyncio.gather(
            *(listed(one, "" if one.optional else namespace) for one in self._watched())
        )
        return tuple(failed)

    def _sources(self, watched: _Watched[Any], namespaces: Sequence[str]) -> list[Source]:
        if self.only is None:
            return [watched.source(namespace) for namespace in namespaces or ("",)]
        namespace = self.only.target.namespace
        return [watched.source(namespace, name) for name in self.only.names(watched.plural)]

    def written(self, method: str, path: str, answer: bytes) -> None:
        """Take in at once what a write of ours did, of whatever is watched whole."""
        prefix, _, rest = path.partition("/namespaces/")
        namespace, plural, name = ([unquote(part) for part in rest.split("/")] + [""] * 3)[:3]
        collections = {f"{prefix}/namespaces/{quote(namespace)}/{plural}", f"{prefix}/{plural}"}
        whole = [one for one in self.reflectors if not one.source.selector]
        watching = [one for one in whole if one.source.path in collections]
        if not watching:
            return  # The most and the largest of all writes, run documents, are nobody's here.
        try:
            found = msgspec.json.decode(answer, type=_Answer)
        except msgspec.MsgspecError:
            return
        name = name or found.metadata.name
        for reflector in watching:
            if reflector.source.name not in {"", name}:
                continue
            if method != "DELETE" or found.metadata.deletion_timestamp:
                reflector.wrote(found.metadata, answer)
            else:
                # The object as it was, or a Status that names it: nothing holds it up any more.
                reflector.removed((namespace, name), found.metadata.uid or found.details.uid)

    @property
    def synced(self) -> bool:
        """Whether every first list is in."""
        return bool(self.reflectors) and all(item.synced.is_set() for item in self.reflectors)

    @property
    def stale_seconds(self) -> float:
        """Seconds since the most silent of the reflectors last heard anything."""
        return max((item.stale_seconds for item in self.reflectors), default=float("inf"))

    # --- whose is it ---------------------------------------------------------------------------

    def subscribe(self, changed: Callable[[TargetRef], None]) -> None:
        """Call `changed` for each target whose view changed."""
        self._listeners.append(changed)

    def tell(self, targets: Iterable[TargetRef]) -> None:
        """Say that the views of these targets changed."""
        for target in dict.fromkeys(targets):
            for changed in self._listeners:
                changed(target)

    def _target(self, namespace: str, name: str) -> list[TargetRef]:
        """The target of that name, or the one whose canary has that name."""
        found = [TargetRef(namespace, name)]
        if name.endswith(SUFFIX):
            found.append(TargetRef(namespace, name.removesuffix(SUFFIX)))
        return [target for target in found if target in self.by_deployment.targets]

    def targets_of_service(self, namespace: str, name: str) -> list[TargetRef]:
        """The targets whose pods a Service selects; a canary twin stands for its Service."""
        names = {name, name.removesuffix(SUFFIX)}
        found: list[TargetRef] = []
        for each in sorted(names):
            service = self.services.get(namespace, each)
            if service is not None:
                found.extend(self._selected(service))
        return found

    def _selected(self, service: Held[Service]) -> list[TargetRef]:
        selector = service.value.own_selector
        names = self.by_deployment.candidates(service.namespace, selector)
        found = [TargetRef(service.namespace, name) for name in names]
        pinned_for = service.value.annotations.get("target", "")
        if pinned_for:
            # Whoever we pinned it for hears of it, even when its labels or itself have gone.
            pinned = TargetRef(service.namespace, pinned_for)
            return [pinned, *(t for t in found if t in self.by_deployment.targets and t != pinned)]
        return [target for target in found if target in self.by_deployment.targets]

    def _of_deployment(
        self, before: Held[Deployment] | None, after: Held[Deployment] | None
    ) -> None:
        some = after or before
        if some is None:
            return
        found = self._target(some.namespace, some.name)
        if before is not None and is_target(before.value):
            # It may have been a target until now: its end is news as well.
            found.append(TargetRef(before.namespace, before.name))
        self.tell(found)

    def _of_owned(self, before: Held[Any] | None, after: Held[Any] | None) -> None:
        owners = {some.owner_uid for some in (before, after) if some is not None}
        keys = (self.by_deployment.by_uid(owner) for owner in sorted(owners))
        self.tell(target for key in keys if key is not None for target in self._target(*key))

    def _of_pod(self, before: Held[Pod] | None, after: Held[Pod] | None) -> None:
        some = after or before
        if some is None:
            return
        # `<deployment>-<hash>-<suffix>`: names are no proof, but news may come once too often.
        owner = some.name.rsplit("-", 2)[0]
        self.tell(self._target(some.namespace, owner))

    def _of_service(self, before: Held[Service] | None, after: Held[Service] | None) -> None:
        found: list[TargetRef] = []
        for some in (before, after):
            if some is not None:
                found.extend(self._selected(some))
                if some.name.endswith(SUFFIX):
                    found.extend(self.targets_of_service(some.namespace, some.name))
        self.tell(found)

    def _of_slice(self, before: Held[Slice] | None, after: Held[Slice] | None) -> None:
        some = after or before
        if some is not None:
            self.tell(self.targets_of_service(some.namespace, some.value.service))

    def _of_route(self, before: Held[RouteSeen] | None, after: Held[RouteSeen] | None) -> None:
        named: set[Key] = set()
        for some in (before, after):
            if some is not None:
                named |= services_of(some.value)
        self.tell(target for key in sorted(named) for target in self.targets_of_service(*key))


def _index(owned: Multimap[str, Key], before: Held[Any] | None, after: Held[Any] | None) -> None:
    if before is not None and before.owner_uid:
        owned.discard(before.owner_uid, (before.namespace, before.name))
    if after is not None and after.owner_uid:
        owned.add(after.owner_uid, (after.namespace, after.name))
