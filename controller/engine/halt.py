# SPDX-License-Identifier: Apache-2.0
"""The kill switch: persist the latch, weight 0 everywhere, read back, only then say so.

It waits for no tick, no leader, no metrics store and no journal. If the latch cannot be persisted
the routes are still written, and the answer says what is missing.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from controller.core import errors
from controller.core.effects import SplitRef
from controller.core.lifecycle import exposure
from controller.core.lifecycle.machine import after_commit
from controller.core.lifecycle.memory import Run, split_of
from controller.core.lifecycle.situation import Request, Verb
from controller.core.lifecycle.table import Phase
from controller.core.observation import Latches
from controller.core.values import TargetRef, canary_name
from controller.engine import claims
from controller.engine.desk import MOST_REQUESTS, Card, Desk
from controller.engine.loop import Loop
from controller.engine.meters import Meters
from controller.engine.quiet import Quiet
from controller.engine.records import Records, unusable
from controller.ports import trail
from controller.ports.clock import Clock
from controller.ports.cluster import Cluster
from controller.ports.documents import Documents

LOOK_SECONDS: Final = 0.5
"""How often the acknowledgement looks again, while anything is left to do."""

LOOK_SHARE: Final = 0.25
"""Of the time that looks take when only the gateways are waited for: each reads every route of the
scope, and the API server has the runs' ways back to serve meanwhile."""

ALONE_SECONDS: Final = 1.0
"""So long weight 0 goes before what stops raises on their way, which reads four objects per run. A
route that hangs holds up no longer what concerns the others."""

GRACE_SECONDS: Final = 4.0
"""How much longer than asked an answer may take when the API server hangs; a second more than the
latch may take, so that the answer can say what became of it."""

LATCH_SECONDS: Final = 3.0
"""Longest that the routes wait for the latch; a healthy API server takes some 0.01 s for it."""

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
    voided: bool = False
    """No raise that was on its way can arrive any more."""
    in_force: bool = False
    pending: tuple[str, ...]
    problems: list[str] = field(default_factory=list)
    unread: str = ""
    """Why the runs of another leader are not known; empty: they are."""
    read: list[Run] = field(default_factory=list)
    """Runs in the scope by their documents, while this process does not lead."""
    unreadable: Mapping[str, TargetRef | None] = field(default_factory=dict)
    """Documents that cannot be read then, and whose they seem to be."""
    quiet: Quiet = field(default_factory=Quiet)

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
        records: Records,
        settle: Callable[[Run], float],
    ) -> None:
        """`settle`: how many seconds a run's gateway may take from a write to its effect."""
        self._cluster = cluster
        self._documents = documents
        self._clock = clock
        self._desk = desk
        self._loop = loop
        self._meters = meters
        self._records = records
        self._settle = settle
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
        # The name of its writes in the API server's audit log, and in the journals of its runs. A
        # replica that stands by has no journal: there the latch alone says who stopped what.
        name = f"kill/{scope}/{self._clock.stamp()}"
        with trail.call(name) as sent:
            task = asyncio.create_task(self._follow(course, wait_seconds), name=f"kill {scope}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        # Not `wait_for`: whoever asked may leave, and the writes go on all the same.
        await asyncio.wait({task}, timeout=wait_seconds + GRACE_SECONDS)
        self._note(course, name, sent.writes)
        if task.done():
            task.result()
        else:
            late = f"the API server has not answered within {wait_seconds + GRACE_SECONDS:g} s"
            course.problems.append(f"{late}; the writes go on")
        return course.halt()

    def _note(self, course: _Course, name: str, writes: int) -> None:
        body = {
            "effect": "Kill",
            "scope": course.scope,
            "reason": course.reason,
            "call": name,
            "writes": writes,
        }
        for card in self._cards(course.scope):
            if card.ledger is not None:
                card.ledger.note("effect", body, actor=course.actor)

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
        await self._look(course)
        zeroing = asyncio.ensure_future(self._zeroed(course))
        await asyncio.wait({zeroing}, timeout=ALONE_SECONDS)
        await asyncio.gather(zeroing, self._void(course))
        written = self._clock.monotonic()
        self._loop.wake_all()
        while True:
            began, voided = self._clock.monotonic(), course.voided
            course.pending = await self._pending(course)
            now = self._clock.monotonic()
            # After the commit the last route reads 0 long after the kill.
            course.quiet.looked(now, pending=bool(course.pending), voided=voided)
            left = course.quiet.left(now)
            arrived = not course.voided and await self._void(course)
            if course.pending or arrived:
                # What failed before, what was not known then, what came before it could be stopped.
                await self._zero(course, [])
            zero = voided and not course.pending
            course.in_force = course.latched and zero and not left
            if course.in_force:
                return
            if now - written >= wait_seconds:
                if not course.pending and left:
                    course.pending = (f"the gateways have {left:.1f} s left to follow",)
                return
            pause = _pause(now - began, left if zero else 0.0)
            await self._clock.sleep(min(pause, written + wait_seconds - now))
            await self._look(course)

    async def _zeroed(self, course: _Course) -> None:
        """Weight 0, read back at once: the gateways' settling time may begin here."""
        failed: list[str] = []
        course.quiet.exposed = await self._zero(course, failed)
        course.problems += failed
        if not failed:
            course.pending = await self._pending(course)
        led = any(exposure.by_services(run) for run in self._runs(course))
        unknown = failed or led or course.pending or course.unread
        course.quiet.begin(self._clock.monotonic(), told=not unknown)

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
            if card.memory is not None and len(card.requests) < MOST_REQUESTS:
                request = Request(id="kill", verb=Verb.ABORT, actor=actor, reason=reason)
                card.requests.append(request)

    def _cards(self, scope: str) -> list[Card]:
        latch = Latches(kills=(scope,))
        return [
            card
            for card in self._desk.cards()
            if (card.memory is not None or card.frozen)
            and latch.kill_for(card.target.namespace, card.target.name)
        ]

    def _runs(self, course: _Course) -> list[Run]:
        """The runs in the scope: our own, or as their documents tell them."""
        if not self._desk.known:
            return course.read
        cards = self._cards(course.scope)
        runs = [card.memory.run if card.memory is not None else card.damaged for card in cards]
        return [run for run in runs if run is not None and run.phase is not Phase.ENDED]

    async def _look(self, course: _Course) -> None:
        """A replica that does not lead reads what the leader has written down."""
        if self._desk.known:
            course.unread = ""
            return
        try:
            found = (await self._records.fresh()).within(course.scope)
        except errors.SwitchgearError as error:
            course.unread = error.message
        else:
            course.unread, course.read, course.unreadable = "", found.active, found.unreadable

    async def _zero(self, course: _Course, problems: list[str]) -> bool:
        """Weight 0 in every route, and the Services on stable's pods; whether there was any."""
        runs = self._runs(course)
        settles = (self._settle(run) for run in runs)
        course.quiet.seconds = max(course.quiet.seconds, *settles, 0.0)
        going = [run for run in runs if not after_commit(run.phase)]
        splits = [split for run in going for split in self._splits(run)]
        led = [run for run in going if exposure.by_services(run)]
        if not splits and not led:
            return False
        confined = [self._confine(run, problems) for run in led]
        await asyncio.gather(self._write(splits, problems), *confined)
        return True

    def _splits(self, run: Run) -> list[SplitRef]:
        """Every lane of the run; one that no cache shows is read when it is written."""
        routes = {route.ref: route for route in self._cluster.view(run.target, run.services).routes}
        return [
            split_of(lane, routes[lane.route].backends if lane.route in routes else ())
            for lane in run.lanes
        ]

    async def _confine(self, run: Run, problems: list[str]) -> None:
        """The Services lead to stable alone: there weight 0 is not all, or there is no weight."""
        try:
            await self._cluster.perform(exposure.confine(run))
        except errors.SwitchgearError as error:
            problems.append(f"{run.target}: Services not confined: {error.diagnostics()}")

    async def _void(self, course: _Course) -> bool:
        """What a raise on its way would write is taken from its leader, or it might still arrive.

        After the latch, so that whoever claims it anew reads the latch before he raises. Not before
        the runs are known: of what nobody has read nothing could be taken.
        """
        if course.unread:
            return False
        refs = [
            ref
            for run in self._runs(course)
            # After the commit the way back begins with a decision of whoever leads.
            if not after_commit(run.phase)
            for ref in claims.of_run(run)
        ]
        words = "a raise may still be on its way"
        course.problems[:] = [text for text in course.problems if not text.startswith(words)]
        try:
            await claims.void(self._cluster, refs)
        except errors.SwitchgearError as error:
            course.problems.append(f"{words}: {error.diagnostics()}")
        else:
            course.voided = True
        return course.voided

    async def _write(self, splits: Sequence[SplitRef], problems: list[str]) -> None:
        try:
            await self._cluster.zero(splits)
        except errors.SwitchgearError as error:
            problems.append(f"not every route could be written: {error.diagnostics()}")

    async def _pending(self, course: _Course) -> tuple[str, ...]:
        """Routes that do not read back 0, and runs whose stable pods are not back yet."""
        waiting: list[str] = []
        if course.unread:
            waiting.append(f"the runs are not known yet: {course.unread}")
        waiting.extend(self._unusable(course))
        runs = self._runs(course)
        for run, shares, led in zip(
            runs,
            await asyncio.gather(*(self._shares(course, run) for run in runs)),
            await asyncio.gather(*(self._led(run) for run in runs)),
            strict=True,
        ):
            words = [*led, *shares]
            if after_commit(run.phase):
                words = [f"stable pods are coming back ({run.phase.value})"]
            waiting.extend(f"{run.target}: {text}" for text in words)
        return tuple(waiting)

    def _unusable(self, course: _Course) -> list[str]:
        """Run documents that cannot be read: nobody can say that theirs is in force."""
        names = dict(course.unreadable)
        for card in self._cards(course.scope):
            if card.frozen and (card.damaged is None or after_commit(card.damaged.phase)):
                names[card.frozen] = card.target
        return [unusable(name, target) for name, target in sorted(names.items())]

    async def _led(self, run: Run) -> Sequence[str]:
        """Services that lead to the canary by themselves."""
        if not exposure.by_services(run):
            return ()
        names = [pin.service for pin in run.pins]
        try:
            found = await self._cluster.read_services(run.target.namespace, names)
        except errors.SwitchgearError as error:
            return (f"its Services could not be read back: {error.message}",)
        return [
            f"Service {name} still selects canary pods" for name in exposure.leading(run, found)
        ]

    async def _shares(self, course: _Course, run: Run) -> Sequence[str]:
        lanes = run.lanes
        refs = list(dict.fromkeys(lane.route for lane in lanes))
        if not refs or after_commit(run.phase):
            return ()
        names = [name for lane in lanes for name in (lane.service, canary_name(lane.service))]
        try:
            routes = await self._cluster.read_routes(refs, names)
        except errors.Missing:
            return ()
        except errors.SwitchgearError as error:
            return (f"its route could not be read back: {error.message}",)
        course.quiet.read(routes)
        return [
            f"{route.ref} still gives the canary {share / 100:g} %"
            for route in routes
            for lane in lanes
            if route.ref == lane.route
            and (share := route.share_bp(lane.service, canary_name(lane.service))) > 0
        ]


def _pause(took: float, left: float) -> float:
    """Until the next look, after one that took so long; `left`: for the gateways alone, if not 0.

    The last one is made when they have followed.
    """
    return min(max(LOOK_SECONDS, took / LOOK_SHARE), left) if left else LOOK_SECONDS
