# SPDX-License-Identifier: Apache-2.0
"""Counting raw counters: what is counted, what is not, and that nothing is counted twice."""

import math
from collections.abc import Mapping, Sequence

from controller.core.evidence.samples import (
    MOST_SERIES,
    Cursor,
    Difference,
    Sample,
    Series,
    TrackSeries,
    difference,
)

INF = math.inf
Values = Mapping[float, float]


def series(values: Values, **labels: str) -> Series:
    named = tuple(sorted({"instance": "gw-1", **labels}.items()))
    return Series(labels=named, samples=tuple(Sample(at, value) for at, value in values.items()))


def service(
    good: Values | None = None, bad: Values | None = None, *, instance: str = "gw-1"
) -> TrackSeries:
    found = {"200": good, "500": bad}
    made = {
        code: series(values, code=code, instance=instance)
        for code, values in found.items()
        if values is not None
    }
    return TrackSeries(
        requests=tuple(made.values()),
        errors=tuple(one for code, one in made.items() if code == "500"),
    )


def both(left: TrackSeries, right: TrackSeries) -> TrackSeries:
    return TrackSeries(
        requests=left.requests + right.requests,
        errors=left.errors + right.errors,
        buckets=left.buckets + right.buckets,
    )


def counts(result: Difference) -> list[tuple[int, int, int, int]]:
    return [
        (i.canary.requests, i.canary.errors, i.stable.requests, i.stable.errors)
        for i in result.intervals
    ]


def steady(start: float, per_second: float, ats: Sequence[float]) -> dict[float, float]:
    return {at: start + per_second * (at - ats[0]) for at in ats}


def begun(stable: TrackSeries, canary: TrackSeries | None = None) -> Cursor:
    return difference(Cursor(), canary, stable).cursor


def test_the_first_look_only_finds_its_place() -> None:
    first = difference(Cursor(), service({1: 5.0}, {1: 1.0}), service({0: 100.0, 1: 140.0}))
    assert first.intervals == ()
    assert first.cursor.at == 1


def test_counts_are_differences_by_scrape() -> None:
    cursor = begun(service({1: 100.0}), service({1: 5.0}, {1: 1.0}))
    later = difference(
        cursor, service({1: 5.0, 2: 14.0, 3: 24.0}, {1: 1.0, 2: 2.0, 3: 2.0}),
        service({1: 100.0, 2: 190.0, 3: 280.0}),
    )  # fmt: skip
    assert counts(later) == [(10, 1, 90, 0), (10, 0, 90, 0)]
    assert [(i.at, i.seconds) for i in later.intervals] == [(2, 1), (3, 1)]
    assert later.problems == ()


def test_looking_again_brings_nothing() -> None:
    cursor = begun(service({1: 100.0}))
    again = service({1: 100.0, 2: 190.0})
    once = difference(cursor, None, again)
    twice = difference(once.cursor, None, again)
    assert counts(once) == [(0, 0, 90, 0)]
    assert twice.intervals == ()
    assert twice.cursor == once.cursor
    assert difference(once.cursor, None, None) == Difference(once.cursor, (), ())


def test_a_restarted_counter_counts_from_zero() -> None:
    cursor = begun(service({1: 100.0}))
    later = difference(cursor, None, service({1: 100.0, 2: 7.0, 3: 11.0}))
    assert [i.stable.requests for i in later.intervals] == [7, 4]
    assert any("restarted" in problem for problem in later.problems)


def test_an_error_counter_that_is_born_loses_nothing() -> None:
    """The series of a code appears with its first answer; that answer counts."""
    cursor = begun(service({1: 100.0}))
    canary = service({2: 9.0}, {2: 11.0})
    later = difference(cursor, canary, service({1: 100.0, 2: 190.0}))
    assert counts(later) == [(20, 11, 90, 0)]


def test_a_target_never_seen_before_has_no_past() -> None:
    cursor = begun(service({1: 100.0}))
    newcomer = service({2: 5000.0, 3: 5050.0}, instance="gw-2")
    later = difference(cursor, None, both(service({1: 100.0, 2: 190.0, 3: 280.0}), newcomer))
    assert [i.stable.requests for i in later.intervals] == [90, 140]
    born = service(None, {3: 4.0}, instance="gw-2")
    with_errors = difference(
        cursor, None, both(both(service({1: 100.0, 2: 190.0, 3: 280.0}), newcomer), born)
    )
    assert [i.stable.errors for i in with_errors.intervals] == [0, 4]


def test_a_series_that_was_there_and_not_followed_has_no_past_either() -> None:
    cursor = begun(service({1: 100.0, 2: 190.0}))
    known = service({1: 100.0, 2: 190.0, 3: 280.0}, {1: 40.0, 2: 44.0, 3: 45.0})
    later = difference(cursor, None, known)
    assert [i.stable.errors for i in later.intervals] == [1]


def test_a_missed_scrape_makes_one_longer_interval() -> None:
    ats = [1.0, 2.0, 3.0, 4.0]
    cursor = begun(service(steady(0, 90, ats)))
    gap = difference(cursor, None, service({**steady(0, 90, ats), 10.0: 810.0, 11.0: 900.0}))
    assert [(i.seconds, i.stable.requests) for i in gap.intervals] == [(6, 540), (1, 90)]
    assert any("missing" in problem for problem in gap.problems)


def test_after_a_lost_scrape_the_next_one_ends_an_interval_at_once() -> None:
    """Of the two distances in a short window the shorter one is the usual one."""
    cursor = begun(service({10: 100.0}))
    found = difference(begun(service({10: 100.0})), None, service({5: 50.0, 10: 100.0, 20: 200.0}))
    assert found.gap == 5
    later = difference(found.cursor, None, service({10: 100.0, 20: 200.0, 25: 250.0}))
    assert [(i.seconds, i.stable.requests) for i in later.intervals] == [(5, 50)]
    # One that holds a single scrape has the distance to the one that was counted last.
    assert difference(cursor, None, service({20: 200.0})).gap == 10
    assert difference(cursor, None, service({20: 200.0}, instance="other")).gap == 0


def test_nothing_counts_from_before_the_counting_began_however_far_back_a_look_reaches() -> None:
    cursor = difference(Cursor(), None, service({10: 100.0})).cursor
    assert cursor.begun == 10
    dead = service({2: 50.0, 4: 70.0}, {2: 30.0, 4: 40.0}, instance="gone")
    silent = service({6: 50.0, 8: 70.0, 12: 90.0}, {12: 5.0}, instance="silent")
    found = difference(cursor, silent, both(dead, service({10: 100.0, 12: 120.0})), newborn=True)
    assert counts(found) == [(20, 0, 20, 0)]
    assert found.cursor.begun == 10


def test_a_scrape_from_before_the_begin_that_is_stored_after_it_is_nobodys() -> None:
    """It is stamped when it begins, and stored when its target has answered."""
    slow = service({0.5: 1000.0}, instance="gw-2")
    cursor = begun(both(service({1.0: 100.0}), slow))
    late = service({0.5: 1000.0, 0.9: 1030.0}, instance="gw-2")
    first = difference(cursor, None, both(service({1.0: 100.0, 2.0: 190.0}), late))
    assert counts(first) == [(0, 0, 90, 0)]
    next_ = service({0.5: 1000.0, 0.9: 1030.0, 1.9: 1070.0, 2.9: 1110.0}, instance="gw-2")
    for known in (cursor, first.cursor):
        later = difference(
            known, None, both(service({1.0: 100.0, 2.0: 190.0, 3.0: 280.0}), next_)
        )  # fmt: skip
        counted = sum(stable for _, _, stable, _ in counts(later))
        assert counted == 90 + 80 + (90 if known is cursor else 0)


def test_a_track_without_samples_was_not_reported() -> None:
    cursor = begun(service({1: 100.0}), service({1: 5.0}))
    later = difference(cursor, service({1: 5.0}), service({1: 100.0, 2: 190.0}))
    assert not later.intervals[0].canary.reported
    idle = difference(cursor, service({1: 5.0, 2: 5.0}), service({1: 100.0, 2: 190.0}))
    assert idle.intervals[0].canary.reported
    assert idle.intervals[0].canary.requests == 0


def test_what_is_no_count_is_left_out() -> None:
    cursor = begun(service({1: 100.0}))
    odd = service({1: 100.0, 2: math.nan, 3: INF, 4: -1.0, 5: 190.0})
    later = difference(cursor, None, odd)
    assert [i.stable.requests for i in later.intervals] == [90]
    assert any("NaN" in problem for problem in later.problems)
    nothing = difference(cursor, None, service({2: math.nan}))
    assert nothing.intervals == ()


def test_samples_out_of_order_or_twice_are_put_straight() -> None:
    cursor = begun(service({1: 100.0}))
    labels = (("code", "200"), ("instance", "gw-1"))
    samples = (Sample(3, 280), Sample(1, 100), Sample(2, 190), Sample(2, 999))
    later = difference(cursor, None, TrackSeries(requests=(Series(labels, samples),)))
    assert [i.stable.requests for i in later.intervals] == [90, 90]
    assert any("out of order" in problem for problem in later.problems)


def test_a_late_series_is_counted_once_and_not_lost() -> None:
    """Its samples of an interval become visible one look later."""
    ats = [1.0, 2.0, 3.0]
    cursor = begun(service({1: 0.0}, {1: 0.0}))
    first = difference(cursor, None, service(steady(0, 10, ats[:2]), {1: 0.0}))
    second = difference(first.cursor, None, service(steady(0, 10, ats), steady(0, 3, ats)))
    assert [(i.stable.requests, i.stable.errors) for i in first.intervals] == [(10, 0)]
    assert [(i.stable.requests, i.stable.errors) for i in second.intervals] == [(16, 6)]


def test_targets_at_other_phases_share_one_interval() -> None:
    one = [1.0, 2.0, 3.0, 4.0]
    two = [1.4, 2.4, 3.4, 4.4]
    cursor = begun(both(service({1.0: 0.0}), service({1.4: 0.0}, instance="gw-2")))
    stable = both(service(steady(0, 10, one)), service(steady(0, 5, two), instance="gw-2"))
    later = difference(cursor, None, stable)
    assert [i.stable.requests for i in later.intervals] == [15, 15, 15]
    early = service(steady(0, 10, [*one, 5.0]))
    waits = difference(later.cursor, None, both(early, service({4.4: 15.0}, instance="gw-2")))
    assert waits.intervals == ()
    full = difference(waits.cursor, None, both(early, service({5.4: 20.0}, instance="gw-2")))
    assert [(i.at, i.stable.requests) for i in full.intervals] == [(5.4, 15)]


def test_errors_never_exceed_requests() -> None:
    cursor = begun(service({1: 100.0}, {1: 0.0}))
    errors = series({1: 0.0, 2: 9.0}, code="500")
    odd = TrackSeries(requests=(series({1: 100.0, 2: 105.0}, code="200"),), errors=(errors,))
    later = difference(cursor, None, odd)
    assert later.intervals[0].stable.errors <= later.intervals[0].stable.requests


def test_buckets_become_a_histogram() -> None:
    def histogram(*values: tuple[float, Values]) -> TrackSeries:
        timed = tuple((bound, series(found, le=str(bound))) for bound, found in values)
        return TrackSeries(buckets=timed)

    start = histogram((0.1, {1: 1.0}), (INF, {1: 2.0}))
    cursor = begun(start)
    full = histogram((0.1, {1: 1.0, 2: 8.0}), (INF, {1: 2.0, 2: 12.0}))
    tally = difference(cursor, None, full).intervals[0].stable
    assert tally.buckets == ((0.1, 7), (INF, 10))
    assert (tally.slower_than(0.1), tally.slower_than(0.2)) == (3, None)
    without_total = histogram((0.1, {1: 1.0, 2: 8.0}))
    assert difference(cursor, None, without_total).intervals[0].stable.buckets == ()


def histogram(*counted: tuple[str, Values], instance: str = "gw-1") -> TrackSeries:
    ats: Values = {at: 10.0 * at for at in range(100, 104)}
    return TrackSeries(
        requests=(series(ats, code="200", instance=instance),),
        buckets=tuple(
            (float(bound), series(values, le=bound, instance=instance)) for bound, values in counted
        ),
    )


def test_a_histogram_that_lost_a_bucket_is_none_for_as_long() -> None:
    """Read as it stands everything would be slower than the bound that is gone."""
    whole: Values = {100: 1000.0, 101: 1010.0, 102: 1020.0, 103: 1030.0}
    gone: Values = {100: 900.0, 101: 909.0, 103: 927.0}
    found = difference(begun(histogram(("0.5", gone), ("+Inf", whole)).until(100)),
                       None, histogram(("0.5", gone), ("+Inf", whole)))  # fmt: skip
    assert [i.stable.buckets for i in found.intervals] == [
        ((0.5, 9), (INF, 10)),
        (),
        # What the bucket counted in the meantime is more than this interval's requests.
        (),
    ]
    assert [i.stable.requests for i in found.intervals] == [10, 10, 10]


def test_pods_with_other_buckets_make_no_common_histogram() -> None:
    whole: Values = {100: 1000.0, 101: 1010.0}
    one = histogram(("0.5", whole), ("+Inf", whole), instance="pod-1")
    other = histogram(("0.4", whole), ("+Inf", whole), instance="pod-2")
    found = difference(begun(both(one, other).until(100)), None, both(one, other))
    assert {i.stable.buckets for i in found.intervals} == {()}


def test_a_histogram_alone_does_not_say_that_a_track_was_seen() -> None:
    """It tells of no failure. Where only histograms are asked for, they are what there is."""
    found = histogram(("+Inf", {at: 10.0 * at for at in range(100, 104)}))
    silent = TrackSeries(
        requests=tuple(series({100: 1000.0}, code="200") for _ in range(1)), buckets=found.buckets
    )
    told = difference(begun(found.until(100), silent.until(100)), silent, found)
    assert not any(i.canary.reported for i in told.intervals)
    timed = TrackSeries(buckets=found.buckets)
    assert all(
        i.stable.reported for i in difference(begun(timed.until(100)), None, timed).intervals
    )


def test_a_histogram_that_has_seen_one_scrape_more_or_less_is_counted_once() -> None:
    """Answers and histograms come by two queries, and a scrape may be stored between them."""
    whole = histogram(("+Inf", {at: 10.0 * at for at in range(100, 104)}))
    for answered, timed in ((102, 101), (101, 102), (100, 102), (102, 100)):
        straddling = TrackSeries(
            requests=whole.until(answered).requests, buckets=whole.until(timed).buckets
        )
        first = difference(begun(whole.until(100)), None, straddling)
        rest = difference(first.cursor, None, whole)
        tallies = [interval.stable for interval in (*first.intervals, *rest.intervals)]
        assert sum(tally.requests for tally in tallies) == 30
        assert sum(tally.timed for tally in tallies) == 30


def test_too_many_series_lose_their_latency_first_and_then_count_nothing() -> None:
    def crowd(requests: int, buckets: int, at: float) -> TrackSeries:
        return TrackSeries(
            requests=tuple(series({at: at}, path=str(n)) for n in range(requests)),
            buckets=tuple((INF, series({at: at}, path=str(n))) for n in range(buckets)),
        )

    half = MOST_SERIES // 2
    first = difference(Cursor(), None, crowd(half, half + 1, 1.0))
    assert len(first.cursor.series) == half
    assert first.problems == (f"more than {MOST_SERIES} series; latency is left out",)
    second = difference(first.cursor, None, crowd(half, half + 1, 2.0))
    assert [(i.stable.requests, i.stable.buckets) for i in second.intervals] == [(half, ())]
    nothing = difference(second.cursor, None, crowd(MOST_SERIES + 1, 0, 3.0))
    assert nothing.intervals == ()
    assert nothing.cursor == second.cursor
    assert "nothing is counted" in nothing.problems[-1]


def test_silent_series_are_forgotten() -> None:
    cursor = begun(both(service({1: 1.0}), service({1: 1.0}, instance="gw-2")))
    assert len(cursor.series) == 2
    later = difference(cursor, None, service({9000.0: 5.0}))
    assert len(later.cursor.series) == 1
    assert len(later.cursor.targets) == 1
