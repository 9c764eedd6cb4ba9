# SPDX-License-Identifier: Apache-2.0
"""A whole cluster with its gateway, its clients and its Prometheus, on the running event loop.

Tests and the demo say with it what a team, its pipeline and its users do, in a word each, and read
from it what became of that.  Whatever is done here goes past the API server's faults: the faults
are for the product, not for the story that it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self

from controller.sim import dice, manifests
from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.resources import resource_of_kind
from controller.sim.apiserver.server import ApiServer
from controller.sim.apiserver.store import Event, Store
from controller.sim.clock import WallClock
from controller.sim.controllers.base import Cluster, Controller
from controller.sim.controllers.deployment import DeploymentController
from controller.sim.controllers.endpoints import EndpointSliceController
from controller.sim.controllers.garbage import GarbageCollector
from controller.sim.controllers.gateway import PROGRAM_LAG, Gateway
from controller.sim.controllers.job import JobController
from controller.sim.controllers.kubelet import Kubelet
from controller.sim.controllers.namespaces import NamespaceController
from controller.sim.controllers.objects import deleting, pod_ready
from controller.sim.controllers.pod_runtime import PodRuntime, VirtualRuntime, version_of
from controller.sim.controllers.quota import QuotaController, QuotaStrategy
from controller.sim.controllers.replicaset import ReplicaSetController
from controller.sim.counters import Era
from controller.sim.prometheus import Prometheus
from controller.sim.traffic import Cause, Traffic

# What moves when a rollout moves.  Leases, Events and bookkeeping go on for ever.
_MOVING = frozenset(
    {"deployments", "replicasets", "pods", "services", "endpointslices", "httproutes", "grpcroutes"}
)


_KINDS: tuple[type[Controller[Any]], ...] = (
    DeploymentController,
    ReplicaSetController,
    JobController,
    EndpointSliceController,
    GarbageCollector,
    NamespaceController,
    QuotaController,
)


@contextlib.asynccontextmanager
async def controllers(
    store: Store, *, runtime: PodRuntime | None = None, seed: int = 0
) -> AsyncIterator[Cluster]:
    """Run controllers and kubelet on a store, without gateway, clients and Prometheus.

    Pods are quick unless they or ``runtime`` say otherwise, since this also runs in real time.
    Raises at the end what went wrong inside the simulation.
    """
    loop = asyncio.get_running_loop()
    rng = dice.source(seed)
    cluster = Cluster(store=store, wall=WallClock(loop), rng=rng, loop=loop)
    store.strategy = QuotaStrategy(store.strategy, store)
    running = [kind(cluster) for kind in _KINDS]
    quick = VirtualRuntime(ready_seconds=0.2, stop_seconds=0.1)
    kubelet = Kubelet(cluster, runtime or quick)
    try:
        yield cluster
    finally:
        for controller in running:
            controller.stop()
        await kubelet.stop()
    if cluster.errors:
        raise cluster.errors[0]


class World:
    """Everything around the product.  Make it inside the loop it shall live on.

    ``runtime`` stands behind the pods (pretended processes by default); with another one, or with
    ``gateway=False``, traffic and Prometheus are the caller's.  ``program_lag`` are the seconds by
    which the data plane runs behind the routes.  With ``pod_metrics`` Prometheus also scrapes the
    pods, which count what they answer.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        start: bool = True,
        runtime: PodRuntime | None = None,
        namespaces: Sequence[str] = ("shop",),
        scrape_interval: float = 5.0,
        program_lag: tuple[float, float] = PROGRAM_LAG,
        era: Era = Era.ROUTE,
        gateway: bool = True,
        pod_metrics: bool = False,
        allow_loopback_endpoints: bool = False,
    ) -> None:
        """Build all parts; with ``start`` they begin to work at once."""
        loop = asyncio.get_running_loop()
        self.wall = WallClock(loop)
        self.store = Store(self.wall.now, namespaces=("default", "kube-system", *namespaces))
        self.api = ApiServer(self.store, allow_loopback_endpoints=allow_loopback_endpoints)
        self.store.strategy = QuotaStrategy(self.store.strategy, self.store)
        self.rng = dice.source(seed)
        self.cluster = Cluster(store=self.store, wall=self.wall, rng=self.rng, loop=loop)
        self.virtual = VirtualRuntime()
        self.runtime: PodRuntime = runtime or self.virtual
        self._options = (scrape_interval, program_lag, era, gateway, pod_metrics)
        self._moved_at = loop.time()
        self._ends: list[Callable[[], None]] = [self.store.subscribe(self._observe)]
        self.controllers: list[Controller[Any]] = []
        if start:
            self.start()

    def start(self) -> None:
        """Let controllers, kubelet, gateway, traffic and Prometheus begin."""
        interval, lag, era, with_gateway, pod_metrics = self._options
        self.controllers = [kind(self.cluster) for kind in _KINDS]
        self.kubelet = Kubelet(self.cluster, self.runtime)
        self.gateway = Gateway(self.cluster, lag)
        if with_gateway:
            self.controllers.append(self.gateway)
            self.create(manifests.gateway_class())
            self.create(manifests.gateway(*manifests.GATEWAY))
        else:
            self.gateway.stop()
        self.traffic = Traffic(
            self.cluster,
            self.gateway,
            self.virtual.servers,
            era=era,
            gateway_name=manifests.GATEWAY,
            pod_metrics=pod_metrics,
        )
        self.virtual.before_change.append(self.traffic.changed)
        self.prometheus = Prometheus(self.traffic.scrape, self.wall, interval=interval)
        if with_gateway:
            self.prometheus.start()

    async def close(self) -> None:
        """End everything.  Raises what went wrong inside the simulation."""
        self.prometheus.stop()
        self.traffic.stop()
        for controller in self.controllers:
            controller.stop()
        await self.kubelet.stop()
        for end in self._ends:
            end()
        self.check()

    async def __aenter__(self) -> Self:
        """A world for the length of a block."""
        return self

    async def __aexit__(self, *_args: object) -> None:
        """Close it."""
        await self.close()

    # --- what people and pipelines do -------------------------------------------------------------

    def create(self, manifest: JsonObject) -> JsonObject:
        """Create any object.  Raises ApiError, and KeyError for a kind that is not served."""
        served = resource_of_kind(manifest["apiVersion"], manifest["kind"])
        if served is None:
            raise KeyError(manifest["kind"])
        return self.store.create(served, manifest["metadata"].get("namespace"), manifest)

    async def deploy(self, namespace: str, name: str, **how: Any) -> JsonObject:
        """Create a Deployment (see :func:`manifests.deployment`) and wait until it is available."""
        made = self.create(manifests.deployment(namespace, name, **how))
        await self.settle()
        return made

    async def service(self, namespace: str, name: str, **how: Any) -> JsonObject:
        """Create a Service (see :func:`manifests.service`) and wait for its endpoints."""
        made = self.create(manifests.service(namespace, name, **how))
        await self.settle()
        return made

    async def route(self, namespace: str, name: str, **how: Any) -> JsonObject:
        """Create a route (see :func:`manifests.route`) and wait until it is in force."""
        made = self.create(manifests.route(namespace, name, **how))
        await self.settle()
        return made

    async def shop(
        self,
        *,
        rate: float = 100.0,
        direct_rate: float = 0.0,
        name: str = "checkout",
        route: bool = True,
        **how: Any,
    ) -> None:
        """The usual scene: Deployment, Service and HTTPRoute in ``shop``, with clients.

        Without ``route`` all clients call the Service directly, ``rate`` and ``direct_rate`` alike.
        """
        self.create(manifests.deployment("shop", name, **how))
        self.create(manifests.service("shop", name))
        if not route:
            rate, direct_rate = 0.0, rate + direct_rate
        else:
            self.create(manifests.route("shop", name))
        await self.settle()
        if rate:
            self.traffic.through(("shop", name), rate)
        if direct_rate:
            self.traffic.direct(("shop", name), direct_rate)

    def edit(
        self, kind: str, namespace: str | None, name: str, change: Callable[[JsonObject], object]
    ) -> JsonObject:
        """Change an object, as ``kubectl edit`` does.  Raises KeyError if it is absent."""
        found = self.store.get(kind, namespace, name)
        if found is None:
            raise KeyError(f"{kind} {namespace}/{name}")
        change(found)
        return self.store.update(kind, found)

    def set_image(
        self,
        namespace: str,
        name: str,
        image: str,
        env: Mapping[str, object] | None = None,
        *,
        kind: str = "deployments",
    ) -> JsonObject:
        """Give a Deployment a new image, and new environment variables if they are named."""

        def change(found: JsonObject) -> None:
            container = found["spec"]["template"]["spec"]["containers"][0]
            container["image"] = image
            if env is not None:
                container["env"] = manifests.env_list(env)

        return self.edit(kind, namespace, name, change)

    def annotate(
        self,
        namespace: str,
        name: str,
        notes: Mapping[str, str | None],
        *,
        kind: str = "deployments",
    ) -> JsonObject:
        """Set annotations, and remove those that are None."""

        def change(found: JsonObject) -> None:
            have = found["metadata"].setdefault("annotations", {})
            for key, value in notes.items():
                if value is None:
                    have.pop(key, None)
                else:
                    have[key] = value

        return self.edit(kind, namespace, name, change)

    def scale(self, namespace: str, name: str, replicas: int) -> JsonObject:
        """Scale a Deployment."""
        return self.edit(
            "deployments", namespace, name, lambda found: found["spec"].update(replicas=replicas)
        )

    def delete(
        self, kind: str, namespace: str | None, name: str, *, propagation: str = "Background"
    ) -> None:
        """Delete an object.  Raises ApiError."""
        self.store.delete(kind, namespace, name, propagation=propagation)

    # --- time -------------------------------------------------------------------------------------

    async def settle(self, *, quiet: float = 1.0, within: float = 600.0) -> None:
        """Wait until nothing has moved for ``quiet`` seconds.

        Raises TimeoutError after ``within`` seconds, and whatever went wrong in the simulation.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while True:
            await asyncio.sleep(max(0.01, min(quiet, self._moved_at + quiet - loop.time())))
            if loop.time() - self._moved_at >= quiet - 1e-6 and not self.busy:
                break
            if loop.time() >= deadline:
                raise TimeoutError(f"the world is still moving after {within} s")
        self.check()

    async def until(
        self, question: Callable[[], object], *, within: float = 600.0, every: float = 0.05
    ) -> float:
        """Wait until ``question()`` is true and return the seconds that took.

        Raises TimeoutError after ``within`` seconds.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        while not question():
            if loop.time() - begin >= within:
                raise TimeoutError(f"still not so after {within} s")
            await asyncio.sleep(every)
        return loop.time() - begin

    @property
    def busy(self) -> bool:
        """Whether something is about to happen by itself within a second."""
        return (
            self.kubelet.busy
            or self.gateway.programming
            or any(controller.busy_within(1.0) for controller in self.controllers)
        )

    def check(self) -> None:
        """Raise what went wrong inside the simulation, if anything did."""
        if self.cluster.errors:
            raise self.cluster.errors[0]

    def _observe(self, event: Event) -> None:
        if event.resource.plural in _MOVING:
            self._moved_at = self.cluster.loop.time()

    # --- what became of it ------------------------------------------------------------------------

    def get(self, kind: str, namespace: str | None, name: str) -> JsonObject:
        """A copy of an object.  Raises KeyError if it is not there."""
        found = self.store.get(kind, namespace, name)
        if found is None:
            raise KeyError(f"{kind} {namespace}/{name}")
        return found

    def pods(self, namespace: str = "shop", version: str | None = None) -> list[JsonObject]:
        """The pods of a namespace, or of one version, that are not being deleted."""
        return [
            pod
            for pod in self.store.list("pods", namespace)
            if not deleting(pod) and (version is None or version_of(pod) == version)
        ]

    def ready_pods(self, version: str | None = None, namespace: str = "shop") -> int:
        """How many pods are ready."""
        return sum(1 for pod in self.pods(namespace, version) if pod_ready(pod))

    def weights(
        self, route: str, namespace: str = "shop", *, kind: str = "httproutes", rule: int = 0
    ) -> dict[str, int]:
        """The weights that a route asks for, by name of the Service."""
        refs = self.get(kind, namespace, route)["spec"]["rules"][rule].get("backendRefs") or ()
        return {ref["name"]: int(ref.get("weight", 1)) for ref in refs}

    def in_force(
        self, route: str, namespace: str = "shop", *, kind: str = "httproutes", rule: int = 0
    ) -> dict[str, int]:
        """The weights that the data plane obeys now."""
        return self.gateway.weights((kind, namespace, route), rule)

    @property
    def failures(self) -> Counter[Cause]:
        """Requests that failed by how traffic was moved, and not by any version, by cause."""
        return self.traffic.failures()

    def answered(self) -> Counter[str]:
        """Answers by version, good and bad ones."""
        self.traffic.advance()
        found: Counter[str] = Counter()
        for outcome, count in self.traffic.outcomes.items():
            if outcome.version:
                found[outcome.version] += count
        return found
