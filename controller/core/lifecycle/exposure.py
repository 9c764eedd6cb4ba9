# SPDX-License-Identifier: Apache-2.0
"""What the canary gets, and how that is taken away or given: by a route, or by the number of pods.

*Gateway*: the weights of routes between a Service and its twin. *Replicas*: the canary pods carry
the labels of the user's Services. While those are pinned to the stable pods the canary gets
nothing; opened, each pod gets the same, and c canary pods beside n others the share c / (n + c). So
the pods for a step are started while the Services are closed, and one write opens them: exposure
never passes through a share that no step names.
"""

from collections.abc import Iterable
from typing import Final

from controller.core import effects
from controller.core.effects import Urgent
from controller.core.lifecycle.memory import Memory, Run
from controller.core.lifecycle.situation import Decision, Situation
from controller.core.lifecycle.table import EXPOSED, Phase
from controller.core.observation import Service, unpinned
from controller.core.policy import caps
from controller.core.policy.model import Traffic
from controller.core.values import CANARY_TRACK, HASH_LABEL, TRACK_LABEL

FOLLOWING: Final = frozenset({Phase.COMMITTING, Phase.ROLLING_BACK})
"""Phases before the commit, or back from there, in which a Service may select the canary."""

OPEN: Final = EXPOSED | {Phase.ROLLING_BACK}
"""Phases in which a Service may lead to canary pods beside the others, where no route does."""


def exposures(situation: Situation, run: Run) -> tuple[int, ...]:
    """What each path gives the canary now, in basis points."""
    if run.traffic is Traffic.GATEWAY:
        return situation.shares(run.lanes)
    return tuple(
        0 if confined(service, run.stable_hash) else share(situation)
        for service in services(situation, run)
    )


def share(situation: Situation) -> int:
    """The canary's share of the pods that there shall be, in basis points, rounded up.

    Counted by the wanted numbers: a stable pod that is unready for a moment is no reason to move.
    """
    canary = situation.view.canary
    return caps.share_beside(canary.replicas if canary else 0, stable_pods(situation))


def stable_pods(situation: Situation) -> int:
    """Pods of the user's Deployment that there shall be."""
    deployment = situation.view.deployment
    return deployment.replicas if deployment is not None else 0


def services(situation: Situation, run: Run) -> tuple[Service, ...]:
    """The user's Services of this run that still exist."""
    found = (situation.service(pin.service) for pin in run.pins)
    return tuple(service for service in found if service is not None)


def confined(service: Service, hash_: str) -> bool:
    """Whether a Service selects the pods of that hash alone."""
    return (HASH_LABEL, hash_) in service.selector


def opened(situation: Situation, run: Run) -> bool:
    """Whether every Service of the run selects pods by nothing but what its owner wrote."""
    originals = {pin.service: pin.original for pin in run.pins}
    return all(
        service.selector == unpinned(service.selector, originals[service.name])
        for service in services(situation, run)
    )


def zero(situation: Situation, run: Run) -> Urgent:
    """The one write that takes everything from the canary: no answer of anybody is waited for."""
    if run.traffic is Traffic.GATEWAY:
        return effects.ZeroWeight(splits=situation.splits(run.lanes))
    return confine(run)


def by_services(run: Run) -> bool:
    """Whether its Services may lead to the canary now, so that weight 0 is not all."""
    return bool(run.pins) and run.phase in (OPEN if run.traffic is Traffic.REPLICAS else FOLLOWING)


def leading(run: Run, found: Iterable[Service]) -> tuple[str, ...]:
    """Those of these Services that lead to the canary, whatever any route says."""
    ours = {pin.service for pin in run.pins}
    return tuple(
        service.name
        for service in found
        if service.name in ours
        and (
            (TRACK_LABEL, CANARY_TRACK) in service.selector
            or (run.traffic is Traffic.REPLICAS and not confined(service, run.stable_hash))
        )
    )


def confine(run: Run) -> effects.Confine:
    """The Services of the run lead to stable's pods alone."""
    names = tuple(pin.service for pin in run.pins)
    return effects.Confine(target=run.target, services=names, hash=run.stable_hash)


def admit(situation: Situation, run: Run, weight_bp: int) -> effects.Admit:
    """Open the Services, so that the canary pods get their share of what they serve."""
    found = tuple((service.name, service.uid) for service in services(situation, run))
    return effects.Admit(target=run.target, services=found, weight_bp=weight_bp, step=run.step)


def settling(situation: Situation, memory: Memory, seconds: float) -> Decision | None:
    """Wait until what the routes show has been in force for `seconds`; None when it has."""
    since = memory.moments.asserted
    if since is None:
        return Decision(
            memory=memory.at(asserted=situation.now),
            why="waiting until the weight is in force",
            wait_seconds=seconds,
        )
    left = since + seconds - situation.now
    if left > 0:
        why = "waiting until the weight is in force"
        return Decision(memory=memory, why=why, wait_seconds=left)
    return None
