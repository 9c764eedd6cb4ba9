# SPDX-License-Identifier: Apache-2.0
"""The breaker of the fleet: many targets that trip within minutes point to a shared cause."""

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

log = structlog.get_logger(__name__)


class Fleet:
    """Remembers when targets tripped, and opens the breaker of them all."""

    def __init__(self, *, documents: Documents, clock: Clock) -> None:
        """Nothing has tripped yet."""
        self._documents = documents
        self._clock = clock
        self._trips: list[float] = []

    def recall(self, desk: Desk) -> None:
        """Take over what tripped under an earlier leader, from the journals.

        Stamps of two machines are compared here; one from the future counts as now, and the breaker
        opens a little early rather than late.
        """
        now, stamp = self._clock.monotonic(), datetime.fromisoformat(self._clock.stamp())
        ages = ((stamp - at).total_seconds() for at in _trips(desk))
        self._trips = [now - max(age, 0.0) for age in ages]

    async def tripped(self, reason: str) -> None:
        """One more target tripped; a latch that cannot be written is tried with the next one."""
        now = self._clock.monotonic()
        self._trips = [at for at in self._trips if now - at <= breaker.FLEET_WINDOW_SECONDS]
        self._trips.append(now)
        if len(self._trips) < breaker.FLEET_TRIPS:
            return
        why = f"{len(self._trips)} targets tripped, the last one on: {reason}"
        try:
            await self._documents.open_fleet_breaker(why)
        except errors.SwitchgearError as error:
            log.warning("fleet breaker not latched", why=error.diagnostics())


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
