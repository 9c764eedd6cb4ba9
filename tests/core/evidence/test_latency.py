# SPDX-License-Identifier: Apache-2.0
"""The latency bet: its promise by exact enumeration, and that it sees what it is for."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from controller.core.evidence import latency
from controller.core.evidence.judge import (
    Interval,
    Limits,
    Settings,
    Tally,
    observe,
    start,
    weight_changed,
)

INF = math.inf
BOUNDS = (0.1, 0.3, INF)
ROUNDING = 1e-9


def draws(total: int, cells: int) -> Iterator[tuple[int, ...]]:
    """All ways in which so many answers fall into so many cells."""
    for cuts in itertools.combinations(range(total + cells - 1), cells - 1):
        edges = (-1, *cuts, total + cells - 1)
        yield tuple(late - early - 1 for early, late in itertools.pairwise(edges))


def chance(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Of exactly these counts, if answers are independent."""
    ways = math.factorial(sum(counts))
    for count in counts:
        ways //= math.factorial(count)
    return ways * math.prod(share**count for share, count in zip(shares, counts, strict=True))


def slowed(shares: Sequence[float], tolerance: float) -> list[float]:
    """The slowest distribution that is not worse: each exceedance is so many times stable's."""
    beyond = [sum(shares[place:]) for place in range(1, len(shares))]
    most = [1.0, *(min(tolerance * part, 1.0) for part in beyond), 0.0]
    return [early - late for early, late in itertools.pairwise(most)]


def expected(
    bets: latency.Family,
    sizes: tuple[int, int],
    shares: Sequence[float],
    tolerance: float,
    *,
    far: int = 0,
    worth: float = 1.0,
) -> list[float]:
    """E[e] of each bet at the edge of the hypothesis."""
    totals = [0.0] * bets.size
    worse = slowed(shares, tolerance)
    for canary in draws(sizes[0], len(shares)):
        for stable in draws(sizes[1], len(shares)):
            weight = chance(canary, worse) * chance(stable, shares)
            found = latency.scores(bets, canary, stable, tolerance, far=far, worth=worth)
            assert found is not None
            for place, score in enumerate(found):
                totals[place] += weight * math.exp(score)
    return totals


@pytest.mark.parametrize("tolerance", [1.0, 1.25, 2.0])
@pytest.mark.parametrize("sizes", [(1, 6), (3, 5), (5, 3)])
@pytest.mark.parametrize("shares", [(0.6, 0.3, 0.1), (0.1, 0.2, 0.7), (0.97, 0.02, 0.01)])
def test_no_bet_gains_on_a_canary_that_is_not_slower(
    tolerance: float, sizes: tuple[int, int], shares: tuple[float, ...]
) -> None:
    """Whatever the past was that the bets were learnt from: it need not be like the present."""
    for past in ((600, 300, 100), (990, 9, 1)):
        bets = latency.family(BOUNDS, past, tolerance)
        assert max(expected(bets, sizes, shares, tolerance)) <= 1 + ROUNDING


@pytest.mark.parametrize("worth", [0.0, 0.05, 0.5, 0.95])
@pytest.mark.parametrize("far", [1, 2])
@pytest.mark.parametrize("shares", [(0.6, 0.3, 0.1), (0.97, 0.02, 0.01)])
def test_nor_where_answers_far_out_count_for_less(
    shares: tuple[float, ...], far: int, worth: float
) -> None:
    """Whatever they count for, and where far out begins."""
    for past in ((600, 300, 100), (990, 9, 1)):
        for tolerance in (1.0, 1.25):
            bets = latency.family(BOUNDS, past, tolerance)
            totals = expected(bets, (3, 5), shares, tolerance, far=far, worth=worth)
            assert max(totals) <= 1 + ROUNDING


def test_a_bunch_far_out_counts_for_one_and_other_answers_for_as_much_as_ever() -> None:
    bets = latency.family(BOUNDS, (9500, 480, 20), 1.1)

    def best(canary: Sequence[int], worth: float) -> float:
        found = latency.scores(bets, canary, (9500, 480, 20), 1.1, far=2, worth=worth)
        assert found is not None
        return max(found)

    bunch, slower = (950, 48, 22), (800, 200, 0)
    assert best(bunch, 1.0) > 20
    assert best(bunch, 0.05) < 2
    assert best(slower, 0.05) == pytest.approx(best(slower, 1.0))


@pytest.mark.parametrize(("bound", "limit"), [(1.0, 0.001), (0.3, 0.01)])
def test_a_limit_takes_a_bunch_far_out_for_one_as_well(bound: float, limit: float) -> None:
    """Whether the limit itself is far out, or answers within it are common."""
    past = ((0.1, 9000), (0.3, 9960), (1.0, 9995), (INF, 10_000))
    known = Settings(
        past=past, dispersion=1.0, latency_dispersion=1.0, cap_scrapes=2,
        limits=Limits(latency=((bound, limit),)),
    )  # fmt: skip

    def tripped(settings: Settings, counts: tuple[int, int, int, int], looks: int) -> bool:
        evidence = weight_changed(start(settings), 0.0)
        buckets = tuple(zip((0.1, 0.3, 1.0, INF), itertools.accumulate(counts), strict=True))
        canary = Tally(requests=sum(counts), buckets=buckets)
        stable = Tally(requests=10_000, buckets=past)
        for at in range(1, looks + 1):
            seen = Interval(at=15.0 * at, seconds=15.0, canary=canary, stable=stable)
            evidence = observe(evidence, settings, seen)
        return evidence.trip is not None

    bunched = replace(known, far_dispersion=20.0, far_bound=1.0)
    bunch = (900, 96, 3, 21)
    assert tripped(known, bunch, 3)
    assert not tripped(bunched, bunch, 3)
    # What lies before is as it was, and what times out again and again is found in the end.
    assert tripped(bunched, (500, 100, 400, 0), 3)
    assert tripped(bunched, (900, 0, 0, 120), 20)


def test_a_limit_far_out_is_proven_by_the_phi_of_answers_there() -> None:
    limits = Limits(latency=((0.3, 0.05), (1.0, 0.01)))
    bunched = Settings(
        limits=limits, latency_dispersion=2.0, far_dispersion=20.0, far_bound=1.0,
        past=((0.1, 9000), (0.3, 9960), (1.0, 9995), (INF, 10_000)),
    )  # fmt: skip
    answers = Tally(requests=1000, buckets=((0.1, 900), (0.3, 996), (1.0, 1000), (INF, 1000)))
    seen = Interval(at=15.0, seconds=15.0, canary=answers, stable=answers)
    evidence = observe(weight_changed(start(bunched), 0.0), bunched, seen)
    assert [known.requests for known in evidence.timely] == pytest.approx([500, 50])


def test_without_the_tolerance_in_the_odds_the_promise_would_break() -> None:
    """So the enumeration can fail."""
    bets = latency.family(BOUNDS, (600, 300, 100), 1.0)
    totals = [0.0] * bets.size
    shares, worse = (0.6, 0.3, 0.1), slowed((0.6, 0.3, 0.1), 2.0)
    for canary in draws(4, 3):
        for stable in draws(4, 3):
            weight = chance(canary, worse) * chance(stable, shares)
            found = latency.scores(bets, canary, stable, 1.0)
            assert found is not None
            for place, score in enumerate(found):
                totals[place] += weight * math.exp(score)
    assert max(totals) > 1.2


@pytest.mark.parametrize("tolerance", [1.0, 1.25])
def test_ratios_never_fall_and_stay_bounded(tolerance: float) -> None:
    bounds = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, INF)
    for past in (
        (0, 10, 400, 2000, 3000, 900, 90, 9, 1, 0, 0, 0),
        (5000,) + (0,) * 11,
        (0,) * 11 + (300,),
    ):
        bets = latency.family(bounds, past, tolerance)
        assert bets.size
        for logs in zip(*(column for _, column, _ in bets.columns), strict=True):
            assert list(logs) == sorted(logs)
            assert max(logs) <= math.log(latency.LARGEST_RATIO) + ROUNDING
            assert tolerance == 1.0 or min(logs) >= 0.0


def test_many_bounds_are_thinned_and_the_ends_kept() -> None:
    bounds = tuple(float(number) for number in range(70))
    kept = latency.thinned(bounds)
    assert (len(kept), kept[0], kept[-1]) == (latency.MOST_CELLS, 0.0, 69.0)
    assert latency.thinned((0.1, INF)) == (0.1, INF)


def test_cells_come_from_cumulative_counts_at_the_bounds_asked_for() -> None:
    buckets = ((0.1, 5), (0.2, 6), (0.3, 9), (INF, 10))
    assert latency.cells(buckets, (0.1, 0.3, INF)) == (5, 4, 1)
    assert latency.cells(buckets, (0.1, 0.5, INF)) is None


def test_the_bound_that_is_told_is_where_the_difference_is() -> None:
    found = latency.worst((0.1, 0.3, 1.0, INF), (50, 40, 1, 9), (500, 480, 15, 5))
    assert found == (1.0, (9, 100), (5, 1000))


def test_no_answers_are_no_evidence() -> None:
    bets = latency.family(BOUNDS, (600, 300, 100), 1.25)
    assert latency.scores(bets, (0, 0, 0), (5, 5, 5), 1.25) is None
    assert latency.scores(bets, (5, 5, 5), (0, 0, 0), 1.25) is None


def test_a_bound_of_zero_is_no_bound() -> None:
    buckets = ((0.0, 30), (0.1, 300), (0.3, 390), (INF, 400))
    tally = Tally(requests=400, buckets=buckets)
    evidence = weight_changed(start(Settings()), 0.0)
    for number in range(1, 5):
        interval = Interval(at=float(number), seconds=1.0, canary=tally, stable=tally)
        evidence = observe(evidence, Settings(), interval)
    assert evidence.bounds == (0.1, 0.3, INF)
    assert len(evidence.processes) == 2


def test_limits_are_judged_by_the_bounds_there_are_whatever_the_past_had() -> None:
    limits = Limits(latency=((0.2, 0.05),))
    for past in (((0.1, 90), (INF, 300)), ((0.7, 90), (INF, 300))):
        settings = Settings(limits=limits, past=past)
        tally = Tally(requests=400, buckets=((0.1, 300), (0.2, 350), (0.5, 390), (INF, 400)))
        interval = Interval(at=1.0, seconds=1.0, canary=tally, stable=tally)
        evidence = observe(weight_changed(start(settings), 0.0), settings, interval)
        assert evidence.limit_bounds == (0.2,)
        assert evidence.bounds == (0.1, 0.2, 0.5, INF)


@pytest.mark.parametrize("dispersion", [1.0, 3.0])
@pytest.mark.parametrize("kinds", [("slow", "hangs"), ("slow", *["hangs"] * 9)])
def test_so_many_requests_that_one_scrape_alone_is_proof_hide_nothing(
    kinds: tuple[str, ...], dispersion: float
) -> None:
    """Each scrape is worse by another alternative than the one before, by hundreds of nats."""
    requests = 200_000
    within = {
        "healthy": (0.5, 0.98, 0.995, 1.0),
        "slow": (0.0, 0.1, 0.5, 0.98),
        "hangs": (0.2, 0.39, 0.4, 0.4),
    }

    def tally(kind: str) -> Tally:
        shares = (*within[kind], 1.0)
        bounds = (0.1, 0.3, 1.2, 5.0, INF)
        counts = ((b, int(s * requests)) for b, s in zip(bounds, shares, strict=True))
        return Tally(requests=requests, buckets=tuple(counts))

    healthy = tally("healthy")
    settings = Settings(past=healthy.buckets, dispersion=dispersion, latency_dispersion=dispersion)
    evidence = weight_changed(start(settings), 0.0)
    for number, kind in enumerate([*["healthy"] * 5, *kinds * 5], 1):
        interval = Interval(at=float(number), seconds=1.0, canary=tally(kind), stable=healthy)
        evidence = observe(evidence, settings, interval)
    assert evidence.trip is not None
    assert evidence.trip.at <= 9.0
