# SPDX-License-Identifier: Apache-2.0
"""What the controller knows of each target between two ticks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from controller.core.evidence.calibration import Calibration
from controller.core.evidence.judge import Verdict
from controller.core.lifecycle.memory import Mark, Memory, Moments, Run
from controller.core.lifecycle.situation import Request
from controller.core.lifecycle.table import RESTING, Phase
from controller.core.observation import Preflight, View
from controller.core.values import TargetRef
from controller.engine.ledger import Ledger
from controller.ports.cluster import ObjectRef

_PATIENT = RESTING | {Phase.JUDGING, Phase.BAKING}
"""Phases that take as long as a policy or a person wants."""

MOST_REQUESTS = 16
"""Requests that wait for one target; a person who asks more often is told to wait."""


@dataclass(slots=True, kw_only=True)
class Tried:
    """An effect that was asked for in the last decision, and what became of it."""

    call: str = ""
    """The name of its writes, in its record and in the API server's audit log."""
    told: bool = False
    """The record with that name is written."""
    writes: int = 0
    """How many of them were accepted."""
    noted: int = 0
    """How many of those a record tells of."""
    about: dict[str, object] = field(default_factory=dict)
    """The effect as its record describes it."""
    intent: int | None = None
    """The number of its intent while that is open."""
    done: bool | None = None
    """None: not tried yet."""
    kind: str = ""
    words: str = ""
    times: int = 0


@dataclass(slots=True, kw_only=True)
class Card:
    """One target: its run, its finished runs and what was asked of it."""

    target: TargetRef
    memory: Memory | None = None
    ledger: Ledger | None = None
    finished: list[tuple[Run, Ledger]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    inherited: tuple[ObjectRef, ...] | None = None
    """Of a run that another leader began, until it is claimed: what that leader may be raising."""
    unsettled: tuple[dict[str, object], ...] = ()
    """Open intents of that leader: settled by looking, once nothing of them can arrive any more."""
    preflight: Preflight | None = None
    preflight_at: float = 0.0
    calibration: Calibration | None = None
    verdict: Verdict | None = None
    why: str = "not looked at yet"
    told: str = ""
    """The status that people were last told."""
    told_codes: tuple[str, ...] = ()
    """The reasons of the verdict that it tells of."""
    told_at: float = -math.inf
    """When they were, monotonic."""
    refusal: str = ""
    """What the guards said last, so that it is recorded once."""
    tried: dict[str, Tried] = field(default_factory=dict)
    """The effects of the last decision: no more than one decision can ask for."""
    known: Mark | None = None
    """The mark that the target was last seen with: by it one made anew is recognised."""
    frozen: str = ""
    """Name of a run document that cannot be used; while it stands no run begins."""
    frozen_why: str = ""
    damaged: Run | None = None
    """The run of that document, as far as it can be read."""
    gone_at: float | None = None
    """Since when the target has had no Deployment, monotonic."""
    failing_since: float | None = None
    """Since when something asked for has failed at every try, monotonic."""
    failing_told: str = ""
    broken: str = ""
    """The promises that the last refused decision would have broken."""
    notices: dict[tuple[str, str], float] = field(default_factory=dict)
    """What people were told within the last minute, and when, monotonic."""
    calls: int = 0
    """Effects that were given a name so far."""
    asked: tuple[str, ...] = ()
    again: int = 0
    """How often in a row the same effects were asked for."""
    probe: bool = False
    """A person asked for another try: the next run is the one probe of a half-open breaker."""

    @property
    def others(self) -> list[Run]:
        """The runs that ended, newest last."""
        return [run for run, _ in self.finished]


class Desk:
    """All cards, by target."""

    def __init__(self) -> None:
        """Start with none."""
        self.known = False
        """Whether every run on record has been taken up; before that no card is no news."""
        self._cards: dict[TargetRef, Card] = {}
        self._count = 0

    def card(self, target: TargetRef) -> Card:
        """The target's card, new if there was none."""
        return self._cards.setdefault(target, Card(target=target))

    def find(self, target: TargetRef) -> Card | None:
        """The target's card, if it has one."""
        return self._cards.get(target)

    def cards(self) -> Iterator[Card]:
        """Every card, in the order of names."""
        for target in sorted(self._cards):
            yield self._cards[target]

    def forget(self, target: TargetRef) -> None:
        """Drop a target that is gone and has nothing left to remember."""
        card = self._cards.get(target)
        if card is not None and card.memory is None and not card.finished:
            del self._cards[target]

    def clear(self) -> None:
        """Forget everything: another process acts from here on."""
        self.known = False
        self._cards.clear()

    def running(self) -> list[Card]:
        """Cards with a run under way (held ones included)."""
        return [card for card in self._cards.values() if card.memory is not None]

    def slowest(self, now: float) -> float:
        """Seconds for which some run has been in a phase that should end by itself; 0 without one.

        Evidence takes as long as the policy says, and what is held waits for a person.
        """
        memories = (card.memory for card in self._cards.values())
        return max(
            (now - one.moments.entered for one in memories if one and one.phase not in _PATIENT),
            default=0.0,
        )

    def begin(self, card: Card, view: View, mark: Mark, *, epoch: int, now: float) -> Memory:
        """A new run for the template that the Deployment has now."""
        deployment = view.deployment
        assert deployment is not None  # noqa: S101  # rest.look found the change in it.
        self._count += 1
        run = Run(
            name=f"{card.target.name[:40]}-{deployment.digest[:8]}-e{epoch}n{self._count}",
            target=card.target,
            uid=deployment.uid,
            annotations=tuple(sorted(deployment.annotations.items())),
            stable_hash=mark.hash,
            stable_digest=mark.digest,
            digest=deployment.digest,
            replicas=deployment.replicas,
            probe=card.probe,
        )
        card.probe = False
        card.preflight = None
        card.calibration = None
        card.verdict = None
        card.tried.clear()
        card.refusal = ""
        return Memory(run=run, moments=Moments(entered=now))


def policy_kept(memory: Memory, view: View) -> Memory:
    """Before anything is touched the run follows the policy as it stands now."""
    if view.deployment is None:
        return memory
    annotations = tuple(sorted(view.deployment.annotations.items()))
    return replace(memory, run=replace(memory.run, annotations=annotations))
