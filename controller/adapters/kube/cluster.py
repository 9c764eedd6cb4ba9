# SPDX-License-Identifier: Apache-2.0
"""`ports.cluster.Cluster` over a Kubernetes API server."""

from collections.abc import Callable, Collection, Sequence
from typing import Final, assert_never

from controller.adapters.kube import claims, paths, workloads
from controller.adapters.kube.cache import Cache, Unlisted
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.objects import ours_only
from controller.adapters.kube.pods import SERVICE_NAME, led_by, parse_pods
from controller.adapters.kube.preflight import ask
from controller.adapters.kube.reflector import Settings
from controller.adapters.kube.routing import Routing
from controller.adapters.kube.services import PinnedServices
from controller.adapters.kube.views import view_of
from controller.adapters.kube.workloads import Workloads
from controller.core import effects
from controller.core.effects import Effect, SplitRef
from controller.core.errors import Missing
from controller.core.observation import Pod, Preflight, Route, Service, View
from controller.core.values import (
    CANARY_TRACK,
    HASH_LABEL,
    MANAGED_BY,
    TRACK_LABEL,
    RouteRef,
    TargetRef,
)
from controller.ports.cluster import Claim, ObjectRef

PODS_LIMIT: Final = "1000"
"""Pods of one roll: more than any Deployment that such a trial is for."""

SLICES_LIMIT: Final = "500"
"""Each holds a hundred endpoints."""

MESSAGE_LIMIT: Final = 1000
"""An Event's message has at most 1,024 bytes."""


class KubeCluster:
    """Targets from the caches, effects as preconditioned writes."""

    def __init__(
        self, calls: Calls, namespaces: Sequence[str] = (), cache: Cache | None = None
    ) -> None:
        """Watch these namespaces (none: all) once `run` is started."""
        self._calls = calls
        self._namespaces = tuple(namespaces)
        self._workloads = Workloads(calls)
        self._services = PinnedServices(calls)
        self._routing = Routing(calls)
        self.cache = cache or Cache()
        calls.listen(self.cache.written)

    async def run(self, settings: Settings | None = None) -> None:
        """Keep the caches in step until cancelled."""
        await self.cache.run(self._calls, self._namespaces, settings)

    async def fill(self, namespace: str) -> tuple[Unlisted, ...]:
        """See `Cache.fill`: for a look that is taken once."""
        return await self.cache.fill(self._calls, namespace)

    @property
    def synced(self) -> bool:
        """Whether every cache has its first list; nothing may be decided before."""
        return self.cache.synced

    def targets(self) -> Sequence[TargetRef]:
        """Every annotated Deployment, and every one that still carries a mark of ours."""
        return sorted(self.cache.by_deployment.targets)

    def view(self, target: TargetRef, services: Collection[str] = ()) -> View:
        """The target as the caches have it."""
        return view_of(self.cache, target, services)

    def subscribe(self, changed: Callable[[TargetRef], None]) -> None:
        """Call `changed` for each target whose view changed."""
        self.cache.subscribe(changed)

    async def preflight(self, target: TargetRef) -> Preflight:
        """Ask for what is not cached."""
        return await ask(self._calls, self.cache, target, self.view(target), self._namespaces)

    async def read_routes(self, refs: Sequence[RouteRef], services: Sequence[str]) -> list[Route]:
        """Quorum reads of routes, reduced to the rules that name `services`."""
        return await self._routing.read(refs, services)

    async def read_services(self, namespace: str, names: Collection[str]) -> list[Service]:
        """Quorum reads of Services."""
        return await self._services.read(namespace, names)

    async def read_pods(self, target: TargetRef, hashes: Sequence[str]) -> tuple[Pod, ...]:
        """Pods by the hash of their template, which differs from one Deployment to the other."""
        chosen = f"{HASH_LABEL} in ({','.join(hashes)}),!{TRACK_LABEL}"
        query = (("labelSelector", chosen), ("limit", PODS_LIMIT))
        body = await self._calls.read(paths.core(target.namespace, "pods"), query)
        return parse_pods(body)

    async def read_endpoints(
        self, namespace: str, services: Collection[str]
    ) -> dict[str, frozenset[str]]:
        """Names of the ready pods in each Service's EndpointSlices, in one call for all."""
        chosen = f"{SERVICE_NAME} in ({','.join(sorted(services))})"
        query = (("labelSelector", chosen), ("limit", SLICES_LIMIT))
        body = await self._calls.read(
            paths.grouped("discovery.k8s.io", "v1", namespace, "endpointslices"), query
        )
        return led_by(body, services)

    async def read_annotations(self, target: TargetRef) -> dict[str, str]:
        """Our annotations on the Deployment by a quorum read."""
        found = await self._calls.get(paths.apps(target.namespace, "deployments", target.name))
        return ours_only(found["metadata"].get("annotations"))

    async def uid(self, target: TargetRef) -> str:
        """The uid of the Deployment by a quorum read, for callers without caches."""
        found = await self._calls.get(paths.apps(target.namespace, "deployments", target.name))
        return str(found["metadata"]["uid"])

    async def zero(self, splits: Sequence[SplitRef]) -> None:
        """Weight 0 for the canary, from memory first."""
        await self._routing.zero(splits)

    async def read_claims(self, refs: Sequence[ObjectRef]) -> list[Claim]:
        """Whose epoch each object carries, by quorum reads."""
        return await claims.read(self._calls, refs)

    async def claim(self, claim: Claim, epoch: int) -> None:
        """Put `epoch` on an object, by compare-and-set on the version of `claim`."""
        await claims.write(self._calls, claim, epoch)

    async def perform(
        self, effect: Effect, expected: Sequence[Route] = (), *, epoch: int | None = None
    ) -> str:
        """Carry one effect out with its preconditions; the text says what was written."""
        if epoch is not None:
            fenced = KubeCluster(claims.Fenced(self._calls, epoch), cache=self.cache)
            return await fenced.perform(effect, expected)
        match effect:
            case (
                effects.ZeroWeight()
                | effects.LowerWeight()
                | effects.Gather()
                | effects.AttachBackend()
                | effects.DetachBackend()
                | effects.RaiseWeight()
            ):
                return await self._perform_route(effect, expected)
            case (
                effects.PinService()
                | effects.Confine()
                | effects.Admit()
                | effects.UnpinService()
                | effects.FollowCanary()
                | effects.CreateCanaryService()
                | effects.DeleteCanaryService()
            ):
                return await self._perform_service(effect)
            case effects.StartCanary() | effects.ShrinkCanary():
                return await self._perform_scale(effect)
            case (
                effects.FreezeReplicaSet()
                | effects.DeleteReplicaSet()
                | effects.OrphanReplicaSet()
                | effects.DeletePods()
            ):
                return await self._perform_replica_set(effect)
            case _:
                return await self._perform_workload(effect)

    async def _perform_route(
        self,
        effect: effects.ZeroWeight
        | effects.LowerWeight
        | effects.Gather
        | effects.AttachBackend
        | effects.DetachBackend
        | effects.RaiseWeight,
        expected: Sequence[Route],
    ) -> str:
        match effect:
            case effects.ZeroWeight(splits=splits):
                return await self._routing.zero(splits)
            case effects.LowerWeight(splits=splits, weight_bp=weight_bp):
                return await self._routing.lower_to(splits, weight_bp)
            case effects.Gather(splits=splits):
                return await self._routing.gather(splits)
            case effects.AttachBackend(split=split):
                return await self._routing.attach(split)
            case effects.DetachBackend(split=split, original=original):
                return await self._routing.detach(split, original)
            case effects.RaiseWeight(splits=splits, weight_bp=weight_bp):
                return await self._routing.raise_to(splits, weight_bp, expected)
            case _:
                assert_never(effect)

    async def _perform_service(
        self,
        effect: effects.PinService
        | effects.Confine
        | effects.Admit
        | effects.UnpinService
        | effects.FollowCanary
        | effects.CreateCanaryService
        | effects.DeleteCanaryService,
    ) -> str:
        target = effect.target
        match effect:
            case effects.PinService(name=name, uid=uid, original=original):
                pin = (effect.key, effect.value)
                return await self._services.pin(target, name, uid, original, pin)
            case effects.Confine(services=services, hash=hash_):
                return await self._services.confine(target, services, hash_)
            case effects.Admit(services=admitted):
                return await self._services.admit(target, admitted)
            case effects.FollowCanary(name=name, uid=uid, original=original):
                pin = (TRACK_LABEL, CANARY_TRACK)
                return await self._services.pin(target, name, uid, original, pin)
            case effects.UnpinService(name=name, uid=uid, original=original):
                return await self._services.unpin(target, name, uid, original)
            case effects.CreateCanaryService(owner_uid=owner, service=service):
                return await self._services.create_canary(target, owner, service)
            case effects.DeleteCanaryService(name=name, uid=uid):
                path = paths.core(target.namespace, "services", name)
                return await workloads.delete(self._calls, path, uid)
            case _:
                assert_never(effect)

    async def _perform_scale(self, effect: effects.StartCanary | effects.ShrinkCanary) -> str:
        target, count = effect.target, effect.replicas
        try:
            return await self._workloads.scale(
                target.namespace, "deployments", target.canary, effect.uid, count
            )
        except Missing:
            if isinstance(effect, effects.StartCanary):
                raise
            return f"Deployment {target.namespace}/{target.canary} is gone"

    async def _perform_workload(
        self,
        effect: effects.Pause
        | effects.CreateCanary
        | effects.DeleteCanary
        | effects.OwnCanary
        | effects.Annotate
        | effects.Resume
        | effects.Revert
        | effects.Roll,
    ) -> str:
        target = effect.target
        match effect:
            case effects.Pause(uid=uid, why=why):
                return await self._workloads.pause(target, uid, why)
            case effects.CreateCanary(owner_uid=owner, digest=digest):
                return await self._workloads.create_canary(target, owner, digest)
            case effects.DeleteCanary(uid=uid):
                path = paths.apps(target.namespace, "deployments", target.canary)
                return await workloads.delete(self._calls, path, uid)
            case effects.OwnCanary(uid=uid, owner_uid=owner):
                return await self._workloads.own_canary(target, uid, owner)
            case effects.Annotate(uid=uid, annotations=annotations):
                return await self._workloads.annotate(target, uid, annotations)
            case effects.Resume(uid=uid, digest=digest) | effects.Roll(uid=uid, digest=digest):
                return await self._workloads.resume(target, uid, digest)
            case effects.Revert(uid=uid, replica_set=replica_set):
                return await self._workloads.revert(target, uid, replica_set)
            case _:
                assert_never(effect)

    async def _perform_replica_set(
        self,
        effect: effects.FreezeReplicaSet
        | effects.DeleteReplicaSet
        | effects.OrphanReplicaSet
        | effects.DeletePods,
    ) -> str:
        target = effect.target
        match effect:
            case effects.FreezeReplicaSet(name=name, uid=uid):
                return await self._freeze(target, name, uid)
            case effects.DeleteReplicaSet(name=name, uid=uid):
                path = paths.apps(target.namespace, "replicasets", name)
                return await workloads.delete(self._calls, path, uid)
            case effects.OrphanReplicaSet(name=name, uid=uid):
                path = paths.apps(target.namespace, "replicasets", name)
                return await workloads.delete(self._calls, path, uid, orphan=True)
            case effects.DeletePods(pods=pods):
                return await self._workloads.delete_pods(target, pods)
            case _:
                assert_never(effect)

    async def _freeze(self, target: TargetRef, name: str, uid: str) -> str:
        try:
            return await self._workloads.scale(target.namespace, "replicasets", name, uid, 0)
        except Missing:
            return f"ReplicaSet {target.namespace}/{name} is gone"

    async def tell(self, target: TargetRef, *, reason: str, message: str, warning: bool) -> None:
        """Write a Kubernetes Event on the Deployment."""
        held = self.cache.deployments.get(target.namespace, target.name)
        now = self._calls.clock.stamp()
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{target.name[:200]}.", "namespace": target.namespace},
            "involvedObject": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "namespace": target.namespace,
                "name": target.name,
                "uid": held.uid if held else "",
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message.encode()[:MESSAGE_LIMIT].decode("utf-8", "ignore"),
            "source": {"component": MANAGED_BY},
            "reportingComponent": MANAGED_BY,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._calls.post(paths.core(target.namespace, "events"), body)
