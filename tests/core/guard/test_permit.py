# SPDX-License-Identifier: Apache-2.0
"""A permit needs every guard; each refusal is made by exactly the guard that it is about."""

from dataclasses import replace
from typing import Any

import pytest

from controller.core.effects import Admit, FollowCanary, RaiseWeight, Roll, SplitRef, StartCanary
from controller.core.guard import permit
from controller.core.guard.permit import Asked, Permit, Refusal
from controller.core.observation import Backend, Latches, Route
from controller.core.policy.model import PRESETS, Preset
from controller.core.values import RouteRef, TargetRef

TARGET = TargetRef("shop", "checkout")
REF = RouteRef("HTTPRoute", "shop", "checkout")
SPLIT = SplitRef(route=REF, uid="r1", service="checkout", canary="checkout-canary")


def route(canary_weight: int = 0, *, uid: str = "r1", canary: str = "checkout-canary") -> Route:
    """The route as a quorum read gives it."""
    return Route(
        ref=REF,
        uid=uid,
        version="7",
        generation=2,
        accepted=True,
        backends=(
            Backend(rule=0, index=0, service="checkout", weight=10_000 - canary_weight),
            Backend(rule=0, index=1, service=canary, weight=canary_weight),
        ),
    )


def asked(**changes: Any) -> Asked:
    """A first step of 5 % that every guard agrees to, with changes."""
    base = Asked(
        effect=RaiseWeight(splits=(SPLIT,), weight_bp=500, step=0),
        target=TARGET,
        policy=PRESETS[Preset.STANDARD],
        latches=Latches(epoch=3),
        epoch=3,
        routes=(route(),),
        ladder=(500, 2500, 5000),
        final=4,
        granted=0,
        breaker="",
        paused="",
        endpoints_ready=True,
        stale_seconds=0.5,
        stopped="",
    )
    return replace(base, **changes)


def test_all_agree() -> None:
    """The first step is granted, for that effect and this epoch."""
    found = permit.grant(asked())
    assert isinstance(found, Permit)
    assert found.effect == asked().effect


CASES: dict[str, dict[str, Any]] = {
    "KillEngaged": {"latches": Latches(epoch=3, kills=("namespace.shop",))},
    "FleetBreakerOpen": {"latches": Latches(epoch=3, fleet_open="5 targets tripped")},
    "BreakerOpen": {"breaker": "the breaker opened"},
    "EpochPassed": {"latches": Latches(epoch=4)},
    "Paused": {"paused": "paused"},
    "Stopped": {"stopped": "aborted"},
    "StaleView": {"stale_seconds": 91.0},
    "MetricsStale": {"evidence": Refusal(code="MetricsStale", message="too old")},
    "AboveCap": {"ladder": (100, 100, 100)},
    "NotGranted": {"effect": RaiseWeight(splits=(SPLIT,), weight_bp=2500, step=1)},
    "NoEndpoints": {"endpoints_ready": False},
    "RouteMoved": {"routes": (route(uid="r2"),)},
    "RouteAbove": {"routes": (route(900),)},
}


@pytest.mark.parametrize("code", CASES)
def test_each_guard_refuses_by_itself(code: str) -> None:
    """One thing is wrong, one refusal comes."""
    found = permit.grant(asked(**CASES[code]))
    assert not isinstance(found, Permit)
    assert [refusal.code for refusal in found] == [code]


def test_all_refusals_come_at_once() -> None:
    """A person is told everything that is in the way."""
    found = permit.grant(asked(paused="paused", breaker="open", stale_seconds=99.0))
    assert not isinstance(found, Permit)
    assert {refusal.code for refusal in found} == {"Paused", "BreakerOpen", "StaleView"}


STALE = Refusal(code="MetricsStale", message="too old")


@pytest.mark.parametrize(
    "effect",
    [
        Admit(target=TARGET, services=(("checkout", "s1"),), weight_bp=500, step=0),
        FollowCanary(target=TARGET, name="checkout", uid="s1", original=()),
        Roll(target=TARGET, uid="u1", digest="d"),
    ],
    ids=lambda effect: type(effect).__name__,
)
def test_whatever_exposes_needs_fresh_evidence(effect: Admit | FollowCanary | Roll) -> None:
    assert isinstance(permit.grant(asked(effect=effect, granted=4)), Permit)
    assert permit.grant(asked(effect=effect, granted=4, evidence=STALE)) == (STALE,)


def test_pods_alone_need_none() -> None:
    effect = StartCanary(target=TARGET, uid="c1", replicas=1)
    assert isinstance(permit.grant(asked(effect=effect, evidence=STALE)), Permit)


def test_a_later_epoch_stops_even_the_start_of_pods() -> None:
    """Two controllers: the one that was replaced raises nothing at all."""
    effect = StartCanary(target=TARGET, uid="c1", replicas=1)
    found = permit.grant(asked(effect=effect, latches=Latches(epoch=9)))
    assert not isinstance(found, Permit)


def test_the_roll_needs_the_bakes_pass() -> None:
    """Unpausing is granted by the last rung and by nothing less."""
    effect = Roll(target=TARGET, uid="u1", digest="d")
    assert not isinstance(permit.grant(asked(effect=effect, granted=3)), Permit)
    assert isinstance(permit.grant(asked(effect=effect, granted=4)), Permit)


def test_direct_clients_follow_with_the_last_rung_and_to_ready_pods_alone() -> None:
    """They are given the canary whole, by no weight and no step."""
    effect = FollowCanary(target=TARGET, name="checkout", uid="s1", original=())
    assert isinstance(permit.grant(asked(effect=effect, granted=4)), Permit)
    for code, changes in (
        ("NotGranted", {"granted": 3}),
        ("NoEndpoints", {"granted": 4, "endpoints_ready": False}),
    ):
        found = permit.grant(asked(effect=effect, **changes))
        assert not isinstance(found, Permit)
        assert [refusal.code for refusal in found] == [code]


def test_a_roll_under_traffic_needs_the_last_step() -> None:
    """Without a shift there is no bake before it."""
    effect = Roll(target=TARGET, uid="u1", digest="d")
    assert not isinstance(permit.grant(asked(effect=effect, final=3, granted=2)), Permit)
    assert isinstance(permit.grant(asked(effect=effect, final=3, granted=3)), Permit)


@pytest.mark.parametrize(("weight_bp", "granted", "allowed"), [(500, 0, True), (501, 0, False)])
def test_opening_a_service_is_a_raise(weight_bp: int, granted: int, *, allowed: bool) -> None:
    """The share that the pods make is held to the step, as a weight would be."""
    effect = Admit(target=TARGET, services=(("checkout", "s1"),), weight_bp=weight_bp, step=0)
    found = permit.grant(asked(effect=effect, granted=granted))
    assert isinstance(found, Permit) is allowed
    without = permit.grant(asked(effect=effect, granted=granted, endpoints_ready=False))
    assert not isinstance(without, Permit)


def test_a_route_without_the_canary_is_not_raised() -> None:
    """Another writer's apply took the backend away between decision and write."""
    found = permit.grant(asked(routes=(route(canary="other"),)))
    assert not isinstance(found, Permit)
