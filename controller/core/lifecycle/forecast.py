# SPDX-License-Identifier: Apache-2.0
"""The ladder of a run that has not begun: how long each rung takes, and what it would find."""

import math
from dataclasses import dataclass, replace
from typing import Final

from controller.core.evidence import power
from controller.core.evidence.power import Load, Passage
from controller.core.evidence.readings import READ_SECONDS
from controller.core.lifecycle import rungs, trial
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.policy.model import Step
from controller.core.values import WHOLE_BP

EXAMPLES: Final = (0.5, 0.05, 0.01)
"""Shares of failed answers of which is told how soon they are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rung of the ladder, the bake among them.

    Attributes:
        name: As people call it.
        step: Its weight, and its least time.
        per_second: Requests per second that the canary gets there.
        passage: How a healthy canary gets through.
        patience_seconds: How long one waits at most whose pods use much while they are young; 0: no
            gauge is asked.
        smallest: The least share of failed answers that is found in that time; None: none is.
        examples: Pairs of a share of failed answers and the seconds until it is found.
    """

    name: str
    step: Step
    per_second: float
    passage: Passage
    patience_seconds: float
    smallest: float | None
    examples: tuple[tuple[float, float], ...]


def of(situation: Situation, run: Run, *, per_second: float, stable_bad: float) -> tuple[Rung, ...]:
    """Every rung up to the one that lets the Deployment roll.

    Args:
        situation: The policy, the caps, the scrape interval and the gateway's pace as they are.
        run: The run as it would begin, with what is known of stable's past.
        per_second: Requests per second of stable now.
        stable_bad: Share of them that fail, 0..1.
    """
    found: list[Rung] = []
    chosen = trial.settings(situation, run)
    steps = rungs.count(situation, run)
    for index in range(rungs.final(situation, run)):
        step = rungs.at(situation, run, index)
        gate = trial.gate(situation, replace(run, step=index))
        load = Load(
            per_second=per_second,
            share=step.weight_bp / WHOLE_BP,
            stable_bad=stable_bad,
            scrape_seconds=max(situation.scrape_seconds, 1.0),
        )
        most = gate.dwell_seconds + situation.plan.deadline_seconds
        warm_up = situation.plan.warm_up_seconds
        passage = power.passage(chosen, load, gate, most=most, warm_up_seconds=warm_up)
        patience = max((one.patience_seconds for one in chosen.gauges), default=0.0)
        within = passage.seconds if math.isfinite(passage.seconds) else most
        found.append(
            Rung(
                name=f"step {index + 1}" if index < steps else "bake",
                step=replace(step, dwell_seconds=gate.dwell_seconds),
                per_second=per_second * load.share,
                passage=passage,
                patience_seconds=(warm_up + patience + READ_SECONDS)
                * (patience > 0 and gate.proven),
                smallest=power.smallest(chosen, load, within),
                examples=tuple(
                    (bad, power.detection_seconds(chosen, load, bad))
                    for bad in EXAMPLES
                    if bad > stable_bad * chosen.tolerance
                ),
            )
        )
    return tuple(found)
