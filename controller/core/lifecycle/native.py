# SPDX-License-Identifier: Apache-2.0
"""`promotion: roll`: the Deployment rolls natively under traffic, and how that is undone.

    Services opened -> unpause, roll with the breaker armed -> Services on the new hash
    -> bake -> canary deleted -> Services unpinned

Undone by orphaning, from any moment: pause; delete every other ReplicaSet but leave its pods, which
go on serving; the Deployment's controller brings the only one that is left, stable's, to full
number; confine the Services to it; drain; delete the pods that are nobody's. Scaling the other
ReplicaSets down instead would work only while stable still has pods, and with a part of them
(measured: 4 of 8); afterwards the controller brings the new ones back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from controller.core import effects
from controller.core.effects import Effect
from controller.core.evidence.judge import Outcome
from controller.core.evidence.reasons import seconds
from controller.core.lifecycle import exposure, prepare, promote, trial, waits
from controller.core.lifecycle.memory import Ending, Memory, Run
from controller.core.lifecycle.situation import Decision, Notice, Situation, Verb
from controller.core.lifecycle.table import Event
from controller.core.observation import Deployment, Pod, ReplicaSet
from controller.core.values import HASH_LABEL, WHOLE_BP

STOPPED_SECONDS = 5.0
"""For the Deployment's controller to see the pause: one that still rolls makes the ReplicaSet anew
that is taken from it. One that says nothing for so long is not waited for."""

ASKED_SECONDS = 1.0
"""So often the rolled pods are asked for while they bake."""

STUCK_SECONDS = 30.0
"""Stable pods that have not come by then may lack the room that orphans take (quota, nodes)."""


def roll_out(situation: Situation, memory: Memory) -> Decision:
    """ROLLING_OUT: open the Services, unpause, and wait until the Deployment is available."""
    run = memory.run
    deployment = situation.view.deployment
    if deployment is None:
        return Decision(memory=memory, why="the Deployment is not there")
    fresh = promote.new_set(situation, run)
    if fresh is not None and fresh.hash != run.new_hash:
        memory = memory.with_run(new_hash=fresh.hash)
    if deployment.paused:
        return _let_go(situation, memory, deployment)
    if deployment.settled and fresh is not None and fresh.ready >= deployment.replicas:
        if not situation.clock:
            return Decision(memory=memory, why="waiting for the metrics store to say its time")
        after = trial.begun(situation, memory).moved(
            Event.ROLLED, situation.now, new_hash=fresh.hash, weight_bp=WHOLE_BP
        )
        message = "the Deployment has rolled; its pods bake with the breaker armed"
        notice = Notice(reason="Rolled", message=message)
        return Decision(memory=after, why=message, notices=(notice,))
    why = f"rolling under traffic: {deployment.updated} of {deployment.replicas} pods are new"
    waited = situation.now - memory.moments.entered
    if (deployment.stalled and deployment.observed) or waited >= situation.roll_seconds:
        return _failed(situation, memory, "RollStalled", f"the roll did not finish ({why})")
    return Decision(memory=memory, why=why)


def _let_go(situation: Situation, memory: Memory, deployment: Deployment) -> Decision:
    """From here on everybody gets the new version: the Services first, then the pods."""
    run = memory.run
    effect: Effect
    if exposure.opened(situation, run):
        effect = effects.Roll(target=run.target, uid=deployment.uid, digest=run.digest)
        why = "the Deployment rolls under traffic, with the breaker armed"
    else:
        effect = exposure.admit(situation, run, WHOLE_BP)
        why = "the Services are opened for the roll"
    work = Decision(memory=memory, why=why, effects=(effect,))
    return waits.unless_late(situation, work, situation.roll_seconds)


def bake(situation: Situation, memory: Memory) -> Decision:
    """BAKING: nobody but the new version serves; a PASS of its own ends the run."""
    run = memory.run
    deployment = situation.view.deployment
    if deployment is None:
        return Decision(memory=memory, why="the Deployment is not there")
    pinned = prepare.pins(situation, run, HASH_LABEL, run.new_hash)
    if pinned:
        why = "the Services select the rolled pods alone"
        return Decision(memory=memory, why=why, effects=tuple(pinned))
    waited = situation.now - memory.moments.entered
    fresh = promote.new_set(situation, run)
    ready = fresh.ready if fresh is not None else 0
    if ready < deployment.replicas and waited >= situation.ready_seconds:
        reason = f"the rolled pods did not stay ready ({ready} of {deployment.replicas})"
        return _failed(situation, memory, "RollStalled", reason)
    found = trial.verdict(situation, memory)
    why = trial.sentence(found)
    limit = situation.plan.bake.seconds + situation.plan.deadline_seconds
    person = situation.asked(Verb.PROMOTE)
    if ready >= deployment.replicas and (person is not None or found.outcome is Outcome.PASS):
        told = why if person is None else trial.vouched(person)
        after = memory.moved(Event.BAKED, situation.now)
        notice = Notice(reason="BakePassed", message=f"the rolled pods passed: {told}")
        return Decision(memory=after, why=told, notices=(notice,), verdict=found)
    if waited >= limit and not situation.paused:
        reason = f"no verdict on the rolled pods after {limit:.0f} s: {why}"
        after = memory.moved(Event.STOP, situation.now, ending=Ending.INCONCLUSIVE, reason=reason)
        notice = Notice(reason="Inconclusive", message=reason, warning=True)
        return Decision(memory=after, why=reason, notices=(notice,), verdict=found)
    if found.outcome is Outcome.PASS:
        most = seconds(situation.ready_seconds - waited)
        why = f"{ready} of {deployment.replicas} rolled pods are ready, {most} at most; {why}"
        return Decision(memory=memory, why=why, verdict=found)
    held = trial.waiting(situation, memory, found, limit)
    # Nothing tells of the rolled pods: who asks for them sees that they crash.
    return replace(held, wait_seconds=min(held.wait_seconds, ASKED_SECONDS))


def _failed(situation: Situation, memory: Memory, code: str, reason: str) -> Decision:
    after = memory.moved(Event.STOP, situation.now, ending=Ending.FAILED, reason=reason)
    notice = Notice(reason=code, message=reason, warning=True)
    return Decision(memory=after, why=reason, notices=(notice,))


def orphan(situation: Situation, memory: Memory) -> Decision:
    """ORPHANING: stop the roll, leave its pods to themselves, let stable come back, confine."""
    run = memory.run
    deployment = situation.view.deployment
    if deployment is None:
        return Decision(memory=memory, why="the Deployment is not there")
    urgent = tuple(_first(situation, run, deployment))
    if urgent:
        return Decision(memory=memory, why="stopping the native roll", effects=urgent)
    others = _others(situation, run)
    stable = next((s for s in situation.view.replica_sets if s.hash == run.stable_hash), None)
    if stable is None:
        # Deleting the only ReplicaSet left would make the controller start it anew, from nothing.
        return without_stable(memory)
    waited = situation.now - memory.moments.entered
    if others and not deployment.observed and waited < STOPPED_SECONDS:
        return Decision(memory=memory, why="waiting until the native roll has stopped")
    if others:
        return orphaned(memory, others, "the rolled pods are left to themselves")
    if stable.ready < deployment.replicas:
        return returning(situation, memory, stable, deployment)
    if not all(
        exposure.confined(item, run.stable_hash) for item in exposure.services(situation, run)
    ):
        back = exposure.confine(run)
        return Decision(memory=memory, why="Services back to stable", effects=(back,))
    return Decision(
        memory=memory.moved(Event.STABLE_BACK, situation.now), why="stable is back in number"
    )


def orphaned(memory: Memory, sets: Sequence[ReplicaSet], why: str) -> Decision:
    """Their pods serve on as nobody's; whose they were is noted before they are deleted."""
    run = memory.run
    noted = tuple(dict.fromkeys([*run.orphans, *(item.hash for item in sets)]))
    gone = tuple(
        effects.OrphanReplicaSet(target=run.target, name=item.name, uid=item.uid) for item in sets
    )
    return Decision(memory=memory.with_run(orphans=noted), why=why, effects=gone)


def returning(
    situation: Situation, memory: Memory, stable: ReplicaSet, deployment: Deployment
) -> Decision:
    """Stable's pods are on their way back; since the phase began they may have wanted for room."""
    why = f"{stable.ready} of {deployment.replicas} stable pods are back"
    made = tuple(_room(situation, memory, stable, deployment))
    return Decision(memory=memory, why=why, effects=made, notices=_crowded(situation, memory))


def without_stable(memory: Memory) -> Decision:
    """There is no ReplicaSet to go back to: somebody deleted it, or set the history limit to 0."""
    why = (
        "stable's ReplicaSet is gone, so there is nothing to go back to: a person must stop the "
        "controller, write a good template, and end the run by hand (docs/runbook.md)"
    )
    notice = Notice(reason="StableGone", message=why, warning=True)
    return Decision(memory=memory, why=why, notices=(notice,), wait_seconds=30.0)


def _first(situation: Situation, run: Run, deployment: Deployment) -> Iterator[Effect]:
    """What waits for nothing: no further stable pod goes, and no route favours the canary."""
    if not deployment.paused:
        yield effects.Pause(target=run.target, uid=deployment.uid, why=f"run {run.name} is undone")
    if any(situation.shares(run.lanes)):
        # The Service has pods enough: a native roll never takes more than its own limit allows.
        yield effects.ZeroWeight(splits=situation.splits(run.lanes))


def _others(situation: Situation, run: Run) -> list[ReplicaSet]:
    return [
        item
        for item in situation.view.replica_sets
        if item.hash != run.stable_hash
        and not item.deleting
        and (item.digest == run.digest or item.replicas > 0 or item.status_replicas > 0)
    ]


def orphans(situation: Situation) -> tuple[Pod, ...]:
    """Pods of the roll that are nobody's any more and still there."""
    return tuple(pod for pod in situation.rolled or () if pod.orphan and not pod.deleting)


def _room(
    situation: Situation, memory: Memory, stable: ReplicaSet, deployment: Deployment
) -> Iterator[Effect]:
    """Stable does not come, for want of room perhaps: what is not needed goes first.

    If that does not help, one orphan at a time makes way: better one pod too few than the version
    that failed for ever.
    """
    stuck = situation.now - memory.moments.entered
    if stuck < STUCK_SECONDS:
        return
    canary = situation.view.canary
    if canary is not None and canary.ours and not canary.deleting:
        yield effects.DeleteCanary(target=memory.run.target, uid=canary.uid)
        return
    left = orphans(situation)
    ready = sum(pod.ready for pod in left)
    lent = 1 if stuck >= 2 * STUCK_SECONDS else 0
    surplus = max(0, stable.ready + ready + lent - deployment.replicas)
    useless = [pod for pod in left if not pod.ready]
    chosen = [*useless, *[pod for pod in left if pod.ready][:surplus]]
    if chosen:
        yield swept(memory.run, chosen)


def _crowded(situation: Situation, memory: Memory) -> tuple[Notice, ...]:
    if situation.now - memory.moments.entered < 2 * STUCK_SECONDS:
        return ()
    message = (
        "stable's pods do not come back, for want of room perhaps; one pod of the version that "
        "failed makes way for each: look at the namespace's quota and at pending pods"
    )
    return (Notice(reason="NoRoom", message=message, warning=True),)


def swept(run: Run, pods: Sequence[Pod]) -> effects.DeletePods:
    """Delete these pods, each by its uid."""
    named = tuple((pod.name, pod.uid) for pod in pods)
    return effects.DeletePods(target=run.target, pods=named)
