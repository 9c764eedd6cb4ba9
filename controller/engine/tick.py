# SPDX-License-Identifier: Apache-2.0
"""One target, one tick: observe, decide, act, record; and the sentence that says what was done."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import structlog

from controller.core import errors, invariants
from controller.core.effects import Annotate, Safer
from controller.core.lifecycle import exposure, machine, rest
from controller.core.lifecycle.memory import Ending, Mark, Memory, parse_mark
from controller.core.lifecycle.situation import Decision, Notice, Situation, Verb
from controller.core.lifecycle.table import UNTOUCHED, Phase
from controller.core.observation import Pod, View
from controller.core.values import TargetRef
from controller.engine import describe, frozen
from controller.engine.act import Actor, Result
from controller.engine.ask import Asker
from controller.engine.carry import FIRST_WAIT, Carrier, pause_after
from controller.engine.desk import Card, Desk, policy_kept
from controller.engine.feed import Feed
from controller.engine.fleet import Fleet
from controller.engine.inherit import Heir
from controller.engine.ledger import Ledger
from controller.engine.measurer import Measurer
from controller.engine.meters import Meters
from controller.engine.observe import Observer
from controller.engine.tell import Teller
from controller.ports.clock import Clock
from controller.ports.cluster import Cluster
from controller.ports.documents import Documents

KEEP_FINISHED: Final = 5
"""Finished runs kept per target; one with an unreleased latch is kept whatever its age."""

GONE_SECONDS: Final = 86_400.0
"""So long the runs of a target that is gone can still be looked at."""

FROZEN_SECONDS: Final = 10.0
"""How often it is asked whether an unusable run document still stands."""

IDLE_SECONDS: Final = 600.0
"""A target at rest is looked at when something changes; this is only for the clock's sake."""

MOST_MARKING: Final = 16
"""Targets at rest that are annotated at the same time. Where a thousand are seen for the first
time, more would wait before a slow API server until they are late, safety's writes with them."""

MARKING_SECONDS: Final = 1.0

REFUSED_SECONDS: Final = 5.0
"""How often a decision that would break a promise is made anew, if nothing happens before."""

log = structlog.get_logger(__name__)


class Ticker:
    """Carries targets one tick further."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        documents: Documents,
        clock: Clock,
        feed: Feed,
        measurer: Measurer,
        observer: Observer,
        actor: Actor,
        desk: Desk,
        fleet: Fleet,
        meters: Meters,
    ) -> None:
        """Everything that a tick needs, put together in `app`."""
        self._cluster = cluster
        self._documents = documents
        self._clock = clock
        self._feed = feed
        self._measurer = measurer
        self._observer = observer
        self._actor = actor
        self._asker = Asker(cluster=cluster, clock=clock, feed=feed, measurer=measurer)
        self._carrier = Carrier(actor=actor, meters=meters)
        self._heir = Heir(documents=documents, clock=clock, actor=actor)
        self._desk = desk
        self._meters = meters
        self._teller = Teller(cluster=cluster, clock=clock, actor=actor, meters=meters)
        self._fleet = fleet
        self._marking = asyncio.Semaphore(MOST_MARKING)

    async def tick(self, target: TargetRef) -> float:
        """One tick; returns after how many seconds to look again if nothing happens."""
        card = self._desk.card(target)
        run = card.memory.run if card.memory is not None else card.damaged
        view = self._cluster.view(target, run.services if run is not None else ())
        if card.memory is None and card.frozen and await self._frozen(card, view):
            return FROZEN_SECONDS
        if card.memory is None:
            wait = await self._rest(card, view)
            if wait is not None:
                return wait
        assert card.memory is not None  # noqa: S101  # `_rest` began a run.
        if card.inherited is not None:
            await self._heir.take(card, card.inherited)
        if card.memory.phase in UNTOUCHED | {Phase.HELD}:
            card.memory = policy_kept(card.memory, view)
        if card.memory.phase is Phase.CHECKING or _refused(card.memory):
            await self._asker.before_run(card, self._observer.ceilings(target.namespace))
        rolled = await self._asker.rolled(card.memory)
        situation = self._situation(card, view, rolled, self._asker.led(card.memory))
        return await self._run(card, situation, card.memory)

    async def _gone(self, card: Card, view: View) -> None:
        """A target without a Deployment is forgotten, with its finished runs after a day."""
        now = self._clock.monotonic()
        if view.deployment is not None:
            card.gone_at = None
            return
        card.gone_at = now if card.gone_at is None else card.gone_at
        if now - card.gone_at >= GONE_SECONDS:
            await _swept(card, 0)
        self._desk.forget(card.target)

    async def _frozen(self, card: Card, view: View) -> bool:
        """A run document that cannot be used: say what to do, until it stands no more."""
        try:
            await self._documents.read(card.frozen)
        except errors.Missing:
            log.warning("the unusable run document is gone", target=str(card.target))
            card.frozen, card.frozen_why, card.damaged = "", "", None
            return False
        except errors.SwitchgearError as error:
            log.warning("frozen", target=str(card.target), why=error.diagnostics())
            return True
        card.why = (
            f"frozen: the run document {card.frozen} cannot be used ({card.frozen_why[:200]}); "
            "no run begins while it stands: export it, then delete it"
        )
        situation = self._situation(card, view)
        for effect in frozen.kept(situation, card.target, card.damaged, card.why):
            await self._unrecorded(card, effect)
        if view.deployment is not None and card.told != card.why:
            notice = Notice(reason="RunDocumentUnusable", message=card.why, warning=True)
            await self._teller.tell(card, (notice,))
            await self._teller.annotate(card, view.deployment.uid, {"status": card.why})
        return True

    async def _unrecorded(self, card: Card, effect: Safer) -> Result:
        """An effect where there is no journal: the log has its record, by the name of its calls."""
        card.calls += 1
        name = f"rest/{card.target}/{self._actor.epoch}/{card.calls}"
        result = await self._actor.safer(effect, None, name)
        say = log.info if result.done else log.warning
        say(
            "effect without a run",
            target=str(card.target),
            call=name,
            writes=result.writes,
            done=result.done,
            words=result.words,
            about=describe.effect(effect),
        )
        return result

    def _situation(
        self,
        card: Card,
        view: View,
        rolled: tuple[Pod, ...] | None = None,
        led: Mapping[str, frozenset[str]] | None = None,
    ) -> Situation:
        requests = tuple(card.requests)
        found = self._observer.situation(
            view=view,
            memory=card.memory,
            others=card.others,
            requests=requests,
            preflight=card.preflight,
            calibration=card.calibration,
            namespace=card.target.namespace,
            rolled=rolled,
            led=led,
        )
        if not self._fleet.owed:
            return found
        return replace(found, latches=replace(found.latches, fleet_open=self._fleet.owed))

    async def _rest(self, card: Card, view: View) -> float | None:
        """A target without a run; None means that a run has just begun."""
        situation = self._situation(card, view)
        found = rest.look(situation, card.target, card.known)
        card.known = _mark_of(view) or card.known
        card.why = found.why
        kinds = {type(effect) for effect in found.effects}
        marks = kinds == {Annotate} and found.change is None
        if marks and self._marking.locked():
            # Not waited for here: what the mark would say may be old when its turn comes.
            return MARKING_SECONDS * (0.5 + self._clock.jitter())
        async with self._marking if marks else contextlib.nullcontext():
            for effect in found.effects:
                result = await self._unrecorded(card, effect)
                if not result.done:
                    return result.retry_seconds
        _settled(card, situation)
        await self._teller.tell(card, found.notices)
        if found.change is None:
            await self._gone(card, view)
            return 1.0 if found.effects or found.why.startswith("waiting") else IDLE_SECONDS
        now = self._clock.monotonic()
        memory = self._desk.begin(card, view, found.change, epoch=self._actor.epoch, now=now)
        card.memory = memory
        card.ledger = Ledger(
            documents=self._documents,
            clock=self._clock,
            epoch=self._actor.epoch,
            name=memory.run.name,
            target=card.target,
        )
        maker = rest.maker(view.deployment) if view.deployment else "unknown"
        card.ledger.note(
            "begun",
            {"stable": memory.run.stable_hash, "digest": memory.run.digest},
            actor=maker,
        )
        self._meters.begun()
        return None

    async def _run(self, card: Card, situation: Situation, memory: Memory) -> float:
        decision = machine.step(situation, memory)
        decided = self._clock.stamp()
        problems = invariants.broken(situation, memory, decision)
        if problems:
            return await self._refuse(card, situation, decision, problems)
        started = self._clock.monotonic()
        result = await self._carrier.carry_out(
            card, situation, decision, lambda: self._record(card, decision, decided)
        )
        self._meters.tick(memory, decision, self._clock.monotonic() - started)
        card.memory = decision.memory
        if result is not None and not result.done:
            # What failed has not been made, and is tried again when it is due.
            card.memory = card.memory.at(made=memory.moments.made)
        _settled(card, situation)
        card.verdict = decision.verdict or card.verdict
        card.why = result.words if result is not None and not result.done else decision.why
        await self._after(card, memory, decision)
        await self._teller.failing(card, result)
        if result is not None and not result.done:
            return result.retry_seconds
        if decision.memory.phase is Phase.CHECKING and card.preflight is None:
            return 0.0 if memory.phase is not Phase.CHECKING else 1.0
        moved = decision.memory.phase is not memory.phase
        if decision.effects:
            return pause_after(card)
        return FIRST_WAIT if moved else decision.wait_seconds

    def _record(self, card: Card, decision: Decision, decided: str) -> None:
        """A decision is recorded when it changes something or says something new.

        The record is written after what could not wait for it, so it says itself when the decision
        stood: the reaction time is measured from there.
        """
        before = card.memory
        ledger = card.ledger
        assert ledger is not None and before is not None  # noqa: S101, PT018
        moved = decision.memory.phase is not before.phase
        codes = [reason.code for reason in decision.verdict.reasons] if decision.verdict else []
        known = [reason.code for reason in card.verdict.reasons] if card.verdict else []
        # The last room of the journal is for what moves the run.
        news = decision.verdict is not None and codes != known and not ledger.full
        if moved or news:
            body: dict[str, object] = {
                "from": before.phase.value,
                "to": decision.memory.phase.value,
                "why": decision.why,
                "decided_at": decided,
                "weight_bp": decision.memory.run.weight_bp,
                "step": decision.memory.run.step,
            }
            if decision.verdict is not None:
                body["verdict"] = describe.verdict(decision.verdict)
            ledger.note("decision", body)
            log.info(
                decision.why,
                target=str(card.target),
                run=decision.memory.run.name,
                phase=decision.memory.phase.value,
            )

    async def _refuse(
        self, card: Card, situation: Situation, decision: Decision, problems: tuple[str, ...]
    ) -> float:
        """A promise would be broken: do not carry it out, take exposure away, call a person."""
        text = "; ".join(problems)
        log.critical("a promise would be broken", target=str(card.target), problems=text)
        self._meters.invariant_broken()
        # A request that leads to this would lead to it again; one toward safety is kept.
        card.requests[:] = [item for item in card.requests if item.verb is Verb.ABORT]
        # The run stays as it was, and what is done for safety is told like any other effect.
        before = card.memory
        assert before is not None  # noqa: S101  # `_rest` began a run.
        late = machine.after_commit(before.phase)
        zero = () if late else (exposure.zero(situation, before.run),)
        instead = Decision(memory=before, why=text, effects=zero)

        def record() -> None:
            # What stands in the way stands there at the next tick too, and a journal has an end.
            if card.ledger is not None and text != card.broken:
                card.ledger.note("broken", {"problems": list(problems), "why": decision.why})
            card.broken = text

        result = await self._carrier.carry_out(card, situation, instead, record)
        notice = Notice(reason="PromiseBroken", message=text, warning=True)
        await self._teller.tell(card, (notice,))
        return REFUSED_SECONDS if result is None else min(REFUSED_SECONDS, result.retry_seconds)

    async def _after(self, card: Card, before: Memory, decision: Decision) -> None:
        after = decision.memory
        if after.run.tripped and not before.run.tripped:
            self._meters.tripped()
            self._fleet.tripped(after.run.reason)
        await self._teller.tell(card, decision.notices)
        if after.phase is not before.phase:
            await self._teller.status(card, after, decision.verdict)
        elif decision.verdict is not None:
            await self._teller.waiting(card, after, decision.verdict)
        if after.phase is Phase.ENDED:
            await self._end(card, after)

    async def _end(self, card: Card, after: Memory) -> None:
        """File the run; keep the newest finished ones and every unreleased latch."""
        ledger = card.ledger
        assert ledger is not None  # noqa: S101
        try:
            if ledger.needs_flush(after.run):
                await ledger.flush(after.run)
        except errors.SwitchgearError as error:
            log.warning("last records wait", run=after.run.name, why=error.diagnostics())
            return
        self._meters.ended(after.run.outcome)
        self._feed.forget(after.run)
        self._measurer.forget(after.run)
        card.finished.append((after.run, ledger))
        card.memory = None
        card.ledger = None
        card.verdict = None
        await _swept(card, KEEP_FINISHED)


async def _swept(card: Card, keep: int) -> None:
    """Delete the oldest documents of finished runs, but for unreleased latches."""
    for run, old in tuple(card.finished[: max(len(card.finished) - keep, 0)]):
        if (run.tripped and not run.released) or run.quarantined:
            continue
        try:
            await old.delete()
        except errors.SwitchgearError as error:
            log.warning("old run stays", run=run.name, why=error.diagnostics())
        else:
            card.finished[:] = [pair for pair in card.finished if pair[0].name != run.name]


def _settled(card: Card, situation: Situation) -> None:
    """These requests were acted on; what came meanwhile waits for the next tick."""
    taken = {request.id for request in situation.requests}
    card.requests[:] = [request for request in card.requests if request.id not in taken]


def _mark_of(view: View) -> Mark | None:
    deployment = view.deployment
    if deployment is None:
        return None
    mark = parse_mark(deployment.annotations.get("managed", ""))
    return mark if mark is not None and mark.uid == deployment.uid else None


def _refused(memory: Memory) -> bool:
    return memory.phase is Phase.HELD and memory.run.ending is Ending.REFUSED
