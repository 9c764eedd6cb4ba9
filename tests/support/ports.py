# SPDX-License-Identifier: Apache-2.0
"""Small worlds behind the engine's ports, for tests of the order of I/O itself.

Each call waits for its turn first, so that a test can walk through every interleaving of two tasks.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from controller.core import errors
from controller.core.effects import Effect, RaiseWeight, SplitRef
from controller.core.observation import (
    Backend,
    Deployment,
    Latches,
    Pod,
    Preflight,
    Route,
    Service,
    View,
)
from controller.core.values import RouteRef, TargetRef
from controller.ports.cluster import Claim, ObjectRef
from controller.ports.documents import Document

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="test")

REF = RouteRef("HTTPRoute", "shop", "checkout")
TARGET = TargetRef("shop", "checkout")
CANARY = Deployment(
    name="checkout-canary",
    uid="d2",
    version="1",
    generation=1,
    observed_generation=1,
    replicas=1,
    paused=False,
    strategy="RollingUpdate",
    digest="e",
    selector=(),
    pod_labels=(),
    ready=1,
    ours=True,
)
SPLIT = SplitRef(route=REF, uid="r1", service="checkout", canary="checkout-canary")


class Turns:
    """Lets one of several tasks go on at a time, as a schedule says."""

    def __init__(self, schedule: Sequence[int] = ()) -> None:
        """`schedule` picks, turn by turn, among those who wait (in the order of their names)."""
        self._schedule = list(schedule)
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self.choices: list[int] = []
        """How many could have gone on, turn by turn."""

    async def take(self) -> None:
        """Wait for the next turn of the present task."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[WHO.get()] = turn
        await turn

    async def play(self, **tasks: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
        """Run the named tasks to their ends and return what they returned."""
        running = {}
        for name, work in tasks.items():
            token = WHO.set(name)
            running[name] = asyncio.ensure_future(work())
            WHO.reset(token)
        while not all(task.done() for task in running.values()):
            for _ in range(20):
                await asyncio.sleep(0)
            if not self._waiting:
                continue
            names = sorted(self._waiting)
            turn = len(self.choices)
            pick = self._schedule[turn] if turn < len(self._schedule) else 0
            self.choices.append(len(names))
            self._waiting.pop(names[pick]).set_result(None)
        return {name: task.result() for name, task in running.items()}


async def every_interleaving(play: Callable[[Turns], Awaitable[None]], *, most: int = 5_000) -> int:
    """Play all schedules by depth-first search; returns how many there were."""
    schedule: list[int] = []
    count = 0
    while True:
        turns = Turns(schedule)
        await play(turns)
        count += 1
        assert count <= most, "more interleavings than the test foresees"
        picks = schedule + [0] * (len(turns.choices) - len(schedule))
        while picks and picks[-1] + 1 >= turns.choices[len(picks) - 1]:
            picks.pop()
        if not picks:
            return count
        picks[-1] += 1
        schedule = picks


@dataclass
class MemoryCluster:
    """One route with a version, as the API server would guard it."""

    turns: Turns
    weight_bp: int = 0
    version: int = 1
    history: list[int] = field(default_factory=list)
    held: int | None = 1
    """The epoch that the route carries."""
    moved: Callable[[int], None] = lambda _: None
    """Told of each new weight."""

    def route(self) -> Route:
        """The route now."""
        return Route(
            ref=REF,
            uid="r1",
            version=str(self.version),
            generation=self.version,
            accepted=True,
            backends=(
                Backend(rule=0, index=0, service="checkout", weight=10_000 - self.weight_bp),
                Backend(rule=0, index=1, service="checkout-canary", weight=self.weight_bp),
            ),
        )

    def _write(self, weight_bp: int) -> None:
        if weight_bp != self.weight_bp:
            # What changes nothing moves no version, as with the real API server.
            self.version += 1
        self.weight_bp = weight_bp
        self.history.append(weight_bp)
        self.moved(weight_bp)

    def targets(self) -> Sequence[TargetRef]:
        """The one target."""
        return (TARGET,)

    def view(self, target: TargetRef, services: Collection[str] = ()) -> View:
        """Only the route is looked at."""
        del target, services
        return View(deployment=None, routes=(self.route(),))

    def subscribe(self, changed: Callable[[TargetRef], None]) -> None:
        """Nobody is told."""

    async def preflight(self, target: TargetRef) -> Preflight:
        """Nothing special."""
        del target
        return Preflight()

    async def read_routes(self, refs: Sequence[RouteRef], services: Sequence[str]) -> list[Route]:
        """A quorum read."""
        del refs, services
        await self.turns.take()
        return [self.route()]

    async def read_services(self, namespace: str, names: Collection[str]) -> list[Service]:
        """None: the run has no pins."""
        del namespace, names
        return []

    async def read_pods(self, target: TargetRef, hashes: Sequence[str]) -> tuple[Pod, ...]:
        """None beside stable's and the canary's."""
        del target, hashes
        return ()

    async def read_endpoints(
        self, namespace: str, services: Collection[str]
    ) -> dict[str, frozenset[str]]:
        """None: the run has no pins."""
        del namespace, services
        return {}

    async def read_annotations(self, target: TargetRef) -> dict[str, str]:
        """None of ours."""
        del target
        return {}

    async def read_claims(self, refs: Sequence[ObjectRef]) -> list[Claim]:
        """The route's."""
        await self.turns.take()
        return [
            Claim(ref=ref, version=str(self.version), epoch=self.held, bare=False)
            for ref in refs
            if ref.kind == REF.kind
        ]

    async def claim(self, claim: Claim, epoch: int) -> None:
        """A compare-and-set of the epoch."""
        await self.turns.take()
        if claim.version != str(self.version):
            message = "the route moved"
            raise errors.Conflict(message)
        self.held = epoch
        self.version += 1

    async def perform(
        self, effect: Effect, expected: Sequence[Route] = (), *, epoch: int | None = None
    ) -> str:
        """A compare-and-set of the weight."""
        assert isinstance(effect, RaiseWeight)
        await self.turns.take()
        if epoch is not None and epoch != self.held:
            message = "another epoch"
            raise errors.Conflict(message)
        if [route.version for route in expected] != [str(self.version)]:
            message = "the route moved"
            raise errors.Conflict(message)
        self._write(effect.weight_bp)
        return "written"

    async def zero(self, splits: Sequence[SplitRef]) -> None:
        """Weight 0 without a precondition."""
        del splits
        await self.turns.take()
        self._write(0)

    async def tell(self, target: TargetRef, *, reason: str, message: str, warning: bool) -> None:
        """Nobody is told."""


@dataclass
class MemoryDocuments:
    """Run documents, latches and the epoch, in memory."""

    turns: Turns
    state: Latches = field(default_factory=lambda: Latches(epoch=1))
    texts: dict[str, Mapping[str, str]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def _document(self, name: str) -> Document:
        return Document(
            name=name, version=str(self.versions[name]), texts=self.texts[name], labels={}
        )

    async def runs(self) -> Sequence[Document]:
        """All of them."""
        return [self._document(name) for name in self.texts]

    async def read(self, name: str) -> Document:
        """One of them."""
        if name not in self.texts:
            raise errors.Missing(name)
        return self._document(name)

    async def create(self, name: str, texts: Mapping[str, str], target: TargetRef) -> Document:
        """A new one."""
        del target
        if name in self.texts:
            raise errors.Conflict(name)
        self.texts[name], self.versions[name] = dict(texts), 1
        return self._document(name)

    async def replace(self, document: Document, texts: Mapping[str, str]) -> Document:
        """Compare-and-set."""
        if str(self.versions.get(document.name)) != document.version:
            raise errors.Conflict(document.name)
        self.texts[document.name] = dict(texts)
        self.versions[document.name] += 1
        return self._document(document.name)

    async def delete(self, document: Document) -> None:
        """Gone."""
        self.texts.pop(document.name, None)

    async def latches(self) -> Latches:
        """A quorum read."""
        await self.turns.take()
        return self.state

    def latches_seen(self) -> Latches:
        """The same, not fresh."""
        return self.state

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Nobody is told."""

    async def engage(self, scope: str, *, actor: str, reason: str) -> None:
        """Persist the latch."""
        del actor, reason
        await self.turns.take()
        self.state = replace(self.state, kills=(*self.state.kills, scope))

    async def release(self, scope: str) -> None:
        """Lift it."""
        kept = tuple(kill for kill in self.state.kills if kill != scope)
        self.state = replace(self.state, kills=kept)

    async def claim_epoch(self) -> int:
        """One more."""
        await self.turns.take()
        self.state = replace(self.state, epoch=self.state.epoch + 1)
        return self.state.epoch

    async def open_fleet_breaker(self, why: str) -> None:
        """Latched."""
        self.state = replace(self.state, fleet_open=why)

    async def close_fleet_breaker(self) -> None:
        """Closed."""
        self.state = replace(self.state, fleet_open="")


class StillClock:
    """Time that moves only when somebody sleeps."""

    def __init__(self) -> None:
        """Start at an arbitrary moment."""
        self._now = 1_000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self._now

    def stamp(self) -> str:
        """The same moment, for people."""
        return f"2026-01-01T00:{int(self._now) // 60 % 60:02}:{int(self._now) % 60:02}.000Z"

    async def sleep(self, seconds: float) -> None:
        """Jump ahead."""
        self._now += seconds

    def jitter(self) -> float:
        """No chance here."""
        return 0.5
