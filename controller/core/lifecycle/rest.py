# SPDX-License-Identifier: Apache-2.0
"""A target without a run: adopt it, notice its changes, tidy up after a lost run."""

from dataclasses import dataclass

from controller.core import effects
from controller.core.effects import Safer
from controller.core.lifecycle import leftovers, prepare
from controller.core.lifecycle.memory import Mark, parse_mark
from controller.core.lifecycle.situation import Notice, Situation
from controller.core.observation import Deployment
from controller.core.policy.model import Policy
from controller.core.values import TargetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What to do for a target at rest; `change` asks for a run from that mark."""

    why: str
    effects: tuple[Safer, ...] = ()
    notices: tuple[Notice, ...] = ()
    change: Mark | None = None


def look(situation: Situation, target: TargetRef) -> Rest:
    """Adopt at first sight; then answer a change of the template with a run.

    A change that rolled before it could be held is reported and adopted, never hidden.
    """
    deployment = situation.view.deployment
    left = leftovers.tidied(situation, target)
    if deployment is None or deployment.deleting:
        strays = left.effects if left is not None else ()
        return Rest(why="no Deployment of that name", effects=strays)
    if left is not None:
        return Rest(why=left.why, effects=leftovers.marked(target, deployment, left))
    done = leftovers.unmarked(target, deployment)
    if done:
        message = "what a run left whose document is gone has been tidied away"
        notice = Notice(reason="LostRunTidied", message=message, warning=True)
        return Rest(why=message, effects=done, notices=(notice,))
    if "policy" not in deployment.annotations:
        return _released(deployment, target)
    mark = parse_mark(deployment.annotations.get("managed", ""))
    if mark is None or mark.uid != deployment.uid:
        return _adopt(situation, target, deployment, mark)
    if deployment.digest == mark.digest:
        if deployment.paused and "hold" in deployment.annotations:
            back = effects.Resume(target=target, uid=deployment.uid, digest=mark.digest)
            return Rest(why="the stable template is back", effects=(back,))
        return Rest(why="at rest")
    return _changed(situation, target, deployment, mark)


def _changed(situation: Situation, target: TargetRef, deployment: Deployment, mark: Mark) -> Rest:
    if deployment.paused and "hold" not in deployment.annotations:
        return Rest(why="the Deployment is paused by somebody else; nothing is begun")
    if _observes(situation):
        return _adopt(situation, target, deployment, mark)
    stable = next((item for item in situation.view.replica_sets if item.hash == mark.hash), None)
    if prepare.rolled_ungated(situation, mark.hash):
        if deployment.paused:
            go_on = effects.Resume(target=target, uid=deployment.uid, digest=deployment.digest)
            return Rest(why="too late to hold: the new pods serve alone", effects=(go_on,))
        return _adopt(situation, target, deployment, mark)
    serving = stable is not None and stable.replicas > 0
    if serving or deployment.paused:
        return Rest(why="the template changed", change=mark)
    if deployment.replicas == 0 or deployment.observed_generation < deployment.generation:
        return Rest(why="waiting: the Deployment has no pods, or was not seen yet")
    return _adopt(situation, target, deployment, mark)


def _observes(situation: Situation) -> bool:
    policy = situation.policy
    return isinstance(policy, Policy) and policy.observes_only


def _adopt(
    situation: Situation, target: TargetRef, deployment: Deployment, before: Mark | None
) -> Rest:
    current = next(
        (item for item in situation.view.replica_sets if item.digest == deployment.digest), None
    )
    foreign = before is None or before.uid != deployment.uid
    if current is None and foreign and deployment.paused and "hold" in deployment.annotations:
        # Restored from a backup that was taken in mid-run: a paused Deployment gets no ReplicaSet.
        message = "held by a run of an earlier Deployment of this name: released"
        back = effects.Resume(target=target, uid=deployment.uid, digest=deployment.digest)
        notice = Notice(reason="HoldReleased", message=message, warning=True)
        return Rest(why=message, effects=(back,), notices=(notice,))
    if current is None:
        return Rest(why="waiting for the first ReplicaSet")
    mark = Mark(uid=deployment.uid, hash=current.hash, digest=deployment.digest)
    annotate = effects.Annotate(
        target=target, uid=deployment.uid, annotations={"managed": mark.text()}
    )
    if before is None or before.digest == mark.digest:
        message = "adopted: from now on every change of the template begins as a canary"
        notice = Notice(reason="Adopted", message=message)
    elif _observes(situation):
        message = (
            "a change of the template rolls natively; `observe` reports it and touches nothing"
        )
        notice = Notice(reason="Observed", message=message)
    else:
        message = "a change of the template rolled ungated before it could be held"
        notice = Notice(reason="RolledUngated", message=message, warning=True)
    return Rest(why=message, effects=(annotate,), notices=(notice,))


def _released(deployment: Deployment, target: TargetRef) -> Rest:
    """The policy annotation was removed at rest: take our marks off, unpause what we paused."""
    ours = {
        key: None for key in ("managed", "status", "hold", "epoch") if key in deployment.annotations
    }
    if not ours:
        return Rest(why="not a target")
    if deployment.paused and "hold" in deployment.annotations:
        return Rest(why="held without a policy; put the annotation `policy` back")
    message = "the policy annotation was removed: changes roll natively again"
    return Rest(
        why=message,
        effects=(effects.Annotate(target=target, uid=deployment.uid, annotations=ours),),
        notices=(Notice(reason="Released", message=message, warning=True),),
    )
