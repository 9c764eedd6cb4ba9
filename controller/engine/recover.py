# SPDX-License-Identifier: Apache-2.0
"""At the start: every run is taken up where its document left it.

An intent without an outcome is settled by looking, not by repeating: the rule of its phase sees
what the world lacks and asks for just that. The record says so.
"""

import structlog

from controller.core.journal import chain
from controller.core.lifecycle import memory as memories
from controller.core.lifecycle.table import Phase
from controller.core.values import TargetRef
from controller.engine.desk import Desk
from controller.engine.ledger import STATE, Ledger, read_head
from controller.ports.clock import Clock
from controller.ports.documents import Document, Documents

log = structlog.get_logger(__name__)


async def recover(*, documents: Documents, clock: Clock, desk: Desk, epoch: int) -> int:
    """Read every run document; returns how many runs go on. Errors as `Documents.runs`."""
    going = 0
    for document in sorted(await documents.runs(), key=lambda item: item.name):
        try:
            memory = memories.recalled(document.texts.get(STATE, ""), clock.monotonic())
            _verified(document)
        except ValueError as error:
            log.warning("a run document cannot be used", name=document.name, why=str(error))
            continue
        run = memory.run
        target = TargetRef(run.target.namespace, run.target.name)
        card = desk.card(target)
        ledger = Ledger(
            documents=documents,
            clock=clock,
            epoch=epoch,
            name=run.name,
            target=target,
            document=document,
        )
        if run.phase is Phase.ENDED:
            card.finished.append((run, ledger))
            continue
        for intent in ledger.open_intents():
            body = {**intent, "done": False, "words": "settled by looking after a restart"}
            ledger.note("outcome", body)
        ledger.note("recovered", {"phase": run.phase.value})
        card.memory = memory
        card.ledger = ledger
        going += 1
    return going


def _verified(document: Document) -> None:
    lines = chain.lines_of(document.texts.get("journal", ""))
    problems = chain.verify(lines, read_head(document.texts))
    for problem in problems:
        log.error("the journal was touched", name=document.name, problem=problem)
