# SPDX-License-Identifier: Apache-2.0
"""At the start: every run is taken up where its document left it.

An intent without an outcome is settled by looking, not by repeating: the rule of its phase sees
what the world lacks and asks for just that. The record says so.
"""

import contextlib
import json
from dataclasses import dataclass
from typing import Final

import structlog

from controller.core import errors
from controller.core.journal import chain
from controller.core.lifecycle import memory as memories
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.table import RESTING, UNTOUCHED, Phase
from controller.core.policy.parse import policy_of
from controller.core.values import TargetRef
from controller.engine import claims
from controller.engine.desk import Card, Desk
from controller.engine.ledger import STATE, Ledger, read_head
from controller.ports.clock import Clock
from controller.ports.cluster import ObjectRef
from controller.ports.documents import Document, Documents

_UNUSABLE: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError)
"""What reading texts of any shape may raise."""

log = structlog.get_logger(__name__)


async def recover(*, documents: Documents, clock: Clock, desk: Desk, epoch: int) -> int:
    """Read every run document; returns how many runs go on. Errors as `Documents.runs`.

    A document that cannot be used freezes its target and nothing else.
    """
    going = 0
    for document in sorted(await documents.runs(), key=lambda item: item.name):
        try:
            found = _read(document, documents, clock, epoch)
        except _UNUSABLE as error:
            _freeze(desk, document, f"{type(error).__name__}: {error}")
            continue
        card = desk.card(found.ledger.target)
        run = found.memory.run
        if run.phase is Phase.ENDED:
            card.finished.append((run, found.ledger))
            continue
        _taken(card, found)
        going += 1
    for card in desk.cards():
        card.finished.sort(key=lambda pair: pair[1].begun)
    return going


async def reload(card: Card, name: str, *, documents: Documents, clock: Clock, epoch: int) -> None:
    """Take a run up once more, from its document as it stands now.

    Raises errors as `Documents.read`, and Refused if the document cannot be used.
    """
    document = await documents.read(name)
    try:
        found = _read(document, documents, clock, epoch)
    except _UNUSABLE as error:
        message = f"the run document {name} cannot be used: {type(error).__name__}: {error}"
        raise errors.Refused(message) from error
    _taken(card, found)


def _taken(card: Card, found: "_Found") -> None:
    found.ledger.note("recovered", {"phase": found.memory.phase.value})
    card.memory = found.memory
    card.ledger = found.ledger
    card.inherited, card.unsettled = found.refs, tuple(found.intents)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What one document holds, all of it read."""

    memory: Memory
    ledger: Ledger
    intents: list[dict[str, object]]
    refs: tuple[ObjectRef, ...]
    """What the open intents may still be raising."""


def _read(document: Document, documents: Documents, clock: Clock, epoch: int) -> _Found:
    """Everything that will be asked of a document later is asked here, where it may fail."""
    memory = memories.recalled(document.texts.get(STATE, ""), clock.monotonic())
    _verified(document)
    run = memory.run
    policy = policy_of(dict(run.annotations))
    if isinstance(policy, tuple) and run.phase not in UNTOUCHED | RESTING:
        # One that an earlier release took and this one refuses.
        message = "its policy: " + "; ".join(problem.message for problem in policy)
        raise ValueError(message)
    ledger = Ledger(
        documents=documents,
        clock=clock,
        epoch=epoch,
        name=document.name,
        target=TargetRef(run.target.namespace, run.target.name),
        document=document,
    )
    for line in ledger.lines:
        # Doors and commands read the records as objects with these keys.
        record = json.loads(line)
        _ = record["kind"], record["at"], record["seq"], record["body"].keys()
    intents = ledger.open_intents()
    return _Found(memory=memory, ledger=ledger, intents=intents, refs=claims.of_intents(intents))


def _freeze(desk: Desk, document: Document, why: str) -> None:
    log.error("a run document cannot be used", name=document.name, why=why)
    run = None
    with contextlib.suppress(*_UNUSABLE):
        run = memories.decode(document.texts.get(STATE, ""))
    target = run.target if run is not None else document.target
    if target is None:
        return
    card = desk.card(TargetRef(target.namespace, target.name))
    card.frozen, card.frozen_why, card.damaged = document.name, why, run


def _verified(document: Document) -> None:
    lines = chain.lines_of(document.texts.get("journal", ""))
    problems = chain.verify(lines, read_head(document.texts))
    for problem in problems:
        log.error("the journal was touched", name=document.name, problem=problem)
