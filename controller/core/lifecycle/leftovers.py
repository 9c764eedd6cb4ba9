# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind whose document is gone, and the safe way to tidy it away.

Nothing but the cluster is left to go by: our notes on routes and Services say what they were, our
twins carry our label. The order is that of a way back: first somebody serves behind every Service,
then weight 0, then the routes, then our pods, and the pins last of all. Each look takes the one
step that what it sees calls for, so that it may be interrupted anywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from controller.core import effects
from controller.core.effects import Safer, SplitRef
from controller.core.lifecycle.memory import parse_mark
from controller.core.lifecycle.situation import Situation
from controller.core.observation import Backend, Deployment, Route, Service
from controller.core.values import (
    CANARY_TRACK,
    HASH_LABEL,
    TRACK_LABEL,
    WHOLE_BP,
    TargetRef,
    canary_name,
)

GRACE_SECONDS = 60.0
"""How long canary pods may take to end before tidying goes on without them."""

NOTE = "run"
"""The annotation that says since when a lost run is tidied away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step; no effects: wait."""

    why: str
    effects: tuple[Safer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A route that still carries our part for a Service."""

    split: SplitRef
    route: Route

    @property
    def share_bp(self) -> int:
        """What the canary gets of it."""
        return self.route.share_bp(self.split.service, self.split.canary)


def tidied(situation: Situation, target: TargetRef) -> Step | None:
    """The next step; None: nothing of a lost run is left."""
    strays = tuple(_strays(situation, target))
    pinned = _pinned(situation, target)
    canary = situation.view.canary
    ours = canary is not None and canary.ours
    if not (strays or pinned or ours or tuple(_twins(situation))):
        return None
    return (
        emptied(situation, target)
        or _restored(situation, target, strays)
        or _removed(situation, target)
        or _unpinned(target, pinned)
        or Step(why="waiting for the rest of a lost run to go")
    )


def emptied(situation: Situation, target: TargetRef) -> Step | None:
    """The next step until nothing leads to the canary; None: nothing does.

    Of a run whose document stands and cannot be used: what is ours stays where it is.
    """
    strays = tuple(_strays(situation, target))
    pinned = _pinned(situation, target)
    serving = _serving(situation)
    return _served(situation, target, pinned, serving) or _weightless(
        situation, target, strays, pinned, serving
    )


# --- what is left ---------------------------------------------------------------------------------


def _mine(situation: Situation, target: TargetRef) -> Iterator[Service]:
    """Services of this target; one that is pinned for another target is none of our business."""
    for service in situation.view.services:
        if service.annotations.get("target", target.name) == target.name:
            yield service


def _pinned(situation: Situation, target: TargetRef) -> tuple[Service, ...]:
    return tuple(
        service
        for service in _mine(situation, target)
        if "original" in service.annotations or TRACK_LABEL in dict(service.selector)
    )


def _strays(situation: Situation, target: TargetRef) -> Iterator[Stray]:
    """Routes with a canary of ours, or with a note that no run stands behind."""
    for service in _mine(situation, target):
        canary = canary_name(service.name)
        twin = situation.canary_service(service.name)
        for route in situation.view.routes:
            noted = "original" in route.annotations
            stands = route.names(canary) and (noted or (twin is not None and twin.ours))
            if stands or (noted and _only_noted(route, service.name)):
                split = SplitRef(
                    route=route.ref,
                    uid=route.uid,
                    service=service.name,
                    canary=canary,
                    seen=route.backends,
                )
                yield Stray(split=split, route=route)


def _only_noted(route: Route, service: str) -> bool:
    """Our note on this Service's rule, and nobody's canary in it any more."""
    noted = {backend.service for backend in route.original}
    return service in noted and not any(route.names(canary_name(name)) for name in noted)


def _twins(situation: Situation) -> Iterator[Service]:
    deployment = situation.view.deployment
    for service in situation.view.canary_services:
        if service.ours and (deployment is None or service.owner_uid == deployment.uid):
            yield service


# --- the steps ------------------------------------------------------------------------------------


def _serving(situation: Situation) -> str:
    """Hash of the Deployment's own pods that can serve; empty: there are none yet."""
    deployment = situation.view.deployment
    if deployment is None:
        return ""
    ready = [item for item in situation.view.replica_sets if item.ready > 0 and not item.deleting]
    if not deployment.paused and not deployment.stalled:
        # It rolls, or has rolled: only pods of its present template are there to stay.
        done = deployment.settled and deployment.replicas > 0
        ready = [item for item in ready if done and item.digest == deployment.digest]
    mark = parse_mark(deployment.annotations.get("managed", ""))
    stable = mark.hash if mark is not None else ""
    ready.sort(key=lambda item: (item.hash == stable and item.replicas > 0, item.ready))
    return ready[-1].hash if ready else ""


def _served(
    situation: Situation, target: TargetRef, pinned: tuple[Service, ...], serving: str
) -> Step | None:
    """Services that select nobody, or the canary: onto the Deployment's own pods."""
    canary = situation.view.canary
    alive = {(HASH_LABEL, item.hash) for item in situation.view.replica_sets if item.ready > 0}
    if canary is not None and canary.ready > 0:
        alive.add((TRACK_LABEL, CANARY_TRACK))
    wanted: list[Safer] = []
    for service in pinned:
        pins = set(service.selector) - set(service.own_selector)
        # One that is open leads to canary pods as well, which are about to go.
        astray = pins or (canary is not None and canary.ours and canary.replicas > 0)
        if serving and astray and pins != {(HASH_LABEL, serving)}:
            wanted.append(
                effects.PinService(
                    target=target,
                    name=service.name,
                    uid=service.uid,
                    original=service.own_selector,
                    key=HASH_LABEL,
                    value=serving,
                )
            )
        elif not serving and not pins <= alive:
            wanted.append(_unpin(target, service))
    if wanted:
        return Step(why="a lost run left a Service on other pods", effects=tuple(wanted))
    return None


def _weightless(
    situation: Situation,
    target: TargetRef,
    strays: tuple[Stray, ...],
    pinned: tuple[Service, ...],
    serving: str,
) -> Step | None:
    """Weight 0, as soon as somebody serves behind the Services."""
    deployment = situation.view.deployment
    shares = [stray.share_bp for stray in strays]
    follows = any(TRACK_LABEL in dict(service.selector) for service in pinned)
    needed = deployment is not None and deployment.replicas > 0 and not deployment.deleting
    if needed and not serving and (any(shares) or follows):
        return Step(why="waiting for the Deployment's own pods, which a lost run left behind")
    if any(share == WHOLE_BP for share in shares):
        # The Services may have changed a moment ago; endpoints reach the proxies after their lag.
        waiting = _waited(situation, target, "endpoints", situation.settle_seconds)
        if waiting is not None:
            return waiting
    if any(shares):
        zero = effects.ZeroWeight(splits=tuple(stray.split for stray in strays))
        return Step(why="weight 0 for the canary of a lost run", effects=(zero,))
    return None


def _restored(situation: Situation, target: TargetRef, strays: tuple[Stray, ...]) -> Step | None:
    """The routes as they were, and time for requests under way."""
    if strays:
        detach = tuple(
            effects.DetachBackend(split=stray.split, original=_before(stray)) for stray in strays
        )
        return Step(why="restoring routes after a lost run", effects=detach)
    canary = situation.view.canary
    if canary is not None and not canary.deleting and canary.replicas > 0:
        seconds = situation.settle_seconds + situation.drain_seconds
        return _waited(situation, target, "drain", seconds)
    return None


def _before(stray: Stray) -> tuple[Backend, ...]:
    known = stray.route.original or stray.route.backends
    return tuple(backend for backend in known if backend.service != stray.split.canary)


def _waited(situation: Situation, target: TargetRef, stage: str, seconds: float) -> Step | None:
    """Wait once per stage; None when it is over.

    Without a run there is no memory but the cluster: a note on the Deployment says since when. A
    reading of another process's clock means nothing and begins anew.
    """
    deployment = situation.view.deployment
    if deployment is None:
        return None
    head = f"tidying/{situation.latches.epoch}/{stage}/"
    text = deployment.annotations.get(NOTE, "")
    if text.startswith(head):
        try:
            passed = situation.now - float(text.removeprefix(head))
        except ValueError:
            passed = -1.0
        if passed >= seconds:
            return None
        if passed >= 0:
            return Step(why=f"waiting {seconds:g} s: tidying away a lost run")
    return Step(
        why="tidying away a lost run",
        effects=(_noted(target, deployment, f"{head}{situation.now:.1f}"),),
    )


def _noted(target: TargetRef, deployment: Deployment, text: str | None) -> Safer:
    return effects.Annotate(target=target, uid=deployment.uid, annotations={NOTE: text})


def _removed(situation: Situation, target: TargetRef) -> Step | None:
    """The canary's pods, then our Services."""
    canary = situation.view.canary
    if canary is not None and canary.ours:
        if canary.deleting:
            return Step(why="waiting for the canary of a lost run to go")
        if canary.replicas > 0:
            shrink = effects.ShrinkCanary(target=target, uid=canary.uid, replicas=0)
            return Step(why="stopping the canary pods of a lost run", effects=(shrink,))
        if canary.status_replicas > 0 or any(not pod.deleting for pod in situation.view.pods):
            # Pods that outlive their Deployment would be selected by a Service without its pin.
            return Step(why="waiting for the canary pods of a lost run to go")
        if situation.view.pods:
            # On a node that is lost they never end; no Service leads to pods that are going.
            waiting = _waited(situation, target, "pods", GRACE_SECONDS)
            if waiting is not None:
                return waiting
        gone = effects.DeleteCanary(target=target, uid=canary.uid)
        return Step(why="deleting the canary of a lost run", effects=(gone,))
    twins = tuple(
        effects.DeleteCanaryService(target=target, name=item.name, uid=item.uid)
        for item in _twins(situation)
    )
    return Step(why="deleting the Services of a lost run", effects=twins) if twins else None


def _unpinned(target: TargetRef, pinned: tuple[Service, ...]) -> Step | None:
    if not pinned:
        return None
    back = tuple(_unpin(target, service) for service in pinned)
    return Step(why="unpinning the Services of a lost run", effects=back)


def _unpin(target: TargetRef, service: Service) -> Safer:
    return effects.UnpinService(
        target=target, name=service.name, uid=service.uid, original=service.own_selector
    )


# --- the end --------------------------------------------------------------------------------------


def marked(target: TargetRef, deployment: Deployment, step: Step) -> tuple[Safer, ...]:
    """The step's effects, and with the first of them the note that there was something."""
    if not step.effects or NOTE in deployment.annotations:
        return step.effects
    if any(isinstance(effect, effects.Annotate) for effect in step.effects):
        return step.effects
    return (*step.effects, _noted(target, deployment, "tidying"))


def unmarked(target: TargetRef, deployment: Deployment) -> tuple[Safer, ...]:
    """Takes the note off, if there is one."""
    if not deployment.annotations.get(NOTE, "").startswith("tidying"):
        return ()
    return (_noted(target, deployment, None),)
