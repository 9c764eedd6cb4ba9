# SPDX-License-Identifier: Apache-2.0
"""Checks on what is measured beside requests: when they roll back, when they wait, when not."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from controller.core.evidence import eprocess
from controller.core.evidence.judge import (
    Code,
    Evidence,
    Gate,
    Outcome,
    Settings,
    Verdict,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.measures import (
    ASSUMED,
    FAILING,
    REBET,
    Assertion,
    Comparison,
    Gauge,
    Reading,
    Value,
    scores,
)
from controller.core.evidence.readings import read
from controller.core.evidence.settings import Limits
from controller.core.evidence.tally import Interval, Tally
from controller.core.policy.promql import MAX_CHECKS

ORDERS = Assertion(name="orders", comparison=Comparison.BELOW, limit=0.05, window_seconds=60.0)
MEMORY = Gauge(name="memory", usual=0.4, floor=0.1)
GATE = Gate(dwell_seconds=30.0)

ASKED = Settings(
    dispersion=1.0, cap_scrapes=2, dispersion_known=True, min_requests=10, min_stable_requests=10,
    assertions=(ORDERS,), gauges=(MEMORY,),
)  # fmt: skip


def healthy(evidence: Evidence, until: float, settings: Settings = ASKED) -> Evidence:
    """Scrapes of 5 s without a single error, up to `until`."""
    at = max(evidence.last_at, 0.0)
    while at < until:
        at += 5.0
        calm = Tally(requests=500, errors=0)
        evidence = observe(
            evidence, settings, Interval(at=at, seconds=5.0, canary=calm, stable=calm)
        )
    return evidence


def played(
    values: Sequence[tuple[float | None, float | None]],
    *,
    name: str = "check orders",
    every: float = 60.0,
    settings: Settings = ASKED,
) -> tuple[Evidence, Verdict]:
    """A run in which these values of (canary, stable) are read, with healthy requests between."""
    evidence = weight_changed(start(settings), 0.0)
    at = 0.0
    for canary, stable in values:
        at += every
        evidence = healthy(evidence, at, settings)
        value = Value(name=name, canary=canary, stable=stable)
        evidence = read(evidence, settings, Reading(at=at, values=(value,)))
    return evidence, judge(evidence, settings, evidence.last_at, gate=GATE)


GOOD, BAD = 0.01, 0.30


def codes(verdict: Verdict) -> list[Code]:
    return [reason.code for reason in verdict.reasons]


@pytest.mark.parametrize("checks", [1, MAX_CHECKS + 1])
@pytest.mark.parametrize("cap", [2, 3, 6])
@pytest.mark.parametrize("before", [0, 3, 20])
def test_a_check_that_only_the_canary_breaks_rolls_back_after_a_few_windows(
    before: int, cap: int, checks: int
) -> None:
    """However careful the judge is with scrapes, and however many checks share the stake."""
    others = tuple(replace(ORDERS, name=f"other-{n}") for n in range(checks - 1))
    settings = replace(ASKED, cap_scrapes=cap, gauges=(), assertions=(ORDERS, *others))
    needed = 0
    for bad in range(1, 9):
        _, verdict = played([(GOOD, GOOD)] * before + [(BAD, GOOD)] * bad, settings=settings)
        if verdict.outcome is Outcome.FAIL:
            needed = bad
            break
        assert verdict.outcome is Outcome.HOLD
    # Never a single one; a long healthy time costs some more.
    assert 3 <= needed <= 5
    assert verdict.check == "check orders"
    assert codes(verdict) == [Code.CHECK_BROKEN]
    assert "orders: canary 0.3, stable 0.01; evidence 10^" in verdict.reasons[0].message


def test_one_bad_minute_that_is_looked_at_often_stays_one() -> None:
    often = [(BAD, GOOD)] * 4
    assert played(often, every=15.0)[1].outcome is Outcome.HOLD
    assert played(often, every=60.0)[1].outcome is Outcome.FAIL


def test_what_stable_breaks_as_well_is_waited_for_and_never_the_canarys_fault() -> None:
    _, verdict = played([(BAD, BAD)] * 30)
    assert verdict.outcome is Outcome.HOLD
    assert codes(verdict) == [Code.STABLE_VIOLATES_LIMIT]


def test_a_reading_does_not_blame_the_canary_for_a_limit_that_stable_breaks_as_well() -> None:
    settings = replace(ASKED, limits=Limits(max_error_rate=0.01), gauges=())
    evidence = weight_changed(start(settings), 0.0)
    failing = Tally(requests=500, errors=50)
    for at in range(5, 301, 5):
        both = Interval(at=float(at), seconds=5.0, canary=failing, stable=failing)
        evidence = observe(evidence, settings, both)
    calm = Value(name="check orders", canary=GOOD, stable=GOOD)
    evidence = read(evidence, settings, Reading(at=300.0, values=(calm,)))
    verdict = judge(evidence, settings, 300.0, gate=GATE)
    assert verdict.outcome is Outcome.HOLD
    assert Code.STABLE_VIOLATES_LIMIT in codes(verdict)


def test_without_a_value_of_the_canary_nothing_passes_and_nothing_fails() -> None:
    _, verdict = played([(None, GOOD)] * 10)
    assert verdict.outcome is Outcome.HOLD
    assert codes(verdict) == [Code.NO_CHECK_DATA]
    _, silent = played([(None, None)] * 10)
    assert silent.outcome is Outcome.HOLD


def test_a_value_at_another_weight_or_of_long_ago_is_none() -> None:
    evidence, verdict = played([(GOOD, GOOD)] * 3)
    assert verdict.outcome is Outcome.PASS
    later = healthy(weight_changed(evidence, evidence.last_at + 1), evidence.last_at + 60)
    assert codes(judge(later, ASKED, later.last_at, gate=GATE)) == [Code.NO_CHECK_DATA]
    stale = healthy(evidence, evidence.last_at + 120)
    assert codes(judge(stale, ASKED, stale.last_at, gate=GATE)) == [Code.NO_CHECK_DATA]


def test_a_canary_whose_stable_is_not_measured_is_held_against_the_limit_alone() -> None:
    assert played([(BAD, None)] * 5)[1].outcome is Outcome.FAIL
    assert played([(GOOD, None)] * 5)[1].outcome is Outcome.PASS


WATCHED = Settings(
    dispersion=1.0, cap_scrapes=2, dispersion_known=True, min_requests=10, min_stable_requests=10,
    gauges=(MEMORY,),
)  # fmt: skip


@pytest.mark.parametrize(
    ("canary", "stable", "outcome"),
    [
        (0.95, 0.40, Outcome.FAIL),
        (0.95, 0.95, Outcome.FAIL),
        (0.52, 0.20, Outcome.FAIL),
        (0.45, 0.05, Outcome.PASS),
        (0.65, 0.40, Outcome.PASS),
        (0.05, 0.95, Outcome.PASS),
    ],
    ids=[
        "far more than stable",
        "a pool that both exhaust",
        "more than stable and than usual",
        "more than stable, which has few requests now, and hardly more than usual before",
        "little more",
        "only stable",
    ],
)
def test_a_gauge_is_compared_with_stable_and_with_stables_past(
    canary: float, stable: float, outcome: Outcome
) -> None:
    _, verdict = played([(canary, stable)] * 5, name="memory", settings=WATCHED)
    assert verdict.outcome is outcome
    if outcome is Outcome.FAIL:
        assert verdict.check == "saturation"
        assert codes(verdict) == [Code.SATURATED]


POOL = Gauge(name="pool", usual=0.5, floor=0.3, ends=True)


@pytest.mark.parametrize(
    ("canary", "stable", "outcome"),
    [(1.0, 0.5, Outcome.FAIL), (1.0, 1.0, Outcome.HOLD), (0.9, 0.6, Outcome.PASS)],
    ids=["nothing left", "nothing left for both", "something left"],
)
def test_of_what_ends_nothing_is_left_however_much_was_usual(
    canary: float, stable: float, outcome: Outcome
) -> None:
    """1.5 times half of a pool and some more is more than there is."""
    settings = replace(WATCHED, gauges=(POOL,))
    _, verdict = played([(canary, stable)] * 5, name="pool", settings=settings)
    assert verdict.outcome is outcome
    if outcome is not Outcome.PASS:
        assert codes(verdict) == [Code.SATURATED]


def test_a_check_that_is_called_like_a_gauge_is_none() -> None:
    settings = replace(
        ASKED,
        assertions=(replace(ORDERS, name="restarts", limit=10.0),),
        gauges=(Gauge(name="restarts", usual=0.0, floor=0.5),),
    )
    _, verdict = played([(9.0, 1.0)] * 5, name="check restarts", settings=settings)
    assert verdict.outcome is Outcome.PASS


def test_a_rollback_tells_of_the_check_that_decided() -> None:
    evidence = healthy(weight_changed(start(ASKED), 0.0), 60.0)
    for at in (60.0, 120.0, 180.0, 240.0):
        evidence = healthy(evidence, at)
        for name, canary in (("check orders", BAD), ("memory", 0.5 if at < 240 else 0.9)):
            value = Value(name=name, canary=canary, stable=GOOD)
            evidence = read(evidence, ASKED, Reading(at=at, values=(value,)))
    verdict = judge(evidence, ASKED, 240.0, gate=GATE)
    assert verdict.reasons[0].message.startswith("check orders: canary 0.3, stable 0.01; evidence")
    calm = Reading(at=300.0, values=(Value(name="check orders", canary=GOOD, stable=GOOD),))
    assert judge(read(evidence, ASKED, calm), ASKED, 240.0, gate=GATE) == verdict


def test_a_check_of_cold_pods_waits_and_is_no_proof() -> None:
    evidence = weight_changed(start(ASKED), 0.0, warm_up_seconds=60.0)
    value = Value(name="check orders", canary=BAD, stable=GOOD)
    for at in (15.0, 60.0, 119.0):
        evidence = healthy(evidence, at)
        evidence = read(evidence, ASKED, Reading(at=at, values=(value,)))
        assert codes(judge(evidence, ASKED, at, gate=GATE))[0] is Code.CHECK_BROKEN
    assert evidence.trials == start(ASKED).trials
    evidence = read(evidence, ASKED, Reading(at=120.0, values=(value,)))
    assert evidence.trials[0] == 120.0


def test_cold_pods_use_much_of_everything() -> None:
    patient = Gauge(name="memory", usual=0.4, floor=0.1, patience_seconds=120.0)
    settings = Settings(gauges=(patient,), min_requests=10)
    evidence = weight_changed(start(settings), 0.0, warm_up_seconds=60.0)
    high = Value(name="memory", canary=0.99, stable=0.1)
    for at in range(15, 181, 15):
        evidence = read(evidence, settings, Reading(at=float(at), values=(high,)))
        assert (evidence.noted[0].canary == 0.99) is (at == 180)


LAST = Gate(dwell_seconds=30.0, proven=True)
PATIENT = Gauge(name="memory", usual=0.4, floor=0.1, patience_seconds=180.0)
YOUNG = Settings(gauges=(PATIENT,), min_requests=10)


def used(evidence: Evidence, at: float, canary: float | None) -> Evidence:
    """Requests as they must be, and this of the memory."""
    value = Value(name="memory", canary=canary, stable=0.3)
    return read(healthy(evidence, at, YOUNG), YOUNG, Reading(at=at, values=(value,)))


def test_young_pods_that_use_little_need_no_patience() -> None:
    cold = weight_changed(start(YOUNG), 0.0, warm_up_seconds=30.0)
    evidence = used(cold, 29.0, 0.3)
    verdict = judge(evidence, YOUNG, 30.0, gate=LAST)
    assert codes(verdict) == [Code.NO_CHECK_DATA]  # Cold ones are not looked at.
    evidence = used(evidence, 44.0, 0.3)
    assert judge(evidence, YOUNG, 45.0, gate=LAST).outcome is Outcome.PASS
    assert evidence.trials == start(YOUNG).trials


def test_young_pods_that_use_much_are_waited_for_and_nothing_is_held_against_them() -> None:
    evidence = weight_changed(start(YOUNG), 0.0, warm_up_seconds=30.0)
    for at in range(45, 210, 15):
        evidence = used(evidence, float(at), 0.99)
        verdict = judge(evidence, YOUNG, float(at), gate=LAST)
        assert codes(verdict) == [Code.NO_CHECK_DATA]
        assert "while the canary's pods are young" in verdict.reasons[0].message
        assert verdict.seconds_to_go == pytest.approx(225.0 - at)
        assert judge(evidence, YOUNG, float(at), gate=GATE).outcome is Outcome.PASS
    calm = used(evidence, 205.0, 0.3)
    assert judge(calm, YOUNG, 205.0, gate=LAST).outcome is Outcome.PASS
    assert evidence.trials == start(YOUNG).trials
    grown = used(evidence, 210.0, 0.99)
    assert grown.trials[0] == 210.0
    assert codes(judge(grown, YOUNG, 210.0, gate=GATE)) == [Code.SATURATED]


def test_good_news_of_young_pods_is_taken_back_and_grows_old() -> None:
    evidence = used(weight_changed(start(YOUNG), 0.0, warm_up_seconds=30.0), 45.0, 0.3)
    assert judge(evidence, YOUNG, 60.0, gate=LAST).outcome is Outcome.PASS
    high = used(evidence, 60.0, 0.99)
    silent = used(healthy(evidence, 130.0, YOUNG), 130.0, None)
    gone = used(healthy(high, 300.0, YOUNG), 300.0, None)
    again = weight_changed(evidence, 60.0, warm_up_seconds=30.0)
    for found, at in (
        (high, 60.0),
        (silent, 130.0),
        (gone, 300.0),
        (healthy(again, 95.0, YOUNG), 95.0),
    ):
        assert codes(judge(found, YOUNG, at, gate=LAST)) == [Code.NO_CHECK_DATA], at


def test_good_news_of_young_pods_does_not_hide_what_old_ones_used_up() -> None:
    evidence = used(weight_changed(start(YOUNG), 0.0, warm_up_seconds=0.0), 180.0, 0.99)
    evidence = weight_changed(evidence, 200.0, warm_up_seconds=30.0)
    evidence = used(evidence, 240.0, 0.99)
    assert codes(judge(evidence, YOUNG, 240.0, gate=GATE)) == [Code.SATURATED]


def test_before_all_requests_every_gauge_must_have_spoken() -> None:
    evidence = healthy(weight_changed(start(WATCHED), 0.0), 600.0, WATCHED)
    assert judge(evidence, WATCHED, 600.0, gate=GATE).outcome is Outcome.PASS
    last = Gate(dwell_seconds=30.0, proven=True)
    assert codes(judge(evidence, WATCHED, 600.0, gate=last)) == [Code.NO_CHECK_DATA]
    calm = Value(name="memory", canary=0.3, stable=0.3)
    evidence = read(evidence, WATCHED, Reading(at=600.0, values=(calm,)))
    assert judge(evidence, WATCHED, 600.0, gate=last).outcome is Outcome.PASS


def test_a_gauge_that_fell_silent_is_no_good_news() -> None:
    """Whether its series are gone or its query fails."""
    calm = Reading(at=60.0, values=(Value(name="memory", canary=0.3, stable=0.3),))
    evidence = weight_changed(start(WATCHED), 0.0)
    evidence = read(healthy(evidence, 60.0, WATCHED), WATCHED, calm)
    assert judge(evidence, WATCHED, 60.0, gate=LAST).outcome is Outcome.PASS
    failing = healthy(evidence, 300.0, WATCHED)
    gone = Reading(at=300.0, values=(Value(name="memory", canary=None, stable=0.3),))
    for silent in (failing, read(failing, WATCHED, gone)):
        verdict = judge(silent, WATCHED, 300.0, gate=LAST)
        assert codes(verdict) == [Code.NO_CHECK_DATA]
        assert "memory of the canary is silent, last measured" in verdict.reasons[0].message


def test_what_a_version_does_not_have_any_more_holds_nothing_up_for_ever() -> None:
    """A pool that was removed, or a limit of CPU: other things are measured, and this is told."""
    pool = replace(POOL, patience_seconds=60.0)
    settings = replace(WATCHED, gauges=(MEMORY, pool))
    evidence = weight_changed(start(settings), 0.0)
    for at, outcome in ((60.0, Outcome.HOLD), (89.0, Outcome.HOLD), (91.0, Outcome.PASS)):
        values = (
            Value(name="memory", canary=0.3, stable=0.3),
            Value(name="pool", canary=None, stable=0.3),
        )
        evidence = healthy(evidence, at, settings)
        evidence = read(evidence, settings, Reading(at=at, values=values))
        verdict = judge(evidence, settings, at, gate=LAST)
        assert verdict.outcome is outcome
    assert "not measured on the canary so far: pool" in verdict.reasons[0].message


def test_an_old_reading_changes_nothing() -> None:
    evidence, _ = played([(BAD, GOOD), (BAD, GOOD)])
    again = Reading(at=60.0, values=(Value(name="check orders", canary=BAD, stable=GOOD),))
    assert read(evidence, ASKED, again) == evidence


def test_the_bet_is_fair_if_three_readings_in_a_hundred_fail() -> None:
    """By exact enumeration of all orders of eight readings."""
    for chance, most in ((ASSUMED, 1.0), (ASSUMED / 2, 0.9)):
        mean = 0.0
        for order in itertools.product((0, 1), repeat=8):
            process = eprocess.fresh(len(FAILING))
            for bad in order:
                process = eprocess.advance(
                    process, eprocess.payout(scores(bad=bool(bad)), 1.0), REBET
                )
            odds = math.prod(chance if bad else 1 - chance for bad in order)
            mean += odds * math.exp(eprocess.value(process))
        assert mean <= most + 1e-9
        assert chance < ASSUMED or mean == pytest.approx(1.0)
