# SPDX-License-Identifier: Apache-2.0
"""A track that is there at first and then is not, or scrapes that are lost: no evidence time."""

import math

import pytest

from controller.core.evidence.judge import (
    UNREPORTED,
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


def said(evidence: Evidence, settings: Settings, *, dwell: float, alone: bool = False) -> Verdict:
    gate = Gate(dwell_seconds=dwell)
    return judge(evidence, settings, evidence.last_at + 0.5, gate=gate, alone=alone)


def codes(verdict: Verdict) -> set[Code]:
    return {reason.code for reason in verdict.reasons}


def gone(track: str, *, after: int, scrapes: int = 10) -> tuple[Evidence, Settings]:
    """One track is missing in all scrapes but the first ones; the other goes on."""
    settings, good = Settings(), Tally(requests=100)
    evidence = weight_changed(start(settings), 1000.0)
    for number in range(1, scrapes + 1):
        tracks = {"canary": good, "stable": good}
        if number > after:
            tracks[track] = UNREPORTED
        interval = Interval(
            at=1000.0 + number, seconds=1.0, canary=tracks["canary"], stable=tracks["stable"]
        )
        evidence = observe(evidence, settings, interval)
    return evidence, settings


def test_time_in_which_the_canary_was_not_seen_is_no_evidence_time() -> None:
    """Until its counters are back, which say what happened in it."""
    evidence, settings = gone("canary", after=3, scrapes=7)
    assert evidence.window.seconds == 3.0
    assert codes(said(evidence, settings, dwell=5.0)) == {Code.DWELL_NOT_OVER}
    good = Tally(requests=100)
    back = Interval(at=1008.0, seconds=1.0, canary=Tally(requests=500), stable=good)
    evidence = observe(evidence, settings, back)
    assert evidence.window.seconds == 8.0
    assert said(evidence, settings, dwell=5.0).outcome is Outcome.PASS


@pytest.mark.parametrize("track", ["canary", "stable"])
def test_a_track_that_is_missing_in_the_newest_scrapes_holds(track: str) -> None:
    """Though its last sample is young enough by itself."""
    seen = said(*gone(track, after=6, scrapes=11), dwell=5.0)
    assert seen.outcome is Outcome.PASS
    missing = said(*gone(track, after=6, scrapes=12), dwell=5.0)
    assert missing.outcome is Outcome.HOLD
    assert codes(missing) == {Code.METRICS_STALE}
    assert f"the {track} is missing in the newest scrapes" in missing.reasons[0].message
    if track == "stable":
        alone = said(*gone(track, after=6, scrapes=12), dwell=5.0, alone=True)
        assert alone.outcome is Outcome.PASS


def after_hours(begins: float) -> Verdict:
    """Ten good scrapes, then one twenty minutes later whose interval begins at a time."""
    evidence, settings = gone("canary", after=10)
    good, ends = Tally(requests=100), 2215.0
    late = Interval(at=ends, seconds=ends - begins, canary=good, stable=good)
    return said(observe(evidence, settings, late), settings, dwell=12.0)


def test_what_a_restart_finds_no_samples_of_begins_the_window_anew() -> None:
    found = after_hours(2210.0)
    assert found.outcome is Outcome.HOLD
    assert found.canary == Tally(requests=100)
    assert found.evidence_seconds == 5.0


def test_what_speaks_for_the_canary_outlasts_a_hole_and_no_change_of_weight() -> None:
    """Begun anew it would be another chance to promote a version that is worse; see `safe`."""
    settings = Settings(limits=Limits(latency=((0.25, 0.01),)))
    evidence = weight_changed(start(settings), 1000.0)
    good = Tally(requests=100, buckets=((0.1, 90), (0.3, 100), (math.inf, 100)))
    pairs = [(good, good)] * 10 + [(good, UNREPORTED), (good, Tally())]
    for number, (canary, stable) in enumerate(pairs, 1):
        interval = Interval(at=1000.0 + number, seconds=1.0, canary=canary, stable=stable)
        evidence = observe(evidence, settings, interval)
    assert evidence.proof.open[1] == 100
    late = Interval(at=2215.0, seconds=5.0, canary=good, stable=good)
    later = observe(evidence, settings, late)
    assert later.window.at == 2210.0
    # The one that waited for an answer of stable before the hole is left out.
    assert later.proof.requests == pytest.approx(1.1 * evidence.proof.requests)
    assert later.timely[0].requests > evidence.timely[0].requests
    assert later.excess.owed[0] > evidence.excess.owed[0]
    anew = observe(weight_changed(evidence, 2200.0), settings, late)
    assert anew.proof.requests == pytest.approx(0.1 * evidence.proof.requests)
    assert anew.timely[0].requests < evidence.timely[0].requests


def test_a_short_hole_is_no_evidence_time_and_begins_nothing_anew() -> None:
    """Forty seconds of which a restart found no samples; also where the canary is back later."""
    good = Tally(requests=100)
    for first in (good, UNREPORTED):
        evidence, settings = gone("canary", after=10)
        for at, canary in ((1051.0, first), (1052.0, good)):
            interval = Interval(at=at, seconds=1.0, canary=canary, stable=good)
            evidence = observe(evidence, settings, interval)
        assert evidence.window.at == 1000.0
        assert evidence.window.seconds == 12.0
        assert evidence.canary_at == 1052.0


def test_a_track_that_a_hole_has_left_is_missing_from_there_on() -> None:
    evidence, settings = gone("canary", after=10)
    for at in range(1051, 1058):
        interval = Interval(at=at, seconds=1.0, canary=UNREPORTED, stable=Tally(requests=100))
        evidence = observe(evidence, settings, interval)
    assert codes(said(evidence, settings, dwell=5.0)) == {Code.METRICS_STALE}


def test_counters_span_an_outage_of_the_store() -> None:
    found = after_hours(1010.0)
    assert found.outcome is Outcome.PASS
    assert found.canary.requests > 100
