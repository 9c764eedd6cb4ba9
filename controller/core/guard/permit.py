# SPDX-License-Identifier: Apache-2.0
"""The one place that makes a `Permit`: proof that every guard agreed to one riskier effect.

A permit is asked for with fresh reads in hand (the routes first, then the latches), is good for the
effect that it names and for that tick only. Every guard is a small function that answers with a
refusal or nothing; all of them are asked, so that a person is told everything at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from controller.core.effects import Admit, FollowCanary, RaiseWeight, Riskier, Roll
from controller.core.observation import Latches, Route
from controller.core.policy.model import Policy
from controller.core.values import TargetRef, canary_name, percent

STALE_SECONDS: Final = 90.0
"""Older caches raise nothing: a watch hears a bookmark, and a fresh list, once a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One guard's no: a stable code and a sentence with the next command in it."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Everything that the guards look at for one effect."""

    effect: Riskier
    target: TargetRef
    policy: Policy
    latches: Latches
    """Read after the routes."""
    epoch: int
    """Our own."""
    routes: Sequence[Route] = ()
    """Read before the latches."""
    ladder: tuple[int, ...]
    """Weights of the run's steps under today's caps."""
    final: int
    """The rung that allows the Deployment to roll; one before it, beyond the steps, is the bake."""
    granted: int
    """Highest rung that evidence or a person allowed."""
    breaker: str
    paused: str
    """Why weights may not rise now, or empty."""
    endpoints_ready: bool
    """Every canary Service has ready endpoints."""
    stale_seconds: float
    stopped: str
    """Why this run should rather go back (a fresh look at the annotations), or empty."""
    evidence: Refusal | None = None
    """Why what is known of the version is nothing to raise on now."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Proof of agreement. Only `grant` makes one; `engine` refuses a riskier effect without."""

    effect: Riskier
    epoch: int


def grant(asked: Asked) -> Permit | tuple[Refusal, ...]:
    """A permit, or every guard's refusal."""
    refusals = tuple(refusal for guard in _GUARDS if (refusal := guard(asked)) is not None)
    return refusals or Permit(asked.effect, asked.epoch)


def _kill(asked: Asked) -> Refusal | None:
    scope = asked.latches.kill_for(asked.target.namespace, asked.target.name)
    if not scope:
        return None
    return Refusal(
        code="KillEngaged",
        message=f"the kill latch {scope!r} is engaged; a person lifts it with `switchgear release`",
    )


def _fleet(asked: Asked) -> Refusal | None:
    if not asked.latches.fleet_open:
        return None
    return Refusal(
        code="FleetBreakerOpen",
        message=f"the fleet breaker is open: {asked.latches.fleet_open}; "
        "a person closes it with `switchgear release`",
    )


def _breaker(asked: Asked) -> Refusal | None:
    return Refusal(code="BreakerOpen", message=asked.breaker) if asked.breaker else None


def _epoch(asked: Asked) -> Refusal | None:
    if asked.latches.epoch == asked.epoch:
        return None
    if asked.latches.epoch > asked.epoch:
        words = "another controller has taken over"
    else:
        words = "the cluster document was lost; restart the daemon, which claims a new epoch"
    return Refusal(
        code="EpochPassed",
        message=f"the epoch is {asked.latches.epoch} and ours is {asked.epoch}: {words}",
    )


def _stopped(asked: Asked) -> Refusal | None:
    return Refusal(code="Stopped", message=asked.stopped) if asked.stopped else None


def _paused(asked: Asked) -> Refusal | None:
    return Refusal(code="Paused", message=asked.paused) if asked.paused else None


def _stale(asked: Asked) -> Refusal | None:
    if asked.stale_seconds <= STALE_SECONDS:
        return None
    return Refusal(
        code="StaleView",
        message=f"nothing was heard from the API server for {asked.stale_seconds:.0f} s "
        f"(limit {STALE_SECONDS:.0f} s)",
    )


def _evidence(asked: Asked) -> Refusal | None:
    """Exposure stands on fresh evidence; pods alone are none."""
    exposing = isinstance(asked.effect, RaiseWeight | Admit | FollowCanary | Roll)
    return asked.evidence if exposing else None


def _cap(asked: Asked) -> Refusal | None:
    effect = asked.effect
    if not isinstance(effect, RaiseWeight | Admit):
        return None
    bake = len(asked.ladder)
    if effect.step < bake and effect.weight_bp > asked.ladder[effect.step]:
        return Refusal(
            code="AboveCap",
            message=f"{percent(effect.weight_bp)} is above the cap of "
            f"{percent(asked.ladder[effect.step])}",
        )
    if effect.step == bake < asked.final and effect.weight_bp > asked.policy.bake.weight_bp:
        return Refusal(
            code="AboveCap",
            message=f"{percent(effect.weight_bp)} is above the bake's "
            f"{percent(asked.policy.bake.weight_bp)}",
        )
    return None


def _granted(asked: Asked) -> Refusal | None:
    effect = asked.effect
    # Direct clients that follow, and a roll, are everything: the last rung's.
    whole = isinstance(effect, Roll | FollowCanary)
    needed = asked.final if whole else getattr(effect, "step", 0)
    if needed <= asked.granted:
        return None
    return Refusal(
        code="NotGranted",
        message=f"rung {needed} was asked for and the evidence has allowed rung {asked.granted}",
    )


def _endpoints(asked: Asked) -> Refusal | None:
    if not isinstance(asked.effect, RaiseWeight | Admit | FollowCanary) or asked.endpoints_ready:
        return None
    return Refusal(code="NoEndpoints", message="the canary Service has no ready endpoints")


def _routes(asked: Asked) -> Refusal | None:
    effect = asked.effect
    if not isinstance(effect, RaiseWeight):
        return None
    read = {route.ref: route for route in asked.routes}
    for split in effect.splits:
        route = read.get(split.route)
        if route is None or route.uid != split.uid or not route.names(canary_name(split.service)):
            return Refusal(code="RouteMoved", message=f"{split.route} is not what was decided on")
        if route.share_bp(split.service, split.canary) > effect.weight_bp:
            return Refusal(
                code="RouteAbove",
                message=f"{split.route} already gives more than {percent(effect.weight_bp)}",
            )
    return None


_GUARDS: Final[tuple[Callable[[Asked], Refusal | None], ...]] = (
    _kill,
    _fleet,
    _breaker,
    _epoch,
    _stopped,
    _paused,
    _stale,
    _evidence,
    _cap,
    _granted,
    _endpoints,
    _routes,
)
