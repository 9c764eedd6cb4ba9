# SPDX-License-Identifier: Apache-2.0
"""Promotion by shift: the judged pods carry everything while the user's own Deployment rolls.

    route 100 % canary -> Services follow the canary -> unpause, roll with no traffic on it
    -> Services on the new hash -> hand back 50 %, then all, or in as many parts as its pods can
    take -> routes restored -> canary deleted
    -> Services unpinned

No request fails on this road even if pods die without draining, because no pod that is going away
has been given a request for the gateway's settling time and the drain.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from controller.core import effects
from controller.core.effects import Effect
from controller.core.evidence.reasons import seconds
from controller.core.lifecycle import climb, endpoints, prepare, trial, waits
from controller.core.lifecycle.memory import PROMOTED, Ending, Mark, Memory, Run
from controller.core.lifecycle.situation import Decision, Notice, Situation
from controller.core.lifecycle.table import Event
from controller.core.observation import ReplicaSet
from controller.core.values import (
    CANARY_TRACK,
    HASH_LABEL,
    TRACK_LABEL,
    WHOLE_BP,
    canary_name,
    percent,
)

BATCHES = 4
"""The canary goes in so many parts, so that its endpoints do not all vanish in one update."""

FOLLOW_SECONDS = 60.0
"""An autoscaler looks every 15 s, at metrics that may be as old again, and pods take time to start:
so long it gets to follow a part that its pods are too few for."""


def commit(situation: Situation, memory: Memory) -> Decision:
    """COMMITTING: the last requests, then the direct clients, move to the canary pods."""
    run = memory.run
    gone = prepare.lacking(situation, run)
    if gone:
        why = f"{gone} of this run is gone"
        return waits.late(situation, memory, why, situation.plan.deadline_seconds)
    if any(share != WHOLE_BP for share in situation.shares(run.lanes)):
        effect = effects.RaiseWeight(
            splits=situation.splits(run.lanes), weight_bp=WHOLE_BP, step=run.step
        )
        why = "all requests to the canary"
        work = Decision(memory=memory.at(asserted=None), why=why, effects=(effect,))
        return waits.unless_late(situation, work, situation.plan.deadline_seconds)
    waiting = waits.settling(situation, memory, situation.settle_seconds)
    if waiting is not None:
        return waiting
    for pin in run.pins:
        service = situation.service(pin.service)
        wanted = prepare.pinned(pin.original, TRACK_LABEL, CANARY_TRACK)
        if service is not None and "original" not in service.annotations:
            # Made again in this moment: our note first, by which a raise knows what is ours.
            noted = effects.PinService(
                target=run.target,
                name=service.name,
                uid=service.uid,
                original=pin.original,
                key=HASH_LABEL,
                value=run.stable_hash,
            )
            why = f"pinning {service.name}, which was made again"
            return Decision(memory=memory.at(asserted=None), why=why, effects=(noted,))
        if service is not None and service.selector != wanted:
            follow = effects.FollowCanary(
                target=run.target, name=service.name, uid=service.uid, original=pin.original
            )
            why = f"direct clients of {service.name} follow to the canary"
            return Decision(memory=memory.at(asserted=None), why=why, effects=(follow,))
    behind = endpoints.behind(situation, memory, canary=True)
    if behind:
        after, most = endpoints.noted(situation, memory), situation.plan.deadline_seconds
        return waits.late(situation, after, behind, most, since=after.moments.behind)
    # Direct clients learn of endpoints late; the stable pods may only go when nobody calls them.
    waiting = waits.settling(situation, memory, situation.settle_seconds + situation.drain_seconds)
    if waiting is not None:
        return replace(waiting, why="waiting until direct clients have left the stable pods")
    message = "all requests go to canary pods; the Deployment may roll"
    return Decision(
        memory=memory.moved(Event.COMMITTED, situation.now, weight_bp=WHOLE_BP),
        why=message,
        notices=(Notice(reason="Committed", message=message),),
    )


def new_set(situation: Situation, run: Run) -> ReplicaSet | None:
    """The ReplicaSet of the template on trial among the user's own."""
    return next(
        (
            item
            for item in situation.view.replica_sets
            if item.digest == run.digest and item.hash != run.stable_hash and not item.deleting
        ),
        None,
    )


def roll(situation: Situation, memory: Memory) -> Decision:
    """ROLLING: unpause, then wait until the Deployment is fully available."""
    run = memory.run
    deployment = situation.view.deployment
    if deployment is None:
        return Decision(memory=memory, why="the Deployment is not there")
    canary = situation.view.canary
    if canary is not None and canary.digest != run.digest and not canary.deleting:
        # It carries everything, so that it stays until stable is back.
        return climb.given_way(situation, memory, f"{run.target.canary} has another template now")
    pins = prepare.pins(situation, run, TRACK_LABEL, CANARY_TRACK)
    if kept := _kept(situation, memory, pins):
        return kept
    if deployment.paused:
        effect = effects.Roll(target=run.target, uid=deployment.uid, digest=run.digest)
        why = "the Deployment rolls with no traffic on it"
        return Decision(memory=memory, why=why, effects=(effect,))
    fresh = new_set(situation, run)
    if deployment.settled and fresh is not None and fresh.ready >= deployment.replicas:
        after = memory.moved(Event.ROLLED, situation.now, new_hash=fresh.hash)
        return Decision(memory=after, why="the Deployment has rolled")
    why = f"rolling: {deployment.updated} of {deployment.replicas} pods are new"
    waited = situation.now - memory.moments.entered
    if (deployment.stalled and deployment.observed) or waited >= situation.roll_seconds:
        reason = f"the roll after the commit did not finish ({why})"
        after = memory.moved(Event.STOP, situation.now, ending=Ending.FAILED, reason=reason)
        notice = Notice(reason="RollStalled", message=reason, warning=True)
        return Decision(memory=after, why=reason, notices=(notice,))
    return Decision(memory=memory, why=why)


def _kept(situation: Situation, memory: Memory, pins: Sequence[Effect] = ()) -> Decision | None:
    """What the canary lacks while it carries requests: objects, pods for what grew, or pins.

    Never is it deleted here, whatever somebody made of it: with it all requests would go.
    """
    why = "the canary pods carry requests: what somebody took from them is put back"
    run = memory.run
    if made := (*prepare.missing(situation, run), *prepare.disowned(situation, run)):
        work = prepare.making(situation, memory, made, why)
        return waits.unless_late(situation, work, situation.roll_seconds)
    more = climb.grown(situation, run)
    lost = tuple(pins) if more is None else (more,)
    return Decision(memory=memory, why=why, effects=lost) if lost else None


def hand_back(situation: Situation, memory: Memory) -> Decision:
    """HANDING_BACK: Services select the new pods, then the routes return in parts."""
    run = memory.run
    gone = prepare.lacking(situation, run) if run.weight_bp > 0 else ""
    if gone and situation.now - memory.moments.entered < situation.ready_seconds:
        why = f"{gone} of this run is gone; the canary pods go on serving"
        return Decision(memory=memory, why=why)
    if run.weight_bp > 0 and (kept := _kept(situation, memory)):
        return kept
    repin = prepare.pins(situation, run, HASH_LABEL, run.new_hash)
    if repin:
        why = "the Services select the Deployment's own new pods"
        return Decision(memory=memory.at(asserted=None), why=why, effects=tuple(repin))
    fresh = new_set(situation, run)
    deployment = situation.view.deployment
    # Somebody may have scaled in meanwhile; more than there shall be is never waited for.
    needed = run.replicas if deployment is None else min(run.replicas, deployment.replicas)
    if fresh is None or fresh.ready < needed:
        ready = 0 if fresh is None else fresh.ready
        return _unready(situation, memory, f"{ready} of {needed} new pods are ready")
    behind = endpoints.behind(situation, memory, canary=False)
    if behind and run.weight_bp > 0:
        after, most = endpoints.noted(situation, memory), situation.roll_seconds
        return waits.late(situation, after, behind, most, since=after.moments.behind)
    if run.weight_bp == WHOLE_BP and memory.moments.asserted is None:
        # The Services changed a moment ago; endpoints reach the proxies after their own lag.
        return Decision(
            memory=memory.at(asserted=situation.now),
            why="waiting until the Services' endpoints are known",
            wait_seconds=situation.settle_seconds,
        )
    if any(share > run.weight_bp for share in situation.shares(run.lanes)):
        again = effects.LowerWeight(splits=situation.splits(run.lanes), weight_bp=run.weight_bp)
        return Decision(memory=memory.at(asserted=None), why="handing back", effects=(again,))
    carried = _carried(situation, fresh.ready)
    least = _stand(situation, run, carried)
    waiting = waits.settling(situation, memory, least) or _doubted(situation, memory)
    if waiting is not None:
        return waiting
    if run.weight_bp == 0:
        return Decision(
            memory=memory.moved(Event.HANDED_BACK, situation.now),
            why="the Deployment's own pods serve everything",
        )
    part = _next_part(run.weight_bp, carried)
    after = memory.with_run(weight_bp=part).at(asserted=None)
    why = f"handing back: {percent(part)} stays on the canary pods"
    return Decision(memory=after, why=why, wait_seconds=0.0)


def _carried(situation: Situation, ready: int) -> int:
    """The share that so many pods can carry, each as much as a pod of the canary has at the whole.

    An autoscaler, or a person, may have scaled the Deployment in while it had no requests.
    """
    canary = situation.view.canary
    pods = canary.ready if canary is not None else 0
    # Of a Deployment that was scaled to nothing nobody wants an answer any more.
    return WHOLE_BP * ready // pods if 0 < ready < pods else WHOLE_BP


def _stand(situation: Situation, run: Run, carried: int) -> float:
    """Seconds for which a part stands before the next one."""
    least = situation.settle_seconds if run.weight_bp else trial.soak(situation, run)
    return max(least, FOLLOW_SECONDS) if WHOLE_BP - run.weight_bp > carried else least


def _next_part(weight_bp: int, carried: int) -> int:
    """The canary's next share: half, then none, as far as the Deployment's own pods can take it.

    What is known to be carried, by their number or because it stands already, grows by half at
    most. So an autoscaler is asked for more pods before they get everything, and the run ends all
    the same where the load has fallen and there are as many as there shall be.
    """
    usual = WHOLE_BP // 2 if weight_bp == WHOLE_BP else 0
    most = max(carried, WHOLE_BP - weight_bp) * 3 // 2
    return max(usual, WHOLE_BP - most)


def _unready(situation: Situation, memory: Memory, why: str) -> Decision:
    """Wait for the rolled pods while the canary carries everything; not for ever."""
    if situation.now - memory.moments.entered <= situation.roll_seconds:
        return Decision(memory=memory, why=why)
    reason = f"the rolled pods did not stay ready ({why})"
    after = memory.moved(Event.STOP, situation.now, ending=Ending.FAILED, reason=reason)
    notice = Notice(reason="RollStalled", message=reason, warning=True)
    return Decision(memory=after, why=reason, notices=(notice,))


def _doubted(situation: Situation, memory: Memory) -> Decision | None:
    """Nothing more is handed back while the evidence grows; it decides, or time is up."""
    waited = situation.now - memory.moments.entered
    if waited >= situation.ready_seconds or not trial.doubtful(situation, memory):
        return None
    most = seconds(situation.ready_seconds - waited)
    said = trial.sentence(trial.verdict(situation, memory))
    why = f"not handing back more for {most} at most: {said}"
    return Decision(memory=memory, why=why)


def restore(situation: Situation, memory: Memory) -> Decision:
    """RESTORING: mark the new stable, undo the routes, drain, delete, unpin."""
    run = memory.run
    deployment = situation.view.deployment
    if deployment is not None and deployment.digest != run.digest:
        held = tuple(prepare.freeze(situation, run, run.new_hash))
        if held:
            why = "another change arrived; it is held until this run is tidied away"
            return Decision(memory=memory, why=why, effects=held)
    first = tuple(_marks(situation, run)) or tuple(detach(situation, run))
    if first:
        return Decision(memory=memory.at(asserted=None), why="restoring routes", effects=first)
    behind = endpoints.awaited(situation, memory, situation.ready_seconds, canary=False)
    if behind is not None:
        return behind
    waiting = waits.settling(situation, memory, situation.settle_seconds + situation.drain_seconds)
    if waiting is not None:
        return waiting
    rest = tuple(remove(situation, run, run.replicas // BATCHES or 1))
    if rest:
        return Decision(memory=memory, why="removing the canary", effects=rest)
    if situation.view.canary is not None or situation.view.pods:
        return Decision(memory=memory, why="waiting for the canary pods to go")
    last = tuple(unpin(situation, run))
    if last:
        return Decision(memory=memory, why="unpinning Services", effects=last)
    message = f"run {run.name} is promoted"
    return Decision(
        memory=memory.moved(Event.RESTORED, situation.now, outcome=PROMOTED),
        why=message,
        notices=(Notice(reason="Promoted", message=message),),
    )


def _marks(situation: Situation, run: Run) -> Iterator[Effect]:
    deployment = situation.view.deployment
    mark = Mark(uid=run.uid, hash=run.new_hash, digest=run.digest).text()
    if deployment is None:
        return
    notes: dict[str, str | None] = {}
    if deployment.annotations.get("managed") != mark:
        notes["managed"] = mark
    if "epoch" in deployment.annotations:
        # The fence of its raises: nothing of this run is raised any more.
        notes["epoch"] = None
    if notes:
        yield effects.Annotate(target=run.target, uid=deployment.uid, annotations=notes)


def detach(situation: Situation, run: Run) -> Iterator[Effect]:
    """Routes that still carry our part."""
    for lane in run.lanes:
        for route in situation.view.routes:
            ours = route.names(canary_name(lane.service)) or "original" in route.annotations
            split = situation.split(lane)
            if route.ref == lane.route and ours and split is not None:
                yield effects.DetachBackend(split=split, original=lane.original)


def remove(situation: Situation, run: Run, batch: int) -> Iterator[Effect]:
    """The canary Deployment in batches, then our Services."""
    canary = situation.view.canary
    if canary is not None and canary.ours and not canary.deleting:
        if canary.status_replicas > canary.replicas:
            return  # The pods of the last batch are still going.
        if canary.replicas > 0:
            left = max(0, canary.replicas - batch)
            yield effects.ShrinkCanary(target=run.target, uid=canary.uid, replicas=left)
        else:
            yield effects.DeleteCanary(target=run.target, uid=canary.uid)
    if canary is None:
        for service in situation.view.canary_services:
            if service.ours:
                yield effects.DeleteCanaryService(
                    target=run.target, name=service.name, uid=service.uid
                )


def unpin(situation: Situation, run: Run) -> Iterator[Effect]:
    """Services that still carry our pin or our annotation."""
    originals = {pin.service: pin.original for pin in run.pins}
    for service in situation.view.services:
        original = originals.get(service.name)
        if original is None:
            continue
        if service.selector != original or "original" in service.annotations:
            yield effects.UnpinService(
                target=run.target, name=service.name, uid=service.uid, original=original
            )
