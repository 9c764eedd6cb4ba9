# SPDX-License-Identifier: Apache-2.0
"""The rungs of a run: its steps as they were fixed when it began, the bake, and the whole."""

import functools
from dataclasses import replace
from typing import Final

from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.policy import caps
from controller.core.policy.model import Policy, Promotion, Step
from controller.core.values import WHOLE_BP

UNCAPPED: Final = caps.Ceilings()

MOST_LADDERS: Final = 1024
"""Of different ones that are remembered: every look of a run asks for several of its rungs."""


def ladder(situation: Situation, run: Run) -> tuple[Step, ...]:
    """The run's steps, each under the caps as they are now."""
    steps = _steps(run, situation.plan, situation.ceilings)
    return tuple(_capped(situation, step) for step in steps)


def _steps(run: Run, policy: Policy, ceilings: caps.Ceilings) -> tuple[Step, ...]:
    """The run's steps as they were fixed when it began; before that, the policy's as they are."""
    return _fixed(run.ladder) if run.ladder else caps.ladder(policy, ceilings)


@functools.lru_cache(maxsize=MOST_LADDERS)
def _fixed(ladder: tuple[tuple[int, float], ...]) -> tuple[Step, ...]:
    return tuple(Step(weight_bp=bp, dwell_seconds=dwell) for bp, dwell in ladder)


def _capped(situation: Situation, step: Step) -> Step:
    limit = caps.limit(step, situation.plan, situation.ceilings)
    return step if limit == step.weight_bp else replace(step, weight_bp=limit)


def planned(run: Run, policy: Policy, ceilings: caps.Ceilings = UNCAPPED) -> tuple[Step, ...]:
    """The ladder as people read it: the run's steps (at first the policy's) and the bake."""
    # Rolled natively, the new version bakes with all requests.
    most = policy.bake.weight_bp if run.promotion is Promotion.SHIFT else WHOLE_BP
    bake = Step(weight_bp=most, dwell_seconds=policy.bake.seconds)
    return (*_steps(run, policy, ceilings), bake)


def count(situation: Situation, run: Run) -> int:
    """How many steps the ladder has; the rung of that number is the bake, the next the commit."""
    return len(_steps(run, situation.plan, situation.ceilings))


def final(situation: Situation, run: Run) -> int:
    """The rung that allows the Deployment to roll: after the bake, or right after the last step."""
    return count(situation, run) + (run.promotion is Promotion.SHIFT)


def at(situation: Situation, run: Run, index: int) -> Step:
    """Weight and dwell of a rung: a step, the bake, or the whole."""
    steps = _steps(run, situation.plan, situation.ceilings)
    if index < len(steps):
        return _capped(situation, steps[index])
    if index == len(steps) and run.promotion is Promotion.SHIFT:
        bake = situation.plan.bake
        return Step(weight_bp=bake.weight_bp, dwell_seconds=bake.seconds)
    return Step(weight_bp=WHOLE_BP, dwell_seconds=0.0)


def planned_seconds(policy: Policy) -> float:
    """How long a run is watched if all goes well."""
    return sum(step.dwell_seconds for step in policy.steps) + policy.bake.seconds
