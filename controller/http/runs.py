# SPDX-License-Identifier: Apache-2.0
"""The runs as the doors tell them, without reading any journal twice.

A list is asked for often and may cover hundreds of ended runs with thousands of records each, while
the loop that decides about weights waits. What an ended run has to say changes only when a person
releases it, so it is worked out once; a journal is read whole only for the one run that is asked
for by name.
"""

from dataclasses import dataclass
from typing import Any

from controller.core.journal import story
from controller.core.lifecycle.memory import Run
from controller.engine import describe
from controller.engine.desk import Card, Desk
from controller.engine.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What was said of an ended run, and the state that it was said of."""

    run: Run
    facts: dict[str, Any]


class Runs:
    """Every run that the desk knows, as programs read it."""

    def __init__(self, desk: Desk) -> None:
        """Start with nothing told."""
        self._desk = desk
        self._told: dict[str, _Told] = {}

    def all(self) -> list[dict[str, Any]]:
        """Every run without its journal: per target the ended ones first."""
        found: list[dict[str, Any]] = []
        kept: dict[str, _Told] = {}
        for card in self._desk.cards():
            for run, ledger in card.finished:
                kept[run.name] = told = self._ended(run, ledger)
                found.append(told.facts)
            if card.memory is not None and card.ledger is not None:
                found.append(_active(card, card.memory.run, card.ledger))
        # What is swept from the desk goes from here as well, so that this never outgrows it.
        self._told = kept
        return found

    def one(self, name: str) -> dict[str, Any] | None:
        """The run of this name with its journal, or None."""
        for card in self._desk.cards():
            for run, ledger in card.finished:
                if run.name == name:
                    return story.facts(run, ledger.lines, journal=True)
            memory = card.memory
            if memory is not None and card.ledger is not None and memory.run.name == name:
                return _active(card, memory.run, card.ledger, journal=True)
        return None

    def _ended(self, run: Run, ledger: Ledger) -> _Told:
        told = self._told.get(run.name)
        if told is not None and told.run is run:
            return told
        return _Told(run=run, facts=story.facts(run, ledger.lines))


def _active(card: Card, run: Run, ledger: Ledger, *, journal: bool = False) -> dict[str, Any]:
    facts = story.facts(run, ledger.lines, journal=journal)
    # What is known now, not what was when it was last recorded.
    facts["why"], facts["why_at"] = card.why, ""
    if card.verdict is not None:
        facts["verdict"] = describe.verdict(card.verdict)
    return facts
