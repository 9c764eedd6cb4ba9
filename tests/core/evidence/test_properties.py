# SPDX-License-Identifier: Apache-2.0
"""Properties that hold for any counts, any order of looks and any length of run."""

import functools
import itertools
import json
import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.evidence import eprocess
from controller.core.evidence.judge import (
    Evidence,
    Gate,
    Interval,
    Limits,
    Outcome,
    Settings,
    Tally,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.samples import Cursor, Sample, Series, TrackSeries, difference

RULES = Settings(limits=Limits(max_error_rate=0.05, latency=((0.3, 0.01),)))


@st.composite
def tallies(draw: st.DrawFn, most: int = 10**7) -> Tally:
    requests = draw(st.integers(0, most))
    errors = draw(st.integers(0, requests))
    quick = draw(st.integers(0, requests))
    buckets = ((0.1, quick // 2), (0.3, quick), (math.inf, requests))
    timed = draw(st.booleans())
    reported = draw(st.booleans()) or requests > 0
    return Tally(
        requests=requests, errors=errors, buckets=buckets if timed else (), reported=reported
    )


PAIRS = st.lists(st.tuples(tallies(), tallies()), max_size=12)


def after(pairs: list[tuple[Tally, Tally]], rules: Settings = RULES) -> Evidence:
    evidence = weight_changed(start(rules), 0.0)
    for number, (canary, stable) in enumerate(pairs, 1):
        interval = Interval(at=float(number), seconds=1.0, canary=canary, stable=stable)
        evidence = observe(evidence, rules, interval)
    return evidence


@given(PAIRS)
def test_a_restart_at_any_point_gives_the_same_verdicts(pairs: list[tuple[Tally, Tally]]) -> None:
    straight = restarted = weight_changed(start(RULES), 0.0)
    for number, (canary, stable) in enumerate(pairs, 1):
        interval = Interval(at=float(number), seconds=1.0, canary=canary, stable=stable)
        straight = observe(straight, RULES, interval)
        text = json.dumps(restarted.to_json())
        restarted = observe(Evidence.from_json(json.loads(text)), RULES, interval)
        now = float(number)
        verdicts = [judge(e, RULES, now, gate=Gate(dwell_seconds=3)) for e in (straight, restarted)]
        assert verdicts[0] == verdicts[1]
    assert straight == restarted


@given(PAIRS)
def test_the_written_form_has_no_floats_and_is_small(pairs: list[tuple[Tally, Tally]]) -> None:
    text = json.dumps(after(pairs).to_json(), separators=(",", ":"))
    json.loads(text, parse_float=lambda found: (_ for _ in ()).throw(AssertionError(found)))
    assert len(text) <= 4096


@given(tallies(most=5000), tallies(most=5000), st.integers(1, 50))
def test_more_errors_of_the_canary_never_speak_for_it(
    canary: Tally, stable: Tally, more: int
) -> None:
    worse = Tally(
        requests=canary.requests,
        errors=min(canary.errors + more, canary.requests),
        buckets=canary.buckets,
        reported=canary.reported,
    )
    before, then = after([(canary, stable)]), after([(worse, stable)])
    assert then.level >= before.level - 1e-9
    order = [Outcome.PASS, Outcome.HOLD, Outcome.FAIL]
    words = [judge(e, RULES, 1.0, gate=Gate(dwell_seconds=1)).outcome for e in (before, then)]
    if canary.errors <= RULES.limits.max_error_rate * canary.requests:  # type: ignore[operator]
        assert order.index(words[1]) >= order.index(words[0])


@given(tallies(most=5000), tallies(most=5000), st.integers(1, 50))
def test_more_errors_of_stable_never_speak_against_the_canary(
    canary: Tally, stable: Tally, more: int
) -> None:
    worse = Tally(
        requests=stable.requests,
        errors=min(stable.errors + more, stable.requests),
        buckets=stable.buckets,
        reported=stable.reported,
    )
    assert after([(canary, worse)]).level <= after([(canary, stable)]).level + 1e-9


SERVED = (
    Tally(requests=200, buckets=((0.1, 150), (0.3, 200), (math.inf, 200))),
    Tally(requests=900, buckets=((0.1, 700), (0.3, 900), (math.inf, 900))),
)
"""What both answered while they were there."""

GONE = (
    Tally(reported=False),
    Tally(),
    Tally(buckets=((0.1, 0), (0.3, 0), (math.inf, 0))),
)
"""Not scraped, and scraped without a single request."""


@pytest.mark.parametrize("nothing", GONE, ids=["unreported", "no requests", "none timed"])
@pytest.mark.parametrize("gone", ["canary", "stable"])
@given(st.lists(tallies(), max_size=10), st.integers(0, 3))
def test_one_track_alone_never_passes(
    gone: str, nothing: Tally, there: list[Tally], before: int
) -> None:
    """Neither if the other was never there, nor at a weight at which it is not there any more.

    What a limit says of a canary alone needs many requests of it (`checks.NONE_BESIDE`), and stable
    on record as asked for none.
    """

    def pair(tally: Tally) -> tuple[Tally, Tally]:
        return (nothing, tally) if gone == "canary" else (tally, nothing)

    evidence = changed = after([SERVED] * before)
    if before:
        changed = weight_changed(evidence, float(before))
    for number, tally in enumerate(there, before + 1):
        canary, stable = pair(tally)
        interval = Interval(at=float(number), seconds=1.0, canary=canary, stable=stable)
        changed = observe(changed, RULES, interval)
    verdict = judge(changed, RULES, float(before + len(there)), gate=Gate(dwell_seconds=0))
    assert verdict.outcome is not Outcome.PASS
    if gone == "canary" or not nothing.reported:
        assert verdict.outcome is Outcome.HOLD


@settings(max_examples=6, deadline=None)
@given(tallies(), tallies())
def test_a_very_long_run_neither_overflows_nor_underflows(canary: Tally, stable: Tally) -> None:
    evidence = after([(canary, stable)] * 2000)
    assert math.isfinite(evidence.level)
    for process in (evidence.fast, *evidence.processes):
        assert all(math.isfinite(bet) for bet in (*process.bets, process.cash))


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), min_size=2, max_size=15),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20), st.booleans()), max_size=15),
)
def test_however_the_looks_overlap_every_answer_counts_once(
    steps: list[tuple[int, int]], looks: list[tuple[int, int, bool]]
) -> None:
    """Windows that overlap, repeat, come in any rhythm: the sums are those of the counters."""
    totals, bad, rows = 0, 0, [(0.0, 0.0, 0.0)]
    for number, (good, errors) in enumerate(steps, 1):
        totals, bad = totals + good, bad + errors
        rows.append((float(number), float(totals), float(bad)))

    def seen(begin: int, end: int) -> TrackSeries:
        span = rows[begin : end + 1]
        made = [
            Series(
                labels=(("code", code), ("instance", "a")),
                samples=tuple(Sample(row[0], row[place]) for row in span),
            )
            for place, code in ((1, "200"), (2, "500"))
        ]
        return TrackSeries(requests=tuple(made), errors=(made[1],))

    cursor = difference(Cursor(), None, seen(0, 0)).cursor
    counted, failed, reached = 0, 0, 0
    for ahead, back, twice in [*looks, (len(steps), 0, True)]:
        begin = max(reached - back, 0)
        reached = min(reached + ahead, len(steps))
        for _ in range(2 if twice else 1):
            found = difference(cursor, None, seen(begin, reached))
            cursor = found.cursor
            counted += sum(interval.stable.requests for interval in found.intervals)
            failed += sum(interval.stable.errors for interval in found.intervals)
    assert (counted, failed) == (totals + bad, bad)


BOUNDS = (0.1, 0.3, math.inf)
PAST = ((0.1, 900), (0.3, 995), (math.inf, 1000))
UNCAPPED = Settings(
    limits=Limits(max_error_rate=0.1, latency=((0.3, 0.1),)),
    past=PAST,
    dispersion=1.0,
    cap_scrapes=1,
    min_requests=50,
    safe_margin=0.03,
    slow_margin=0.03,
    restart_rate=1e-100,
)
"""One scrape alone may suffice, so that the cap takes nothing before the trip; and as good as none
of the reserve is bet anew. What both change with each scrape is told in docs/judge.md."""

GATE = Gate(dwell_seconds=3, proven=True, budget=100.0, next_share=0.5, next_seconds=60.0)
ORDER = [Outcome.PASS, Outcome.HOLD, Outcome.FAIL]


def answers(requests: int, errors: int, slow: int) -> Tally:
    """So many of them failed, so many others slower than the limit."""
    quick = requests - slow
    counts = (quick - quick // 10, quick, requests)
    return Tally(requests=requests, errors=errors, buckets=tuple(zip(BOUNDS, counts, strict=True)))


def counts(most: int) -> st.SearchStrategy[tuple[int, int]]:
    """Failed ones and slow ones among so many: few, mostly."""
    few = st.sampled_from([min(bad, most) for bad in (0, 0, 0, 1, 2)])
    either = st.one_of(*[few] * 11, st.integers(0, most))
    return st.tuples(either, either)


@given(
    st.tuples(st.integers(5, 40), st.integers(20, 300)).flatmap(
        lambda split: st.tuples(
            st.just(split),
            st.lists(st.tuples(counts(split[0]), counts(split[1])), min_size=2, max_size=12),
        )
    ),
    st.lists(st.integers(1, 5), min_size=12, max_size=12),
    st.booleans(),
)
def test_at_one_split_it_makes_no_difference_how_scrapes_are_grouped(
    seen: tuple[tuple[int, int], list[tuple[tuple[int, int], tuple[int, int]]]],
    sizes: list[int],
    calm: bool,
) -> None:
    """To the whole judge. But that who looks more often may see a proof that is gone again later.

    A limit that stable shares learns from what stable had before; here stable has nothing bad, or
    there is no limit.
    """
    (canary, stable), rows = seen
    rules = UNCAPPED if calm else replace(UNCAPPED, limits=Limits())
    pairs = [
        (answers(canary, *bad), answers(stable, *((0, 0) if calm else other)))
        for bad, other in rows
    ]
    fine = joined = weight_changed(start(rules), 0.0)
    at = 0
    for size in sizes:
        group = pairs[at : at + size]
        if not group:
            break
        for number, pair in enumerate(group, at + 1):
            fine = observe(fine, rules, scrape(float(number), 1.0, pair))
        whole = [functools.reduce(Tally.plus, track) for track in zip(*group, strict=True)]
        at += len(group)
        joined = observe(joined, rules, scrape(float(at), float(len(group)), (whole[0], whole[1])))
        if fine.trip is not None:
            break
        assert joined.trip is None
        assert joined.window == fine.window
        assert joined.level == pytest.approx(fine.level, abs=1e-6)
        assert joined.proof.sums == pytest.approx(fine.proof.sums)
        assert joined.excess.sums == pytest.approx(fine.excess.sums)
        for one, other in zip(joined.timely, fine.timely, strict=True):
            assert (one.slow, one.requests) == pytest.approx((other.slow, other.requests))
        verdicts = [judge(e, rules, float(at), gate=GATE) for e in (fine, joined)]
        assert verdicts[0].outcome is verdicts[1].outcome
        told = [[reason.code for reason in verdict.reasons] for verdict in verdicts]
        assert told[0] == told[1]


def scrape(at: float, seconds: float, pair: tuple[Tally, Tally]) -> Interval:
    return Interval(at=at, seconds=seconds, canary=pair[0], stable=pair[1])


@st.composite
def sequences(
    draw: st.DrawFn, *, calm: bool
) -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """Requests, errors and slow answers of both, at any split; or a canary that might pass."""

    def track(most: int) -> tuple[int, int, int]:
        if calm:
            return (most, draw(st.integers(0, 2)), draw(st.integers(0, 2)))
        requests = draw(st.sampled_from((0, 1, most // 3, *[most] * 5)))
        return (requests, *draw(counts(requests)))

    return [(track(300), track(900)) for _ in range(draw(st.integers(1 + 3 * calm, 10)))]


@dataclass(frozen=True, kw_only=True)
class Turned:
    """A sequence, and the interval in which some good answers of the canary turn bad."""

    rows: list[tuple[tuple[int, int, int], tuple[int, int, int]]]
    place: int
    more: int
    slow: bool
    changes: int
    """The interval before which another weight comes into force."""
    cold: float
    dispersion: float

    def pair(self, number: int, *, turned: bool) -> tuple[Tally, Tally]:
        """What both tracks answered in an interval."""
        (requests, errors, slow), other = self.rows[number]
        if turned and number == self.place % len(self.rows):
            errors += 0 if self.slow else self.more
            slow += self.more if self.slow else 0
        return answers(requests, min(errors, requests), min(slow, requests)), answers(*other)


@given(
    st.builds(
        Turned,
        rows=sequences(calm=True) | sequences(calm=False),
        place=st.integers(0, 9),
        more=st.integers(1, 20),
        slow=st.booleans(),
        changes=st.integers(0, 9),
        cold=st.sampled_from([0.0, 3.0]),
        dispersion=st.sampled_from([1.0, 3.0]),
    )
)
def test_a_good_answer_that_turns_bad_never_speaks_for_the_canary(told: Turned) -> None:
    """Wherever it stands in whatever sequence: at no later look is there less evidence against the
    canary, is it rolled back later or promoted sooner. The cap makes an exception, see below.
    """
    phi = told.dispersion
    rules = replace(UNCAPPED, dispersion=phi, latency_dispersion=phi, restart_rate=1 / 256)
    good = bad = weight_changed(start(rules), 0.0)
    for number in range(len(told.rows)):
        at = float(number + 1)
        if number == told.changes:
            good, bad = (weight_changed(e, at - 1, warm_up_seconds=told.cold) for e in (good, bad))
        good = observe(good, rules, scrape(at, 1.0, told.pair(number, turned=False)))
        bad = observe(bad, rules, scrape(at, 1.0, told.pair(number, turned=True)))
        before, then = (judge(e, rules, at, gate=GATE) for e in (good, bad))
        assert ORDER.index(then.outcome) >= ORDER.index(before.outcome)
        if then.outcome is Outcome.FAIL:
            break
        assert bad.level >= good.level - 1e-9
        assert eprocess.value(bad.fast) >= eprocess.value(good.fast) - 1e-9
        assert then.at_most >= before.at_most - 1e-9
        assert then.at_least >= before.at_least - 1e-9


def test_what_the_cap_cuts_off_is_the_one_exception() -> None:
    """What it leaves stands mostly on large regressions, so that a small one is found later.

    Later than with a scrape that was less bad, and found all the same.
    """

    def found(cap: int, errors: int) -> int:
        rules, evidence = Settings(dispersion=1.0, cap_scrapes=cap), start(Settings())
        for number in itertools.count(1):
            bad = errors if number == 3 else 18
            pair = Tally(requests=1000, errors=bad), Tally(requests=1000, errors=10)
            evidence = observe(evidence, rules, scrape(float(number), 1.0, pair))
            if evidence.trip is not None:
                return number
        raise AssertionError

    assert found(1, 18) > found(1, 30) > found(1, 100) == 3
    assert found(2, 18) > found(2, 30)
    assert found(2, 30) < found(2, 100) < 3 * found(2, 30)
