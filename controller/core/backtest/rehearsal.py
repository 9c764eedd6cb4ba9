# SPDX-License-Identifier: Apache-2.0
"""One run rehearsed on a stretch of history, by the judge, the gates and the ladder of a real one.

What is not rehearsed: how long pods take to start, and what they do then. A weight is in force
after the gateway's settling time, and each step's evidence begins there.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from msgspec import structs

from controller.core.backtest.measured import Measured, Pods
from controller.core.backtest.stretch import Stretch
from controller.core.backtest.thinning import Dice, Regression, worsened
from controller.core.evidence.judge import (
    Evidence,
    Gate,
    Outcome,
    Settings,
    Verdict,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.readings import read
from controller.core.evidence.replay import actors
from controller.core.lifecycle import rungs, trial
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.values import WHOLE_BP

UNMEASURED: Final = Measured()
"""Requests alone."""


class End(enum.Enum):
    """How a rehearsal ended."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    DEADLINE = "deadline"
    """A step found no verdict in its time: inconclusive."""
    CUT = "cut"
    """The stretch was over before the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One step of the ladder, or the bake: weight, what a PASS asks for, and how long it may take.

    `warm_up_seconds` is how long the pods that are started for it count as cold.
    """

    share: float
    gate: Gate
    deadline_seconds: float
    warm_up_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run as its policy and what is known of stable's past make it."""

    settings: Settings
    rungs: tuple[Rung, ...]
    settle_seconds: float

    @property
    def seconds(self) -> float:
        """How long it takes if every step passes after its dwell and the last one waits."""
        dwells = sum(one.gate.dwell_seconds + self.settle_seconds for one in self.rungs)
        return dwells + max(one.deadline_seconds - one.gate.dwell_seconds for one in self.rungs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What became of one rehearsal.

    Attributes:
        at: When it began, in seconds since the epoch.
        end: How it ended.
        seconds: After how long, since the first weight was raised.
        step: Index of the last rung.
        group: The pods that played the canary; empty: requests drawn out of all.
        worse: Answers that were worse for the regression until then.
        levels: The evidence after each interval, as a natural logarithm.
        verdict: The last one; None where none was asked for.
    """

    at: float
    end: End
    seconds: float
    step: int
    group: tuple[str, ...]
    worse: int
    levels: tuple[float, ...]
    verdict: Verdict | None


def planned(situation: Situation, run: Run) -> Plan:
    """The whole ladder up to the rung that lets the Deployment roll.

    Args:
        situation: The policy, the scrape interval and the gateway's pace.
        run: The run, with what is known of stable's past before it.
    """
    found = []
    before = 0
    for index in range(rungs.final(situation, run)):
        step = rungs.at(situation, run, index)
        there = replace(run, step=index)
        pods = max(1, -(-run.replicas * step.weight_bp // WHOLE_BP))
        found.append(
            Rung(
                share=step.weight_bp / WHOLE_BP,
                gate=trial.gate(situation, there),
                deadline_seconds=step.dwell_seconds + situation.plan.deadline_seconds,
                warm_up_seconds=situation.plan.warm_up_seconds * (pods > before),
            )
        )
        before = pods
    return Plan(
        settings=trial.settings(situation, run),
        rungs=tuple(found),
        settle_seconds=situation.settle_seconds,
    )


def group(stretch: Stretch, share: float, first: int) -> tuple[str, ...]:
    """The pods that a canary of such a share would be, from the given one on; none: no pods."""
    pods = stretch.pods
    count = actors(share, len(pods))
    return tuple(pods[(first + place) % len(pods)] for place in range(count))


def measured_on(stretch: Stretch, group: tuple[str, ...]) -> Pods:
    """The pods whose values are the canary's where these play it.

    Where all of them do, one is left to stable: of requests each has a share of both tracks, and of
    what is measured it has one value.
    """
    return frozenset(group[:-1] if len(group) == len(stretch.pods) else group)


def casts(plan: Plan, stretch: Stretch, firsts: Iterable[int]) -> tuple[Pods, ...]:
    """Every set of pods whose values such runs may ask for, each once."""
    found = (
        measured_on(stretch, group(stretch, rung.share, first))
        for first in firsts
        for rung in plan.rungs
    )
    return tuple(dict.fromkeys(found))


class _Ladder:
    """Where a rehearsal stands on its ladder."""

    def __init__(self, plan: Plan, stretch: Stretch, first: int) -> None:
        self.plan, self.stretch, self._first = plan, stretch, first
        self.index = 0
        self.evidence = self._raised(start(plan.settings), stretch.at)

    @property
    def rung(self) -> Rung:
        return self.plan.rungs[self.index]

    def _raised(self, evidence: Evidence, at: float) -> Evidence:
        """The rung's weight is written at that time, and in force when the gateway has settled."""
        self.opened = at + self.plan.settle_seconds
        self.group = group(self.stretch, self.rung.share, self._first)
        warm_up = self.rung.warm_up_seconds
        return weight_changed(evidence, self.opened, warm_up_seconds=warm_up)

    def look(self, at: float) -> tuple[End | None, Verdict | None]:
        """Go on by what the evidence says at that time; how the run ends, if it does."""
        settings, gate = self.plan.settings, self.rung.gate
        if self.evidence.trip is not None:
            return End.ROLLED_BACK, judge(self.evidence, settings, at, gate=gate)
        verdict = None
        # Before its dwell is over nothing passes, and what fails has tripped.
        if self.evidence.window.seconds >= gate.dwell_seconds:
            verdict = judge(self.evidence, settings, at, gate=gate)
            if verdict.outcome is Outcome.PASS:
                if self.index == len(self.plan.rungs) - 1:
                    return End.PROMOTED, verdict
                self.index += 1
                self.evidence = self._raised(self.evidence, at)
                return None, verdict
        if at - self.opened > self.rung.deadline_seconds:
            return End.DEADLINE, verdict
        return None, verdict


def play(
    plan: Plan,
    stretch: Stretch,
    measured: Measured = UNMEASURED,
    *,
    first: int,
    seed: int,
    regression: Regression | None = None,
) -> Played:
    """Rehearse one run from the stretch's begin.

    Args:
        plan: The run.
        stretch: The history that it meets.
        measured: What was measured in it beside requests.
        first: Index of the pod that plays the canary first; the next ones join as it grows.
        seed: Of all that is drawn.
        regression: What is wrong with the version; None: nothing. It is put into the counts alone.
    """
    dice, ladder = Dice(seed), _Ladder(plan, stretch, first)
    usual, bound = stretch.usual, stretch.bound
    worse, levels = 0, []
    end, seconds, verdict = End.CUT, stretch.end - stretch.at, None
    for number in range(stretch.intervals):
        interval = stretch.interval(number, ladder.group, ladder.rung.share, dice)
        if regression is not None:
            canary, more = worsened(dice, interval.canary, regression, usual=usual, bound=bound)
            interval = structs.replace(interval, canary=canary)
            worse += more
        pods = measured_on(stretch, ladder.group)
        for reading in measured.readings(pods, interval.at - interval.seconds, interval.at):
            ladder.evidence = read(ladder.evidence, plan.settings, reading)
        ladder.evidence = observe(ladder.evidence, plan.settings, interval)
        levels.append(ladder.evidence.level)
        ended, verdict = ladder.look(interval.at)
        if ended is not None:
            end, seconds = ended, interval.at - stretch.at
            break
    return Played(
        at=stretch.at, end=end, seconds=seconds, step=ladder.index, group=ladder.group,
        worse=worse, levels=tuple(levels), verdict=verdict,
    )  # fmt: skip
