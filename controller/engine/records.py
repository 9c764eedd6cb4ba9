# SPDX-License-Identifier: Apache-2.0
"""Runs as their documents tell them, for a replica that does not lead and so has none in memory."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from controller.core.journal import chain
from controller.core.lifecycle import memory as memories
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.table import Phase
from controller.core.observation import Latches
from controller.core.values import TargetRef
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look found.

    Attributes:
        records: The runs that can be read.
        unreadable: Names of the other documents, and whose they seem to be.
    """

    records: list[Record]
    unreadable: Mapping[str, TargetRef | None]

    @property
    def active(self) -> list[Run]:
        """The runs that have not ended."""
        return [item.run for item in self.records if item.run.phase is not Phase.ENDED]

    def within(self, scope: str) -> "Found":
        """What a kill of this scope is about; a document of nobody known is about everything."""
        latch = Latches(kills=(scope,))
        return Found(
            records=[
                item
                for item in self.records
                if latch.kill_for(item.run.target.namespace, item.run.target.name)
            ],
            unreadable={
                name: target
                for name, target in self.unreadable.items()
                if target is None or latch.kill_for(target.namespace, target.name)
            },
        )


def unusable(name: str, target: TargetRef | None) -> str:
    """What a person is told of a run document over which no kill is called in force."""
    return (
        f"{target or 'a target'}: the run document {name} cannot be used: see to its route and "
        "Services by hand (docs/runbook.md), then delete it"
    )


class Records:
    """Reads run documents."""

    def __init__(self, *, documents: Documents, clock: Clock) -> None:
        """Nothing is read before somebody asks."""
        self._documents = documents
        self._clock = clock
        self._lock = asyncio.Lock()
        self._at = float("-inf")
        self._kept: list[Record] = []

    async def fresh(self) -> Found:
        """Every run, by a fresh list. Errors as `Documents.runs`."""
        found: list[Record] = []
        unreadable: dict[str, TargetRef | None] = {}
        for document in await self._documents.runs():
            try:
                run = memories.decode(document.texts.get(STATE, ""))
            except ValueError as error:
                log.warning("a run document cannot be read", name=document.name, why=str(error))
                unreadable[document.name] = document.target
                continue
            lines = chain.lines_of(document.texts.get(JOURNAL, ""))
            found.append(Record(run=run, lines=tuple(lines)))
        return Found(records=found, unreadable=unreadable)

    async def recent(self) -> list[Record]:
        """The runs of `fresh`, up to a second old: many may look at the price of one."""
        async with self._lock:
            if self._clock.monotonic() - self._at > FRESH_SECONDS:
                self._kept = (await self.fresh()).records
                self._at = self._clock.monotonic()
            return self._kept
