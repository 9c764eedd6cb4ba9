# SPDX-License-Identifier: Apache-2.0
"""What the judge says, and that it says why."""

import json
from typing import Any

import pytest
from msgspec import structs

from controller.core.evidence.judge import (
    UNREPORTED,
    Code,
    Evidence,
    Gate,
    Interval,
    Limits,
    Outcome,
    Reason,
    Settings,
    Tally,
    Verdict,
    judge,
    observe,
    start,
    weight_changed,
)

INF = float("inf")


def timed(total: int, slow: int, bound: float = 0.3) -> tuple[tuple[float, int], ...]:
    """A histogram with two bounds, so many of the requests slower than the second."""
    return ((0.1, (total - slow) // 2), (bound, total - slow), (INF, total))


def run(
    settings: Settings,
    canary: Tally,
    stable: Tally,
    *,
    scrapes: int = 10,
    opened: bool = True,
    at: float = 1000.0,
) -> Evidence:
    evidence = start(settings)
    if opened:
        evidence = weight_changed(evidence, at)
    for number in range(1, scrapes + 1):
        interval = Interval(at=at + number, seconds=1.0, canary=canary, stable=stable)
        evidence = observe(evidence, settings, interval)
    return evidence


def said(
    evidence: Evidence,
    settings: Settings,
    *,
    age: float = 0.5,
    dwell_seconds: float = 5.0,
    **more: Any,
) -> Verdict:
    return judge(
        evidence, settings, evidence.last_at + age, gate=Gate(dwell_seconds=dwell_seconds), **more
    )


def codes(verdict: Verdict) -> set[Code]:
    return {reason.code for reason in verdict.reasons}


GOOD = Tally(requests=40, errors=0)
BROKEN = Tally(requests=40, errors=20)
STABLE = Tally(requests=360, errors=1)


def test_a_healthy_canary_passes_after_its_dwell() -> None:
    settings = Settings()
    verdict = said(run(settings, GOOD, STABLE), settings)
    assert verdict.outcome is Outcome.PASS
    assert (verdict.canary.requests, verdict.stable.errors) == (400, 10)
    assert verdict.evidence_seconds == 10
    assert (verdict.window_at, verdict.data_at) == (1000.0, 1010.0)
    assert "0.0 % errors (0 of 400)" in verdict.reasons[0].message


def test_the_larger_arm_may_be_the_canary() -> None:
    settings = Settings()
    bake = Tally(requests=380, errors=0)
    assert said(run(settings, bake, Tally(requests=20)), settings).outcome is Outcome.PASS
    worse = Tally(requests=380, errors=40)
    longer = run(settings, worse, Tally(requests=20), scrapes=40)
    assert said(longer, settings).outcome is Outcome.FAIL


def test_a_broken_canary_fails_fast_with_the_numbers() -> None:
    settings = Settings()
    verdict = said(run(settings, BROKEN, STABLE, scrapes=2), settings)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.fast
    (reason,) = verdict.reasons
    assert reason.code is Code.FAST_TRIP
    assert reason.message.startswith(
        "canary 50.0 % errors (40 of 80) against stable 0.3 % (2 of 720), limit 1.25x; evidence 10^"
    )
    assert reason.message.endswith("of 10^6.0 needed")
    assert (reason.n, reason.limit) == (80, 1.25)


def test_the_cap_lets_no_two_scrapes_roll_back_without_the_fast_trip() -> None:
    """8 % against 0.1 %: overwhelming at this volume, but below the fast trip's 10 %."""
    settings = Settings(cap_scrapes=3)
    canary, stable = Tally(requests=4000, errors=320), Tally(requests=36000, errors=36)
    assert said(run(settings, canary, stable, scrapes=2), settings).outcome is Outcome.HOLD
    verdict = said(run(settings, canary, stable, scrapes=3), settings)
    assert verdict.outcome is Outcome.FAIL
    assert not verdict.fast
    assert codes(verdict) == {Code.WORSE_THAN_STABLE}


@pytest.mark.parametrize("cap", [2, 3, 4])
@pytest.mark.parametrize("healthy", [1, 60])
def test_a_healthy_past_makes_no_rollback_later_than_the_cap(cap: int, healthy: int) -> None:
    """What the bets have lost meanwhile is no further scrape, and neither is a rounding error."""
    settings = Settings(dispersion=1.0, cap_scrapes=cap)
    stable = Tally(requests=9000, errors=9)
    evidence = run(settings, Tally(requests=1000, errors=1), stable, scrapes=healthy)
    assert evidence.level < 0
    for number in range(1, cap + 1):
        assert evidence.trip is None
        bad = Tally(requests=1000, errors=60)
        at = evidence.last_at + 1
        interval = Interval(at=at, seconds=1.0, canary=bad, stable=stable)
        evidence = observe(evidence, settings, interval)
        assert (evidence.trip is not None) == (number == cap)


def test_evidence_against_the_canary_stops_it_before_it_is_proof() -> None:
    settings = Settings(cap_scrapes=3)
    canary, stable = Tally(requests=4000, errors=320), Tally(requests=36000, errors=36)
    verdict = said(run(settings, canary, stable, scrapes=2), settings, dwell_seconds=0.0)
    assert codes(verdict) == {Code.EVIDENCE_AGAINST}
    assert "rollback at 10^2.0" in verdict.reasons[0].message


def test_one_mad_scrape_neither_rolls_back_nor_blinds_the_judge() -> None:
    settings = Settings(dispersion=1.0, cap_scrapes=3)
    mad = Interval(
        at=1001.0, seconds=1.0, canary=Tally(requests=4000, errors=380),
        stable=Tally(requests=36000, errors=30),
    )  # fmt: skip
    evidence = observe(weight_changed(start(settings), 1000.0), settings, mad)
    at = 1001.0
    for _ in range(60):
        at += 1
        calm = Interval(at=at, seconds=1.0, canary=GOOD, stable=STABLE)
        evidence = observe(evidence, settings, calm)
    assert evidence.trip is None
    for _ in range(20):
        at += 1
        worse = Tally(requests=40, errors=4)
        evidence = observe(
            evidence, settings, Interval(at=at, seconds=1.0, canary=worse, stable=STABLE)
        )
    assert evidence.trip is not None


def test_no_data_is_neither_pass_nor_fail() -> None:
    settings = Settings()
    verdict = said(run(settings, UNREPORTED, UNREPORTED), settings)
    assert verdict.outcome is Outcome.HOLD
    assert {Code.NO_CANARY_DATA, Code.NO_STABLE_DATA, Code.TOO_FEW_REQUESTS} <= codes(verdict)
    assert verdict.seconds_to_go is None
    empty = said(start(settings), settings)
    assert empty.outcome is Outcome.HOLD
    assert Code.WINDOW_NOT_OPEN in codes(empty)
    assert empty.data_at is None


def test_one_track_missing_holds() -> None:
    settings = Settings()
    verdict = said(run(settings, UNREPORTED, STABLE), settings)
    assert verdict.outcome is Outcome.HOLD
    assert Code.NO_CANARY_DATA in codes(verdict)
    verdict = said(run(settings, Tally(requests=400, errors=400), UNREPORTED), settings)
    assert verdict.outcome is Outcome.HOLD
    assert Code.NO_STABLE_DATA in codes(verdict)


def test_a_canary_without_traffic_says_how_much_it_lacks() -> None:
    settings = Settings(min_requests=100)
    verdict = said(run(settings, Tally(), STABLE), settings)
    assert verdict.outcome is Outcome.HOLD
    (reason,) = verdict.reasons
    assert reason.told == "canary has 0 of 100 requests, and none are coming"


def test_too_few_requests_says_when_there_will_be_enough() -> None:
    settings = Settings(min_requests=100)
    verdict = said(run(settings, Tally(requests=2), STABLE), settings)
    assert verdict.outcome is Outcome.HOLD
    assert verdict.reasons[0].told == "canary has 20 of 100 requests, about 40 s"
    assert verdict.seconds_to_go == pytest.approx(40.0)


def test_the_dwell_is_counted_in_evidence_time() -> None:
    settings = Settings()
    verdict = said(run(settings, GOOD, STABLE, scrapes=4), settings, dwell_seconds=30.0)
    assert codes(verdict) == {Code.DWELL_NOT_OVER}
    assert verdict.seconds_to_go == pytest.approx(26.0)
    gap = Interval(at=2000.0, seconds=996.0, canary=GOOD, stable=STABLE)
    late = observe(run(settings, GOOD, STABLE, scrapes=4), settings, gap)
    assert late.window.seconds == 4 + settings.longest_interval_seconds


def test_stale_data_hold_whatever_they_said() -> None:
    settings = Settings(max_age_seconds=15)
    evidence = run(settings, GOOD, STABLE)
    assert said(evidence, settings, age=16.0).outcome is Outcome.HOLD
    assert judge(evidence, settings, 1026.0, gate=Gate(dwell_seconds=5)).outcome is Outcome.HOLD
    assert judge(evidence, settings, 1011.0, gate=Gate(dwell_seconds=5)).outcome is Outcome.PASS
    assert said(evidence, settings, age=float("nan")).outcome is Outcome.HOLD
    silent = observe(
        evidence,
        settings,
        Interval(at=1040.0, seconds=30.0, canary=UNREPORTED, stable=STABLE),
    )
    assert codes(said(silent, settings)) == {Code.METRICS_STALE}


def test_a_new_weight_starts_from_nothing_and_keeps_the_evidence() -> None:
    settings = Settings()
    evidence = run(settings, GOOD, STABLE)
    later = weight_changed(evidence, 1010.5)
    verdict = said(later, settings)
    assert verdict.outcome is Outcome.HOLD
    assert verdict.canary.requests == 0
    straddling = Interval(at=1011.0, seconds=1.0, canary=GOOD, stable=STABLE)
    assert observe(later, settings, straddling).window.canary.requests == 0
    inside = Interval(at=1012.0, seconds=1.0, canary=GOOD, stable=STABLE)
    assert observe(observe(later, settings, straddling), settings, inside).window.seconds == 1


def test_the_same_interval_counts_once() -> None:
    settings = Settings()
    evidence = run(settings, GOOD, STABLE)
    again = Interval(at=1010.0, seconds=1.0, canary=BROKEN, stable=STABLE)
    overlapping = Interval(at=1010.5, seconds=1.0, canary=BROKEN, stable=STABLE)
    assert observe(evidence, settings, again) == evidence
    assert observe(evidence, settings, overlapping) == evidence


@pytest.mark.parametrize("limit", [0.0, 0.02])
def test_an_absolute_limit_fails_the_canary_alone(limit: float) -> None:
    """Stable is just as bad up to the tolerance only where it breaks the limit as well."""
    settings = Settings(limits=Limits(max_error_rate=limit), tolerance=50.0, dispersion=1.0)
    bad = Tally(requests=400, errors=24)
    verdict = said(run(settings, bad, Tally(requests=3600)), settings)
    assert verdict.outcome is Outcome.FAIL
    assert codes(verdict) == {Code.LIMIT_VIOLATED}
    assert verdict.check == "error limit"
    both = said(run(settings, bad, Tally(requests=3600, errors=216)), settings)
    assert both.outcome is Outcome.HOLD
    assert both.reasons[0].code is Code.STABLE_VIOLATES_LIMIT
    assert "paused instead of rolled back" in both.reasons[0].message


def test_above_the_limit_without_proof_never_passes() -> None:
    settings = Settings(limits=Limits(max_error_rate=0.05))
    verdict = said(run(settings, Tally(requests=18, errors=1), STABLE, scrapes=6), settings)
    assert verdict.outcome is Outcome.HOLD
    assert Code.ABOVE_LIMIT in codes(verdict)


def test_latency_is_compared_at_bucket_bounds() -> None:
    settings = Settings(dispersion=1.0, cap_scrapes=2)
    slow = Tally(requests=40, buckets=timed(40, 12))
    quick = Tally(requests=360, buckets=timed(360, 4))
    verdict = said(run(settings, slow, quick), settings)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.check == "latency"
    assert "slower than 0.3 s (" in verdict.reasons[0].message
    same = Tally(requests=40, buckets=timed(40, 0))
    assert said(run(settings, same, quick), settings).outcome is Outcome.PASS


def test_a_latency_limit_stands_at_the_next_higher_bound() -> None:
    limits = Limits(latency=((0.25, 0.01),))
    settings = Settings(limits=limits, tolerance=40.0, dispersion=1.0, cap_scrapes=2)
    slow = Tally(requests=400, buckets=timed(400, 40))
    quick = Tally(requests=3600, buckets=timed(3600, 20))
    evidence = run(settings, slow, quick)
    assert evidence.limit_bounds == (0.3,)
    verdict = said(evidence, settings)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.check == "latency limit 0.3 s"
    shared = Tally(requests=3600, buckets=timed(3600, 360))
    assert said(run(settings, slow, shared), settings).outcome is Outcome.HOLD


def test_a_latency_limit_that_cannot_be_measured_holds() -> None:
    settings = Settings(limits=Limits(latency=((7.0, 0.01),)))
    none = said(run(settings, GOOD, STABLE), settings)
    assert codes(none) == {Code.NO_LATENCY_DATA}
    quick = Tally(requests=40, buckets=timed(40, 0))
    verdict = said(run(settings, quick, structs.replace(quick, requests=360)), settings)
    assert codes(verdict) == {Code.LATENCY_LIMIT_UNMEASURABLE}


def test_other_buckets_in_the_canary_leave_the_bounds_in_common() -> None:
    settings = Settings()
    canary = Tally(requests=40, buckets=((0.2, 30), (0.3, 40), (INF, 40)))
    stable = Tally(requests=360, buckets=timed(360, 0))
    assert run(settings, canary, stable).bounds == (0.3, INF)
    strange = Tally(requests=40, buckets=((0.2, 30), (INF, 40)))
    assert run(settings, strange, stable).bounds == ()
    many = (*((bound / 10, 40) for bound in range(1, 24)), (INF, 40))
    wide = Tally(requests=40, buckets=many)
    bounds = run(settings, wide, wide).bounds
    assert (len(bounds), bounds[0], bounds[-1]) == (15, 0.1, INF)
    changed = Interval(at=1011.0, seconds=1, canary=strange, stable=stable)
    evidence = observe(run(settings, wide, wide), settings, changed)
    assert said(evidence, settings).outcome is not Outcome.FAIL


def test_a_hard_trip_needs_no_data() -> None:
    settings = Settings()
    crash = Reason(check="pods", code=Code.CRASH_LOOP, message="canary pod a is crash-looping")
    verdict = said(start(settings), settings, hard_trips=(crash,))
    assert (verdict.outcome, verdict.check, verdict.fast) == (Outcome.FAIL, "pods", True)


def test_a_failure_stays_one() -> None:
    settings = Settings()
    evidence = run(settings, BROKEN, STABLE, scrapes=4)
    for number in range(50):
        calm = Interval(at=1005.0 + number, seconds=1.0, canary=GOOD, stable=STABLE)
        evidence = observe(evidence, settings, calm)
    assert said(evidence, settings).outcome is Outcome.FAIL


def warm(canary: Tally, stable: Tally, *, scrapes: int = 30, warm_up: float = 60) -> Verdict:
    settings = Settings(dispersion=1.0, cap_scrapes=2, latency_dispersion=1.0)
    evidence = weight_changed(start(settings), 1000.0, warm_up_seconds=warm_up)
    for number in range(1, scrapes + 1):
        interval = Interval(at=1000.0 + number, seconds=1, canary=canary, stable=stable)
        evidence = observe(evidence, settings, interval)
    return said(evidence, settings, age=0)


def test_cold_pods_may_be_slow_and_err_a_few_times_as_often() -> None:
    stable = Tally(requests=3600, errors=9, buckets=timed(3600, 36))
    cold = Tally(requests=400, errors=5, buckets=timed(400, 40))
    assert warm(cold, stable).outcome is not Outcome.FAIL
    assert warm(cold, stable, warm_up=0).outcome is Outcome.FAIL


def test_no_warm_up_hides_a_version_that_is_far_worse() -> None:
    stable = Tally(requests=3600, errors=9)
    found = warm(Tally(requests=400, errors=30), stable)
    assert (found.outcome, found.fast) == (Outcome.FAIL, False)
    assert warm(Tally(requests=400, errors=200), stable, scrapes=1).fast


def test_the_evidence_is_small_and_survives_being_written_down() -> None:
    settings = Settings(
        limits=Limits(max_error_rate=0.05, latency=((0.1, 0.2), (0.3, 0.05), (1.0, 0.01)))
    )
    buckets = (*((bound / 10, 30) for bound in range(1, 12)), (INF, 40))
    for canary in (Tally(requests=40, errors=1, buckets=buckets), BROKEN):
        evidence = run(settings, canary, structs.replace(canary, requests=360), scrapes=200)
        text = json.dumps(evidence.to_json(), separators=(",", ":"))
        assert len(text) <= 4096
        back = Evidence.from_json(json.loads(text))
        assert back == evidence
        assert said(back, settings) == said(evidence, settings)


def test_what_is_no_evidence_is_refused() -> None:
    told = start(Settings()).to_json()
    *fields, last = told["fields"]
    wrong = (fields, [*fields, last, 1], [*fields, "?"], [*fields, {}], [*fields, 1])
    broken = [{**told, "fields": known} for known in wrong]
    for one in ({}, {**told, "v": 99}, {"v": told["v"]}, *broken):
        with pytest.raises(ValueError, match="evidence"):
            Evidence.from_json(one)


def test_a_limit_near_one_has_an_alternative() -> None:
    settings = Settings(limits=Limits(max_error_rate=0.9), dispersion=1.0, tolerance=100.0)
    verdict = said(run(settings, Tally(requests=400, errors=400), STABLE), settings)
    assert verdict.outcome is Outcome.FAIL
