# SPDX-License-Identifier: Apache-2.0
"""Each promise is seen to be broken by a decision that breaks it, and by nothing else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.core import effects, invariants
from controller.core.lifecycle.memory import Lane, Memory, Pin, split_of
from controller.core.lifecycle.situation import Decision, Situation
from controller.core.lifecycle.table import Phase
from controller.core.values import CANARY_TRACK, TRACK_LABEL
from tests.core.lifecycle.paper import LABELS, NEW, ROUTE, TARGET, Paper, begun

LANE = Lane(route=ROUTE, uid="r1", service="checkout", original=())
START = effects.StartCanary(target=TARGET, uid="c1", replicas=1)
FOLLOW = effects.FollowCanary(target=TARGET, name="checkout", uid="s1", original=LABELS)
ROLL = effects.Roll(target=TARGET, uid="u1", digest=NEW)
ZERO = effects.ZeroWeight(splits=(split_of(LANE),))


def raised(weight_bp: int, step: int = 0) -> effects.RaiseWeight:
    """A raise of the one lane."""
    return effects.RaiseWeight(splits=(split_of(LANE),), weight_bp=weight_bp, step=step)


def scene(phase: Phase, **run: Any) -> tuple[Situation, Memory]:
    """A run in a phase, with a ready canary."""
    paper = Paper(canary=NEW, canary_uid="c1", canary_pods=1, canary_service=True)
    memory = begun(paper)
    memory = replace(memory, run=replace(memory.run, phase=phase, lanes=(LANE,), **run))
    return paper.situation(memory), memory


def found(
    phase: Phase, *wanted: effects.Effect, after: dict[str, Any] | None = None, **run: Any
) -> tuple[str, ...]:
    """What the invariants say of a decision with these effects."""
    situation, memory = scene(phase, **run)
    later = replace(memory, run=replace(memory.run, **(after or {})))
    decision = Decision(memory=later, why="", effects=wanted)
    return invariants.broken(situation, memory, decision)


def test_an_ordinary_raise_breaks_nothing() -> None:
    """One step, within its cap, with endpoints."""
    assert found(Phase.RAISING, raised(500)) == ()
    assert found(Phase.COMMITTING, FOLLOW, granted=3) == ()
    assert found(Phase.ROLLING, ROLL, granted=3) == ()


@pytest.mark.parametrize(
    ("promise", "problems"),
    [
        pytest.param("S2", lambda: found(Phase.RAISING, raised(500), START), id="two raises"),
        pytest.param("S2", lambda: found(Phase.ROLLING_BACK, START), id="on the way back"),
        pytest.param("S2", lambda: found(Phase.HELD, START), id="while held"),
        pytest.param("S2", lambda: found(Phase.JUDGING, after={"granted": 2}), id="two steps"),
        pytest.param("S2", lambda: found(Phase.SCALING, after={"granted": 1}), id="unjudged"),
        pytest.param(
            "S2", lambda: found(Phase.JUDGING, granted=3, after={"granted": 4}), id="beyond the end"
        ),
        pytest.param("S1", lambda: found(Phase.RAISING, raised(501)), id="above the step"),
        pytest.param("S1", lambda: found(Phase.RAISING, raised(2500, step=1)), id="not granted"),
        pytest.param("S1", lambda: found(Phase.COMMITTING, FOLLOW, granted=2), id="followed early"),
        pytest.param("S1", lambda: found(Phase.ROLLING_OUT, ROLL, granted=2), id="rolled early"),
        pytest.param("S4", lambda: found(Phase.ROLLING, ZERO), id="weight 0 after the commit"),
    ],
)
def test_the_promise_is_seen_to_be_broken(
    promise: str, problems: Callable[[], tuple[str, ...]]
) -> None:
    """It is named, and it is the only one."""
    named = problems()
    assert len(named) == 1
    assert named[0].startswith(f"{promise}:")


@pytest.mark.parametrize("effect", [raised(500), FOLLOW], ids=["by weight", "directly"])
def test_weight_for_a_canary_without_endpoints(effect: effects.Effect) -> None:
    """S5: no traffic to nothing."""
    situation, memory = scene(Phase.RAISING, granted=3)
    bare = replace(situation, view=replace(situation.view, canary_services=()))
    decision = Decision(memory=memory, why="", effects=(effect,))
    assert [text[:3] for text in invariants.broken(bare, memory, decision)] == ["S5:"]


DELETE = effects.DeleteCanary(target=TARGET, uid="c1")


@pytest.mark.parametrize("weights", [{"checkout": 9500, "checkout-canary": 500}, {"checkout": 1}])
def test_a_canary_to_which_requests_go_is_not_deleted(weights: dict[str, int | None]) -> None:
    situation, memory = scene(Phase.ROLLING)
    paper = Paper(canary=NEW, canary_uid="c1", canary_pods=1, canary_service=True, weights=weights)
    carrying = replace(situation, view=paper.view())
    decision = Decision(memory=memory, why="", effects=(DELETE,))
    expected = ["S5:"] if "checkout-canary" in weights else []
    assert [text[:3] for text in invariants.broken(carrying, memory, decision)] == expected


def test_a_canary_that_a_service_follows_is_not_deleted() -> None:
    selector = (*LABELS, (TRACK_LABEL, CANARY_TRACK))
    situation, memory = scene(Phase.ROLLING, pins=(Pin(service="checkout", original=LABELS),))
    paper = Paper(canary=NEW, canary_uid="c1", canary_pods=1, selector=selector)
    carrying = replace(situation, view=paper.view())
    decision = Decision(memory=memory, why="", effects=(DELETE,))
    assert [text[:3] for text in invariants.broken(carrying, memory, decision)] == ["S5:"]


def test_a_foreign_deployment_is_not_touched() -> None:
    """S12: what is not ours is not scaled or deleted."""
    situation, memory = scene(Phase.SCALING)
    assert situation.view.canary is not None
    foreign = replace(situation.view.canary, ours=False)
    other = replace(situation, view=replace(situation.view, canary=foreign))
    decision = Decision(memory=memory, why="", effects=(START,))
    assert [text[:4] for text in invariants.broken(other, memory, decision)] == ["S12:"]
