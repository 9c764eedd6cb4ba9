# SPDX-License-Identifier: Apache-2.0
"""A limit that both versions break is nobody's fault; who is far worse is found all the same, and
who mends it passes.
"""

import math
import random
from collections.abc import Sequence

import pytest

from controller.core.evidence.checks import Check, Kind
from controller.core.evidence.judge import (
    Code,
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
from controller.core.evidence.state import Window
from tests.core.evidence.traffic import around, binomial, noticed

SCRAPE = 5.0
RUNS = 12

ERRORS = Settings(limits=Limits(max_error_rate=0.05), dispersion=1.0)
LATENCY = Settings(limits=Limits(latency=((0.3, 0.01),)), dispersion=1.0)
UNKNOWN = Settings(limits=Limits(max_error_rate=0.05, latency=((0.3, 0.01),)))
"""Without a history."""

Rates = Sequence[tuple[float, float]]
"""Share of bad answers of canary and stable, scrape by scrape."""


def served(source: random.Random, requests: int, bad: float, *, timed: bool) -> Tally:
    """Answers of which some fail, or are slow."""
    hit = binomial(source, requests, bad)
    if not timed:
        return Tally(requests=requests, errors=hit)
    quick = requests - hit
    buckets = ((0.1, quick // 2), (0.3, quick), (1.2, requests), (math.inf, requests))
    return Tally(requests=requests, buckets=buckets)


def ended(
    settings: Settings, rates: Rates, *, per_second: float, share: float, timed: bool = False
) -> list[float | None]:
    """When each of some runs was rolled back, in scrapes."""
    found = []
    for seed in range(RUNS):
        source = random.Random(seed)
        intervals = [
            Interval(
                at=SCRAPE * number,
                seconds=SCRAPE,
                canary=served(source, around(source, whole * share), canary, timed=timed),
                stable=served(source, around(source, whole * (1 - share)), stable, timed=timed),
            )
            for whole in (per_second * SCRAPE,)
            for number, (canary, stable) in enumerate(rates, 1)
        ]
        at = noticed(settings, intervals)
        found.append(None if at is None else at / SCRAPE)
    return found


def incident(usual: float, peak: float) -> Rates:
    """Three minutes in which both are bad, after a healthy time."""
    return [(usual, usual)] * 40 + [(peak, peak)] * 36 + [(usual, usual)] * 10


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("per_second", [10.0, 100.0, 1000.0])
@pytest.mark.parametrize("settings", [ERRORS, UNKNOWN], ids=["history", "none"])
def test_errors_of_both_beyond_the_limit_are_no_reason_for_a_rollback(
    settings: Settings, per_second: float, share: float
) -> None:
    for peak in (0.08, 0.3):
        rates = incident(0.001, peak)
        found = ended(settings, rates, per_second=per_second, share=share)
        assert found == [None] * RUNS, peak


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("per_second", [10.0, 100.0, 1000.0])
@pytest.mark.parametrize("settings", [LATENCY, UNKNOWN], ids=["history", "none"])
def test_slow_answers_of_both_beyond_the_limit_are_no_reason_for_a_rollback(
    settings: Settings, per_second: float, share: float
) -> None:
    for peak in (0.03, 0.2):
        rates = incident(0.003, peak)
        found = ended(settings, rates, per_second=per_second, share=share, timed=True)
        assert found == [None] * RUNS, peak


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize(("canary", "stable"), [(0.38, 0.08), (0.25, 0.055), (0.2, 0.08)])
def test_who_is_far_worse_is_found_while_stable_breaks_the_limit(
    canary: float, stable: float, share: float
) -> None:
    found = ended(ERRORS, [(canary, stable)] * 40, per_second=100.0, share=share)
    assert all(at is not None and at <= 30 for at in found), found


@pytest.mark.parametrize(("share", "scrapes"), [(0.05, 60), (0.5, 12), (0.95, 60), (1.0, 12)])
def test_who_breaks_the_limit_alone_is_found_soon(share: float, scrapes: int) -> None:
    """With all requests as well, where there is no stable to compare with.

    A few in a hundred take as long as 25 requests in a scrape need to show that they have none.
    """
    found = ended(ERRORS, [(0.1, 0.001)] * 40, per_second=100.0, share=share)
    assert all(at is not None and at <= 8 for at in found), found
    slow = ended(LATENCY, [(0.04, 0.003)] * 80, per_second=100.0, share=share, timed=True)
    assert all(at is not None and at <= scrapes for at in slow), slow


@pytest.mark.parametrize("per_second", [1.0, 2.0, 5.0])
def test_what_both_have_where_stable_is_asked_seldom_is_not_held_against_the_canary(
    per_second: float,
) -> None:
    """At 95 % of few requests stable has none in most scrapes, and in the first ones of a step."""
    rates = [(0.3, 0.3)] * 60
    assert ended(ERRORS, rates, per_second=per_second, share=0.95) == [None] * RUNS


def test_who_has_all_requests_is_held_against_the_limit_though_stable_is_there() -> None:
    """Whatever leads them there: stable would have had some of so many."""
    found = ended(ERRORS, [(0.3, 0.3)] * 60, per_second=10.0, share=1.0)
    assert all(at is not None and at <= 200 / (10.0 * SCRAPE) + 3 for at in found), found


def test_who_serves_and_is_not_timed_is_there() -> None:
    """A slowness behind both may hide in the scrape that lost stable's histogram."""
    canary = Tally(requests=250, buckets=((0.3, 200), (math.inf, 250)))
    limit = Check(kind=Kind.LATENCY_LIMIT, weight=0.1, bound=0.3, limit=0.01)
    untimed = Interval(at=5.0, seconds=5.0, canary=canary, stable=Tally(requests=1000))
    idle = Interval(at=5.0, seconds=5.0, canary=canary, stable=Tally())
    for seen, says in ((untimed, False), (idle, True)):
        found = limit.scores(seen, LATENCY, 1.0, Window(at=0.0), 1.0)
        assert (found is not None) is says


def test_a_limit_is_broken_within_the_tolerance_of_a_stable_that_keeps_it() -> None:
    """A team that tolerates much beside stable has still asked for its limit."""
    settings = Settings(limits=Limits(max_error_rate=0.02), tolerance=10.0, dispersion=1.0)
    found = ended(settings, [(0.06, 0.01)] * 60, per_second=100.0, share=0.5)
    assert all(at is not None for at in found), found


BOTH = Settings(limits=Limits(max_error_rate=0.05, latency=((0.3, 0.01),)), dispersion=1.0)


def counted(requests: int, *, bad: float = 0.0, slow: float = 0.0) -> Tally:
    """So many answers, of which these shares failed and took longer than 0.3 s."""
    quick = requests - round(slow * requests)
    buckets = ((0.1, quick // 2), (0.3, quick), (1.2, requests), (math.inf, requests))
    return Tally(requests=requests, errors=round(bad * requests), buckets=buckets)


def judged(scrapes: Sequence[tuple[Tally, Tally]], settings: Settings = BOTH) -> Verdict:
    """What is said after these scrapes of canary and stable, before all requests."""
    evidence = weight_changed(start(settings), 0.0)
    for number, (canary, stable) in enumerate(scrapes, 1):
        interval = Interval(at=SCRAPE * number, seconds=SCRAPE, canary=canary, stable=stable)
        evidence = observe(evidence, settings, interval)
    gate = Gate(dwell_seconds=60.0, proven=True)
    return judge(evidence, settings, evidence.last_at, gate=gate)


@pytest.mark.parametrize(
    ("canary", "stable"),
    [
        (counted(250), counted(750, bad=0.08)),
        (counted(250, bad=0.01), counted(750, bad=0.4)),
        (counted(250), counted(750, slow=0.05)),
        (counted(250), counted(750, bad=0.08, slow=0.3)),
    ],
    ids=["errors", "some left", "slow answers", "both"],
)
def test_a_version_that_mends_what_stable_breaks_passes(canary: Tally, stable: Tally) -> None:
    """Held, the deadline would give the broken version all requests back."""
    found = judged([(canary, stable)] * 40)
    assert (found.outcome, found.reasons[0].code) == (Outcome.PASS, Code.PASSED), found.reasons


@pytest.mark.parametrize(
    ("canary", "stable", "check"),
    [
        (counted(250, bad=0.06), counted(750, bad=0.08), "error limit"),
        (counted(250, slow=0.02), counted(750, slow=0.02), "latency limit 0.3 s"),
    ],
    ids=["errors", "slow answers"],
)
def test_a_version_that_breaks_it_as_well_is_held(canary: Tally, stable: Tally, check: str) -> None:
    found = judged([(canary, stable)] * 40)
    assert found.outcome is Outcome.HOLD
    shared = [one for one in found.reasons if one.code is Code.STABLE_VIOLATES_LIMIT]
    assert [one.check for one in shared] == [check]
    assert "a shared cause, paused instead of rolled back" in shared[0].message


def test_each_limit_that_both_break_is_named() -> None:
    both = (counted(250, bad=0.06, slow=0.02), counted(750, bad=0.06, slow=0.02))
    found = judged([both] * 40)
    shared = [one.check for one in found.reasons if one.code is Code.STABLE_VIOLATES_LIMIT]
    assert shared == ["error limit", "latency limit 0.3 s"]
    assert Code.ABOVE_LIMIT not in {one.code for one in found.reasons}


def test_an_incident_that_begins_late_in_a_step_counts_as_it_is_now() -> None:
    """Two minutes of health hide it in the sums of the step, of either version."""
    calm, failing = (counted(250), counted(750)), (counted(250, bad=0.2), counted(750, bad=0.2))
    found = judged([calm] * 24 + [failing] * 2)
    (shared,) = (one for one in found.reasons if one.code is Code.STABLE_VIOLATES_LIMIT)
    assert "lately" in shared.message
    for alone in (counted(250), counted(250, bad=0.004)):
        mended = judged([calm] * 24 + [(alone, failing[1])] * 2)
        assert mended.outcome is Outcome.PASS, mended.reasons
    # In the sums of the step stable breaks it, of late the canary does: nothing is raised.
    apart = [(counted(250), counted(750, bad=0.08))] * 24 + [failing] * 2
    assert Code.STABLE_VIOLATES_LIMIT in {one.code for one in judged(apart).reasons}


def test_a_canary_of_few_requests_is_not_taken_for_one_that_keeps_the_limit() -> None:
    """Of two that came since an incident began one failed."""
    bad = counted(750, bad=0.2)
    few = [(counted(30), counted(750))] * 24 + [(Tally(requests=2, errors=1), bad)] * 6
    assert Code.STABLE_VIOLATES_LIMIT in {one.code for one in judged(few, ERRORS).reasons}
