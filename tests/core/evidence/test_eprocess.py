# SPDX-License-Identifier: Apache-2.0
"""The promise itself, by exact enumeration: under the hypothesis no bet has an expected gain."""

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from controller.core.evidence import eprocess

ROUNDING = 1e-9


def chance(hits: int, trials: int, rate: float) -> float:
    return math.comb(trials, hits) * rate**hits * (1 - rate) ** (trials - hits)


def relative(
    canary: tuple[float, float],
    stable: tuple[float, float],
    tolerance: float = 1.25,
    margin: float = 0.0,
) -> Sequence[float]:
    """The bet's scores where both tracks have requests."""
    found = eprocess.relative(canary, stable, tolerance, margin)
    assert found is not None
    return found


def expected_relative(
    canary: int, stable: int, *, rate: float, tolerance: float, margin: float, eta: float, step: int
) -> list[float]:
    """E[e] per alternative at the edge of the hypothesis; errors come in clusters of `step`."""
    worse = min(tolerance * rate + margin, 1.0)
    totals = [0.0] * len(eprocess.RATIOS)
    for bad_c, bad_s in itertools.product(range(canary + 1), range(stable + 1)):
        weight = chance(bad_c, canary, worse) * chance(bad_s, stable, rate)
        scores = relative(
            (bad_c * step, canary * step), (bad_s * step, stable * step), tolerance, margin
        )
        for place, score in enumerate(scores):
            totals[place] += weight * math.exp(eta * score)
    return totals


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.2, 0.6])
@pytest.mark.parametrize(("canary", "stable"), [(1, 5), (4, 36), (20, 20), (30, 3)])
@pytest.mark.parametrize(("tolerance", "margin"), [(1.0, 0.0), (1.25, 0.0), (1.25, 0.01)])
def test_the_relative_bet_gains_nothing_on_a_canary_that_is_not_worse(
    rate: float, canary: int, stable: int, tolerance: float, margin: float
) -> None:
    totals = expected_relative(
        canary, stable, rate=rate, tolerance=tolerance, margin=margin, eta=1.0, step=1
    )
    assert max(totals) <= 1 + ROUNDING


@pytest.mark.parametrize("step", [2, 3])
def test_tempering_by_phi_covers_clusters_of_phi_errors(step: int) -> None:
    """Clusters of `step` errors at once, evidence divided by phi = step."""
    for rate in (0.001, 0.1):
        tempered = expected_relative(
            10, 30, rate=rate, tolerance=1.25, margin=0.0, eta=1 / step, step=step
        )
        assert max(tempered) <= 1 + ROUNDING
    untempered = expected_relative(10, 30, rate=0.1, tolerance=1.0, margin=0.0, eta=1.0, step=step)
    assert max(untempered) > 1.5, "without it the promise breaks, so the test can fail"


@pytest.mark.parametrize("limit", [1e-5, 0.001, 0.05, 0.4, 0.97])
@pytest.mark.parametrize("requests", [1, 7, 60])
def test_the_absolute_bet_gains_nothing_within_the_limit(limit: float, requests: int) -> None:
    for rate in (limit, limit / 3):
        totals = [0.0] * len(eprocess.alternatives(limit))
        for bad in range(requests + 1):
            scores = eprocess.absolute(limit, bad, requests)
            for place, score in enumerate(scores):
                totals[place] += chance(bad, requests, rate) * math.exp(score)
        assert max(totals) <= 1 + ROUNDING


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.2])
@pytest.mark.parametrize(("canary", "stable"), [(1, 5), (4, 36), (20, 20), (30, 3), (30, 1)])
@pytest.mark.parametrize("limit", [0.001, 0.05, 0.4])
@pytest.mark.parametrize("margin", [0.0, 0.02])
def test_the_bet_on_a_shared_limit_gains_nothing_where_stable_breaks_it_too(
    rate: float, canary: int, stable: int, limit: float, margin: float
) -> None:
    """Within the tolerance of stable and the margin, wherever the limit is."""
    worse = min(1.25 * rate + margin, 1.0)
    totals = [0.0] * len(eprocess.alternatives(limit))
    for bad_c, bad_s in itertools.product(range(canary + 1), range(stable + 1)):
        weight = chance(bad_c, canary, worse) * chance(bad_s, stable, rate)
        pair = ((bad_c, canary), (bad_s, stable))
        scores = eprocess.beyond(limit, *pair, tolerance=1.25, margin=margin)
        for place, score in enumerate(scores):
            totals[place] += weight * math.exp(score)
    assert max(totals) <= 1 + ROUNDING


def test_betting_anew_and_losing_nothing_leaves_the_money_as_it_was() -> None:
    process = eprocess.fresh(8)
    assert eprocess.value(process) == pytest.approx(0.0, abs=1e-12)
    for rate in (1 / 256, 0.25):
        process = eprocess.put(process, rate)
        assert eprocess.value(process) == pytest.approx(0.0, abs=1e-12)


def test_the_start_time_mixture_finds_what_begins_late() -> None:
    """With the reserve a regression after a long healthy time takes tens of scrapes fewer."""

    def scrapes(rate: float) -> int:
        process = eprocess.fresh(8)
        good = eprocess.payout(relative((1, 100), (9, 900)), 1.0)
        bad = eprocess.payout(relative((5, 100), (9, 900)), 1.0)
        for _ in range(480):
            process = eprocess.advance(process, good, rate)
        count = 0
        while eprocess.value(process) < math.log(100):
            process = eprocess.advance(process, bad, rate)
            count += 1
        return count

    assert scrapes(1 / 256) * 2 < scrapes(1e-12)


def test_a_rate_needs_both_arms() -> None:
    assert eprocess.relative((0, 0), (1, 100), 1.25, 0.0) is None
    assert eprocess.relative((1, 100), (0, 0), 1.25, 0.0) is None


def test_logarithms_of_nothing() -> None:
    assert eprocess.log_sum([]) == -math.inf
    assert eprocess.log_sum([-math.inf, -math.inf]) == -math.inf
    assert eprocess.log_sum([800.0, 800.0]) == pytest.approx(800 + math.log(2))


@pytest.mark.parametrize(
    ("canary", "stable", "healthy"),
    [(0, 9, True), (1, 9, True), (100, 900, True), (100, 0, False)],
    ids=["calm", "alike", "all", "bad"],
)
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(10**5, marks=pytest.mark.slow),
        pytest.param(10**7, marks=[pytest.mark.deep, pytest.mark.timeout(900)]),
    ],
)
def test_no_run_is_so_long_that_a_number_overflows_or_that_nothing_is_found_any_more(
    steps: int, canary: int, stable: int, healthy: bool
) -> None:
    """Ten million scrapes are a year and a half of one run."""
    scores, process = relative((canary, 100), (stable, 900)), eprocess.fresh(len(eprocess.RATIOS))
    paid = eprocess.payout(scores, 1.0)
    for _ in range(steps):
        process = eprocess.advance(process, paid, 1 / 256)
    assert all(math.isfinite(part) for part in (*process.bets, process.scale, process.cash))
    before = eprocess.value(process)
    assert math.isfinite(before)
    won = before - process.cash
    # What a healthy time leaves is the reserve, and a bad one as much on bets as is ever kept.
    assert won < 1 if healthy else won > eprocess.MOST_UNITS - 10
    # Ten times stable's errors, as soon as ever: one of the 256 parts of the reserve is bet on it.
    bad = eprocess.payout(relative((10, 100), (9, 900)), 1.0)
    for _ in range(5):
        process = eprocess.advance(process, bad, 1 / 256)
    assert not healthy or eprocess.value(process) > before + math.log(100)


@given(
    st.lists(st.floats(0, 1e139), min_size=8, max_size=8),
    st.floats(-1e12, 1e12),
    st.floats(-1e12, 0),
    st.lists(st.floats(-1e7, 1e7), min_size=8, max_size=8),
    st.floats(1 / 1024, 1 / 4),
)
def test_from_wherever_a_run_has_come_the_next_step_stays_within_the_numbers(
    bets: list[float], scale: float, cash: float, scores: list[float], rate: float
) -> None:
    """So no run overflows, however long it is: a step adds e^300 at most to what may be 10^308."""
    before = eprocess.Process(bets=tuple(bets), scale=scale, cash=cash)
    after = eprocess.advance(before, eprocess.payout(scores, 1.0), rate)
    assert all(math.isfinite(part) for part in (*after.bets, after.scale, after.cash))
    most = max(after.bets)
    assert eprocess.LEAST_UNIT <= most <= max(bets) + math.exp(eprocess.MOST_UNITS + 1)
    assert math.isfinite(eprocess.value(after))


@pytest.mark.parametrize(
    ("canary", "stable"),
    [(0, 9), (1, 9), (100, 0), (100, 900)],
    ids=["calm", "alike", "bad", "all"],
)
def test_ten_million_scrapes_by_what_each_of_them_changes(canary: int, stable: int) -> None:
    """After two thousand alike each one more only takes the same part of all the money.

    So what ten million leave is known, and it goes on from there as from any other place.
    """
    paid = eprocess.payout(relative((canary, 100), (stable, 900)), 1.0)
    bad = eprocess.payout(relative((100, 100), (0, 900)), 1.0)
    rate, near = 1 / 256, eprocess.fresh(len(eprocess.RATIOS))
    for _ in range(2000):
        near = eprocess.advance(near, paid, rate)
    later = eprocess.advance(near, paid, rate)
    assert bets(later) == pytest.approx(bets(near), abs=1e-6)
    moved = 1e7 * (later.cash - near.cash)
    far = structs.replace(near, scale=near.scale + moved, cash=near.cash + moved)
    for step in (*[paid] * 20, *[bad] * 60):
        near, far = (eprocess.advance(one, step, rate) for one in (near, far))
        assert bets(far) == pytest.approx(bets(near), abs=1e-6)
    assert eprocess.value(far) == pytest.approx(eprocess.value(near) + moved)
    assert eprocess.value(far) > moved + 200


def bets(process: eprocess.Process) -> list[float]:
    """Logarithm of what is on each alternative, as a part of the reserve."""
    known = [math.log(bet) if bet else -math.inf for bet in process.bets]
    return [process.scale - process.cash + bet for bet in known]


@pytest.mark.parametrize(
    "scores",
    [[(800.0, 0.0), (0.0, 800.0)], [(2000.0, 0.0), (-2000.0, -1000.0)], [(5000.0, 0.0)]],
    ids=["another", "all lose", "far beyond"],
)
@pytest.mark.parametrize("capped", [True, False])
def test_no_interval_takes_the_means_to_see_the_next_one(
    scores: list[tuple[float, float]], capped: bool
) -> None:
    """However much one alternative wins or loses at once, the others keep money to bet."""
    process = eprocess.fresh(2)
    for each in scores:
        process = eprocess.advance(process, eprocess.payout(each, 1.0), 1 / 256)
        if capped and process.at_stake > 1.5:
            process = eprocess.shrunk(process, 1.5 - process.at_stake)
    for _ in range(40):
        process = eprocess.advance(process, eprocess.payout((-5.0, 5.0), 1.0), 1 / 256)
    assert eprocess.value(process) > 150


def test_a_process_that_an_earlier_version_left_without_bets_begins_anew() -> None:
    process = eprocess.Process(bets=(0.0, 0.0), scale=1002.0, cash=-1.77)
    for _ in range(5):
        process = eprocess.advance(process, eprocess.payout((-5.0, 5.0), 1.0), 1 / 256)
    assert eprocess.value(process) > 10


@pytest.mark.parametrize("parts", [2, 5, 10])
def test_how_scrapes_are_grouped_makes_no_difference_to_a_bet(parts: int) -> None:
    """At one split the counts of many scrapes say what they say together; see the module's formula.

    What does depend on the scrapes is stated: the cap, and the reserve that is bet anew at each.
    """
    bad = [(number % 3, number % 4) for number in range(parts)]
    sums = [sum(track) for track in zip(*bad, strict=True)]
    together = relative((sums[0], 1000), (sums[1], 9000), margin=0.001)
    alone = [relative((c, 1000 / parts), (s, 9000 / parts), margin=0.001) for c, s in bad]
    assert together == pytest.approx([math.fsum(scores) for scores in zip(*alone, strict=True)])
