# SPDX-License-Identifier: Apache-2.0
"""The breaker of the fleet: many targets that trip within minutes point to a shared cause."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import structlog

from controller.core import errors
from controller.core.guard import breaker
from controller.core.lifecycle.table import Phase
from controller.engine.desk import Desk
from controller.engine.ledger import Ledger
from controller.ports.clock import Clock
from controller.ports.documents import Documents

BACK: Final = frozenset({Phase.ROLLING_BACK.value, Phase.UNDOING.value, Phase.ORPHANING.value})

AGAIN_SECONDS: Final = 1.0
"""Between two tries to write the latch; meanwhile this process raises nothing anyway."""

log = structlog.get_logger(__name__)


class Fleet:
    """Remembers when targets tripped, and opens the breaker of them all."""

    def __init__(self, *, documents: Documents, clock: Clock) -> None:
        """Nothing has tripped yet."""
        self._documents = documents
        self._clock = clock
        self._trips: list[float] = []
        self.owed = ""
        """Why the breaker is open, while that could not be written."""
        self._tripped = asyncio.Event()

    def recall(self, desk: Desk) -> None:
        """Take over what tripped under an earlier leader, from the journals.

        Stamps of two machines are compared here; one from the future counts as now, and the breaker
        opens a little early rather than late.
        """
        now, stamp = self._clock.monotonic(), datetime.fromisoformat(self._clock.stamp())
        ages = ((stamp - at).total_seconds() for at in _trips(desk))
        self._trips = [now - max(age, 0.0) for age in ages]
        self.owed = ""

    def tripped(self, reason: str) -> None:
        """One more target tripped."""
        now = self._clock.monotonic()
        self._trips = [at for at in self._trips if now - at <= breaker.FLEET_WINDOW_SECONDS]
        self._trips.append(now)
        if len(self._trips) < breaker.FLEET_TRIPS:
            return
        self.owed = f"{len(self._trips)} targets tripped, the last one on: {reason}"
        self._tripped.set()

    async def run(self) -> None:
        """Open the breaker whenever it is due, and try until that is written."""
        while True:
            await self._tripped.wait()
            self._tripped.clear()
            while self.owed:
                try:
                    await self._documents.open_fleet_breaker(self.owed)
                except errors.SwitchgearError as error:
                    log.warning("fleet breaker not latched", why=error.diagnostics())
                    await self._clock.sleep(AGAIN_SECONDS)
                else:
                    self.owed = ""


def _trips(desk: Desk) -> Iterator[datetime]:
    """When each run that tripped began its way back."""
    for card in desk.cards():
        pairs = list(card.finished)
        if card.memory is not None and card.ledger is not None:
            pairs.append((card.memory.run, card.ledger))
        for run, ledger in pairs:
            at = _began_back(ledger) if run.tripped else None
            if at is not None:
                yield at


def _began_back(ledger: Ledger) -> datetime | None:
    for line in ledger.lines:
        record = json.loads(line)
        if record["kind"] == "decision" and record["body"].get("to") in BACK:
            try:
                return datetime.fromisoformat(record["at"])
            except (TypeError, ValueError):
                return None  # Touched by somebody; `audit verify` tells of it.
    return None
