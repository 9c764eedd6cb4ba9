# SPDX-License-Identifier: Apache-2.0
"""What people ask of the daemon, toward risk above all: each act is recorded with who asked.

Acts on a run that is under way are left for its next tick; acts on runs that have ended (a breaker
that stays open, a template in quarantine) are written into their documents here.
"""

import contextlib
import itertools
from dataclasses import replace

import structlog

from controller.core import errors
from controller.core.lifecycle.memory import Ending, Run
from controller.core.lifecycle.situation import Request, Verb
from controller.core.lifecycle.table import RESTING, Phase
from controller.core.observation import Latches
from controller.core.values import TargetRef
from controller.engine.desk import MOST_REQUESTS, Card, Desk
from controller.engine.loop import Loop
from controller.ports.documents import Documents

log = structlog.get_logger(__name__)


class Requests:
    """Takes requests in."""

    def __init__(self, *, documents: Documents, desk: Desk, loop: Loop) -> None:
        """`loop` wakes the target that a request is about."""
        self._documents = documents
        self._desk = desk
        self._loop = loop
        self._numbers = itertools.count(1)

    async def submit(self, target: TargetRef, verb: Verb, *, actor: str, reason: str) -> str:
        """Take one request in; returns in words what will come of it.

        Raises Missing if there is no such target, Refused if there is nothing to act on,
        Unavailable if it could not be recorded.
        """
        card = self._desk.find(target)
        if card is None:
            # A card for every name that somebody asks about would be memory without a limit.
            return await self._unknown(target, verb, actor)
        if len(card.requests) >= MOST_REQUESTS:
            message = f"{target} has {MOST_REQUESTS} requests waiting"
            raise errors.Refused(message, advice="Wait for the next tick")
        match verb:
            case Verb.RETRY:
                words = await self._retry(card, actor)
            case Verb.RELEASE:
                words = await self._release(card, actor)
            case Verb.PROMOTE:
                words = self._promote(card)
            case Verb.ABORT:
                words = self._abort(card)
        if card.memory is not None:
            number = next(self._numbers)
            request = Request(id=f"r{number}", verb=verb, actor=actor, reason=reason)
            card.requests.append(request)
            if card.ledger is not None:
                card.ledger.note("request", {"verb": verb.value, "reason": reason}, actor=actor)
        self._loop.wake(target)
        return words

    async def _unknown(self, target: TargetRef, verb: Verb, actor: str) -> str:
        """A latch may have outlived its target; nothing else of it has."""
        if verb is Verb.RELEASE:
            with contextlib.suppress(errors.Missing):
                await self._documents.release(f"target.{target.namespace}.{target.name}")
                log.warning("released", target=str(target), actor=actor)
                return "the kill latch is lifted; there is no such target now"
        message = f"there is no target {target}"
        raise errors.Missing(message, advice="`switchgear get` lists what is known")

    async def release_fleet(self, scope: str, *, actor: str, reason: str = "") -> None:
        """Lift the kill latch of a scope; for everything, close the fleet breaker as well.

        Raises Missing if nothing of the kind is engaged, Unavailable as the documents do.
        """
        try:
            await self._documents.release(scope)
        except errors.Missing:
            # The fleet breaker may be open without a kill, and is closed by the same act.
            if scope != "all" or not self._documents.latches_seen().fleet_open:
                raise
        if scope == "all":
            await self._documents.close_fleet_breaker()
        log.warning("released", scope=scope, actor=actor, reason=reason)
        for card in self._desk.running():
            latch = Latches(kills=(scope,))
            covered = latch.kill_for(card.target.namespace, card.target.name)
            if covered and card.ledger is not None:
                card.ledger.note("released", {"scope": scope, "reason": reason}, actor=actor)
        self._loop.wake_all()

    async def _retry(self, card: Card, actor: str) -> str:
        latched = [run for run in card.others if run.quarantined or run.tripped]
        active = card.memory
        if active is not None and active.phase not in RESTING:
            message = f"{card.target} has a run under way"
            raise errors.Refused(message, advice="Abort it first, or wait")
        if active is None and not latched:
            message = f"{card.target} has no failed run to try again"
            raise errors.Refused(message)
        await self._clear(card, actor, quarantined=False)
        card.probe = True
        if active is not None and active.run.ending is Ending.REFUSED:
            card.memory = active.with_run(probe=True)
        return "the template is tried again, as one probe"

    async def _release(self, card: Card, actor: str) -> str:
        scope = f"target.{card.target.namespace}.{card.target.name}"
        with contextlib.suppress(errors.Missing):  # A breaker may be open without a kill.
            await self._documents.release(scope)
        await self._clear(card, actor)
        return "kill latch and breaker of the target are closed"

    async def _clear(self, card: Card, actor: str, *, quarantined: bool | None = None) -> None:
        """Write into the documents of ended runs that a person has closed their latches."""
        for run, ledger in tuple(card.finished):
            after = self._cleared(run, quarantined=quarantined)
            if after != run:
                ledger.note("released", {"quarantined": after.quarantined}, actor=actor)
                await ledger.flush(after)
                # Runs may have ended or been swept in the meantime: the place is found by name.
                card.finished[:] = [
                    (after, ledger) if old.name == run.name else (old, its)
                    for old, its in card.finished
                ]

    @staticmethod
    def _cleared(run: Run, *, quarantined: bool | None) -> Run:
        kept = run.quarantined if quarantined is None else quarantined
        return replace(run, released=run.released or run.tripped, quarantined=kept)

    @staticmethod
    def _promote(card: Card) -> str:
        if card.memory is None or card.memory.phase not in {Phase.JUDGING, Phase.BAKING}:
            message = f"{card.target} is not being judged now"
            raise errors.Refused(message, advice="`switchgear status` says where it stands")
        return "the present step counts as passed, if its pods are ready"

    @staticmethod
    def _abort(card: Card) -> str:
        if card.memory is None or card.memory.phase in RESTING:
            message = f"{card.target} has no run under way"
            raise errors.Refused(message)
        return "the run is rolled back"
