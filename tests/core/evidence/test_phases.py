# SPDX-License-Identifier: Apache-2.0
"""Pods are scraped each at a moment of its own, and what a scrape brings may show late."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import pytest

from controller.core.evidence.judge import Evidence, Limits, Settings, observe, start
from controller.core.evidence.judge import weight_changed as opened
from controller.core.evidence.samples import Cursor, Look, Sample, Series, TrackSeries, difference
from controller.core.evidence.tally import Interval

RATE = 20.0
"""Requests per second of each pod."""

Errors = Callable[[float], float]
"""How many of a pod's answers had failed by then."""


def never(_: float) -> float:
    """Of no errors at all."""
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One of a track, as it is scraped."""

    name: str
    phase: float
    late: float = 0.0
    """Seconds from a scrape's time stamp until the store shows it."""
    missed: frozenset[int] = frozenset()
    """Numbers of the scrapes that fail."""
    errors: Errors = never

    def series(self, gap: float, begin: float, now: float) -> Iterator[tuple[str, Series]]:
        """What the store shows now of the time from `begin` on: (code or bound, counter)."""
        stamps = [
            self.phase + number * gap
            for number in range(int(now / gap) + 1)
            if number not in self.missed
        ]
        seen = [at for at in stamps if at > begin and at + self.late <= now]
        if not seen:
            return
        counters: Mapping[str, Errors] = {
            "200": lambda at: RATE * at - self.errors(at),
            "500": self.errors,
            "0.3": lambda at: 0.9 * RATE * at,
            "+Inf": lambda at: RATE * at,
        }
        for told, counted in counters.items():
            labels = (("code or le", told), ("instance", self.name), ("pod", self.name))
            samples = tuple(Sample(at, float(round(counted(at)))) for at in seen)
            yield told, Series(labels, samples)


def track(pods: Iterable[Pod], gap: float, begin: float, now: float) -> TrackSeries | None:
    found = [one for pod in pods for one in pod.series(gap, begin, now)]
    if not found:
        return None
    return TrackSeries(
        requests=tuple(series for told, series in found if told in {"200", "500"}),
        errors=tuple(series for told, series in found if told == "500"),
        buckets=tuple((float(told), series) for told, series in found if told in {"0.3", "+Inf"}),
        pod_label="pod",
    )


def watched(
    canary: Iterable[Pod],
    stable: Iterable[Pod],
    *,
    gap: float = 5.0,
    until: float = 300.0,
    window: float = 20.0,
    pace: float = 1.0,
    first: float = 100.0,
) -> tuple[list[Interval], float]:
    """All intervals of so many looks, and the gap as it is known at the end."""
    intervals: list[Interval] = []
    cursor, now, known = Cursor(), first, 0.0
    while now <= until:
        seen = [track(pods, gap, now - window, now) for pods in (canary, stable)]
        found = difference(cursor, *seen, look=Look(now, now - pace))
        cursor, known = found.cursor, found.gap or known
        intervals += found.intervals
        now += pace
    return intervals, known


def pods(source: random.Random, name: str, count: int, gap: float = 5.0) -> list[Pod]:
    return [Pod(name=f"{name}-{n}", phase=source.random() * gap) for n in range(count)]


@pytest.mark.parametrize(("canary", "stable"), [(1, 1), (20, 1), (1, 20), (10, 10)])
def test_every_interval_holds_one_scrape_of_each_pod(canary: int, stable: int) -> None:
    for seed in range(8):
        source = random.Random(seed)
        intervals, gap = watched(pods(source, "c", canary), pods(source, "s", stable))
        assert gap == pytest.approx(5.0)
        assert len(intervals) >= 37
        for one in intervals[1:]:
            assert one.seconds == pytest.approx(5.0)
            assert one.canary.requests == pytest.approx(5 * RATE * canary, abs=canary)
            assert one.stable.requests == pytest.approx(5 * RATE * stable, abs=stable)
            assert one.skewed


def test_a_scrape_that_shows_late_is_waited_for_and_counted() -> None:
    """The canary is scraped just before stable and shows a second later, and looks come between."""
    canary, stable = [Pod(name="c", phase=1.0, late=1.0)], [Pod(name="s", phase=1.2)]
    intervals, _ = watched(canary, stable, pace=5.0, first=101.3)
    assert all(one.canary.reported and one.stable.reported for one in intervals[1:])
    assert sum(one.canary.requests for one in intervals[1:]) == pytest.approx(
        sum(one.stable.requests for one in intervals[1:]), abs=5 * RATE
    )


@pytest.mark.parametrize("late", [2.0, 4.0, 7.0, 9.0])
@pytest.mark.parametrize("pods", [1, 2])
def test_who_always_shows_late_is_compared_with_what_others_were_then(
    late: float, pods: int
) -> None:
    """One of the canary's, whose histogram is as late; nothing is lost and nothing counts twice."""
    canary = [Pod(name="c-1", phase=1.0, late=late), Pod(name="c-2", phase=3.0)][:pods]
    intervals, _ = watched(canary, [Pod(name="s", phase=1.2)])
    known = [one for one in intervals if one.at > 120.0]
    assert len(known) >= 34
    for one in known:
        assert one.canary.requests == one.canary.timed == pytest.approx(5 * RATE * pods, abs=pods)
        assert one.stable.requests == one.stable.timed == pytest.approx(5 * RATE, abs=1)


@pytest.mark.parametrize("gap", [5.0, 15.0])
def test_where_all_show_late_a_pod_that_is_gone_is_waited_for_no_longer(gap: float) -> None:
    """The store itself is late, or its clock ahead."""

    def longest(late: float) -> float:
        gone = Pod(name="s-2", phase=2.5, late=late, missed=frozenset(range(int(200 / gap), 999)))
        stable = [Pod(name="s-1", phase=1.5, late=late), gone]
        canary = [Pod(name="c", phase=1.0, late=late)]
        intervals, _ = watched(canary, stable, gap=gap, until=400.0, window=120.0)
        return max(one.seconds for one in intervals[2:])

    assert longest(10.0) <= longest(0.0) < 2 * gap


def test_what_shows_late_once_is_counted_with_the_next_scrape_and_timed() -> None:
    """The track has none of its own in the interval that ended meanwhile."""
    pods = [Pod(name="s", phase=1.2)]

    def look(number: int) -> TrackSeries | None:
        """Two of the canary's scrapes, of 151 and 156 s, show when the second is three old."""
        known = Pod(name="c", phase=1.0, missed=frozenset({30, 31} if number < 159 else ()))
        return track([known], 5.0, number - 20.0, float(number))

    cursor, found = Cursor(), list[Interval]()
    for now in range(100, 200):
        seen = difference(
            cursor, look(now), track(pods, 5.0, now - 20.0, now), look=Look(now, now - 1)
        )
        cursor, found = seen.cursor, [*found, *seen.intervals]
    assert sum(not one.canary.reported for one in found) == 1
    assert max(one.canary.requests for one in found) == pytest.approx(3 * 5 * RATE, abs=1)
    assert all(one.canary.requests == one.canary.timed for one in found)
    assert sum(one.canary.requests for one in found) == pytest.approx(
        RATE * (found[-1].at - found[0].begins), abs=2 * RATE
    )


def test_what_shows_later_than_data_may_be_old_is_no_news_of_the_track() -> None:
    """So the run holds, and does not hold what was against what is."""
    canary, stable = [Pod(name="c", phase=1.0, late=20.0)], [Pod(name="s", phase=1.2)]
    intervals, _ = watched(canary, stable, window=40.0)
    assert not any(one.canary.reported or one.canary.requests for one in intervals)


def test_a_pod_that_is_gone_is_not_waited_for() -> None:
    left = Pod(name="c-1", phase=1.0, missed=frozenset(range(30, 100)))
    intervals, _ = watched([left, Pod(name="c-2", phase=2.0)], [Pod(name="s", phase=1.5)])
    assert max(one.seconds for one in intervals[1:]) < 2 * 5.0
    assert len(intervals) >= 36


@pytest.mark.parametrize("gap", [30.0, 60.0])
def test_many_pods_that_are_scraped_seldom_are_compared(gap: float) -> None:
    """A look that holds one scrape of each at most: how far they are apart is known by the last."""
    source = random.Random(7)
    intervals, known = watched(
        pods(source, "c", 20, gap), pods(source, "s", 20, gap), gap=gap, until=1000.0
    )
    assert known == pytest.approx(gap)
    whole = [one for one in intervals if one.at > 100 + 3 * gap]
    assert all(one.canary.reported and one.stable.reported for one in whole)
    assert len(whole) >= 600 / gap


def judged(settings: Settings, intervals: Iterable[Interval]) -> Evidence:
    evidence = opened(start(settings), 100.0)
    for one in intervals:
        evidence = observe(evidence, settings, one)
    return evidence


def outage(begin: float, seconds: float) -> Errors:
    """All answers fail for so long."""
    return lambda at: RATE * min(max(at - begin, 0.0), seconds)


@pytest.mark.parametrize("late", [0.0, 4.0, 8.0])
@pytest.mark.parametrize(("canary", "stable"), [(1, 1), (1, 3), (2, 2)])
def test_an_outage_of_both_is_no_collapse_of_the_one_that_is_scraped_first(
    canary: int, stable: int, late: float
) -> None:
    """Nor of the one that shows late."""
    settings, tripped = Settings(dispersion=1.0, cap_scrapes=2, dispersion_known=True), 0
    for seed in range(30):
        source = random.Random(seed)
        errors = outage(180.0 + 5 * source.random(), 60.0)
        tracks = [
            [replace(pod, errors=errors, late=wait) for pod in pods(source, name, count)]
            for name, count, wait in (("c", canary, late), ("s", stable, 0.0))
        ]
        intervals, _ = watched(tracks[0], tracks[1])
        trip = judged(settings, intervals).trip
        assert trip is None or not trip.fast, seed
        tripped += trip is not None
    # One that is scraped seconds before all others may still have won too much by then.
    assert tripped <= 1


def test_a_collapse_is_found_one_scrape_later_where_pods_count() -> None:
    errors = outage(180.0, 1000.0)
    intervals, _ = watched(
        [Pod(name="c", phase=1.0, errors=errors)],
        [Pod(name="s", phase=2.0), Pod(name="t", phase=3.0)],
    )
    trip = judged(Settings(), intervals).trip
    assert trip is not None
    assert trip.at <= 180 + 2 * 5.0 + 5.0


def test_a_limit_that_both_break_speaks_against_nobody_while_stable_is_not_scraped() -> None:
    """Stable's scrapes run into the time-out just when the answers of both go bad."""
    settings = Settings(limits=Limits(max_error_rate=0.05), dispersion=1.0)

    def bad(at: float) -> float:
        return 0.12 * RATE * max(at - 150.0, 0.0)

    canary = [Pod(name="c", phase=1.0, errors=bad)]
    stable = [Pod(name="s", phase=2.0, errors=bad, missed=frozenset(range(30, 70)))]
    intervals, _ = watched(canary, stable)
    assert sum(not one.stable.reported for one in intervals) > 20
    assert judged(settings, intervals).trip is None
