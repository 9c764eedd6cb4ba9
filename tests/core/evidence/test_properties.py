# SPDX-License-Identifier: Apache-2.0
"""Properties that hold for any counts, any order of looks and any length of run."""

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

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


@given(st.lists(tallies(), max_size=10))
def test_one_track_alone_is_never_judged(stable: list[Tally]) -> None:
    nothing = Tally(reported=False)
    evidence = after([(nothing, tally) for tally in stable])
    verdict = judge(evidence, RULES, float(len(stable)), gate=Gate(dwell_seconds=0))
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
