# SPDX-License-Identifier: Apache-2.0
"""Whether the team's Services lead where they select.

Clients that call a Service, and gateways that serve its pods, go by its EndpointSlices, which a
controller writes some time after the selector has changed: milliseconds as a rule, seconds when
it is behind. Nobody's pods may go while a Service still leads to them.
"""

from typing import Final

from controller.core.lifecycle.memory import Memory, Run
from controller.core.lifecycle.situation import Decision, Situation
from controller.core.lifecycle.table import LEADING, Phase
from controller.core.policy.model import Traffic

UNHEARD_SECONDS: Final = 10.0
"""So long the way back waits for an answer that does not come; then time alone has to do."""


def asked(run: Run, phase: Phase) -> bool:
    """Whether it matters now: a Service was given other pods, or is about to be.

    On the way back only from the bake on: before the commit no Service was ever moved, and one that
    slipped out of it is counted as in its bake.
    """
    baked = bool(run.ladder) and run.step >= len(run.ladder)
    moved = phase is not Phase.ROLLING_BACK or baked
    return phase in LEADING and moved and run.traffic is Traffic.GATEWAY and bool(run.pins)


def behind(situation: Situation, memory: Memory, *, canary: bool) -> str:
    """What still leads elsewhere, as a sentence; empty: every Service leads where it should.

    Args:
        situation: With the endpoints as they were read.
        memory: The run.
        canary: Whether the Services shall lead to the canary's pods alone, or to none of them.
    """
    if not asked(memory.run, memory.phase):
        return ""
    if situation.led is None:
        return "asking where the Services lead"
    pods = situation.view.pods
    ours = frozenset(pod.name for pod in pods)
    deployment = situation.view.deployment
    serving = any(pod.ready for pod in pods) if canary else bool(deployment and deployment.ready)
    for pin in memory.run.pins:
        found = situation.led.get(pin.service, frozenset())
        strange = found - ours if canary else found & ours
        if strange:
            whose = "other pods than the canary's" if canary else "canary pods"
            return f"the endpoints of {pin.service} still name {len(strange)} {whose}"
        if not found and serving and situation.service(pin.service) is not None:
            return f"{pin.service} has no endpoints yet"
    return ""


def awaited(
    situation: Situation, memory: Memory, seconds: float, *, canary: bool
) -> Decision | None:
    """Wait while a Service is behind, for so many seconds at most, and shorter for an answer.

    What is in force counts from the moment on in which the endpoints are seen to have followed.
    """
    found = behind(situation, memory, canary=canary)
    most = seconds if situation.led is not None else min(seconds, UNHEARD_SECONDS)
    since = memory.moments.behind
    if not found or (since is not None and situation.now - since >= most):
        return None
    return Decision(memory=noted(situation, memory), why=found)


def noted(situation: Situation, memory: Memory) -> Memory:
    """Since when a Service is behind. Where it was seen to be, nothing is in force yet; no answer
    says nothing.
    """
    since = memory.moments.behind
    memory = memory.at(behind=situation.now if since is None else since)
    return memory if situation.led is None else memory.at(asserted=None)
