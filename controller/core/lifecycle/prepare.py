# SPDX-License-Identifier: Apache-2.0
"""Holding, checking and preparing: from the change that was seen to a canary at weight 0.

The order is a safety argument. The native roll is stopped before anything else; every Service is
pinned to the stable pods before canary pods can exist, since those carry the same labels; and the
canary stands in the routes at weight 0, accepted, before it gets a single pod.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from controller.core import effects
from controller.core.effects import Effect
from controller.core.lifecycle import checks, exposure
from controller.core.lifecycle.memory import UNGATED, Ending, Lane, Memory, Pin, Run
from controller.core.lifecycle.situation import Decision, Notice, Situation
from controller.core.lifecycle.table import Event
from controller.core.observation import Backend, Deployment, Route, unpinned
from controller.core.observation import pinned as pinned  # noqa: PLC0414  # The lifecycle speaks of it here.
from controller.core.policy.model import Traffic
from controller.core.values import HASH_LABEL, canary_name

ASKING = (
    "asking the API server before the run, and replaying it on stable's past: "
    "about half a minute at most"
)
"""What a run waits for before anything is touched; who has no past in time is judged without."""

ACCEPT_SECONDS = 60.0
"""A gateway that has not answered by then does not answer (seen: 5 to 60 ms)."""

MAKE_SECONDS = 1.0
"""Least time between two makings of what is ours: somebody may take it away at once."""


def freeze(situation: Situation, run: Run, serving: str = "") -> list[Effect]:
    """What keeps a template other than the serving one from getting pods.

    `serving` is the hash of the pods that serve; by default stable's.
    """
    kept = serving or run.stable_hash
    deployment = situation.view.deployment
    if deployment is None:
        return []
    wanted: list[Effect] = []
    if not deployment.paused:
        wanted.append(
            effects.Pause(target=run.target, uid=deployment.uid, why=f"run {run.name} decides")
        )
    # A paused Deployment without pods starts the ReplicaSet that was made last, and gives it its
    # pods back as often as they are taken away. So that one goes itself, and the next is started.
    started = deployment.replicas > 0 and _without_pods(situation, kept)
    take: type[effects.DeleteReplicaSet | effects.FreezeReplicaSet]
    take = effects.DeleteReplicaSet if started else effects.FreezeReplicaSet
    wanted.extend(
        take(target=run.target, name=item.name, uid=item.uid)
        for item in situation.view.replica_sets
        if item.hash != kept
        and item.replicas > 0
        and not item.deleting
        and (item.ready == 0 or (serves(situation, kept) and not started))
    )
    return wanted


def _without_pods(situation: Situation, hash_: str) -> bool:
    """Whether that ReplicaSet is there and wants none."""
    sets = situation.view.replica_sets
    return any(item.hash == hash_ and item.replicas == 0 and not item.deleting for item in sets)


def resumed(situation: Situation, run: Run) -> tuple[Effect, ...]:
    """What holds a Deployment again that somebody resumed before it may roll; nothing: it holds."""
    deployment = situation.view.deployment
    if deployment is None or deployment.uid != run.uid or deployment.digest == run.stable_digest:
        return ()
    return tuple(freeze(situation, run))


def serves(situation: Situation, hash_: str) -> bool:
    """Whether pods of that ReplicaSet are ready: without them no other pod may be taken away."""
    return any(item.hash == hash_ and item.ready > 0 for item in situation.view.replica_sets)


def rolled_ungated(situation: Situation, stable_hash: str) -> bool:
    """New pods serve and no stable pod does: too late to hold; freezing would be an outage."""
    others = any(
        item.hash != stable_hash and item.ready > 0 for item in situation.view.replica_sets
    )
    return others and not serves(situation, stable_hash)


def hold(situation: Situation, memory: Memory) -> Decision:
    """HOLDING: stop the native roll, wait until only stable pods are left."""
    if rolled_ungated(situation, memory.run.stable_hash):
        reason = "the change had rolled before it could be held"
        after = memory.moved(Event.LEFT, situation.now, outcome=UNGATED, reason=reason)
        return Decision(memory=after, why=reason)
    wanted = freeze(situation, memory.run)
    if wanted:
        return Decision(memory=memory, why="stopping the native roll", effects=tuple(wanted))
    strays = [
        item
        for item in situation.view.replica_sets
        if item.hash != memory.run.stable_hash and item.status_replicas > 0
    ]
    if strays:
        names = ", ".join(item.name for item in strays)
        return Decision(memory=memory, why=f"waiting for the pods of {names} to go")
    after = memory.moved(Event.FROZEN, situation.now, **_ways(situation))
    return Decision(memory=after, why="the change is held")


def _ways(situation: Situation) -> dict[str, Any]:
    """How requests are split and the new version is promoted, as things stand now."""
    if isinstance(situation.policy, tuple):
        return {}
    return {"traffic": checks.traffic(situation), "promotion": checks.promotion(situation)}


def check(situation: Situation, memory: Memory) -> Decision:
    """CHECKING: ask everything, then fix what the run will need to undo itself."""
    if situation.preflight is None and not isinstance(situation.policy, tuple):
        return Decision(memory=memory, why=ASKING)
    found = checks.refusals(situation, memory.run)
    waited = situation.now - memory.moments.entered
    if found and waited < ACCEPT_SECONDS and all(one.code == checks.UNANSWERED for one in found):
        return Decision(memory=memory, why=f"waiting for the gateway: {found[0].message}")
    if found:
        text = "; ".join(refusal.message for refusal in found)
        after = memory.moved(Event.REFUSED, situation.now, ending=Ending.REFUSED, reason=text)
        notices = tuple(
            Notice(reason=refusal.code, message=refusal.message, warning=True) for refusal in found
        )
        return Decision(memory=after, why=f"refused: {text}", notices=notices)
    after = memory.moved(Event.CLEARED, situation.now, **_originals(situation, memory.run))
    return Decision(
        memory=after,
        why="every check passed",
        notices=(Notice(reason="RunStarted", message=f"run {memory.run.name} begins"),),
    )


def _originals(situation: Situation, run: Run) -> dict[str, Any]:
    """Everything as it stands before the first touch."""
    view = situation.view
    deployment = view.deployment
    ways = _ways(situation)
    lanes = tuple(
        Lane(
            route=route.ref,
            uid=route.uid,
            service=service.name,
            original=_before(route, service.name),
        )
        for route in view.routes
        for service in view.services
        if route.names(service.name) and ways["traffic"] is Traffic.GATEWAY
    )
    stable = next((item for item in view.replica_sets if item.hash == run.stable_hash), None)
    return {
        **ways,
        "pins": tuple(Pin(service=item.name, original=item.own_selector) for item in view.services),
        "lanes": lanes,
        "replicas": deployment.replicas if deployment else 0,
        "most_replicas": situation.preflight.autoscaler_max if situation.preflight else None,
        "recovery": stable is None or stable.ready == 0,
        "ending": None,
        "reason": "",
        "calibration": situation.calibration.to_json() if situation.calibration else None,
    }


def _before(route: Route, service: str) -> tuple[Backend, ...]:
    """The backends of the rules to a Service without us: by our note, or else as they stand."""
    rules = {backend.rule for backend in route.backends if backend.service == service}
    known = route.original or route.backends
    return tuple(backend for backend in known if backend.rule in rules)


def pins(situation: Situation, run: Run, key: str, value: str) -> list[Effect]:
    """The pins that are missing: Services without exactly this key of ours."""
    wanted: list[Effect] = []
    for pin in run.pins:
        service = situation.service(pin.service)
        if service is None or service.selector == pinned(service.selector, key, value):
            continue
        wanted.append(
            effects.PinService(
                target=run.target,
                name=service.name,
                uid=service.uid,
                original=pin.original,
                key=key,
                value=value,
            )
        )
    return wanted


def adopted(situation: Situation, run: Run) -> Run:
    """The run with Services that came to select the pods since it began, and others' edits."""
    run = edited(situation, run)
    known = {pin.service for pin in run.pins}
    fresh = [
        Pin(service=item.name, original=item.own_selector)
        for item in situation.view.services
        if item.name not in known and not item.shared_with
    ]
    return replace(run, pins=(*run.pins, *fresh)) if fresh else run


def edited(situation: Situation, run: Run) -> Run:
    """The run with what others made of its selectors (apart from our pin) and routes by now."""
    found = {item.name: item for item in situation.view.services}
    pins = tuple(
        replace(pin, original=unpinned(found[pin.service].selector, pin.original) or pin.original)
        if pin.service in found
        else pin
        for pin in run.pins
    )
    lanes = tuple(_relearned(situation, lane) for lane in run.lanes)
    same = pins == run.pins and lanes == run.lanes
    return run if same else replace(run, pins=pins, lanes=lanes)


def _relearned(situation: Situation, lane: Lane) -> Lane:
    """A lane whose route was deleted and made again, once that gives the canary nothing."""
    for route in situation.view.routes:
        if route.ref != lane.route or route.uid == lane.uid:
            continue
        if route.share_bp(lane.service, canary_name(lane.service)) == 0:
            return replace(lane, uid=route.uid, original=_before(route, lane.service))
    return lane


def lacking(situation: Situation, run: Run) -> str:
    """A route or Service of the run that is gone; empty: all are there.

    What is not there shows no weight, which must never be taken for the weight that was asked for.
    """
    shown = {route.ref for route in situation.view.routes}
    for lane in run.lanes:
        if lane.route not in shown:
            return str(lane.route)
    for pin in run.pins:
        if situation.service(pin.service) is None:
            return f"Service {pin.service}"
    return ""


def objects(situation: Situation, run: Run) -> Iterator[Effect]:
    """Our own objects that are missing, in the order in which they may come to be.

    A canary that is another one goes first. So this is for a canary that carries nothing.
    """
    yield from missing(situation, run)
    canary = situation.view.canary
    if canary is None or situation.view.deployment is None:
        return
    if _outdated(canary, run) and not canary.deleting:
        yield effects.DeleteCanary(target=run.target, uid=canary.uid)


def missing(situation: Situation, run: Run) -> Iterator[Effect]:
    """Our own objects that are not there."""
    deployment = situation.view.deployment
    if deployment is None:
        return
    for service in run.services:
        if situation.canary_service(service) is None and situation.service(service) is not None:
            yield effects.CreateCanaryService(
                target=run.target, owner_uid=deployment.uid, service=service
            )
    if situation.view.canary is None:
        yield effects.CreateCanary(target=run.target, owner_uid=deployment.uid, digest=run.digest)


def disowned(situation: Situation, run: Run) -> Iterator[Effect]:
    """Our canary under another owner, or none: it is given back its own."""
    canary = situation.view.canary
    if canary is None or not canary.ours or canary.deleting or canary.owner_uid == run.uid:
        return
    yield effects.OwnCanary(target=run.target, uid=canary.uid, owner_uid=run.uid)


def _outdated(canary: Deployment, run: Run) -> bool:
    return canary.digest != run.digest or canary.owner_uid != run.uid


def backends(situation: Situation, run: Run) -> list[Effect]:
    """Routes in which the canary does not stand."""
    wanted: list[Effect] = []
    for lane in run.lanes:
        for route in situation.view.routes:
            known = route.uid == lane.uid and route.names(canary_name(lane.service))
            if route.ref == lane.route and not known:
                split = situation.split(lane)
                if split is not None:
                    wanted.append(effects.AttachBackend(split=split))
    return wanted


def prepare(situation: Situation, memory: Memory) -> Decision:
    """PREPARING: pins first, then our objects, then the routes, then wait for acceptance."""
    run = adopted(situation, memory.run)
    memory = replace(memory, run=run)
    if any(exposure.exposures(situation, run)):
        zero = exposure.zero(situation, run)
        why = "weight 0 before anything is prepared"
        return Decision(memory=memory.at(asserted=None), why=why, effects=(zero,))
    gone = lacking(situation, run)
    if gone:
        return late(situation, memory, f"{gone} of this run is gone", ACCEPT_SECONDS)
    if work := _work(situation, memory):
        # Another writer may take it away as often as it is made.
        return unless_late(situation, work, situation.ready_seconds)
    return _accepted(situation, memory)


def _work(situation: Situation, memory: Memory) -> Decision | None:
    """What is still to be done before routes can accept the canary; None: nothing."""
    run = memory.run
    lost = pins(situation, run, HASH_LABEL, run.stable_hash)
    if lost:
        why = "pinning Services to stable"
        return Decision(memory=memory.at(asserted=None), why=why, effects=tuple(lost))
    canary = situation.view.canary
    if canary is not None and canary.replicas > 0 and _outdated(canary, run):
        # Of a step that slipped: until weight 0 is in force it is sent requests.
        calm = situation.settle_seconds + situation.drain_seconds
        if waiting := exposure.settling(situation, memory, calm):
            return waiting
    made = tuple(objects(situation, run))
    if made:
        return making(situation, memory, made, "making the canary's objects")
    if canary is None or _outdated(canary, run):
        return Decision(memory=memory, why="waiting for an older canary to go")
    attach = tuple(backends(situation, run))
    if attach:
        return Decision(memory=memory, why="adding the canary at weight 0", effects=attach)
    return None


def making(situation: Situation, memory: Memory, made: tuple[Effect, ...], why: str) -> Decision:
    """Make what is ours, but not as fast as somebody else may take it away."""
    last = memory.moments.made
    left = last + MAKE_SECONDS - situation.now if last is not None else 0.0
    if left > 0:
        again = f"{why}, once more in a second"
        return Decision(memory=memory, why=again, wait_seconds=left)
    if not any(isinstance(effect, effects.DeleteCanary) for effect in made):
        memory = memory.at(made=situation.now)
    return Decision(memory=memory, why=why, effects=made)


def _accepted(situation: Situation, memory: Memory) -> Decision:
    run = memory.run
    ours = {lane.route for lane in run.lanes}
    for route in situation.view.routes:
        if route.ref in ours and route.accepted is not True:
            why = f"{route.ref} is not accepted with the canary in it: {route.message}"
            return late(situation, memory, why, ACCEPT_SECONDS)
    return Decision(
        memory=memory.moved(Event.PREPARED, situation.now),
        why="the canary stands at weight 0",
    )


def late(
    situation: Situation, memory: Memory, why: str, seconds: float, *, since: float | None = None
) -> Decision:
    """Wait in this phase, and end the run Inconclusive once the wait was too long.

    It is counted from the phase's begin, or from `since`.
    """
    waited = situation.now - (memory.moments.entered if since is None else since)
    if waited < seconds:
        return Decision(memory=memory, why=f"{why} ({waited:.0f} of {seconds:.0f} s)")
    reason = f"{why} after {seconds:.0f} s"
    after = memory.moved(Event.STOP, situation.now, ending=Ending.INCONCLUSIVE, reason=reason)
    return Decision(
        memory=after,
        why=reason,
        notices=(Notice(reason="Inconclusive", message=reason, warning=True),),
    )


def unless_late(situation: Situation, work: Decision, seconds: float) -> Decision:
    """Go on with the phase's work, unless it has lasted too long; a paused run is never late."""
    waiting = late(situation, work.memory, work.why, seconds)
    ends = waiting.memory.phase is not work.memory.phase
    return waiting if ends and not situation.paused else work
