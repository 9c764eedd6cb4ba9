# SPDX-License-Identifier: Apache-2.0
"""A histogram that is lost in mid-run: a latency limit passes on answers that were timed alone."""

from collections.abc import Iterable
from dataclasses import replace

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

BEGUN = 1000.0
STEP = 20
"""Scrapes of a second in each step."""

LIMITED = Settings(limits=Limits(latency=((0.25, 0.01),)), dispersion=1.0)
FREE = Settings(dispersion=1.0)
INF = float("inf")
BUCKETS = ((0.1, 30), (0.3, 40), (INF, 40))
STRANGE = ((100.0, 30), (300.0, 40), (INF, 40))
"""In milliseconds."""

TIMED, UNTIMED = Tally(requests=40, buckets=BUCKETS), Tally(requests=40)
FROZEN = Tally(requests=40, buckets=((0.1, 0), (0.3, 0), (INF, 0)))
OTHER = Tally(requests=40, buckets=STRANGE)
Both = tuple[Tally, Tally]


def fed(
    evidence: Evidence, settings: Settings, scrapes: Iterable[Both], at: float, *, every: float
) -> Evidence:
    for number, (canary, stable) in enumerate(scrapes, start=1):
        interval = Interval(at=at + number * every, seconds=every, canary=canary, stable=stable)
        evidence = observe(evidence, settings, interval)
    return evidence


def second_step(
    scrapes: Iterable[Both],
    settings: Settings = LIMITED,
    *,
    alone: bool = False,
    dwell: float = 15.0,
    every: float = 1.0,
) -> Verdict:
    """The verdict in a step after one in which everything was timed."""
    first = fed(
        weight_changed(start(settings), BEGUN), settings, [(TIMED, TIMED)] * STEP, BEGUN, every=1.0
    )
    opened = weight_changed(first, BEGUN + STEP)
    evidence = fed(opened, settings, scrapes, BEGUN + STEP, every=every)
    gate = Gate(dwell_seconds=dwell)
    return judge(evidence, settings, evidence.last_at + 0.5, gate=gate, alone=alone)


def codes(verdict: Verdict) -> list[Code]:
    return [reason.code for reason in verdict.reasons]


def test_what_is_timed_passes() -> None:
    assert second_step([(TIMED, TIMED)] * STEP).outcome is Outcome.PASS


@pytest.mark.parametrize("lost", [UNTIMED, FROZEN, OTHER], ids=["lost", "frozen", "other bounds"])
@pytest.mark.parametrize("tracks", ["both", "canary", "stable"])
def test_a_histogram_that_a_later_step_has_not_holds(lost: Tally, tracks: str) -> None:
    canary = TIMED if tracks == "stable" else lost
    stable = TIMED if tracks == "canary" else lost
    found = second_step([(canary, stable)] * STEP)
    assert found.outcome is Outcome.HOLD
    assert set(codes(found)) == {Code.NO_LATENCY_DATA}
    named = ("canary", "stable") if tracks == "both" else (tracks,)
    for reason, track in zip(found.reasons, named, strict=True):
        assert reason.message.startswith(f"answers of the {track} were not timed for about 20 s")
        assert reason.expected == "until when is not known"
    assert found.seconds_to_go is None


@pytest.mark.parametrize("lost", [UNTIMED, FROZEN, OTHER], ids=["lost", "frozen", "other bounds"])
@pytest.mark.parametrize("tracks", ["both", "canary", "stable"])
def test_where_nobody_set_a_limit_what_was_compared_before_is_waited_for(
    lost: Tally, tracks: str
) -> None:
    """Answers of a step that were compared with nobody's are no PASS of their latency."""
    canary = TIMED if tracks == "stable" else lost
    stable = TIMED if tracks == "canary" else lost
    found = second_step([(canary, stable)] * STEP, FREE)
    assert found.outcome is Outcome.HOLD
    assert {(one.check, one.code) for one in found.reasons} == {("latency", Code.NO_LATENCY_DATA)}
    back = second_step([(canary, stable)] * STEP + [(TIMED, TIMED)] * 3, FREE)
    assert back.outcome is Outcome.PASS


def first_step(scrapes: Iterable[Both], settings: Settings = FREE) -> Verdict:
    """The verdict in a run's first step, of whose histograms nothing was seen before."""
    opened = weight_changed(start(settings), BEGUN)
    evidence = fed(opened, settings, scrapes, BEGUN, every=1.0)
    return judge(evidence, settings, evidence.last_at + 0.5, gate=Gate(dwell_seconds=15.0))


ENDLESS = Tally(requests=40, buckets=((INF, 40),))
"""A histogram that has lost all bounds."""

KNOWN = replace(FREE, past=BUCKETS)


@pytest.mark.parametrize(
    ("canary", "stable", "settings"),
    [
        (UNTIMED, TIMED, FREE),
        (ENDLESS, TIMED, FREE),
        (FROZEN, TIMED, FREE),
        (UNTIMED, TIMED, KNOWN),
        (UNTIMED, UNTIMED, KNOWN),
    ],
    ids=["none", "without a bound", "frozen", "as before the run", "before the run alone"],
)
def test_a_version_that_shows_no_histogram_where_stable_has_one_never_passes(
    canary: Tally, stable: Tally, settings: Settings
) -> None:
    found = first_step([(canary, stable)] * STEP, settings)
    assert found.outcome is Outcome.HOLD
    assert set(codes(found)) == {Code.NO_LATENCY_DATA}
    assert found.seconds_to_go is None
    if canary is not FROZEN:
        assert found.reasons[0].message == (
            "canary has 0 of 100 timed answers at this weight: it shows no histogram, and is not "
            "compared with stable without one"
        )


def test_a_histogram_that_comes_late_is_waited_for_and_counts_from_then_on() -> None:
    late = [(UNTIMED, TIMED)] * STEP
    early = first_step([*late, *[(TIMED, TIMED)] * 2])
    assert early.outcome is Outcome.HOLD
    assert early.reasons[0].message == "canary has 80 of 100 timed answers at this weight"
    assert early.seconds_to_go is not None
    assert first_step([*late, *[(TIMED, TIMED)] * 3]).outcome is Outcome.PASS


def test_where_nobody_times_anything_nothing_waits_for_it() -> None:
    found = first_step([(UNTIMED, UNTIMED)] * STEP)
    assert found.outcome is Outcome.PASS
    assert "latency" not in found.reasons[0].message


def test_histograms_that_cannot_be_compared_from_the_start_are_told_with_the_pass() -> None:
    """Another library has other bounds, or the old version has none: no wait would change that."""
    upgraded = first_step([(OTHER, TIMED)] * STEP, KNOWN)
    assert upgraded.outcome is Outcome.PASS
    told = "; latency not compared: the histograms of the two have no bound in common"
    assert upgraded.reasons[0].message.endswith(told)
    new = first_step([(TIMED, UNTIMED)] * STEP)
    assert new.outcome is Outcome.PASS
    assert new.reasons[0].message.endswith("; latency not compared: stable's answers are not timed")
    compared = first_step([(TIMED, TIMED)] * STEP)
    assert "not compared" not in compared.reasons[0].message


def test_in_the_bake_where_stable_has_none_the_canary_is_asked_alone() -> None:
    for lost in (UNTIMED, FROZEN, OTHER):
        found = second_step([(lost, UNREPORTED)] * STEP, alone=True)
        assert (found.outcome, codes(found)) == (Outcome.HOLD, [Code.NO_LATENCY_DATA])
    for stable in (UNREPORTED, UNTIMED):
        assert second_step([(TIMED, stable)] * STEP, alone=True).outcome is Outcome.PASS
    # Without a limit as well: stable's answers were timed before, and it is held against those.
    found = second_step([(UNTIMED, UNREPORTED)] * STEP, FREE, alone=True)
    assert (found.outcome, codes(found)) == (Outcome.HOLD, [Code.NO_LATENCY_DATA])


def test_the_wait_of_a_bake_is_told_without_stable() -> None:
    found = second_step([(TIMED, UNREPORTED)] * 10, alone=True)
    assert found.outcome is Outcome.HOLD
    assert found.seconds_to_go == pytest.approx(5.0)


def test_one_that_is_lost_at_the_end_of_a_step_holds_though_much_was_timed() -> None:
    """For as long as a version may be missing in the newest scrapes, it is no hold."""
    for tracks in ((UNTIMED, TIMED), (TIMED, UNTIMED), (UNTIMED, UNTIMED)):
        many = [(TIMED, TIMED)] * STEP
        assert second_step([*many, *[tracks] * 5]).outcome is Outcome.PASS
        assert second_step([*many, *[tracks] * 6]).outcome is Outcome.HOLD
        back = second_step([*many, *[tracks] * 6, (TIMED, TIMED)])
        assert back.outcome is Outcome.PASS


def test_pauses_without_answers_do_not_hide_it() -> None:
    """One answer here and there, none of them timed."""
    calm = Tally(buckets=((0.1, 0), (0.3, 0), (INF, 0)))
    rare = [(UNTIMED, TIMED), (Tally(), TIMED), (calm, TIMED)] * 3
    assert codes(second_step([(TIMED, TIMED)] * STEP + rare)) == [Code.NO_LATENCY_DATA]
    quiet = [(calm, TIMED)] * 10
    assert second_step([(TIMED, TIMED)] * STEP + quiet).outcome is Outcome.PASS


def test_a_step_needs_as_many_timed_answers_as_answers() -> None:
    part = Tally(requests=40, buckets=((0.1, 2), (0.3, 4), (INF, 4)))
    early = second_step([(part, TIMED)] * 20)
    assert codes(early) == [Code.NO_LATENCY_DATA]
    assert early.reasons[0].message == "canary has 80 of 100 timed answers at this weight"
    assert early.reasons[0].expected == "about 5 s"
    assert early.seconds_to_go == pytest.approx(5.0)
    assert second_step([(part, TIMED)] * 25).outcome is Outcome.PASS
    few = replace(LIMITED, min_stable_requests=200)
    assert codes(second_step([(TIMED, part)] * 40, few)) == [Code.NO_LATENCY_DATA]
    assert second_step([(TIMED, part)] * 50, few).outcome is Outcome.PASS


def test_other_bounds_for_a_while_take_none_from_the_step() -> None:
    found = second_step([(TIMED, TIMED)] * 10 + [(OTHER, OTHER)] * 10 + [(TIMED, TIMED)] * 2)
    assert found.outcome is Outcome.PASS
    assert found.canary.buckets == tuple((bound, 12 * count) for bound, count in BUCKETS)
    slow = Tally(requests=40, buckets=((0.1, 20), (0.3, 39), (INF, 40)))
    found = second_step([(OTHER, OTHER)] * 3 + [(slow, slow)] * 15)
    assert Code.STABLE_VIOLATES_LIMIT in codes(found)


def test_a_canary_whose_histogram_comes_before_stables_has_all_bounds() -> None:
    evidence = weight_changed(start(LIMITED), BEGUN)
    scrapes = [(TIMED, UNTIMED)] * 3 + [(TIMED, TIMED)] * STEP
    evidence = fed(evidence, LIMITED, scrapes, BEGUN, every=1.0)
    found = judge(evidence, LIMITED, evidence.last_at, gate=Gate(dwell_seconds=15.0))
    assert found.outcome is Outcome.PASS
    assert found.canary.slow(0.3) == (0, 40 * STEP)


def test_a_slow_scrape_is_no_loss() -> None:
    """Answers and their times come by two queries, which a scrape may fall between."""
    settings = replace(LIMITED, max_age_seconds=45.0)
    late = [(TIMED, TIMED), (UNTIMED, UNTIMED)]
    found = second_step(late * 4, settings, every=15.0, dwell=60.0)
    assert found.outcome is Outcome.PASS
