# SPDX-License-Identifier: Apache-2.0
"""What a leader claims before a raise is what the next one claims for its open intent."""

import json

import pytest

from controller.core import effects
from controller.core.effects import RISKIER, Riskier
from controller.core.values import RouteRef, TargetRef
from controller.engine import claims, describe
from controller.ports.cluster import ObjectRef

TARGET = TargetRef("shop", "checkout")
PINNED = (("app", "checkout"),)


def _split(kind: str, name: str) -> effects.SplitRef:
    route = RouteRef(kind, "edge", name)
    return effects.SplitRef(route=route, uid="r", service="checkout", canary="checkout-canary")


RAISES: dict[Riskier, list[tuple[str, str, str]]] = {
    effects.RaiseWeight(
        # Two Services in one route, and a route of the other kind.
        splits=(_split("HTTPRoute", "a"), _split("HTTPRoute", "a"), _split("GRPCRoute", "b")),
        weight_bp=500,
        step=0,
    ): [("HTTPRoute", "edge", "a"), ("GRPCRoute", "edge", "b")],
    effects.Admit(
        target=TARGET, services=(("checkout", "s1"), ("admin", "s2")), weight_bp=500, step=0
    ): [("Service", "shop", "checkout"), ("Service", "shop", "admin")],
    effects.StartCanary(target=TARGET, uid="c", replicas=2): [
        ("Deployment", "shop", "checkout-canary")
    ],
    effects.FollowCanary(target=TARGET, name="admin", uid="s2", original=PINNED): [
        ("Service", "shop", "admin")
    ],
    effects.Roll(target=TARGET, uid="d", digest="0"): [("Deployment", "shop", "checkout")],
}


def test_every_effect_toward_risk_is_among_them() -> None:
    assert {type(effect) for effect in RAISES} == set(RISKIER)


@pytest.mark.parametrize("effect", RAISES, ids=lambda effect: type(effect).__name__)
def test_both_claim_the_same(effect: Riskier) -> None:
    """The intent as the journal gives it back."""
    wanted = [ObjectRef(*ref) for ref in RAISES[effect]]
    intent = json.loads(json.dumps({"intent": 7, **describe.effect(effect), "call": "run/1/1"}))
    assert claims.of_effect(effect) == wanted
    assert claims.of_intents([intent]) == tuple(wanted)
