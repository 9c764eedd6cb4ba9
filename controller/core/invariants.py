# SPDX-License-Identifier: Apache-2.0
"""The promises that a single decision could break, as predicates over it.

They are asked before a decision is carried out, in tests and in production; a decision that breaks
one is not carried out, and the target goes back to weight 0.
"""

from collections.abc import Iterator

from controller.core import effects
from controller.core.effects import RISKIER, Admit, FollowCanary, RaiseWeight, Roll
from controller.core.lifecycle import exposure, rungs
from controller.core.lifecycle.climb import ready_pods
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.situation import Decision, Situation
from controller.core.lifecycle.table import COMMITTED, RETURNING, UNTOUCHED, Phase
from controller.core.policy.model import Policy
from controller.core.values import CANARY_TRACK, TRACK_LABEL


def broken(situation: Situation, before: Memory, decision: Decision) -> tuple[str, ...]:
    """The promises that carrying out the decision would break; empty: none."""
    return (
        *_one_raise(decision),
        *_steps(situation, before, decision),
        *_weights(situation, decision),
        *_way_back(decision),
        *_carrying(situation, decision),
        *_foreign(situation, decision),
    )


def _one_raise(decision: Decision) -> Iterator[str]:
    count = sum(isinstance(effect, RISKIER) for effect in decision.effects)
    if count > 1:
        yield f"S2: {count} effects toward risk in one tick"
    if count and decision.memory.phase in RETURNING | UNTOUCHED | {Phase.HELD, Phase.RESUMING}:
        yield f"S2: an effect toward risk in {decision.memory.phase.value}"


def _steps(situation: Situation, before: Memory, decision: Decision) -> Iterator[str]:
    after = decision.memory.run
    risen = after.granted - before.run.granted
    if after.name == before.run.name and risen > 1 and not after.recovery:
        yield f"S2: {risen} steps granted at once"
    if after.granted > before.run.granted and before.phase is not Phase.JUDGING:
        yield f"S2: a step granted in {before.phase.value}, where no evidence is weighed"
    if isinstance(situation.policy, Policy) and after.granted > rungs.final(situation, after):
        yield "S2: more steps granted than there are"


def _weights(situation: Situation, decision: Decision) -> Iterator[str]:
    run = decision.memory.run
    for effect in decision.effects:
        if isinstance(effect, FollowCanary | Roll) and run.granted < rungs.final(situation, run):
            yield f"S1: {type(effect).__name__} before everything was granted"
        if isinstance(effect, RaiseWeight | Admit):
            cap = rungs.at(situation, run, min(run.granted, effect.step))
            if effect.weight_bp > cap.weight_bp:
                yield f"S1: weight {effect.weight_bp} asked for under a cap of {cap.weight_bp}"
        exposing = isinstance(effect, RaiseWeight | Admit | FollowCanary)
        if exposing and ready_pods(situation.view, run) == 0:
            yield "S5: weight for a canary without ready endpoints"


def _way_back(decision: Decision) -> Iterator[str]:
    if decision.memory.phase not in COMMITTED:
        return
    if any(isinstance(effect, effects.ZeroWeight) for effect in decision.effects):
        yield "S4: weight 0 while the stable pods may be gone"


def _carrying(situation: Situation, decision: Decision) -> Iterator[str]:
    """Pods end in peace only where no request goes any more."""
    run, canary = decision.memory.run, situation.view.canary
    if canary is None or canary.replicas == 0:
        return
    followed = any(
        (TRACK_LABEL, CANARY_TRACK) in service.selector
        for service in exposure.services(situation, run)
    )
    if not followed and not any(situation.shares(run.lanes)):
        return
    if any(isinstance(effect, effects.DeleteCanary) for effect in decision.effects):
        yield "S5: DeleteCanary while requests go to it"


def _foreign(situation: Situation, decision: Decision) -> Iterator[str]:
    canary = situation.view.canary
    for effect in decision.effects:
        touches = isinstance(
            effect, effects.DeleteCanary | effects.ShrinkCanary | effects.StartCanary
        )
        if touches and canary is not None and not canary.ours:
            yield f"S12: {type(effect).__name__} on a Deployment that is not ours"
