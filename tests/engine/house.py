# SPDX-License-Identifier: Apache-2.0
"""The real engine over real adapters, in a simulated world and in virtual time.

Only the two seams are swapped: the wire to the API server ends in the simulated one, the transport
to Prometheus in the simulated store. `House` starts, kills and restarts the controller.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from controller.adapters.clock import LoopClock
from controller.adapters.kube.cache import Cache, Only
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.cluster import KubeCluster
from controller.adapters.kube.documents import KubeDocuments
from controller.adapters.kube.lease import KubeLease
from controller.adapters.kube.wire import Request
from controller.adapters.prometheus import providers
from controller.adapters.prometheus.client import Prometheus
from controller.app.assembly import Engine, assemble
from controller.core.errors import Unavailable
from controller.core.journal import chain
from controller.engine.leader import LEASE_SECONDS, Leader
from controller.engine.ledger import read_head
from controller.engine.observe import Bounds
from controller.sim.apiserver.store import Event
from controller.sim.world import World
from tests.support.simprom import SimPrometheus
from tests.support.simwire import SimWire

NAMESPACE = "switchgear"
POLICY = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/steps": "5@20s,25@20s",
    "switchgear.dev/bake": "20s",
}
BOUNDS = Bounds(settle_seconds=2.5, drain_seconds=3.0, ready_seconds=120.0, roll_seconds=300.0)


class House:
    """One controller in one world."""

    def __init__(
        self,
        world: World,
        bounds: Bounds = BOUNDS,
        *,
        routed: bool = True,
        replica: str = "",
        only: Only | None = None,
    ) -> None:
        """Nothing runs until `start`. A `replica` has a name, and competes for the lease.

        With `only` it is a sidecar of one target, which keeps its documents beside it.
        """
        self.only = only
        self.home = only.target.namespace if only else NAMESPACE
        self.world = world
        self.routed = routed
        self.bounds = bounds
        self.replica = replica
        self.wire = SimWire(world.api)
        self.leader: Leader | None = None
        self._task: asyncio.Task[None] | None = None
        self.engine: Engine | None = None

    async def start(self) -> Engine:
        """Start a new process, so to say: nothing is remembered but what the cluster holds."""
        # Renewals of a lease are told apart by their stamps, which virtual time has to move.
        clock = LoopClock(wall=self.world.wall.timestamp) if self.replica else LoopClock()
        agent = f"switchgear/{self.replica or 'test'}"
        self.wire = SimWire(self.world.api, agent=agent)
        calls = Calls(self.wire, clock)
        cluster = KubeCluster(calls, cache=Cache(self.only))
        documents = KubeDocuments(calls, self.home, self.only.target if self.only else None)
        metrics = Prometheus(
            "http://prometheus",
            providers.choose(["traefik", "application"]),
            now=self.world.wall.timestamp,
            transport=SimPrometheus(self.world.prometheus),
        )
        engine = assemble(
            cluster=cluster,
            documents=documents,
            metrics=metrics,
            clock=clock,
            bounds=self.bounds,
        )
        self.engine = engine
        run = engine.run
        if self.replica:
            self.leader = leader = self._competing(calls, engine)
            run = leader.run

        async def life() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(cluster.run())
                group.create_task(documents.run())
                while not (cluster.synced and documents.synced):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                group.create_task(run())

        self._task = asyncio.ensure_future(life())
        return engine

    def _competing(self, calls: Calls, engine: Engine) -> Leader:
        lease = KubeLease(
            calls,
            namespace=NAMESPACE,
            name="switchgear",
            identity=f"{self.replica}_{id(engine)}",
            address=f"{self.replica}:8340",
            seconds=LEASE_SECONDS,
        )
        leader = Leader(lease=lease, clock=engine.clock, term=engine.run, meters=engine.meters)
        engine.led_by(leader)
        return leader

    @property
    def leads(self) -> bool:
        """Whether this replica acts."""
        return self.leader is not None and self.leader.leading

    def die(self) -> None:
        """The process is gone in this moment, and nothing that it would still say gets out."""

        def silence(request: Request) -> None:
            raise Unavailable(f"{request.path}: nobody is there any more")

        assert self.engine is not None
        # Nor does it finish what it has begun.
        self.engine.loop.ours = lambda: False
        self.wire.before.append(silence)
        self.cancel()

    async def crash(self) -> None:
        """The process is gone, as if by `die`."""
        self.die()
        await self.stop()

    def cancel(self) -> None:
        """The process is asked to end."""
        assert self._task is not None
        self._task.cancel()

    async def stop(self) -> None:
        """The process ends in good order; a replica gives its lease back."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, BaseExceptionGroup):
                await self._task
            self._task = None

    # --- what became of it ---------------------------------------------------------------------

    def documents(self) -> list[dict[str, Any]]:
        """Every run document, by name."""
        found = self.world.store.list("configmaps", self.home)
        target = {"switchgear.dev/target-name": self.only.target.name} if self.only else {}
        return [
            item
            for item in found
            if "journal" in (item.get("data") or {})
            and target.items() <= (item["metadata"].get("labels") or {}).items()
        ]

    def runs(self) -> list[dict[str, Any]]:
        """The durable state of every run, in the order of their beginnings."""
        found = self.documents()
        found.sort(key=lambda item: json.loads(item["data"]["journal"].splitlines()[0])["at"])
        return [json.loads(item["data"]["state"]) for item in found]

    def outcome(self) -> str:
        """How the newest run ended, or an empty text."""
        runs = self.runs()
        return str(runs[-1]["outcome"]) if runs else ""

    def journal(self) -> list[dict[str, Any]]:
        """The records of the newest run."""
        found = self.documents()
        found.sort(key=lambda item: json.loads(item["data"]["journal"].splitlines()[0])["at"])
        lines = chain.lines_of(found[-1]["data"]["journal"])
        assert chain.verify(lines, read_head(found[-1]["data"])) == []
        return [json.loads(line) for line in lines]

    def _brief(self) -> list[tuple[str, str, str]]:
        return [(run["phase"], run["outcome"], run["reason"]) for run in self.runs()]

    async def until(self, done: Callable[[], bool], within: float = 900.0) -> None:
        """Let virtual time pass until something is so."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while not done():
            assert loop.time() < end, f"not so within {within:.0f} s: {self._brief()}"
            await asyncio.sleep(0.2)

    async def reaches(self, phase: str, within: float = 900.0) -> None:
        """Wait for the very write that makes a phase durable, however short the phase is."""
        reached = asyncio.Event()

        def look(event: Event) -> None:
            state = (event.obj.get("data") or {}).get("state")
            if not state or event.resource.plural != "configmaps":
                return
            if json.loads(state)["phase"] == phase:
                reached.set()

        end = self.world.store.subscribe(look)
        try:
            runs = self.runs()
            if not (runs and runs[-1]["phase"] == phase):
                await asyncio.wait_for(reached.wait(), within)
        finally:
            end()

    async def ended(self, outcome: str, within: float = 900.0) -> None:
        """Wait until the newest run has this outcome and rests."""
        await self.until(
            lambda: self.outcome() == outcome and self.runs()[-1]["phase"] in {"Held", "Ended"},
            within,
        )
        await asyncio.sleep(2)

    def at_rest(self, name: str = "checkout", *, paused: bool = False) -> None:
        """Nothing of ours is left in the user's objects of this name."""
        world = self.world
        assert world.get("services", "shop", name)["spec"]["selector"] == {"app": name}
        assert "switchgear.dev/original" not in json.dumps(world.get("services", "shop", name))
        if self.routed:
            route = world.get("httproutes", "shop", name)
            backends = route["spec"]["rules"][0]["backendRefs"]
            assert [(item["name"], item.get("weight", 1)) for item in backends] == [(name, 1)]
            assert "switchgear.dev" not in json.dumps(route["metadata"].get("annotations", {}))
        names = {item["metadata"]["name"] for item in world.store.list("deployments", "shop")}
        assert f"{name}-canary" not in names
        names = {item["metadata"]["name"] for item in world.store.list("services", "shop")}
        assert f"{name}-canary" not in names
        deployment = world.get("deployments", "shop", name)
        assert bool(deployment["spec"].get("paused", False)) is paused
        left = {
            key.removeprefix("switchgear.dev/") for key in deployment["metadata"]["annotations"]
        }
        assert paused or "epoch" not in left


@contextlib.asynccontextmanager
async def house(
    *,
    rate: float = 400.0,
    direct_rate: float = 0.0,
    seed: int = 1,
    start: bool = True,
    route: bool = True,
    only: Only | None = None,
    **how: Any,
) -> AsyncIterator[House]:
    """The usual scene with a controller that has adopted the target `shop/checkout`.

    Without `route` the clients call the Service directly, and the pods count what they answer.
    """
    async with World(
        seed=seed, namespaces=("shop", NAMESPACE), scrape_interval=1.0, pod_metrics=not route
    ) as world:
        annotations = how.pop("annotations", POLICY)
        await world.shop(
            rate=rate, direct_rate=direct_rate, route=route, annotations=annotations, **how
        )
        found = House(world, routed=route, only=only)
        if start:
            await found.start()
            await found.until(
                lambda: (
                    "switchgear.dev/managed"
                    in world.get("deployments", "shop", "checkout")["metadata"]["annotations"]
                ),
                within=30,
            )
        try:
            yield found
        finally:
            await found.stop()
