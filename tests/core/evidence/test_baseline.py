# SPDX-License-Identifier: Apache-2.0
"""The bake of a native roll: nobody serves beside the new version, so it is held against before."""

import math
from dataclasses import replace

import pytest

from controller.core.evidence.judge import (
    UNREPORTED,
    Code,
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

BEGUN = 1000.0
SCRAPES = 20
USUAL = Settings(dispersion=1.0, usual_rate=0.001)
"""One answer of a thousand fails, by six hours of stable; half a percent more may pass."""


def served(errors: int, slow: int) -> Tally:
    """A thousand answers; of stable's one of a hundred takes longer than 0.3 s."""
    buckets = ((0.1, 600), (0.3, 1000 - slow), (1.2, 1000), (math.inf, 1000))
    return Tally(requests=1000, errors=errors, buckets=buckets)


def baked(errors: int, slow: int, settings: Settings = USUAL, *, alone: bool = True) -> Verdict:
    """The verdict at the end of a bake, after a step in which both versions were the same."""
    evidence = weight_changed(start(settings), BEGUN)
    at, good = BEGUN, served(1, 10)
    for number in range(2 * SCRAPES):
        if number == SCRAPES:
            evidence = weight_changed(evidence, at)
        at += 5.0
        interval = Interval(at=at, seconds=5.0, canary=good, stable=good)
        if number >= SCRAPES:
            canary = served(errors, slow)
            interval = Interval(
                at=at,
                seconds=5.0,
                canary=canary,
                stable=UNREPORTED if alone else canary,
                alone=alone,
            )
        evidence = observe(evidence, settings, interval)
    return judge(evidence, settings, at, gate=Gate(dwell_seconds=60.0), alone=alone)


def codes(verdict: Verdict) -> list[Code]:
    return [reason.code for reason in verdict.reasons]


@pytest.mark.parametrize(("errors", "slow"), [(1, 10), (5, 14), (1, 100)])
def test_as_good_as_before_passes(errors: int, slow: int) -> None:
    assert baked(errors, slow).outcome is Outcome.PASS


@pytest.mark.parametrize(("errors", "slow"), [(20, 10), (1, 150), (20, 150)])
def test_far_worse_than_before_waits_and_fails_nobody(errors: int, slow: int) -> None:
    """Two percent of errors, 15 of slow answers: within every limit, since there is none."""
    found = baked(errors, slow)
    assert found.outcome is Outcome.HOLD
    assert codes(found) == [Code.WORSE_THAN_BEFORE] * ((errors > 1) + (slow > 10))


def test_beside_stable_it_is_stable_that_counts() -> None:
    """An incident of both is no reason to wait."""
    assert Code.WORSE_THAN_BEFORE not in codes(baked(20, 150, alone=False))


def test_without_a_past_nothing_is_held_against_errors() -> None:
    assert baked(20, 10, replace(USUAL, usual_rate=None)).outcome is Outcome.PASS
