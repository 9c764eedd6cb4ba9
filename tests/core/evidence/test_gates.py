# SPDX-License-Identifier: Apache-2.0
"""What a PASS asks for: proof before everything goes to the new version, and a budget kept."""

import math
import random
from dataclasses import replace

import pytest

from controller.core.evidence.checks import proven_at, standing_for
from controller.core.evidence.judge import (
    Code,
    Evidence,
    Gate,
    Interval,
    Limits,
    Outcome,
    Settings,
    Tally,
    Verdict,
    judge,
    observe,
    start,
    weight_changed,
)
from tests.core.evidence.traffic import Traffic

CALM = Settings(dispersion=1.0, cap_scrapes=2, dispersion_known=True, safe_margin=0.01)


def seen(traffic: Traffic, scrapes: int, settings: Settings = CALM, seed: int = 1) -> Evidence:
    evidence = weight_changed(start(settings), 0.0)
    for interval in traffic.intervals(random.Random(seed), scrapes):
        evidence = observe(evidence, settings, interval)
    return evidence


def said(evidence: Evidence, gate: Gate, settings: Settings = CALM) -> Verdict:
    return judge(evidence, settings, evidence.last_at, gate=gate)


GOOD = Tally(requests=100, errors=0)
PROVEN = Gate(dwell_seconds=5, proven=True)


def test_before_the_promotion_it_is_proven_that_the_version_is_good_enough() -> None:
    healthy = Traffic(canary_bad=0.002, stable_bad=0.002)
    early = said(seen(healthy, 6), PROVEN)
    assert early.outcome is Outcome.HOLD
    assert [reason.code for reason in early.reasons] == [Code.NOT_PROVEN]
    assert "not yet proven to be within 1.0 % of stable: 10^" in early.reasons[0].message
    assert early.seconds_to_go
    assert said(seen(healthy, 6), Gate(dwell_seconds=5)).outcome is Outcome.PASS
    later = said(seen(healthy, 60), PROVEN)
    assert later.outcome is Outcome.PASS
    assert "with 95.0 % certainty at most 0." in later.reasons[0].message


def test_a_version_that_is_worse_by_more_than_the_margin_is_never_proven() -> None:
    """Neither by a long wait: slightly too bad is not proven bad, and not promoted either."""
    worse = Traffic(canary_bad=0.045, stable_bad=0.03, share=0.5)
    for seed in range(20):
        evidence = seen(worse, 300, seed=seed)
        assert said(evidence, PROVEN).outcome is not Outcome.PASS


def test_the_proof_begins_anew_at_each_weight() -> None:
    evidence = seen(Traffic(canary_bad=0.0, stable_bad=0.0), 100)
    assert evidence.proof.bound(0.05) < 0.01
    fresh = weight_changed(evidence, evidence.last_at)
    assert fresh.proof.bound(0.05) == 1.0
    early = Interval(at=fresh.last_at + 1, seconds=2, canary=GOOD, stable=GOOD)
    assert observe(fresh, CALM, early).proof == fresh.proof, "it began before the weight"


LIMITED = replace(CALM, limits=Limits(latency=((0.25, 0.01), (0.5, 0.05))), latency_dispersion=1.0)


def answered(slow: int, scrapes: int) -> Evidence:
    """500 requests a scrape of each track without an error, so many of them not within 0.3 s."""
    evidence = weight_changed(start(LIMITED), 0.0)
    tally = Tally(requests=500, buckets=((0.3, 500 - slow), (0.5, 500), (math.inf, 500)))
    for at in range(1, scrapes + 1):
        interval = Interval(at=float(at), seconds=1.0, canary=tally, stable=tally)
        evidence = observe(evidence, LIMITED, interval)
    return evidence


def test_before_the_promotion_it_is_proven_that_latency_limits_are_kept() -> None:
    early = said(answered(4, 4), replace(PROVEN, dwell_seconds=1), LIMITED)
    assert early.outcome is Outcome.HOLD
    assert [reason.code for reason in early.reasons] == [Code.NOT_PROVEN]
    assert early.check == "proof latency 0.3 s"
    told = early.reasons[0].message
    assert "not yet proven that no more than 1.5 % are slower than 0.3 s: 10^" in told
    assert early.seconds_to_go
    assert said(answered(4, 4), Gate(dwell_seconds=1), LIMITED).outcome is Outcome.PASS
    later = said(answered(4, 20), PROVEN, LIMITED)
    assert later.outcome is Outcome.PASS
    assert " slower than 0.3 s, and 0.0" in later.reasons[0].message


def test_before_the_promotion_latency_is_compared_on_warm_pods() -> None:
    """However short the bake is beside the warm-up; a step waits for nothing."""
    cold = weight_changed(start(CALM), 8.0, warm_up_seconds=60.0)
    tally = Tally(requests=500, buckets=((0.3, 500), (0.5, 500), (math.inf, 500)))
    found = {}
    for at in range(9, 90):
        cold = observe(cold, CALM, Interval(at=at, seconds=1.0, canary=tally, stable=tally))
        found[at - 8] = said(cold, Gate(dwell_seconds=20, proven=True, warm_seconds=10), CALM)
    first = min(at for at, told in found.items() if told.outcome is Outcome.PASS)
    assert first == 60 + 10
    assert [reason.code for reason in found[30].reasons] == [Code.NO_LATENCY_DATA]
    assert found[30].seconds_to_go == 40
    assert said(cold, Gate(dwell_seconds=20), CALM).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("asked", "slow", "bound"),
    [(0.3, 5, 0.3), (0.25, 5, 0.1), (0.25, 20, 0.3), (0.05, 5, 0.1), (0.4, 5, 0.3), (0.7, 5, 0.3)],
)
def test_a_limit_is_proven_at_the_bound_below_if_stable_keeps_it_there(
    asked: float, slow: int, bound: float
) -> None:
    past = ((0.1, 1000 - slow), (0.3, 1000), (math.inf, 1000))
    assert proven_at(asked, 0.01, (0.1, 0.3), past) == bound
    assert proven_at(asked, 0.01, (0.1, 0.3), ()) == standing_for(asked, (0.1, 0.3))


def test_the_proof_of_a_limit_begins_anew_at_each_weight_and_leaves_cold_pods_out() -> None:
    evidence = answered(0, 8)
    assert [known.requests for known in evidence.timely] == [4000.0, 4000.0]
    fresh = weight_changed(evidence, 8.0, warm_up_seconds=2.0)
    assert [known.requests for known in fresh.timely] == [0.0, 0.0]
    tally = Tally(requests=10, buckets=((0.3, 9), (0.5, 10), (math.inf, 10)))
    for at in (9.0, 10.0, 11.0):
        one = Interval(at=at, seconds=1.0, canary=tally, stable=tally)
        fresh = observe(fresh, LIMITED, one)
    assert [(known.slow, known.requests) for known in fresh.timely] == [(1.0, 10.0), (0.0, 10.0)]
    assert Evidence.from_json(fresh.to_json()) == fresh


@pytest.mark.parametrize(("budget", "outcome"), [(5.0, Outcome.HOLD), (500.0, Outcome.PASS)])
def test_the_next_share_waits_until_it_cannot_cost_more_than_allowed(
    budget: float, outcome: Outcome
) -> None:
    evidence = seen(Traffic(canary_bad=0.0, stable_bad=0.001, share=0.05), 8)
    gate = Gate(dwell_seconds=2, budget=budget, next_share=0.2, reaction_seconds=5.0)
    found = said(evidence, gate, CALM)
    assert found.outcome is outcome
    if outcome is Outcome.HOLD:
        assert [reason.code for reason in found.reasons] == [Code.OVER_BUDGET]
        assert "bad requests of 5 allowed" in found.reasons[0].message
