# SPDX-License-Identifier: Apache-2.0
"""The stopwatch's arithmetic."""

from typing import Any

import pytest

from controller.demo import measure
from controller.demo.counts import Seen, Slot, Track
from controller.demo.measure import LAG_SECONDS, Weights


def route(*rules: dict[str, int]) -> dict[str, Any]:
    backends = [[{"name": name, "weight": w} for name, w in rule.items()] for rule in rules]
    return {"spec": {"rules": [{"backendRefs": refs} for refs in backends]}}


def test_a_route_asks_for_its_worst_rule() -> None:
    assert measure.canary_bp(route({"checkout": 1})) == 0
    assert measure.canary_bp(route({"checkout": 95, "checkout-canary": 5})) == 500
    mixed = route({"checkout": 95, "checkout-canary": 5}, {"checkout": 1, "checkout-canary": 1})
    assert measure.canary_bp(mixed) == 5000
    assert measure.canary_bp(route({"checkout": 0, "checkout-canary": 0})) == 0
    assert measure.canary_bp({"spec": {}}) == 0
    assert measure.canary_bp({"spec": {"rules": [{"backendRefs": [{"name": "checkout"}]}]}}) == 0


def test_weights_keep_changes_only() -> None:
    weights = Weights()
    for at, weight in ((1.0, 0), (2.0, 0), (3.0, 500), (4.0, 500), (5.0, 0)):
        weights.note(at, weight)
    assert weights.changes == [(1.0, 0), (3.0, 500), (5.0, 0)]
    assert weights.now_bp == 0
    assert weights.zero_after(2.0) == 5.0
    assert weights.zero_after(5.1) is None


def test_shares_leave_out_the_lag_and_the_hand_back() -> None:
    weights = Weights(changes=[(0.0, 0), (10.0, 1000), (20.0, 10_000), (30.0, 5000), (40.0, 0)])
    seen = Seen()
    for tenth in range(500):
        end = tenth / 10
        # While the gateway still obeys the old weight nothing reaches the canary.
        canary = 1 if 10.0 + LAG_SECONDS - 0.5 < end <= 20.0 else 0
        seen.add(Slot(end=end, tracks={"v1": Track(good=10 - canary), "v2": Track(good=canary)}))
    ((asked, got),) = weights.steps(seen, 50.0)
    assert asked == 0.1
    assert got == pytest.approx(0.1)


def test_a_step_too_short_to_measure_is_left_out() -> None:
    weights = Weights(changes=[(0.0, 0), (10.0, 1000), (10.1, 0)])
    assert weights.steps(Seen(), 20.0) == []


def test_slow_answers_show_as_the_difference_to_their_bucket() -> None:
    counts = [({"code": "200"}, [(1.0, 5.0), (2.0, 9.0)]), ({"code": "500"}, [(2.0, 1.0)])]
    buckets = [
        ({"code": "200", "le": "0.3"}, [(1.0, 5.0), (2.0, 8.0)]),
        ({"code": "500", "le": "0.3"}, [(2.0, 1.0)]),
        ({"code": "200", "le": "+Inf"}, [(1.0, 5.0), (2.0, 9.0)]),
    ]
    assert measure.first_above(counts, buckets, bound=0.3) == [2.0]


def test_durations_need_both_ends() -> None:
    assert measure.between(1.0, 2.5) == 1.5
    assert measure.between(None, 2.5) is None
    assert measure.between(1.0, None) is None


def test_the_verdict_that_counts_is_the_first_fail() -> None:
    def decision(outcome: str, at: str) -> dict[str, Any]:
        return {"kind": "decision", "body": {"verdict": {"outcome": outcome}, "decided_at": at}}

    journal = [
        {"kind": "begun", "body": {}},
        decision("hold", "2026-01-05T09:00:00.000Z"),
        decision("fail", "2026-01-05T09:00:01.250Z"),
        decision("fail", "2026-01-05T09:00:09.000Z"),
    ]
    first = measure.verdict_at(journal)
    assert first == measure.verdict_at(journal[2:])
    assert first != measure.verdict_at(journal[3:])
    assert measure.verdict_at(journal[:2]) is None
