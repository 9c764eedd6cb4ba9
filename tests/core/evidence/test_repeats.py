# SPDX-License-Identifier: Apache-2.0
"""What is scraped less often than its past is asked for bunches there as much as it really does."""

import bisect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from controller.core.evidence import calibration, past, repeats
from controller.core.evidence.past import Past
from controller.core.evidence.series import Sample, Series, TrackSeries
from controller.core.evidence.tally import INFINITE
from tests.core.evidence.traffic import around

SECONDS = 6 * 3600
STEP = 15
"""Seconds between two samples of the history that is asked for."""

LATE = 7.3
"""Scrapes are so long after the whole step."""

Amounts = Callable[[], Mapping[str, int]]


def scraped(
    every: int, amounts: Amounts, *, seconds: int = SECONDS, **labels: str
) -> dict[str, Series]:
    """Counters by what they count, scraped every so many seconds."""
    totals: dict[str, int] = {}
    samples: dict[str, list[Sample]] = {}
    for at in range(0, seconds, every):
        for what, amount in amounts().items():
            totals[what] = totals.get(what, 0) + amount
            samples.setdefault(what, []).append(Sample(at + LATE, float(totals[what])))
    return {
        what: Series(tuple(sorted({**labels, "what": what}.items())), tuple(found))
        for what, found in samples.items()
    }


def bursts(source: random.Random, every: int, *, burst: int, per_second: float = 100.0) -> Amounts:
    """A hundredth of the answers fail, so many of them at a time."""

    def amounts() -> Mapping[str, int]:
        requests = around(source, per_second * every)
        bad = burst * around(source, 0.01 * per_second * every / burst)
        return {"good": requests, "bad": bad}

    return amounts


def track(found: Sequence[Mapping[str, Series]], pod_label: str = "") -> TrackSeries:
    return TrackSeries(
        requests=tuple(one[what] for one in found for what in ("good", "bad")),
        errors=tuple(one["bad"] for one in found),
        target_labels=("instance", "pod"),
        pod_label=pod_label,
    )


def asked(known: TrackSeries, seconds: int = SECONDS) -> TrackSeries:
    """As a subquery of the store answers: at each step the newest sample."""

    def thinned(one: Series) -> Series:
        times = [sample.at for sample in one.samples]
        newest = ((at, bisect.bisect_right(times, at)) for at in range(0, seconds, STEP))
        samples = [Sample(float(at), one.samples[count - 1].value) for at, count in newest if count]
        return replace(one, samples=tuple(samples))

    return replace(
        known,
        requests=tuple(map(thinned, known.requests)),
        errors=tuple(map(thinned, known.errors)),
        buckets=tuple((bound, thinned(one)) for bound, one in known.buckets),
    )


def gateway(every: int, *, burst: int, replicas: int = 1, per_second: float = 100.0) -> TrackSeries:
    source = random.Random(every)
    amounts = bursts(source, every, burst=burst, per_second=per_second)
    return track([scraped(every, amounts, instance=f"gw-{place}") for place in range(replicas)])


def phi(known: Past) -> float:
    return calibration.of(known).phi


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("every", [30, 60])
def test_bursts_show_as_they_do_in_the_scrapes_themselves(every: int, replicas: int) -> None:
    direct = gateway(every, burst=50, replicas=replicas)
    thinned = asked(direct)
    found = past.read(repeats.without(thinned))
    assert found.gap == every
    assert phi(past.read(direct)) > 40
    assert phi(found) == pytest.approx(phi(past.read(direct)), rel=0.1)
    assert phi(past.read(thinned)) <= 20, "each interval with answers is beside an empty one"
    assert found.total == past.read(thinned).total
    assert found.volume == pytest.approx(101 * replicas, rel=0.1)


@pytest.mark.parametrize("burst", [1, 50])
@pytest.mark.parametrize("every", [10, 20, 25, 40, 45, 100])
def test_scrapes_that_do_not_go_into_the_step_are_near_enough(every: int, burst: int) -> None:
    direct = gateway(every, burst=burst)
    found = past.read(repeats.without(asked(direct)))
    assert every / 1.5 <= found.gap <= 1.5 * every
    assert phi(found) == pytest.approx(phi(past.read(direct)), rel=0.35)


@pytest.mark.parametrize("every", [1, 5, 15])
def test_where_each_sample_is_a_scrape_of_its_own_nothing_is_left_out(every: int) -> None:
    thinned = asked(gateway(every, burst=5))
    assert repeats.without(thinned) == thinned


def test_pods_stand_for_the_same_times_and_each_keeps_its_answers() -> None:
    source = random.Random(7)
    pods = [
        scraped(30, bursts(source, 30, burst=8), pod=name, instance=name) for name in ("a", "b")
    ]
    # It answers once in a few scrapes.
    idle = scraped(30, bursts(source, 30, burst=1, per_second=0.01), pod="c", instance="c")
    thinned = asked(track([*pods, idle], "pod"))
    found = past.read(repeats.without(thinned))
    assert found.gap == 30
    assert {len(row) for row in found.rows.values()} == {SECONDS // 30 - 1}
    assert found.total[0] == pytest.approx(past.read(thinned).total[0], rel=0.01)
    busy = [requests for requests, _ in found.rows["a"]]
    assert min(busy) > 0


def test_a_target_with_few_requests_makes_intervals_longer_within_bounds() -> None:
    often, seldom = (
        past.read(repeats.without(asked(gateway(15, burst=1, per_second=rate))))
        for rate in (0.02, 0.0005)
    )
    assert 15 < often.gap < 120
    assert seldom.gap == repeats.MOST_SECONDS


def test_histograms_are_told_by_their_own_samples() -> None:
    """Of which there are fewer: they are asked for over an hour alone."""
    source = random.Random(8)
    answers = gateway(30, burst=1)

    def amounts() -> Mapping[str, int]:
        requests = around(source, 3000.0)
        return {"fast": requests - around(source, 30.0), "all": requests}

    found = scraped(60, amounts, seconds=3600, instance="gw-0")
    timed = TrackSeries(
        buckets=((0.1, found["fast"]), (INFINITE, found["all"])), target_labels=("instance",)
    )
    known = past.read(repeats.without(asked(answers)), repeats.without(asked(timed, seconds=3600)))
    assert (known.gap, known.slow_gap) == (30, 60)
    (row,) = known.timed.values()
    assert min(one.timed for one in row) > 2000
    both = repeats.without(replace(asked(answers), buckets=asked(timed).buckets))
    assert both.requests == repeats.without(asked(answers)).requests


def test_without_samples_there_is_nothing_to_leave_out() -> None:
    assert repeats.without(TrackSeries()) == TrackSeries()
    once = TrackSeries(requests=(Series((), (Sample(1.0, 5.0),)),))
    assert repeats.without(once) == once
    still = TrackSeries(requests=(Series((), tuple(Sample(float(at), 5.0) for at in range(9))),))
    assert repeats.without(still) == still
