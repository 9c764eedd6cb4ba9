# SPDX-License-Identifier: Apache-2.0
"""A target without a run: adopt it, notice its changes, tidy up after a lost run."""

from dataclasses import dataclass

from controller.core import effects
from controller.core.effects import Safer
from controller.core.lifecycle import leftovers, prepare
from controller.core.lifecycle.memory import Mark, parse_mark
from controller.core.lifecycle.situation import Notice, Situation
from controller.core.observation import Deployment, ReplicaSet
from controller.core.policy.model import Policy
from controller.core.values import HELD_BY_ADMISSION, HELD_FOR_OWNER, TargetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What to do for a target at rest; `change` asks for a run from that mark."""

    why: str
    effects: tuple[Safer, ...] = ()
    notices: tuple[Notice, ...] = ()
    change: Mark | None = None


def maker(deployment: Deployment) -> str:
    """Who wrote the template that is held.

    Only the admission policy knows, and its stamp is good for the template that it held: seen by
    watching alone, a change has no maker, whatever an older stamp says.
    """
    stamped = deployment.annotations.get("hold") in {HELD_BY_ADMISSION, HELD_FOR_OWNER}
    return deployment.annotations.get("maker", "unknown") if stamped else "unknown"


def overridden(deployment: Deployment) -> str:
    """The reason for which a person let the template go past us; empty: nobody did.

    Where the admission policies are in force they have asked for the verb. Without them a person
    who may write this may as well remove the policy.
    """
    return "" if deployment.paused else deployment.annotations.get("override", "")


def look(situation: Situation, target: TargetRef, known: Mark | None = None) -> Rest:
    """Adopt at first sight; then answer a change of the template with a run.

    A change that rolled before it could be held is reported and adopted, never hidden. `known` is
    the mark that the target was last seen with: a Deployment made anew carries none.
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
        return _adopt(situation, target, deployment, mark or known)
    if deployment.digest == mark.digest:
        return _stable(target, deployment, mark)
    return _changed(situation, target, deployment, mark)


def _stable(target: TargetRef, deployment: Deployment, mark: Mark) -> Rest:
    """The template is the stable one: nothing of ours may stay on it."""
    annotations = deployment.annotations
    if deployment.paused and annotations.get("hold") == HELD_FOR_OWNER:
        off = effects.Annotate(target=target, uid=deployment.uid, annotations={"hold": None})
        return Rest(why="the stable template is back; the pause is its owner's", effects=(off,))
    if deployment.paused and "hold" in annotations:
        back = effects.Resume(target=target, uid=deployment.uid, digest=mark.digest)
        return Rest(why="the stable template is back", effects=(back,))
    if "override" in annotations:
        # Used up: left in place it would stand for a later change as well.
        off = effects.Annotate(target=target, uid=deployment.uid, annotations={"override": None})
        return Rest(why="an override has been carried out", effects=(off,))
    if "epoch" in annotations:
        # Left of a run that did not get to its own end.
        off = effects.Annotate(target=target, uid=deployment.uid, annotations={"epoch": None})
        return Rest(why="at rest", effects=(off,))
    return Rest(why="at rest")


def _changed(situation: Situation, target: TargetRef, deployment: Deployment, mark: Mark) -> Rest:
    if deployment.paused and deployment.annotations.get("hold", HELD_FOR_OWNER) == HELD_FOR_OWNER:
        return Rest(why="paused by its owner; nothing is begun before the owner resumes it")
    if _observes(situation) or overridden(deployment):
        return _adopt(situation, target, deployment, mark)
    stable = next((item for item in situation.view.replica_sets if item.hash == mark.hash), None)
    if prepare.rolled_ungated(situation, mark.hash):
        passed = _passed(situation, deployment, mark)
        if passed is not None:
            return _marked(target, deployment, passed)
        if deployment.paused:
            go_on = effects.Resume(target=target, uid=deployment.uid, digest=deployment.digest)
            return Rest(why="too late to hold: the new pods serve alone", effects=(go_on,))
        return _adopt(situation, target, deployment, mark)
    serving = stable is not None and stable.replicas > 0
    if serving or deployment.paused:
        return Rest(why="the template changed", change=mark)
    if deployment.replicas == 0 or not deployment.observed:
        return Rest(why="waiting: the Deployment has no pods, or was not seen yet")
    return _adopt(situation, target, deployment, mark)


def _passed(situation: Situation, deployment: Deployment, mark: Mark) -> ReplicaSet | None:
    """What serves while a later template is held: a version that had passed us by before it."""
    if not deployment.paused:
        return None
    ready = [item for item in situation.view.replica_sets if item.ready > 0 and not item.deleting]
    others = [item for item in ready if item.hash != mark.hash]
    if any(item.digest == deployment.digest for item in others):
        return None
    return max(others, key=lambda item: item.ready, default=None)


def _marked(target: TargetRef, deployment: Deployment, serving: ReplicaSet) -> Rest:
    mark = Mark(uid=deployment.uid, hash=serving.hash, digest=serving.digest)
    message = f"{serving.name} rolled ungated while nobody watched; it counts as stable from now on"
    annotate = effects.Annotate(
        target=target, uid=deployment.uid, annotations={"managed": mark.text()}
    )
    notice = Notice(reason="RolledUngated", message=message, warning=True)
    return Rest(why=message, effects=(annotate,), notices=(notice,))


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
    noted: dict[str, str | None] = {"managed": mark.text()}
    reason = overridden(deployment)
    if reason:
        noted["override"] = None
    annotate = effects.Annotate(target=target, uid=deployment.uid, annotations=noted)
    if before is not None and reason:
        message = f"a person let this change go past the gate: {reason}"[:900]
        notice = Notice(reason="Overridden", message=message, warning=True)
    elif before is None or before.digest == mark.digest:
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
    marks = ("managed", "status", "hold", "epoch", "maker")
    ours = {key: None for key in marks if key in deployment.annotations}
    if not ours.keys() - {"maker"}:
        # Who made a change is told of targets alone; by itself it makes nothing a target.
        return Rest(why="not a target")
    if deployment.paused and "hold" in deployment.annotations:
        return Rest(why="held without a policy; put the annotation `policy` back")
    message = "the policy annotation was removed: changes roll natively again"
    return Rest(
        why=message,
        effects=(effects.Annotate(target=target, uid=deployment.uid, annotations=ours),),
        notices=(Notice(reason="Released", message=message, warning=True),),
    )
