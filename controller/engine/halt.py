# SPDX-License-Identifier: Apache-2.0
"""The kill switch: persist the latch, weight 0 everywhere, read back, only then say so.

It waits for no tick, no leader, no metrics store and no journal. If the latch cannot be persisted
the routes are still written, and the answer says what is missing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from controller.core import errors
from controller.core.effects import Confine, PinService, SplitRef
from controller.core.lifecycle.machine import after_commit
from controller.core.lifecycle.memory import Memory, Run
from controller.core.lifecycle.situation import Request, Verb
from controller.core.lifecycle.table import EXPOSED, Phase
from controller.core.observation import Latches
from controller.core.policy.model import Traffic
from controller.core.values import CANARY_TRACK, HASH_LABEL, TRACK_LABEL, canary_name
from controller.engine.desk import MOST_REQUESTS, Card, Desk
from controller.engine.loop import Loop
from controller.engine.meters import Meters
from controller.engine.observe import Observer
from controller.ports.clock import Clock
from controller.ports.cluster import Cluster
from controller.ports.documents import Documents

LOOK_SECONDS: Final = 0.5
"""How often the acknowledgement looks again: each look reads every route of the scope."""

GRACE_SECONDS: Final = 3.0
"""How much longer than asked an answer may take when the API server hangs."""

LATCH_SECONDS: Final = 3.0
"""Longest that the routes wait for the latch; a healthy API server takes some 0.01 s for it."""

FOLLOWING: Final = frozenset({Phase.COMMITTING, Phase.ROLLING_BACK})
"""Phases before the commit, or back from there, in which a Service may select the canary."""

OPEN: Final = EXPOSED | {Phase.ROLLING_BACK}
"""Phases in which a Service may lead to canary pods beside the others, where no route does."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """How far a kill has come."""

    scope: str
    latched: bool
    """The latch is persisted."""
    in_force: bool
    """Every route reads back 0, and the gateways have had their settling time."""
    pending: tuple[str, ...] = ()
    """What still carries requests, in words."""
    problems: tuple[str, ...] = field(default=())


@dataclass(slots=True, kw_only=True)
class _Course:
    """A kill under way, as far as it has come."""

    scope: str
    actor: str
    reason: str
    latched: bool = False
    in_force: bool = False
    pending: tuple[str, ...]
    problems: list[str] = field(default_factory=list)

    def halt(self) -> Halt:
        """What can be said of it now."""
        return Halt(
            scope=self.scope,
            latched=self.latched,
            in_force=self.in_force,
            pending=self.pending,
            problems=tuple(self.problems),
        )


class Killer:
    """Engages the latch and brings weight to 0."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        documents: Documents,
        clock: Clock,
        desk: Desk,
        loop: Loop,
        meters: Meters,
        settle_seconds: float,
    ) -> None:
        """`settle_seconds`: how long a gateway may take from a write to its effect."""
        self._cluster = cluster
        self._documents = documents
        self._clock = clock
        self._desk = desk
        self._loop = loop
        self._meters = meters
        self._settle = settle_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    async def kill(self, scope: str, *, actor: str, reason: str, wait_seconds: float) -> Halt:
        """Stop everything in the scope; returns in force, or as far as it came in the wait.

        An API server that hangs delays the answer by `GRACE_SECONDS` at most; the writes go on.
        """
        self._meters.killed()
        log.warning("kill", scope=scope, actor=actor, reason=reason)
        targets = [str(card.target) for card in self._cards(scope)] or ["the API server"]
        unread = tuple(f"{item}: could not be read back so far" for item in targets)
        course = _Course(scope=scope, actor=actor, reason=reason, pending=unread)
        task = asyncio.create_task(self._follow(course, wait_seconds), name=f"kill {scope}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        # Not `wait_for`: whoever asked may leave, and the writes go on all the same.
        await asyncio.wait({task}, timeout=wait_seconds + GRACE_SECONDS)
        if task.done():
            task.result()
        else:
            late = f"the API server has not answered within {wait_seconds + GRACE_SECONDS:g} s"
            course.problems.append(f"{late}; the writes go on")
        return course.halt()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a kill ended early", why=str(task.exception()))

    async def _follow(self, course: _Course, wait_seconds: float) -> None:
        """Latch, zero, and read back until it is in force or the wait is over."""
        scope = course.scope
        course.latched = await self._latch(course)
        if not course.latched:
            self._abort(scope, actor=course.actor, reason=course.reason)
        exposed = await self._zero(scope, course.problems)
        written = zero_since = self._clock.monotonic()
        self._loop.wake_all()
        while True:
            course.pending = await self._pending(scope)
            now = self._clock.monotonic()
            if course.pending:
                # The gateways' settling time begins when the last route reads 0, not before:
                # after the commit that is long after the kill.
                exposed, zero_since = True, now
            settled = not exposed or now - zero_since >= self._settle
            course.in_force = course.latched and not course.pending and settled
            if course.in_force or now - written >= wait_seconds:
                return
            await self._clock.sleep(LOOK_SECONDS)

    async def _latch(self, course: _Course) -> bool:
        problems = course.problems
        scope, actor, reason = course.scope, course.actor, course.reason
        try:
            async with asyncio.timeout(LATCH_SECONDS):
                await self._documents.engage(scope, actor=actor, reason=reason)
        except errors.SwitchgearError as error:
            problems.append(f"the latch could not be persisted: {error.diagnostics()}")
            return False
        except TimeoutError:
            problems.append(f"the latch could not be persisted: no answer in {LATCH_SECONDS:g} s")
            return False
        return True

    def _abort(self, scope: str, *, actor: str, reason: str) -> None:
        """Without a latch at least the runs of this process end, or they would rise again."""
        for card in self._cards(scope):
            if len(card.requests) < MOST_REQUESTS:
                request = Request(id="kill", verb=Verb.ABORT, actor=actor, reason=reason)
                card.requests.append(request)

    def _cards(self, scope: str) -> list[Card]:
        latch = Latches(kills=(scope,))
        return [
            card
            for card in self._desk.running()
            if latch.kill_for(card.target.namespace, card.target.name)
        ]

    def _memories(self, scope: str) -> list[Memory]:
        return [card.memory for card in self._cards(scope) if card.memory is not None]

    async def _zero(self, scope: str, problems: list[str]) -> bool:
        splits: list[SplitRef] = []
        going = [memory for memory in self._memories(scope) if not after_commit(memory.phase)]
        for memory in going:
            view = self._cluster.view(memory.run.target)
            splits.extend(Observer.splits(view, memory.run))
        by_pods = [memory.run for memory in going if memory.run.traffic is Traffic.REPLICAS]
        if not splits and not by_pods:
            return False
        repinned = [self._repin(memory, problems) for memory in going]
        confined = [self._confine(run, problems) for run in by_pods]
        await asyncio.gather(self._write(splits, problems), *repinned, *confined)
        return True

    async def _confine(self, run: Run, problems: list[str]) -> None:
        """Where the number of pods splits the requests, the Services lead to stable alone."""
        names = tuple(pin.service for pin in run.pins)
        effect = Confine(target=run.target, services=names, hash=run.stable_hash)
        try:
            await self._cluster.perform(effect)
        except errors.SwitchgearError as error:
            problems.append(f"{run.target}: Services not confined: {error.diagnostics()}")

    async def _write(self, splits: Sequence[SplitRef], problems: list[str]) -> None:
        try:
            await self._cluster.zero(splits)
        except errors.SwitchgearError as error:
            problems.append(f"not every route could be written: {error.diagnostics()}")

    async def _repin(self, memory: Memory, problems: list[str]) -> None:
        """In the commit the Services follow the canary: there weight 0 alone would lead to it."""
        if memory.phase not in FOLLOWING:
            return
        run = memory.run
        for pin in run.pins:
            effect = PinService(
                target=run.target,
                name=pin.service,
                uid="",
                original=pin.original,
                key=HASH_LABEL,
                value=run.stable_hash,
            )
            try:
                await self._cluster.perform(effect)
            except errors.Missing:
                continue
            except errors.SwitchgearError as error:
                problems.append(f"{pin.service} could not be pinned: {error.diagnostics()}")

    async def _pending(self, scope: str) -> tuple[str, ...]:
        """Routes that do not read back 0, and runs whose stable pods are not back yet."""
        waiting: list[str] = []
        if not self._desk.known:
            waiting.append("the runs are not known yet: the controller has just started")
        memories = self._memories(scope)
        for memory, found in zip(
            memories,
            await asyncio.gather(*(self._shares(memory) for memory in memories)),
            strict=True,
        ):
            target = memory.run.target
            if after_commit(memory.phase):
                waiting.append(f"{target}: stable pods are coming back ({memory.phase.value})")
            else:
                waiting.extend(f"{target}: {words}" for words in self._following(memory))
            waiting.extend(f"{target}: {words}" for words in found)
        return tuple(waiting)

    def _following(self, memory: Memory) -> Sequence[str]:
        """Services that lead to the canary by themselves.

        Read from the watch: the settling time that follows lets it show a write under way.
        """
        run = memory.run
        ours = {pin.service for pin in run.pins}
        by_pods = run.traffic is Traffic.REPLICAS and memory.phase in OPEN
        return [
            f"Service {service.name} still selects the canary pods"
            for service in self._cluster.view(run.target).services
            if service.name in ours
            and (
                (TRACK_LABEL, CANARY_TRACK) in service.selector
                or (by_pods and (HASH_LABEL, run.stable_hash) not in service.selector)
            )
        ]

    async def _shares(self, memory: Memory) -> Sequence[str]:
        lanes = memory.run.lanes
        refs = list(dict.fromkeys(lane.route for lane in lanes))
        if not refs or after_commit(memory.phase):
            return ()
        names = [name for lane in lanes for name in (lane.service, canary_name(lane.service))]
        try:
            routes = await self._cluster.read_routes(refs, names)
        except errors.Missing:
            return ()
        except errors.SwitchgearError as error:
            return (f"its route could not be read back: {error.message}",)
        return [
            f"{route.ref} still gives the canary {share / 100:g} %"
            for route in routes
            for lane in lanes
            if route.ref == lane.route
            and (share := route.share_bp(lane.service, canary_name(lane.service))) > 0
        ]
