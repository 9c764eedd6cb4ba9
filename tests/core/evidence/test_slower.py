# SPDX-License-Identifier: Apache-2.0
"""The interval of slow answers: its promise by enumeration and at every look, and its bound."""

import math
import random

import pytest

from controller.core.evidence.judge import (
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
from controller.core.evidence.slower import difference
from tests.core.evidence.traffic import binomial

INF = math.inf
PAST = ((0.1, 9_000), (0.25, 9_990), (0.5, 9_999), (INF, 10_000))
BETA = 0.05


def chance(hits: int, trials: int, rate: float) -> float:
    return math.comb(trials, hits) * rate**hits * (1 - rate) ** (trials - hits)


@pytest.mark.parametrize("rates", [(0.02, 0.02), (0.3, 0.05), (0.05, 0.9), (0.0, 1.0)])
@pytest.mark.parametrize("sizes", [(1, 30), (25, 25), (40, 3)])
def test_neither_end_is_wrong_more_often_than_promised(
    rates: tuple[float, float], sizes: tuple[int, int]
) -> None:
    low = high = 0.0
    for canary in range(sizes[0] + 1):
        for stable in range(sizes[1] + 1):
            weight = chance(canary, sizes[0], rates[0]) * chance(stable, sizes[1], rates[1])
            ends = difference((canary, sizes[0]), (stable, sizes[1]), eta=1.0, beta=BETA)
            low += weight * (rates[0] - rates[1] < ends[0])
            high += weight * (rates[0] - rates[1] > ends[1])
    assert max(low, high) <= BETA


def test_the_interval_is_right_at_every_look_in_nearly_all_runs_whatever_drifts() -> None:
    """The truth is the difference of what both tracks were to expect until then."""
    wrong = [0, 0]
    for seed in range(200):
        source, missed = random.Random(seed), [False, False]
        counts, expected = [0, 0, 0, 0], [0.0, 0.0]
        for look in range(60):
            rate, share = 0.02 + 0.2 * (look % 20 > 15), 0.1 if look < 30 else 0.5
            for track, (size, slow) in enumerate(
                ((round(400 * share), rate + 0.05), (round(400 * (1 - share)), rate))
            ):
                counts[2 * track] += binomial(source, size, slow)
                counts[2 * track + 1] += size
                expected[track] += size * slow
            truth = expected[0] / counts[1] - expected[1] / counts[3]
            least, most = difference(
                (counts[0], counts[1]), (counts[2], counts[3]), eta=1.0, beta=BETA
            )
            missed = [missed[0] or truth < least, missed[1] or truth > most]
        wrong = [known + one for known, one in zip(wrong, missed, strict=True)]
    assert max(wrong) <= 200 * BETA


def test_the_interval_closes_in_on_the_difference() -> None:
    least, most = difference((30_000, 100_000), (5_000, 100_000), eta=1.0, beta=BETA)
    assert 0.23 < least < 0.25 < most < 0.27
    wide = difference((30_000, 100_000), (5_000, 100_000), eta=1 / 3, beta=BETA)
    assert wide[0] < least
    assert most < wide[1]
    assert difference((0, 0), (0, 0), eta=1.0, beta=BETA) == (-1.0, 1.0)


def timed(total: int, slow: int, *, beyond: float = 0.25) -> Tally:
    """So many answers beyond a bound, and of the others half within the first."""
    fast = total - slow
    below = {bound: fast if bound >= beyond else fast // 2 for bound in (0.1, 0.25, 0.5)}
    above = {bound: total for bound in below if bound > beyond}
    return Tally(requests=total, buckets=tuple({**below, **above, INF: total}.items()))


def seen(settings: Settings, canary: Tally, *, scrapes: int = 10, opened: bool = True) -> Evidence:
    evidence = start(settings)
    if opened:
        evidence = weight_changed(evidence, 0.0)
    for at in range(1, scrapes + 1):
        interval = Interval(at=float(at), seconds=1.0, canary=canary, stable=timed(360, 0))
        evidence = observe(evidence, settings, interval)
    return evidence


def verdict(settings: Settings, evidence: Evidence, *, proven: bool = False) -> Verdict:
    return judge(evidence, settings, evidence.last_at, gate=Gate(dwell_seconds=5.0, proven=proven))


def test_the_bound_of_the_trip_is_told() -> None:
    settings = Settings(past=PAST)
    found = verdict(settings, seen(settings, timed(40, 12)))
    assert (found.outcome, found.check) == (Outcome.FAIL, "latency")
    told = found.slower
    assert told is not None
    assert (told.told, told.bounds) == (0.25, (0.1, 0.25, 0.5))
    assert (told.canary, told.stable, told.timed) == ((260, 120, 0), (1800, 0, 0), (400, 3600))
    assert told.phi == 3.0


def test_the_bound_of_the_limit_that_decided_is_told() -> None:
    """Though stable's past says nothing, so that nothing is compared."""
    settings = Settings(limits=Limits(latency=((0.1, 0.9), (0.4, 0.01))))
    found = verdict(settings, seen(settings, timed(40, 12, beyond=0.5), scrapes=2))
    assert (found.outcome, found.check) == (Outcome.HOLD, "latency limit 0.5 s")
    assert found.slower is not None
    assert found.slower.told == 0.5


def test_the_bound_of_the_proof_is_told() -> None:
    past = ((0.25, 9_999), (INF, 10_000))
    settings = Settings(past=past, safe_margin=0.2, limits=Limits(latency=((0.4, 0.001),)))
    found = verdict(settings, seen(settings, timed(40, 0), scrapes=8), proven=True)
    assert (found.outcome, found.check) == (Outcome.HOLD, "proof latency 0.25 s")
    assert found.slower is not None
    assert found.slower.told == 0.25


def test_the_bound_of_the_proof_is_counted_where_latency_is_not_compared_at_it() -> None:
    """Of twenty bounds fifteen are compared, and 0.13 s is none of them."""
    bounds = [place / 100 for place in range(1, 21)]
    past = (*((bound, 9_800 + round(900 * bound)) for bound in bounds), (INF, 10_000))
    settings = Settings(past=past, limits=Limits(latency=((0.135, 0.01),)))
    answers = Tally(requests=400, buckets=(*((bound, 399) for bound in bounds), (INF, 400)))
    evidence = observe(
        weight_changed(start(settings), 0.0),
        settings,
        Interval(at=1.0, seconds=1.0, canary=answers, stable=answers),
    )
    assert [known.seconds for known in evidence.timely] == [0.13]
    assert 0.13 not in evidence.bounds
    found = verdict(settings, evidence).slower
    assert found is not None
    assert found.canary[found.bounds.index(0.13)] == 1


def test_where_nothing_is_decided_the_first_limit_is_told_and_else_what_differs_most() -> None:
    limited = Settings(past=PAST, limits=Limits(latency=((0.5, 0.01),)))
    found = verdict(limited, seen(limited, timed(40, 0)))
    assert found.outcome is Outcome.PASS
    assert found.slower is not None
    assert found.slower.told == 0.5
    free = Settings(past=PAST, dispersion=50.0, latency_dispersion=50.0)
    found = verdict(free, seen(free, timed(40, 2), scrapes=6))
    assert found.slower is not None
    assert found.slower.told == 0.25


def test_a_trip_before_the_weight_is_in_force_has_its_own_figures() -> None:
    settings = Settings(past=PAST)
    found = verdict(settings, seen(settings, timed(40, 20), opened=False))
    assert (found.outcome, found.check) == (Outcome.FAIL, "latency")
    told = found.slower
    assert told is not None
    assert (told.bounds, told.canary, told.timed) == ((told.told,), (20,), (40, 360))


def test_without_a_histogram_there_is_nothing_to_tell() -> None:
    settings = Settings()
    assert verdict(settings, seen(settings, Tally(requests=40))).slower is None
