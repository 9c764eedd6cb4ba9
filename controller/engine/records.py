# SPDX-License-Identifier: Apache-2.0
"""Runs as their documents tell them, for a replica that does not lead and so has none in memory."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from controller.core.journal import chain
from controller.core.lifecycle import memory as memories
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.table import Phase
from controller.engine.ledger import JOURNAL, STATE
from controller.ports.clock import Clock
from controller.ports.documents import Documents

FRESH_SECONDS: Final = 1.0
"""How old a list may be for those who only look: all of them together ask once a second."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run and its journal."""

    run: Run
    lines: tuple[str, ...]


class Records:
    """Reads run documents."""

    def __init__(self, *, documents: Documents, clock: Clock) -> None:
        """Nothing is read before somebody asks."""
        self._documents = documents
        self._clock = clock
        self._lock = asyncio.Lock()
        self._at = float("-inf")
        self._kept: list[Record] = []

    async def fresh(self) -> list[Record]:
        """Every run that can be read, by a fresh list. Errors as `Documents.runs`."""
        found: list[Record] = []
        for document in await self._documents.runs():
            try:
                run = memories.decode(document.texts.get(STATE, ""))
            except ValueError as error:
                log.warning("a run document cannot be read", name=document.name, why=str(error))
                continue
            lines = chain.lines_of(document.texts.get(JOURNAL, ""))
            found.append(Record(run=run, lines=tuple(lines)))
        return found

    async def active(self) -> list[Run]:
        """The runs that have not ended. Errors as `Documents.runs`."""
        return [item.run for item in await self.fresh() if item.run.phase is not Phase.ENDED]

    async def recent(self) -> list[Record]:
        """The same as `fresh`, up to a second old: many may look at the price of one."""
        async with self._lock:
            if self._clock.monotonic() - self._at > FRESH_SECONDS:
                self._kept = await self.fresh()
                self._at = self._clock.monotonic()
            return self._kept
