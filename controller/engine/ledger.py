# SPDX-License-Identifier: Apache-2.0
"""The run document of one run: state and journal in one compare-and-set.

Records are noted first and become durable with the next `flush`, together with the state that they
explain, so that there is no moment in which one exists without the other. What leads toward safety
is noted after the fact and flushed within seconds; what raises risk is flushed before.
"""

import json
from collections.abc import Mapping
from typing import Final

from controller.core import errors
from controller.core.journal import chain
from controller.core.journal.chain import Head
from controller.core.lifecycle import memory as memories
from controller.core.lifecycle.memory import Run
from controller.core.values import TargetRef
from controller.ports.clock import Clock
from controller.ports.documents import Document, Documents

MOST_BYTES: Final = 900_000
"""A ConfigMap holds 1,048,576 bytes; what is left is for the records of the way back."""

LAST_BYTES: Final = 1_000_000
"""Beyond it nothing is added at all: the state (some 10,000 bytes) must always be writable."""

MOST_PENDING: Final = 500
"""Records that wait for a journal that cannot be written; beyond, they are counted."""

STATE: Final = "state"
HEAD: Final = "head"
JOURNAL: Final = "journal"


class Ledger:
    """Journal and durable state of one run."""

    def __init__(
        self,
        *,
        documents: Documents,
        clock: Clock,
        epoch: int,
        name: str,
        target: TargetRef,
        document: Document | None = None,
    ) -> None:
        """Open the ledger of a run; without a `document` the first flush creates one."""
        self._documents = documents
        self._clock = clock
        self._epoch = epoch
        self._document = document
        self.name = name
        self.target = target
        self._lines: list[str] = []
        self._bytes = 0
        self._lost = 0
        self._durable = 0
        self._head = Head()
        self._state = ""
        if document is not None:
            self._read(document)

    def _read(self, document: Document) -> None:
        texts = document.texts
        self._document = document
        self._lines = chain.lines_of(texts.get(JOURNAL, ""))
        self._bytes = sum(len(line.encode()) + 1 for line in self._lines)
        self._durable = len(self._lines)
        self._head = read_head(texts)
        self._state = texts.get(STATE, "")

    @property
    def lines(self) -> tuple[str, ...]:
        """Every record, durable or not yet."""
        return tuple(self._lines)

    @property
    def pending(self) -> int:
        """How many records are not durable yet."""
        return len(self._lines) - self._durable

    @property
    def full(self) -> bool:
        """No room for anything that raises risk; the way back still fits."""
        return self._bytes > MOST_BYTES

    def note(
        self, kind: str, body: Mapping[str, object], *, actor: str = "controller"
    ) -> int | None:
        """Add a record; returns its number, or None if there is no room for it.

        It is durable after the next flush. Records without room are counted, and their number is
        noted as a gap as soon as there is room again.
        """
        if self.pending >= MOST_PENDING or self._bytes > LAST_BYTES:
            self._lost += 1
            return None
        if self._lost:
            lost, self._lost = self._lost, 0
            self._append("gap", {"lost": lost}, "controller")
        return self._append(kind, body, actor)

    def _append(self, kind: str, body: Mapping[str, object], actor: str) -> int:
        record = {
            "at": self._clock.stamp(),
            "run": self.name,
            "epoch": self._epoch,
            "kind": kind,
            "actor": actor,
            "body": dict(body),
        }
        self._head, line = chain.append(self._head, record)
        self._lines.append(line)
        self._bytes += len(line.encode()) + 1
        return self._head.count

    def needs_flush(self, run: Run) -> bool:
        """Whether something is not durable yet."""
        return self.pending > 0 or memories.encode(run) != self._state

    async def flush(self, run: Run) -> None:
        """Make state and records durable.

        Raises Conflict if another controller wrote the document, Unavailable and Refused as the
        documents do. After a reply that was lost the next flush finds its own write and goes on.
        """
        state = memories.encode(run)
        texts = {
            STATE: state,
            HEAD: json.dumps({"count": self._head.count, "hash": self._head.hash}),
            JOURNAL: "\n".join(self._lines),
        }
        count = len(self._lines)
        if self._document is None:
            self._document = await self._create(texts)
        else:
            self._document = await self._replace(self._document, texts)
        self._durable = count
        self._state = state

    async def _create(self, texts: Mapping[str, str]) -> Document:
        try:
            return await self._documents.create(self.name, texts, self.target)
        except errors.Conflict:
            return await self._resumed(texts)

    async def _replace(self, document: Document, texts: Mapping[str, str]) -> Document:
        try:
            return await self._documents.replace(document, texts)
        except errors.Conflict:
            return await self._resumed(texts)
        except errors.Missing:
            return await self._documents.create(self.name, texts, self.target)

    async def _resumed(self, texts: Mapping[str, str]) -> Document:
        """After a conflict: an earlier write of ours whose reply was lost, or another hand?"""
        found = await self._documents.read(self.name)
        known = chain.lines_of(found.texts.get(JOURNAL, ""))
        if known != self._lines[: len(known)]:
            message = f"the run document {self.name} was written by another controller"
            raise errors.Conflict(message)
        return await self._documents.replace(found, texts)

    async def delete(self) -> None:
        """Remove the document of a finished run."""
        if self._document is not None:
            await self._documents.delete(self._document)

    @property
    def begun(self) -> str:
        """When the first record was noted, as a time stamp that sorts; empty without one."""
        return str(json.loads(self._lines[0])["at"]) if self._lines else ""

    def open_intents(self) -> list[dict[str, object]]:
        """Intents without an outcome: what a crash may have left half-done."""
        waiting: dict[int, dict[str, object]] = {}
        for line in self._lines:
            record = json.loads(line)
            if record["kind"] == "intent":
                waiting[record["seq"]] = record["body"]
            elif record["kind"] == "outcome":
                waiting.pop(record["body"].get("intent", 0), None)
        return [{"intent": seq, **body} for seq, body in waiting.items()]


def read_head(texts: Mapping[str, str]) -> Head:
    """The chain's end as the document names it. Raises ValueError if it is not readable."""
    told = json.loads(texts.get(HEAD, "{}"))
    if not isinstance(told, dict):
        message = "the journal's head is not an object"
        raise ValueError(message)  # noqa: TRY004  # The text has the wrong value.
    count = told.get("count", 0)
    if not isinstance(count, int):
        message = f"the journal's head counts {count!r} records"
        raise ValueError(message)  # noqa: TRY004
    return Head(count=count, hash=str(told.get("hash", chain.GENESIS)))
