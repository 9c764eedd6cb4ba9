# SPDX-License-Identifier: Apache-2.0
"""How a decision is carried out: what is urgent first, then what is durable, then the rest.

What is asked again and again is noted once: its intent stays open until it is done or no longer
wanted, and in between only a new kind of failure is worth a record. So a run that waits for days
does not fill its document, which the way back needs.
"""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from controller.core import effects, errors
from controller.core.effects import RISKIER, URGENT, Effect
from controller.core.lifecycle.situation import Decision, Situation
from controller.core.lifecycle.table import RESTING, RETURNING, Phase
from controller.engine import describe
from controller.engine.act import Actor, Result
from controller.engine.desk import Card, Tried
from controller.engine.ledger import Ledger
from controller.engine.meters import Meters

LONGEST_WAIT: Final = 2.0
"""Seconds between two looks at a world that does not come to what is asked for."""

FIRST_WAIT: Final = 0.02
"""After a write the caches need a moment; a watch event usually wakes the target before."""

ON_RECORD_FIRST: Final = (
    effects.CreateCanary,
    effects.CreateCanaryService,
    effects.AttachBackend,
)
"""What is made of ours must be on record before it exists, or nobody would take it away again."""

FORWARD: Final = frozenset({Phase.HANDING_BACK, Phase.RESTORING})
"""After the commit all is well as it stands; what is taken away here waits for the record."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What one carrying out is about."""

    card: Card
    ledger: Ledger
    situation: Situation
    decision: Decision

    @property
    def quiet(self) -> bool:
        """The journal's last room is kept for the way back."""
        return _quiet(self.ledger, self.decision.memory.phase)


class Carrier:
    """Carries decisions out; decides nothing."""

    def __init__(self, *, actor: Actor, meters: Meters) -> None:
        """`actor` does the writes."""
        self._actor = actor
        self._meters = meters

    async def carry_out(
        self, card: Card, situation: Situation, decision: Decision, record: Callable[[], None]
    ) -> Result | None:
        """Urgent effects at once; `record`; state and intents durable; then the other effects.

        Returns the first result that is not done, or None.
        """
        assert card.ledger is not None  # noqa: S101  # Every run has one.
        turn = _Turn(card=card, ledger=card.ledger, situation=situation, decision=decision)
        urgent = [item for item in decision.effects if isinstance(item, URGENT)]
        others = [item for item in decision.effects if not isinstance(item, URGENT)]
        names = [self._named(turn, effect) for effect in urgent]
        results = await self._urgent(urgent, names) if urgent else []
        _counted(card, decision.effects)
        for effect, result in zip(urgent, results, strict=True):
            _told(turn, effect, result)
        record()
        if others and isinstance(others[0], RISKIER):
            refused = await self._refused(turn, others[0])
            if refused is not None:
                results.append(refused)
                others = []
        _given_up(turn, [*urgent, *others])
        for other in others:
            self._intended(turn, other)
        unwritten = await self._flushed(turn)
        results.extend(await self._others(turn, others, unwritten))
        if unwritten is not None:
            results.append(unwritten)
        return next((result for result in results if not result.done), None)

    async def _urgent(self, urgent: Sequence[effects.Urgent], names: Sequence[str]) -> list[Result]:
        """Side by side: none waits for another's answer."""
        asked = zip(urgent, names, strict=True)
        return await asyncio.gather(
            *(self._actor.safer(effect, None, name) for effect, name in asked)
        )

    def _name(self, turn: _Turn) -> str:
        """A new name for the writes of one record."""
        turn.card.calls += 1
        return f"{turn.ledger.name}/{self._actor.epoch}/{turn.card.calls}"

    def _named(self, turn: _Turn, effect: Effect) -> str:
        """The name of an effect's writes, the same one while it is asked for again and again."""
        tried = turn.card.tried.setdefault(key_of(effect), Tried())
        tried.call = tried.call or self._name(turn)
        return tried.call

    def _intended(self, turn: _Turn, effect: Effect) -> None:
        """Note an intent, unless the same one is open or was carried out a moment ago."""
        key = key_of(effect)
        tried = turn.card.tried.get(key)
        if tried is not None and (tried.intent is not None or not isinstance(effect, RISKIER)):
            return
        call, intent, about = self._name(turn), None, describe.effect(effect)
        if not turn.quiet:
            intent = turn.ledger.note("intent", {**about, "call": call})
        turn.card.tried[key] = Tried(intent=intent, call=call, told=intent is not None, about=about)

    async def _refused(self, turn: _Turn, effect: effects.Riskier) -> Result | None:
        """Ask the guards before anything is written: a refusal that lasts is noted once."""
        if turn.ledger.full:
            return Result(done=False, words="the journal is full: nothing may be raised")
        result = await self._actor.asked(effect, turn.situation, turn.decision.memory)
        codes = "; ".join(item.code for item in result.refusals) if result else ""
        if result is not None and codes and codes != turn.card.refusal:
            body = {**describe.effect(effect), "codes": codes, "words": result.words}
            turn.ledger.note("refused", body)
        if codes or result is None:
            turn.card.refusal = codes
        return result

    async def _flushed(self, turn: _Turn) -> Result | None:
        """Make state and intents durable; a result if that did not work."""
        run = turn.decision.memory.run
        if not turn.ledger.needs_flush(run):
            return None
        try:
            await turn.ledger.flush(run)
        except errors.SwitchgearError as error:
            why = error.diagnostics()
            log.warning("journal not writable", target=str(turn.card.target), why=why)
            self._meters.journal_failed()
            return Result(done=False, words=f"the journal is not writable: {error.message}")
        return None

    async def _others(
        self, turn: _Turn, others: Sequence[Effect], unwritten: Result | None
    ) -> list[Result]:
        results: list[Result] = []
        stopped = False
        for effect in others:
            if stopped:
                # The order is a safety argument: what follows a failure is not tried.
                words = "not tried, since something before it failed"
                _told(turn, effect, Result(done=False, words=words))
                continue
            if unwritten is not None and self._waits(turn, effect):
                result = unwritten
            else:
                result = await self._perform(turn, effect)
            results.append(result)
            _told(turn, effect, result)
            stopped = not result.done
        return results

    def _waits(self, turn: _Turn, effect: Effect) -> bool:
        """Whether an effect has to wait for a journal that cannot be written.

        The way back does not wait, unless another controller has taken the run over.
        """
        phase = turn.decision.memory.phase
        if turn.situation.latches.epoch > self._actor.epoch or phase in FORWARD:
            return True
        if isinstance(effect, effects.PinService):
            return phase is Phase.PREPARING
        return isinstance(effect, RISKIER + ON_RECORD_FIRST)

    async def _perform(self, turn: _Turn, effect: Effect) -> Result:
        name = self._named(turn, effect)
        if isinstance(effect, RISKIER):
            if turn.ledger.full:
                return Result(done=False, words="the journal is full: nothing may be raised")
            memory = turn.decision.memory
            result = await self._actor.riskier(effect, turn.situation, memory, name)
            if result.claimed:
                turn.ledger.note("effect", claimed(result.claimed))
            return result
        return await self._actor.safer(effect, None, name)


async def leave(card: Card) -> None:
    """Nobody here ticks this target any more: what was tried is told, and durable.

    An intent that is open stays so. What it asks for may still be on its way, which whoever leads
    next has to know of. Errors as `Ledger.flush`.
    """
    if card.ledger is None or card.memory is None or card.inherited is not None:
        return
    run = card.memory.run
    for tried in card.tried.values():
        if tried.intent is not None:
            words = f"left to whoever leads next; last: {tried.words or 'not tried'}"
            body = {"intent": tried.intent, "words": words, "writes": tried.writes}
            card.ledger.note("failing", body)
        elif tried.writes > tried.noted and not _quiet(card.ledger, run.phase):
            _effect(card.ledger, tried)
    if card.ledger.needs_flush(run):
        await card.ledger.flush(run)


def claimed(objects: Sequence[str], *, done: bool = True) -> dict[str, object]:
    """The record of objects that our epoch was put on, or was to be put on."""
    return {"effect": "Claim", "objects": list(objects), "done": done}


def pause_after(card: Card) -> float:
    """Seconds until the next look after effects: longer while the same ones are asked for."""
    return float(min(FIRST_WAIT * 2 ** min(card.again, 10), LONGEST_WAIT))


def key_of(effect: Effect) -> str:
    """What makes two effects the same; what was seen of the world when it was asked does not."""
    return json.dumps(_bare(describe.effect(effect)), sort_keys=True)


def _bare(value: object) -> object:
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if key != "seen"}
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return value


def kind_of(words: str) -> str:
    """The kind of a failure: its words without the figures that differ each time."""
    return re.sub(r"\d+", "#", words)


def _quiet(ledger: Ledger, phase: Phase) -> bool:
    return ledger.full and phase not in RETURNING | RESTING


def _counted(card: Card, asked: Sequence[Effect]) -> None:
    keys = tuple(key_of(effect) for effect in asked)
    card.again = card.again + 1 if keys and keys == card.asked else 0
    card.asked = keys


def _given_up(turn: _Turn, asked: Sequence[Effect]) -> None:
    """What is asked for no longer gets its outcome, and is new when it is asked for again."""
    keys = {key_of(effect) for effect in asked}
    for key in [key for key in turn.card.tried if key not in keys]:
        tried = turn.card.tried.pop(key)
        if tried.intent is not None:
            words = f"no longer wanted; last: {tried.words or 'not tried'}"
            _outcome(turn.ledger, tried, done=False, words=words)
        elif tried.writes > tried.noted and not turn.quiet:
            # Written again after its record, since the cache was behind: once more in all, so that
            # what is written again and again does not fill the journal.
            _effect(turn.ledger, tried)


def _told(turn: _Turn, effect: Effect, result: Result) -> None:
    """Note what became of an effect, if that is new."""
    tried = turn.card.tried.setdefault(key_of(effect), Tried())
    tried.about = tried.about or describe.effect(effect)
    tried.times += 1
    tried.writes += result.writes
    words = kind_of(result.words)
    same = tried.done is result.done and tried.kind == words
    tried.done, tried.kind, tried.words = result.done, words, result.words
    if tried.intent is not None and result.done:
        _outcome(turn.ledger, tried, done=True, words=result.words)
    elif not same and not turn.quiet:
        if tried.intent is not None:
            turn.ledger.note("failing", {"intent": tried.intent, "words": result.words})
        else:
            _effect(turn.ledger, tried)


def _effect(ledger: Ledger, tried: Tried) -> None:
    body = {
        **tried.about,
        "done": tried.done,
        "words": tried.words,
        "times": tried.times,
        "writes": tried.writes,
    }
    if not tried.told:
        body["call"] = tried.call
    tried.told, tried.noted = True, tried.writes
    ledger.note("effect", body)


def _outcome(ledger: Ledger, tried: Tried, *, done: bool, words: str) -> None:
    body = {
        "intent": tried.intent,
        "done": done,
        "words": words,
        "times": tried.times,
        "writes": tried.writes,
    }
    ledger.note("outcome", body)
    tried.intent, tried.noted = None, tried.writes
