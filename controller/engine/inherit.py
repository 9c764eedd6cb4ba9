# SPDX-License-Identifier: Apache-2.0
"""A run of an earlier leader is made our own before the first decision about it.

First its document, by compare-and-set: from then on no intent of the earlier leader becomes
durable, and without one it raises nothing. Then the objects that its open intents name.
"""

import asyncio
from typing import Final

import structlog

from controller.core import errors
from controller.engine import recover
from controller.engine.act import Actor
from controller.engine.carry import claimed
from controller.engine.desk import Card
from controller.ports import trail
from controller.ports.clock import Clock
from controller.ports.cluster import ObjectRef
from controller.ports.documents import Documents

WAIT_SECONDS: Final = 2.0
"""Longest that a tick waits for it: what leads toward safety must not wait longer."""

TRIES: Final = 3
"""An earlier leader that is ending writes its document once or twice more."""

log = structlog.get_logger(__name__)


class Heir:
    """Takes runs over."""

    def __init__(self, *, documents: Documents, clock: Clock, actor: Actor) -> None:
        """`actor` has our epoch."""
        self._documents = documents
        self._clock = clock
        self._actor = actor

    async def take(self, card: Card, refs: tuple[ObjectRef, ...]) -> None:
        """Make the card's run ours, or say why not: the next tick tries again.

        The tick goes on either way; without it nothing is raised, since each raise is fenced and
        needs an intent in the document.
        """
        card.calls += 1
        name = f"claim/{card.target}/{self._actor.epoch}/{card.calls}"
        sent, why = trail.Call(name=name), ""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._document(card)
                refs = card.inherited or refs
                with trail.call(name) as sent:
                    await self._actor.take_over(refs)
        except TimeoutError:
            why = "no answer in time"
        except errors.SwitchgearError as error:
            why = error.diagnostics()
        else:
            _settled(card)
            card.inherited = None
        if why:
            log.warning("not taken over yet", target=str(card.target), why=why)
        if sent.writes and card.ledger is not None:
            about = claimed([str(ref) for ref in refs], done=not why)
            told = {"words": why, "call": name, "writes": sent.writes}
            card.ledger.note("effect", {**about, **told})

    async def _document(self, card: Card) -> None:
        for _ in range(TRIES):
            ledger, memory = card.ledger, card.memory
            if ledger is None or memory is None or not ledger.needs_flush(memory.run):
                return
            try:
                await ledger.flush(memory.run)
            except errors.Conflict:
                # The earlier leader wrote once more after we had read.
                await recover.reload(
                    card,
                    ledger.name,
                    documents=self._documents,
                    clock=self._clock,
                    epoch=self._actor.epoch,
                )


def _settled(card: Card) -> None:
    """Whoever took the run over before this would have had to claim what the intents name."""
    assert card.ledger is not None  # noqa: S101  # Every run has one.
    for intent in card.unsettled:
        # The name of its writes stands in the intent's own record alone.
        about = {key: value for key, value in intent.items() if key != "call"}
        body = {**about, "done": False, "words": "settled by looking after a restart"}
        card.ledger.note("outcome", body)
    card.unsettled = ()
