# SPDX-License-Identifier: Apache-2.0
"""What looks bad while pods are cold waits for warm ones, and is never a proof by itself."""

import math

import pytest

from controller.core.evidence.judge import (
    Code,
    Evidence,
    Gate,
    Interval,
    Outcome,
    Settings,
    Tally,
    Verdict,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.young import LOOK_SECONDS

WARM_UP = 60.0
SETTINGS = Settings(dispersion=1.0, latency_dispersion=1.0, cap_scrapes=2, dispersion_known=True)
GATE = Gate(dwell_seconds=10.0)


def served(requests: int, errors: int, slow: int = 0) -> Tally:
    buckets = ((0.1, requests - slow), (math.inf, requests))
    return Tally(requests=requests, errors=errors, buckets=buckets)


STABLE = served(5000, 5, 50)
GOOD, FAILING, SLOW = served(500, 0, 5), served(500, 3, 5), served(500, 0, 40)


def seen(evidence: Evidence, until: float, canary: Tally) -> Evidence:
    """Scrapes of 5 s up to then."""
    while max(evidence.last_at, 0.0) < until:
        at = max(evidence.last_at, 0.0) + 5.0
        interval = Interval(at=at, seconds=5.0, canary=canary, stable=STABLE)
        evidence = observe(evidence, SETTINGS, interval)
    return evidence


def cold() -> Evidence:
    return weight_changed(start(SETTINGS), 0.0, warm_up_seconds=WARM_UP)


def said(evidence: Evidence) -> Verdict:
    return judge(evidence, SETTINGS, evidence.last_at, gate=GATE)


def test_who_starts_well_waits_for_nothing() -> None:
    assert said(seen(cold(), 10.0, GOOD)).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("canary", "words"), [(FAILING, "0.6 % errors"), (SLOW, "8.0 % slower than 0.1 s")]
)
def test_cold_pods_that_look_bad_wait_for_warm_ones_and_pass_once_those_are_good(
    canary: Tally, words: str
) -> None:
    evidence = seen(cold(), WARM_UP, canary)
    found = said(evidence)
    assert [reason.code for reason in found.reasons] == [Code.EVIDENCE_AGAINST]
    assert words in found.reasons[0].message
    assert "while its pods are cold: warm ones decide, about 60 s" in found.reasons[0].told
    assert found.seconds_to_go == pytest.approx(LOOK_SECONDS)
    early = seen(evidence, WARM_UP + LOOK_SECONDS - 5.0, GOOD)
    assert said(early).outcome is Outcome.HOLD
    assert said(seen(early, WARM_UP + LOOK_SECONDS, GOOD)).outcome is Outcome.PASS


@pytest.mark.parametrize("canary", [FAILING, SLOW])
def test_what_stays_bad_when_pods_are_warm_is_rolled_back_and_never_passed(canary: Tally) -> None:
    evidence = cold()
    while evidence.trip is None:
        evidence = seen(evidence, max(evidence.last_at, 0.0) + 5.0, canary)
        assert evidence.last_at < 15 or said(evidence).outcome is not Outcome.PASS
        assert evidence.last_at < WARM_UP + LOOK_SECONDS
    assert evidence.trip.at > WARM_UP


def test_pods_of_the_step_before_are_as_cold_as_they_were() -> None:
    evidence = seen(cold(), 20.0, GOOD)
    assert weight_changed(evidence, 20.0).warm_until == WARM_UP
    assert weight_changed(evidence, 70.0).warm_until == 70.0
