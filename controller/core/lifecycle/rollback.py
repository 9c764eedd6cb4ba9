# SPDX-License-Identifier: Apache-2.0
"""The way back: before the commit one route write, after it the stable pods first.

Nothing here waits for evidence, a permit or the metrics store, and weight 0 for nobody's answer.
For pods to go, and for stable to be led to, the Services' endpoints are waited for, within limits.
A rule that finds its object gone takes that as done.
"""

from collections.abc import Iterator
from dataclasses import replace

from controller.core import effects
from controller.core.effects import Effect
from controller.core.lifecycle import (
    checks,
    endpoints,
    exposure,
    leftovers,
    native,
    prepare,
    promote,
    rest,
)
from controller.core.lifecycle.memory import Ending, Memory, Run
from controller.core.lifecycle.situation import Decision, Notice, Situation, Verb
from controller.core.lifecycle.table import Event
from controller.core.observation import Deployment, ReplicaSet
from controller.core.policy.model import OnFailure, Policy, Traffic
from controller.core.values import CANARY_TRACK, HASH_LABEL, TRACK_LABEL, WHOLE_BP

GRACE_SECONDS = leftovers.GRACE_SECONDS
"""The same for a run that goes back; and so long another hand may keep requests from ending in
peace."""

CALM_SECONDS = 1.0
"""For the pins to be in force, after that: about the least that a gateway needs to follow them."""

KEPT = (Ending.FAILED, Ending.INCONCLUSIVE, Ending.ABORTED, Ending.KILLED)
"""Endings after which the template in the spec is one that must not roll."""


def _strange(situation: Situation, run: Run) -> list[ReplicaSet]:
    """ReplicaSets of the user's Deployment that are not stable's and may have pods."""
    return [
        item
        for item in situation.view.replica_sets
        if item.hash != run.stable_hash
        and not item.deleting
        and (item.digest == run.digest or item.replicas > 0)
    ]


def stable_set(situation: Situation, run: Run) -> ReplicaSet | None:
    """The ReplicaSet that served before the run."""
    return next(
        (item for item in situation.view.replica_sets if item.hash == run.stable_hash), None
    )


def undo(situation: Situation, memory: Memory) -> Decision:
    """UNDOING: stop the roll, gather traffic on the canary, bring stable back, then pin to it."""
    run = memory.run
    deployment = situation.view.deployment
    if deployment is None:
        return Decision(memory=memory, why="the Deployment is not there")
    if not deployment.paused:
        pause = effects.Pause(
            target=run.target, uid=deployment.uid, why=f"run {run.name} is undone"
        )
        return Decision(memory=memory, why="stopping the native roll", effects=(pause,))
    strange = _strange(situation, run)
    if strange and stable_set(situation, run) is None:
        # Deleting the only ReplicaSet left would make the controller start it anew, from nothing.
        return native.without_stable(memory)
    if strange and situation.view.canary is not None:
        gathering = _gathering(situation, memory)
        if gathering is not None:
            return gathering
    if strange:
        gone = tuple(
            effects.DeleteReplicaSet(target=run.target, name=item.name, uid=item.uid)
            for item in strange
        )
        return Decision(memory=memory, why="deleting the rolled pods", effects=gone)
    stable = stable_set(situation, run)
    ready = stable.ready if stable is not None else 0
    if ready < deployment.replicas:
        why = f"{ready} of {deployment.replicas} stable pods are back"
        return Decision(memory=memory, why=why, notices=_blocked(situation, memory, why))
    repin = prepare.pins(situation, run, HASH_LABEL, run.stable_hash)
    if repin:
        after = memory.at(behind=None)
        return Decision(memory=after, why="Services back to stable", effects=tuple(repin))
    # Weight 0 leads to the Services: taken before they lead to stable it would fail everything.
    behind = endpoints.awaited(situation, memory, situation.ready_seconds, canary=False)
    if behind is not None:
        return behind
    return Decision(
        memory=memory.moved(Event.STABLE_BACK, situation.now), why="stable is back in number"
    )


def _blocked(situation: Situation, memory: Memory, why: str) -> tuple[Notice, ...]:
    """Everything waits on the pods of the version that failed, since nobody else serves yet."""
    if situation.now - memory.moments.entered < GRACE_SECONDS:
        return ()
    message = (
        f"{why}; until they all are the canary's pods answer every request: look at the "
        "namespace's quota, at pending pods and at whether their image is still there"
    )
    return (Notice(reason="NoRoom", message=message, warning=True),)


def _gathering(situation: Situation, memory: Memory) -> Decision | None:
    """Every request goes to the canary pods before the rolled ones may go; None when it does."""
    gather = _gathered(situation, memory.run)
    if gather:
        why = "gathering all requests on the canary pods while stable comes back"
        return Decision(memory=memory.at(asserted=None, behind=None), why=why, effects=gather)
    if not memory.run.new_hash:
        return None  # They never got any.
    killed = memory.run.ending is Ending.KILLED
    behind = endpoints.awaited(situation, memory, situation.ready_seconds, canary=True)
    if behind is not None and not killed:
        return behind
    waiting = exposure.settling(situation, memory, situation.settle_seconds)
    return waiting and replace(waiting, why="waiting until the rolled pods carry nothing")


def _gathered(situation: Situation, run: Run) -> tuple[Effect, ...]:
    shares = situation.shares(run.lanes)
    found: list[Effect] = []
    if any(share != WHOLE_BP for share in shares) and not prepare.backends(situation, run):
        found.append(effects.Gather(splits=situation.splits(run.lanes)))
    return (*found, *prepare.pins(situation, run, TRACK_LABEL, CANARY_TRACK))


def roll_back(situation: Situation, memory: Memory) -> Decision:
    """ROLLING_BACK: weight 0 first of all, then wait out the proxies, then the pods go."""
    run = memory.run
    wanted = tuple(_zeroed(situation, run))
    if wanted:
        return Decision(memory=memory.at(asserted=None), why="weight 0", effects=wanted)
    again = prepare.resumed(situation, run)
    if again:
        return Decision(memory=memory, why="holding the Deployment again", effects=again)
    memory = memory if run.weight_bp == 0 else memory.with_run(weight_bp=0)
    killed = run.ending is Ending.KILLED
    behind = endpoints.awaited(situation, memory, GRACE_SECONDS, canary=False)
    if behind is not None and not killed:
        return behind
    # A kill ends open streams as soon as weight 0 is in force; else requests under way may end. But
    # a tool that takes the pins away every other second would have us wait for ever.
    calm = situation.settle_seconds + (0.0 if killed else situation.drain_seconds)
    if situation.now - memory.moments.entered > GRACE_SECONDS:
        calm = min(calm, CALM_SECONDS)
    waiting = exposure.settling(situation, memory, calm)
    if waiting is not None:
        return replace(waiting, why="weight 0 is written; waiting until it is in force")
    return _emptied(situation, memory)


def _zeroed(situation: Situation, run: Run) -> Iterator[Effect]:
    """What takes every request from the new version, as far as it is missing."""
    exposed = any(exposure.exposures(situation, run))
    if run.ending is Ending.GONE:
        # Whoever creates the Deployment again must find its Service free, at once. The Service
        # comes last: without it nothing leads from the name of the target to its routes.
        if exposed and run.traffic is Traffic.GATEWAY:
            yield exposure.zero(situation, run)
        yield from promote.detach(situation, run)
        yield from _stopping(situation, run)
        yield from promote.unpin(situation, run)
        return
    if exposed:
        yield exposure.zero(situation, run)
    if run.traffic is Traffic.GATEWAY and exposure.leading(run, situation.view.services):
        # In the commit the direct clients follow the canary, and weight 0 leads there as well.
        yield exposure.confine(run)
    elif run.traffic is Traffic.GATEWAY or not exposed:
        yield from prepare.pins(situation, run, HASH_LABEL, run.stable_hash)


def _emptied(situation: Situation, memory: Memory) -> Decision:
    """Nothing goes to the new version any more: its pods may end, the canary's and nobody's."""
    run = memory.run
    if run.orphans and situation.rolled is None:
        return Decision(memory=memory, why="asking for the pods that the undone roll left")
    stop: list[Effect] = list(_stopping(situation, run))
    left = native.orphans(situation)
    if left:
        stop.append(native.swept(run, left))
    if stop:
        return Decision(memory=memory, why="stopping the new version's pods", effects=tuple(stop))
    there = situation.view.pods or situation.rolled
    if there and situation.now - memory.moments.entered < GRACE_SECONDS:
        return Decision(memory=memory, why="waiting for the new version's pods to end")
    return Decision(memory=memory.moved(Event.ZERO, situation.now), why="no request goes there")


def _stopping(situation: Situation, run: Run) -> Iterator[Effect]:
    canary = situation.view.canary
    if canary is not None and canary.ours and canary.replicas > 0:
        yield effects.ShrinkCanary(target=run.target, uid=canary.uid, replicas=0)


def clean(situation: Situation, memory: Memory) -> Decision:
    """CLEANING: routes restored, our objects deleted, Services unpinned, the failed set removed."""
    run = memory.run
    for name, found in (
        ("restoring routes", promote.detach(situation, run)),
        ("removing the canary", promote.remove(situation, run, run.replicas or 1)),
    ):
        wanted = tuple(found)
        if wanted:
            return Decision(memory=memory, why=name, effects=wanted)
    if situation.view.canary is not None and situation.view.canary.ours:
        return Decision(memory=memory, why="waiting for the canary to go")
    if situation.view.pods:
        # Of a Deployment that is ours no more. A Service without its pin would lead there.
        message = (
            f"{run.target.canary} is not ours to delete, and has pods that {run.target.name}'s "
            "Services would select: delete it, and the run is tidied away"
        )
        strange = Notice(reason="OtherWriter", message=message, warning=True)
        return Decision(memory=memory, why=message, notices=(strange,), wait_seconds=30.0)
    rest = (*promote.unpin(situation, run), *_failed_sets(situation, run))
    if rest:
        return Decision(memory=memory, why="unpinning Services", effects=rest)
    return _settled(situation, memory)


def _failed_sets(situation: Situation, run: Run) -> Iterator[Effect]:
    deployment = situation.view.deployment
    if deployment is None or not deployment.paused or deployment.digest == run.stable_digest:
        return
    for item in _strange(situation, run):
        if item.replicas == 0:
            yield effects.DeleteReplicaSet(target=run.target, name=item.name, uid=item.uid)


def _settled(situation: Situation, memory: Memory) -> Decision:
    run = memory.run
    now = situation.now
    ending = run.ending or Ending.FAILED
    deployment = situation.view.deployment
    if deployment is None or deployment.uid != run.uid or ending is Ending.GONE:
        after = memory.moved(Event.CLEAN_ENDED, now, outcome=Ending.GONE.value)
        return Decision(memory=after, why="the Deployment is gone; nothing of ours is left")
    if deployment.digest == run.stable_digest:
        after = memory.moved(Event.CLEAN_RESUME, now, outcome=ending.value)
        return Decision(memory=after, why="the stable template is back")
    overtaken = {Ending.SUPERSEDED, Ending.CANCELLED}
    if ending in overtaken or deployment.digest != run.digest:
        # The stable template was put back and taken away again: that is a change like any other.
        outcome = Ending.SUPERSEDED if ending is Ending.CANCELLED else ending
        after = memory.moved(Event.CLEAN_ENDED, now, outcome=outcome.value)
        return Decision(memory=after, why="a newer template takes its place")
    if _reverts(situation, ending):
        stable = stable_set(situation, run)
        if stable is not None:
            back = effects.Revert(target=run.target, uid=deployment.uid, replica_set=stable.name)
            return Decision(memory=memory, why="the stable template is put back", effects=(back,))
    message = f"{run.reason}; the Deployment is held on its stable pods"
    after = memory.moved(Event.CLEAN_HELD, now, outcome=ending.value, orphans=())
    return Decision(
        memory=after,
        why=message,
        notices=(Notice(reason="Held", message=message, warning=True),),
    )


def _reverts(situation: Situation, ending: Ending) -> bool:
    policy = situation.policy
    return isinstance(policy, Policy) and policy.on_failure is OnFailure.REVERT and ending in KEPT


def held(situation: Situation, memory: Memory) -> Decision:
    """HELD: keep the template from rolling, and see whether there is a way out."""
    run = memory.run
    deployment = situation.view.deployment
    if deployment is None:
        return Decision(memory=memory, why="held")
    if left := _left(situation, memory, deployment):
        return left
    guard = (
        *promote.detach(situation, run),
        *prepare.freeze(situation, run),
        *_failed_sets(situation, run),
    )
    if guard:
        message = "somebody resumed, scaled or routed what is held; it is held again"
        return Decision(
            memory=memory,
            why=message,
            effects=guard,
            notices=(Notice(reason="HeldAgain", message=message, warning=True),),
        )
    asked = _asked(situation, memory) or _another_serves(situation, memory)
    if asked is not None:
        return asked
    if run.ending is not Ending.REFUSED:
        return Decision(memory=memory, why=f"held: {run.reason}", wait_seconds=30.0)
    if situation.preflight is None and not isinstance(situation.policy, tuple):
        return Decision(memory=memory, why="asking the API server again")
    found = checks.refusals(situation, run)
    if not found:
        after = memory.moved(Event.CLEARED, situation.now, outcome="")
        return Decision(memory=after, why="what stood in the way is gone", wait_seconds=0.0)
    text = "; ".join(refusal.message for refusal in found)
    if text != run.reason:
        memory = memory.with_run(reason=text)
    return Decision(memory=memory, why=f"refused: {text}", wait_seconds=30.0)


def _left(situation: Situation, memory: Memory, deployment: Deployment) -> Decision | None:
    """The run has nothing more to hold; but pods that it made nobody's go before it does."""
    run = memory.run
    if run.orphans and (sweeping := _sweeping(situation, memory, deployment)):
        return sweeping
    if deployment.digest == run.stable_digest:
        after = memory.moved(Event.CLEAN_RESUME, situation.now)
        return Decision(memory=after, why="the stable template is back")
    passed = _passed(deployment, run)
    return Decision(memory=memory.moved(Event.LEFT, situation.now), why=passed) if passed else None


def _another_serves(situation: Situation, memory: Memory) -> Decision | None:
    """Kubernetes started another ReplicaSet than stable's from nothing, and nobody was there.

    Its pods serve, as nobody's, until stable's are back in number.
    """
    run = memory.run
    stable = stable_set(situation, run)
    others = [item for item in _strange(situation, run) if item.ready > 0]
    if stable is None or stable.replicas > 0 or not others:
        return None
    message = "pods of another ReplicaSet than stable's serve; they go when stable's are back"
    notice = Notice(reason="HeldAgain", message=message, warning=True)
    left = native.orphaned(memory.at(entered=situation.now), others, message)
    return replace(left, notices=(notice,))


def _sweeping(situation: Situation, memory: Memory, deployment: Deployment) -> Decision | None:
    """Nobody's pods serve until stable's are back; None: further ones are to be made nobody's."""
    run = memory.run
    stable = stable_set(situation, run)
    if stable is None or _another_serves(situation, memory):
        return None
    if deployment.digest != run.stable_digest and (frozen := prepare.freeze(situation, run)):
        return Decision(memory=memory, why="holding it again", effects=tuple(frozen))
    if situation.rolled is None or stable.ready < deployment.replicas:
        return native.returning(situation, memory, stable, deployment)
    left = native.orphans(situation)
    if left:
        why = "stable's pods are back, the others go"
        return Decision(memory=memory, why=why, effects=(native.swept(run, left),))
    return Decision(memory=memory.with_run(orphans=()), why="stable's pods are back")


def _passed(deployment: Deployment, run: Run) -> str:
    """Why the run has nothing more to hold; empty: it has."""
    if deployment.digest != run.digest:
        return "a newer template takes its place"
    return "a person let the held change go past the gate" if rest.overridden(deployment) else ""


def _asked(situation: Situation, memory: Memory) -> Decision | None:
    """`retry` gives the same template another run; `release` closes the breaker it opened."""
    for request in situation.requests:
        if request.verb is Verb.RETRY and memory.run.ending is not Ending.REFUSED:
            after = memory.moved(Event.LEFT, situation.now, quarantined=False, released=True)
            return Decision(memory=after, why=f"{request.actor} asked for another try")
        if request.verb is Verb.RELEASE and memory.run.tripped and not memory.run.released:
            after = memory.with_run(released=True)
            return Decision(memory=after, why=f"{request.actor} closed the breaker")
    return None


def resume(situation: Situation, memory: Memory) -> Decision:
    """RESUMING: the template is the stable one; unpause what we paused."""
    run = memory.run
    deployment = situation.view.deployment
    if deployment is not None and deployment.digest != run.stable_digest:
        after = memory.moved(Event.LEFT, situation.now)
        return Decision(memory=after, why="a newer template takes its place")
    if deployment is not None and deployment.paused:
        back = effects.Resume(target=run.target, uid=deployment.uid, digest=run.stable_digest)
        return Decision(memory=memory, why="unpausing on the stable template", effects=(back,))
    message = "the stable template is back; nothing of the run is left"
    outcome = run.outcome if run.outcome not in {"", Ending.REFUSED.value} else "cancelled"
    return Decision(
        memory=memory.moved(Event.RESTORED, situation.now, outcome=outcome),
        why=message,
        notices=(Notice(reason="Cancelled", message=message),),
    )
