# SPDX-License-Identifier: Apache-2.0
"""The ladder: pods first, then weight, then evidence that is younger than the weight."""

from dataclasses import replace

from controller.core import effects
from controller.core.effects import Effect
from controller.core.evidence.judge import Outcome
from controller.core.evidence.reasons import seconds
from controller.core.lifecycle import coverage, exposure, prepare, rungs, trial, waits
from controller.core.lifecycle.memory import Ending, Memory, Run
from controller.core.lifecycle.situation import Decision, Notice, Situation, Verb
from controller.core.lifecycle.table import Event
from controller.core.observation import Deployment, View
from controller.core.policy import caps
from controller.core.policy.model import Promotion, Traffic
from controller.core.values import HASH_LABEL, WHOLE_BP, canary_name, percent

MOST_SLIPS = 20
"""So often may another writer undo our part before the run gives way to it."""


def wanted_pods(situation: Situation, run: Run) -> int:
    """Canary pods for the present rung: its share of stable's pods, rounded up, at least one.

    From the bake on it is as many as stable had, since they will carry everything. Where the number
    of pods is the share itself it is rounded down, to none if need be.
    """
    step = rungs.at(situation, run, run.step)
    if run.traffic is Traffic.REPLICAS:
        return caps.most_beside(exposure.stable_pods(situation), step.weight_bp)
    baking = run.step >= rungs.count(situation, run)
    weight_bp = WHOLE_BP if baking else step.weight_bp
    now = situation.view.deployment.replicas if situation.view.deployment else 0
    full = max(run.replicas, now)
    most = full if run.most_replicas is None else min(full, run.most_replicas)
    return max(1, min(-(-full * weight_bp // WHOLE_BP), most))


def ready_pods(view: View, run: Run) -> int:
    """Canary pods that every canary Service has as ready endpoints."""
    counts = [view.canary.ready if view.canary else 0]
    for service in run.services:
        twin = canary_name(service)
        counts.append(
            next((item.ready_endpoints for item in view.canary_services if item.name == twin), 0)
        )
    return min(counts)


def slipped(situation: Situation, memory: Memory) -> Decision | None:
    """Somebody else undid our part: put weight to 0, prepare again, take the same rung again.

    The rung was granted by evidence and stays granted; the evidence window begins anew.
    """
    run = prepare.adopted(situation, memory.run)
    canary = situation.view.canary
    if canary is not None and not canary.ours:
        # Nothing may be written into it any more, so that it can be no part of a run.
        return given_way(situation, memory, f"{run.target.canary} has lost our label")
    # Where the number of pods splits the requests a Service is open while a step lasts.
    at_whole = run.traffic is Traffic.REPLICAS or run.step > rungs.count(situation, run)
    lost = prepare.pins(situation, run, HASH_LABEL, run.stable_hash)
    gone = prepare.backends(situation, run) or list(prepare.objects(situation, run))
    empty = any(exposure.exposures(situation, run)) and ready_pods(situation.view, run) == 0
    # At the whole the commit itself waits: weight 0 would lead to a Service that is not there.
    lacking = run.step <= rungs.count(situation, run) and prepare.lacking(situation, run)
    if not gone and not empty and not lacking and (at_whole or not lost):
        return None
    return again(situation, replace(memory, run=run), tuple(lost))


def again(situation: Situation, memory: Memory, lost: tuple[Effect, ...] = ()) -> Decision:
    """The same rung once more from weight 0; too often, and the run gives way."""
    run = memory.run
    slips = run.slips + 1
    if slips > MOST_SLIPS:
        reason = f"another writer undid the controller's part {slips} times"
        return given_way(situation, memory.with_run(slips=slips), reason)
    step = min(run.step, rungs.count(situation, run))
    after = memory.moved(Event.SLIPPED, situation.now, slips=slips, step=step, weight_bp=0)
    message = "another writer undid the controller's part; the step begins again from weight 0"
    return Decision(
        memory=after,
        why=message,
        effects=(exposure.zero(situation, run), *lost),
        notices=(Notice(reason="OtherWriter", message=message, warning=True),),
        wait_seconds=0.0,
    )


def given_way(situation: Situation, memory: Memory, reason: str) -> Decision:
    """Another writer will have it otherwise: the run goes back and calls nothing bad."""
    after = memory.moved(Event.STOP, situation.now, ending=Ending.INCONCLUSIVE, reason=reason)
    return Decision(
        memory=after,
        why=reason,
        notices=(Notice(reason="OtherWriter", message=reason, warning=True),),
    )


def scale(situation: Situation, memory: Memory) -> Decision:
    """SCALING: enough ready canary pods for the next weight."""
    if not memory.run.ladder:
        steps = rungs.ladder(situation, memory.run)
        fixed = tuple((step.weight_bp, step.dwell_seconds) for step in steps)
        memory = memory.with_run(ladder=fixed)
    run = memory.run
    canary = situation.view.canary
    count = wanted_pods(situation, run)
    if canary is None:
        return Decision(memory=memory, why="the canary Deployment is not there yet")
    if run.traffic is Traffic.REPLICAS and canary.replicas != count:
        return _resized(situation, memory, canary, count)
    if canary.replicas < count:
        start = effects.StartCanary(target=run.target, uid=canary.uid, replicas=count)
        memory = trial.warming(situation, memory)
        return Decision(memory=memory, why=f"starting {count} canary pods", effects=(start,))
    ready = ready_pods(situation.view, run)
    if ready < count:
        why = f"{ready} of {count} canary pods are ready"
        return waits.late(situation, memory, why, situation.ready_seconds)
    return Decision(
        memory=trial.watched(situation, memory).moved(Event.READY, situation.now),
        why=f"{ready} canary pods are ready",
    )


def _resized(situation: Situation, memory: Memory, canary: Deployment, count: int) -> Decision:
    """Another number of canary pods, while the Services lead to none of them."""
    run = memory.run
    if count == 0:
        return _too_few(situation, memory)
    if any(exposure.exposures(situation, run)):
        why = "the Services select stable pods alone while the canary is scaled"
        return Decision(memory=memory, why=why, effects=(exposure.zero(situation, run),))
    resize: Effect
    if canary.replicas > count:
        resize = effects.ShrinkCanary(target=run.target, uid=canary.uid, replicas=count)
    else:
        resize = effects.StartCanary(target=run.target, uid=canary.uid, replicas=count)
    return Decision(memory=memory, why=f"{count} canary pods for this step", effects=(resize,))


def _too_few(situation: Situation, memory: Memory) -> Decision:
    """Stable has shrunk so far that a single canary pod would be more than the step allows."""
    pods = exposure.stable_pods(situation)
    step = rungs.at(situation, memory.run, memory.run.step)
    reason = (
        f"1 canary pod beside {pods} is {percent(caps.share_beside(1, pods))}, above the step's "
        f"{percent(step.weight_bp)}: the Deployment was scaled down in mid-run"
    )
    after = memory.moved(Event.STOP, situation.now, ending=Ending.INCONCLUSIVE, reason=reason)
    notice = Notice(reason="Inconclusive", message=reason, warning=True)
    return Decision(memory=after, why=reason, notices=(notice,))


def crowded(situation: Situation, memory: Memory) -> Decision | None:
    """More canary pods than the step allows beside what stable has now: fewer of them, or none.

    Somebody scaled the Deployment down, or the canary up (S1).
    """
    run = memory.run
    canary = situation.view.canary
    count = wanted_pods(situation, run)
    if canary is None or canary.replicas <= count or not any(exposure.exposures(situation, run)):
        return None
    if count == 0:
        return _too_few(situation, memory)
    message = (
        f"{canary.replicas} canary pods are more than the step allows beside "
        f"{exposure.stable_pods(situation)}; down to {count}"
    )
    fewer = effects.ShrinkCanary(target=run.target, uid=canary.uid, replicas=count)
    notice = Notice(reason="AboveCap", message=message, warning=True)
    return Decision(memory=memory, why=message, effects=(fewer,), notices=(notice,))


def _mixed(situation: Situation, memory: Memory) -> Decision | None:
    """Open the Services once the ready pods make the step's share; None: they are open."""
    run = memory.run
    if exposure.opened(situation, run):
        return None
    step = rungs.at(situation, run, run.step)
    stable = next((s for s in situation.view.replica_sets if s.hash == run.stable_hash), None)
    ready = stable.ready if stable is not None else 0
    canary = situation.view.canary
    pods = canary.replicas if canary is not None else 0
    share = caps.share_beside(pods, ready)
    if share > step.weight_bp:
        why = f"{pods} canary pods beside {ready} ready ones are {percent(share)}: waiting"
        return waits.late(situation, memory, why, situation.ready_seconds)
    why = f"{pods} of {pods + ready} pods, {percent(share)} of the requests, go to the canary"
    effect = exposure.admit(situation, run, share)
    work = Decision(memory=memory.at(asserted=None), why=why, effects=(effect,))
    return waits.unless_late(situation, work, situation.plan.deadline_seconds)


def raise_weight(situation: Situation, memory: Memory) -> Decision:
    """RAISING: one write, read back, then the gateway's settling time."""
    run = memory.run
    if run.traffic is Traffic.REPLICAS:
        return _mixed(situation, memory) or _in_force(situation, memory, exposure.share(situation))
    step = rungs.at(situation, run, run.step)
    shares = situation.shares(run.lanes)
    if any(share != step.weight_bp for share in shares):
        effect = effects.RaiseWeight(
            splits=situation.splits(run.lanes), weight_bp=step.weight_bp, step=run.step
        )
        why = f"raising the weight to {percent(step.weight_bp)}"
        work = Decision(memory=memory.at(asserted=None), why=why, effects=(effect,))
        return waits.unless_late(situation, work, situation.plan.deadline_seconds)
    return _in_force(situation, memory, step.weight_bp)


def _in_force(situation: Situation, memory: Memory, weight_bp: int) -> Decision:
    """What was read back is waited for until it is in force; then the evidence window opens."""
    run, since = memory.run, memory.moments.asserted
    if since is None:
        memory = memory.at(asserted=situation.now)
        since = situation.now
    left = since + situation.settle_seconds - situation.now
    if left > 0:
        why = f"{percent(weight_bp)} is written; waiting until it is in force"
        return Decision(memory=memory, why=why, wait_seconds=left)
    if not situation.clock:
        silent = coverage.silence(situation, memory).seconds
        most = situation.plan.metrics_deadline_seconds - silent
        why = f"waiting for a first answer of the metrics store, {seconds(most)} at most"
        why += coverage.also(situation)
        return Decision(memory=memory, why=why)
    cold = run.step == 0 or wanted_pods(situation, run) > wanted_pods(
        situation, replace(run, step=run.step - 1)
    )
    after = trial.begun(situation, memory, cold=cold).moved(
        Event.IN_FORCE, situation.now, weight_bp=weight_bp
    )
    message = f"{percent(weight_bp)} is in force"
    return Decision(
        memory=after,
        why=message,
        notices=(Notice(reason="WeightInForce", message=message),),
    )


def judge(situation: Situation, memory: Memory) -> Decision:
    """JUDGING: PASS takes the next rung, HOLD waits up to its deadline."""
    run = memory.run
    found = trial.verdict(situation, memory)
    why = trial.sentence(found)
    step = rungs.at(situation, run, run.step)
    if found.outcome is Outcome.PASS:
        return replace(_passed(situation, memory, why), verdict=found)
    person = situation.asked(Verb.PROMOTE)
    if person is not None:
        why = trial.vouched(person)
        return replace(_passed(situation, memory, why, person=True), verdict=found)
    waited = situation.now - memory.moments.entered
    limit = step.dwell_seconds + situation.plan.deadline_seconds
    held = trial.waiting(situation, memory, found, limit)
    canary = situation.view.canary
    # One that somebody took to nothing is no question of growth: its weight goes first.
    more = grown(situation, run) if canary is not None and canary.replicas else None
    if more is not None:
        message = f"the Deployment has grown, the canary follows; {held.why}"
        memory = trial.warming(situation, memory)
        return Decision(memory=memory, why=message, effects=(more,), verdict=found)
    if waited >= limit and not situation.paused:
        reason = f"no verdict at {percent(step.weight_bp)} after {limit:.0f} s: {why}"
        after = memory.moved(Event.STOP, situation.now, ending=Ending.INCONCLUSIVE, reason=reason)
        notice = Notice(reason="Inconclusive", message=reason, warning=True)
        return Decision(memory=after, why=reason, notices=(notice,), verdict=found)
    return held


def grown(situation: Situation, run: Run) -> effects.StartCanary | None:
    """More canary pods for the same share of more requests: an autoscaler has added stable ones.

    Never fewer, since they carry requests; and never where the number of pods is the share.
    """
    canary = situation.view.canary
    if run.traffic is Traffic.REPLICAS or canary is None or not run.ladder:
        return None
    count = wanted_pods(situation, run)
    if canary.replicas >= count:
        return None
    return effects.StartCanary(target=run.target, uid=canary.uid, replicas=count)


def _passed(situation: Situation, memory: Memory, why: str, *, person: bool = False) -> Decision:
    """The next rung. In a recovery run a person's word goes straight to the commit."""
    run = memory.run
    final = rungs.final(situation, run)
    step = rungs.at(situation, run, run.step)
    last = run.step >= final - 1 or (person and run.recovery)
    after_step = final if last else run.step + 1
    ended = Event.LADDER_PASSED if run.promotion is Promotion.ROLL else Event.PROMOTED
    after = memory.moved(
        ended if last else Event.PASSED,
        situation.now,
        step=after_step,
        granted=max(run.granted, after_step),
    )
    message = f"{percent(step.weight_bp)} passed: {why}"
    baked = ended is Event.PROMOTED and last
    notice = Notice(reason="BakePassed" if baked else "StepPassed", message=message)
    return Decision(memory=after, why=message, notices=(notice,))
