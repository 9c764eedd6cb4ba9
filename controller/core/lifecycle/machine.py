# SPDX-License-Identifier: Apache-2.0
"""One tick of a run: `step(situation, memory) -> Decision`, pure and total.

First the interrupts are asked (gone, killed, aborted, overtaken, failed, silent, above the cap),
which only ever lead toward safety; then the rule of the phase. A change of phase without an effect
is followed by the next phase's rule in the same tick, so that one write of the run document covers
what belongs together. At most one effect of a decision raises risk.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from controller.core import effects
from controller.core.lifecycle import (
    climb,
    coverage,
    exposure,
    native,
    prepare,
    promote,
    rollback,
    rungs,
    trial,
)
from controller.core.lifecycle.memory import Ending, Memory
from controller.core.lifecycle.situation import Decision, Notice, Situation, Verb
from controller.core.lifecycle.table import (
    ARMED,
    COMMITTED,
    EXPOSED,
    RESTING,
    RETURNING,
    UNTOUCHED,
    WATCHED,
    Event,
    Phase,
)
from controller.core.policy.model import Traffic
from controller.core.values import percent

MOST_PHASES: Final = 6
"""So many phases may follow each other in one tick; more would be a loop in the table."""

_RULES: Final[dict[Phase, Callable[[Situation, Memory], Decision]]] = {
    Phase.HOLDING: prepare.hold,
    Phase.CHECKING: prepare.check,
    Phase.PREPARING: prepare.prepare,
    Phase.SCALING: climb.scale,
    Phase.RAISING: climb.raise_weight,
    Phase.JUDGING: climb.judge,
    Phase.COMMITTING: promote.commit,
    Phase.ROLLING: promote.roll,
    Phase.HANDING_BACK: promote.hand_back,
    Phase.RESTORING: promote.restore,
    Phase.ROLLING_OUT: native.roll_out,
    Phase.BAKING: native.bake,
    Phase.ORPHANING: native.orphan,
    Phase.UNDOING: rollback.undo,
    Phase.ROLLING_BACK: rollback.roll_back,
    Phase.CLEANING: rollback.clean,
    Phase.HELD: rollback.held,
    Phase.RESUMING: rollback.resume,
}


def step(situation: Situation, memory: Memory) -> Decision:
    """What to do now. Raises InvariantBroken only if a rule breaks the table."""
    memory = _fed(situation, _stopwatch(situation, memory))
    notices: tuple[Notice, ...] = ()
    reasons: list[str] = []
    verdict = None
    decision = Decision(memory=memory, why="ended", wait_seconds=60.0)
    for _ in range(MOST_PHASES):
        if memory.phase is Phase.ENDED:
            break
        decision = _interrupt(situation, memory) or _RULES[memory.phase](situation, memory)
        notices = (*notices, *decision.notices)
        verdict = decision.verdict or verdict
        moved = decision.memory.phase is not memory.phase
        memory = decision.memory
        reasons.append(decision.why)
        if not moved or decision.effects or memory.phase is Phase.HELD:
            break
    why = "; ".join(dict.fromkeys(reasons)) or decision.why
    return replace(decision, memory=memory, why=why, notices=notices, verdict=verdict)


def _stopwatch(situation: Situation, memory: Memory) -> Memory:
    """While a person keeps the run where it is no deadline runs; it begins anew afterwards."""
    if situation.paused and memory.phase in EXPOSED | {Phase.PREPARING}:
        return memory.at(entered=situation.now)
    return memory


def _fed(situation: Situation, memory: Memory) -> Memory:
    if memory.phase in WATCHED and not isinstance(situation.policy, tuple):
        return coverage.timed(situation, trial.fed(situation, memory))
    return memory


def _stopped(
    situation: Situation, memory: Memory, ending: Ending, reason: str, notice: str
) -> Decision:
    """The run goes back. What trips the breaker or is quarantined is decided here alone."""
    failed = ending is Ending.FAILED
    after = memory.moved(
        Event.STOP,
        situation.now,
        ending=ending,
        reason=reason,
        tripped=failed,
        quarantined=failed,
    )
    return Decision(
        memory=after,
        why=reason,
        notices=(Notice(reason=notice, message=reason, warning=True),),
        wait_seconds=0.0,
    )


def _interrupt(situation: Situation, memory: Memory) -> Decision | None:
    for rule in (
        _gone,
        _killed,
        _aborted,
        _overtaken,
        _tripped,
        _silent,
        _resumed,
        _above,
        _undone,
    ):
        found = rule(situation, memory)
        if found is not None:
            return found
    return None


def _gone(situation: Situation, memory: Memory) -> Decision | None:
    deployment = situation.view.deployment
    there = deployment is not None and deployment.uid == memory.run.uid and not deployment.deleting
    if there:
        return None
    if memory.phase in {Phase.ROLLING_BACK, Phase.CLEANING}:
        return None  # Already on the way back; the rules see the missing Deployment themselves.
    after = memory.moved(
        Event.GONE,
        situation.now,
        ending=Ending.GONE,
        reason="the Deployment was deleted in mid-run",
        outcome=memory.run.outcome or Ending.GONE.value,
    )
    notice = Notice(reason="TargetGone", message="the Deployment was deleted", warning=True)
    return Decision(memory=after, why="the Deployment is gone", notices=(notice,))


def _killed(situation: Situation, memory: Memory) -> Decision | None:
    if memory.phase in RETURNING | RESTING | UNTOUCHED | {Phase.RESUMING, Phase.RESTORING}:
        return None
    run = memory.run
    scope = situation.latches.kill_for(run.target.namespace, run.target.name)
    deployment = situation.view.deployment
    if not scope and deployment is not None and "kill" in deployment.annotations:
        scope = "annotation"
    if not scope:
        return None
    return _stopped(
        situation, memory, Ending.KILLED, f"the kill switch was used ({scope})", "Killed"
    )


def _aborted(situation: Situation, memory: Memory) -> Decision | None:
    if memory.phase in RETURNING | RESTING | {Phase.RESUMING, Phase.RESTORING}:
        return None
    deployment = situation.view.deployment
    asked = deployment is not None and deployment.annotations.get("abort") in {
        memory.run.name,
        "true",
    }
    person = situation.asked(Verb.ABORT)
    who = person.actor if person is not None else "annotation" if asked else ""
    if not who:
        return None
    return _stopped(situation, memory, Ending.ABORTED, f"aborted by {who}", "Aborted")


def _overtaken(situation: Situation, memory: Memory) -> Decision | None:
    run = memory.run
    deployment = situation.view.deployment
    if deployment is None or deployment.digest == run.digest:
        return None
    if memory.phase in RETURNING | RESTING | {Phase.RESUMING, Phase.RESTORING}:
        return None
    if deployment.digest == run.stable_digest:
        reason = "the stable template was put back"
        return _stopped(situation, memory, Ending.CANCELLED, reason, "Cancelled")
    reason = "a newer template takes its place"
    return _stopped(situation, memory, Ending.SUPERSEDED, reason, "Superseded")


def _tripped(situation: Situation, memory: Memory) -> Decision | None:
    """The breaker: evidence or pod state says FAIL, at the evaluation in which it does."""
    if memory.phase not in WATCHED:
        return None
    deployment = situation.view.deployment
    if memory.phase in EXPOSED and deployment is not None and deployment.replicas == 0:
        reason = "the Deployment was scaled to 0 in mid-run"
        return _stopped(situation, memory, Ending.REFUSED, reason, "ScaledToZero")
    if isinstance(situation.policy, tuple):
        return None
    found = trial.failed(situation, memory)
    if found is None:
        return None
    stopped = _stopped(situation, memory, Ending.FAILED, trial.sentence(found), "BreakerTripped")
    return replace(stopped, verdict=found)


def _silent(situation: Situation, memory: Memory) -> Decision | None:
    """Nothing is heard of the run, or of one of its versions: in the end exposure goes to 0."""
    if not coverage.at_stake(situation, memory) or isinstance(situation.policy, tuple):
        return None
    limit = situation.policy.metrics_deadline_seconds
    silent = coverage.silence(situation, memory)
    if silent.seconds < limit:
        return None
    reason = f"{silent.words} for {silent.seconds:.0f} s (limit {limit:.0f} s){silent.why}"
    return _stopped(situation, memory, Ending.INCONCLUSIVE, reason, "MetricsSilent")


def _resumed(situation: Situation, memory: Memory) -> Decision | None:
    """Somebody resumed the Deployment before its template may roll: hold it again at once."""
    if memory.phase not in EXPOSED | {Phase.CHECKING, Phase.PREPARING, Phase.CLEANING}:
        return None
    again = prepare.resumed(situation, memory.run)
    if not again:
        return None
    message = "somebody resumed the Deployment in mid-run; it is held again"
    return Decision(
        memory=memory,
        why=message,
        effects=again,
        notices=(Notice(reason="HeldAgain", message=message, warning=True),),
    )


def _above(situation: Situation, memory: Memory) -> Decision | None:
    """More than the rung allows, by another's write or a lowered cap: back at once (S1)."""
    if memory.phase not in {Phase.SCALING, Phase.RAISING, Phase.JUDGING}:
        return None
    run = memory.run
    if run.traffic is Traffic.REPLICAS:
        return climb.crowded(situation, memory)
    rung = rungs.at(situation, run, run.step).weight_bp
    limit = rung if memory.phase is Phase.RAISING else min(run.weight_bp, rung)
    most = max(situation.shares(run.lanes), default=0)
    if most <= limit:
        return None
    lower = effects.LowerWeight(splits=situation.splits(run.lanes), weight_bp=limit)
    message = f"the canary has {percent(most)}, more than its step allows; back to {percent(limit)}"
    return Decision(
        memory=memory.with_run(weight_bp=min(run.weight_bp, limit)),
        why=message,
        effects=(lower,),
        notices=(Notice(reason="OtherWriter", message=message, warning=True),),
    )


def _undone(situation: Situation, memory: Memory) -> Decision | None:
    """Somebody undid pins, backends or objects: weight 0, then prepare again."""
    if memory.phase not in EXPOSED:
        return None
    slipped = climb.slipped(situation, memory)
    if slipped is not None:
        return slipped
    run = memory.run
    shares = exposure.exposures(situation, run)
    # Pods come and go, so that only none at all means that somebody closed a Service.
    least = 1 if run.traffic is Traffic.REPLICAS else run.weight_bp
    lost = any(share < least for share in shares)
    if memory.phase is Phase.JUDGING and lost:
        return climb.again(situation, memory)
    return None


def after_commit(phase: Phase) -> bool:
    """Whether weight 0 alone would be no safety: the stable pods may be gone."""
    return phase in COMMITTED | ARMED | {Phase.ORPHANING}
