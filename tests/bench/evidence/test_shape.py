# SPDX-License-Identifier: Apache-2.0
"""The shape of the judge's tables: no cell beyond its bound by more than chance explains.

And all of a table together within it, with 95 % confidence where so many runs are affordable.

A few minutes' worth of what `make bench-evidence` prints, with other numbers of runs and the same
seeds; `docs/evidence.md` has the long form and says what is promised.
"""

import random

import pytest

from tests.bench.evidence import (
    bursts,
    cold,
    detection,
    false_rollbacks,
    harm,
    healthy,
    latencies,
    noise,
    promotions,
    stalls,
)
from tests.bench.evidence.goals import (
    FEWER,
    NEAR,
    NOISY,
    PROMISED,
    SOON_SECONDS,
    WORSE,
)
from tests.bench.evidence.healthy import Version
from tests.bench.evidence.peers import DOCUMENTED
from tests.bench.evidence.table import Cells, Mean, Share, median
from tests.core.evidence.traffic import LADDER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def kept(cells: Cells, bound: float, *, surely: bool = True) -> None:
    """No cell is beyond its bound by more than chance explains, and all together are not at all.

    A cell of few runs has room for one or two exceptions too many, which many cells have not.
    `surely`: of all of them even the upper end of the interval lies within, not only the figure.
    """
    beyond = [(place, str(share)) for place, share in cells if share.beyond(bound)]
    assert beyond == []
    whole = Share.pooled([share for _, share in cells])
    most = whole.upper if surely else whole.value
    assert most <= bound, f"{whole}, at most {whole.upper:.2%}"


@pytest.mark.parametrize("name", false_rollbacks.CONFIGURATIONS)
def test_healthy_versions_are_rolled_back_no_more_often_than_promised(name: str) -> None:
    kept(
        [(f"{rate} {volume}", one) for rate, volume, one in false_rollbacks.cells(name, 16)],
        PROMISED,
    )


@pytest.mark.parametrize("name", false_rollbacks.FIXED)
def test_nor_are_those_that_stay_at_one_share(name: str) -> None:
    cells = [
        (f"{share} {rate} {volume}", one)
        for share in LADDER
        for rate, volume, one in false_rollbacks.fixed(name, share, 12)
    ]
    kept(cells, PROMISED)


def test_nor_are_those_of_which_everything_is_asked() -> None:
    """All configurations together, of which none has the runs to tell by itself: two of 288."""
    cells = [
        (f"{name} {volume}", share)
        for name in healthy.CONFIGURATIONS
        for volume, share in healthy.cells(name, 12)
    ]
    kept(cells, PROMISED, surely=False)


@pytest.mark.parametrize(
    "canary",
    [Version(bad=0.05), Version(shape=latencies.moved(0.1, 0.8)), Version(failing=0.7)],
    ids=["errors", "latency", "readings"],
)
def test_and_each_part_of_everything_could_roll_them_back(canary: Version) -> None:
    asked = healthy.CONFIGURATIONS["everything, default"]
    assert healthy.rolled_back(random.Random(1), asked, 100.0, canary, Version())


def test_noise_that_history_shows_is_no_reason_for_a_rollback() -> None:
    names = (*noise.SCENARIOS, *noise.SELDOM)
    found = {name: noise.false_rollbacks(name, 24, each=12) for name in names}
    assert all(one.phi.value >= 1 for one in found.values())
    kept([(name, one.share) for name, one in found.items()], NOISY)


def test_nor_is_noise_that_a_gateway_sees_as_a_whole() -> None:
    """But a canary that has the only bad pod, of which no gateway's past can tell."""
    kept(
        [
            (name, noise.false_rollbacks(name, 16, each=2, alone=True).share)
            for name in noise.SCENARIOS
            if name != noise.BAD_ANYWHERE
        ],
        NOISY,
    )


def test_a_bad_pod_of_the_canary_is_told_from_a_bad_version_where_pods_count() -> None:
    """And only if the past had such a one; else it is as a bad version."""
    found = noise.false_rollbacks(noise.BAD_ANYWHERE, 60, each=30)
    assert found.struck is not None
    assert found.struck.of >= 3
    assert not found.struck.hits
    assert noise.unseen(4, alone=False).hits == noise.unseen(4, alone=True).hits == 4


def test_nor_are_slow_answers_that_come_together() -> None:
    found = {
        name: stalls.false_rollbacks(name, 20, each=5, alone=True)
        for name in stalls.SCENARIOS
        if name != stalls.SLOW_ANYWHERE
    }
    assert all(one.far_phi.value >= one.slow_phi.value >= 1 for one in found.values())
    kept([(name, one.share) for name, one in found.items()], NOISY)


def test_nor_time_outs_in_bunches_that_pods_count() -> None:
    name = "0.05 % time out, in bunches of 20"
    found = stalls.false_rollbacks(name, 60, each=30)
    assert found.slow_phi.value < 2
    assert found.far_phi.value > 10
    assert not found.share.beyond(NOISY), str(found.share)


def test_bunches_of_time_outs_do_not_blind_for_what_makes_all_answers_slower() -> None:
    name = "0.05 % time out, in bunches of 20"
    assert stalls.found_after(name, "all x1.25", 4).value <= 10
    assert stalls.found_after(name, "5 % time out", 4).value <= 40


def test_incidents_in_the_past_of_a_gateway_do_not_blind() -> None:
    name = "common incidents, 20x for 3 min"
    assert noise.found_after(name, 0.5, 2, alone=True).value <= 3
    assert noise.found_after(name, 0.05, 2, alone=True).value <= 40


def test_a_regression_is_found_near_the_bound() -> None:
    """With so many runs the error is some 0.08; it is that of one cell, and so not too small."""
    told = [cell.ratio for cell in detection.cells(120) if cell.told]
    assert len(told) >= 15
    middle = median(told)
    assert middle.error < 0.1
    assert middle.value <= NEAR + 3 * middle.error


def test_slower_answers_are_found_as_soon_as_specified() -> None:
    ratios = [cell.ratio for cell in latencies.cells(8)]
    assert median(ratios).value <= 1.1
    assert max(ratio.value for ratio in ratios) <= 1.6


def test_a_version_worse_by_the_margin_is_hardly_ever_promoted() -> None:
    kept([(str(edge), promotions.worse(*edge, 24)) for edge in promotions.EDGES], WORSE)


def test_nor_one_that_is_slower_than_must_be_ruled_out() -> None:
    edges = promotions.SLOW_EDGES
    kept([(str(edge), promotions.proven_timely(*edge, 1.0, 24)) for edge in edges], WORSE)
    for edge in edges:
        assert promotions.proven_timely(*edge, 0.4, 12).hits == 12


def test_nor_where_errors_are_not_independent() -> None:
    edge = promotions.NOISY_EDGES[0]
    kept([(name, promotions.worse_in_noise(name, edge, 25)) for name in promotions.NOISES], WORSE)


@pytest.mark.parametrize("per_second", promotions.VOLUMES[1:])
def test_a_healthy_version_climbs_by_its_budget_in_two_minutes_and_a_half(
    per_second: float,
) -> None:
    found = promotions.climbs(per_second, 0.001, 12)
    assert all(climb.promoted for climb in found)
    assert Mean.of([climb.seconds for climb in found]).value <= SOON_SECONDS
    # A hundredth of ten thousand requests a second is beyond the budget before anybody can react.
    for bad in (0.05, 0.5) if per_second < 10_000 else (0.05,):
        found = promotions.climbs(per_second, bad, 12)
        assert not any(climb.promoted for climb in found)
        assert Mean.of([climb.bad for climb in found]).value <= 100


def test_versions_whose_pods_start_badly_are_not_rolled_back() -> None:
    found = {
        (ladder, per_second, bad): cold.cell(
            ladder, cold.Traffic(per_second=per_second, bad=bad), 24
        )
        for ladder in cold.LADDERS
        for per_second, bad in cold.PLACES
    }
    kept([(str(place), one.rolled_back) for place, one in found.items()], PROMISED)
    assert all(one.promoted.value > 0.5 for one in found.values())


def test_and_those_that_start_well_wait_for_nothing() -> None:
    for per_second in (100.0, 1000.0):
        found = cold.cell("auto", cold.Traffic(per_second=per_second, bad=0.001, cold=1.0), 12)
        assert found.seconds.value <= 150


@pytest.mark.parametrize(("rate", "fewer"), FEWER.items())
def test_fewer_bad_answers_than_by_the_peers_rules(rate: float, fewer: float) -> None:
    for per_second, share in harm.PLACES:
        found = harm.compared(per_second, share, rate, 20)
        for peer in DOCUMENTED:
            assert found[peer.name].times.value >= fewer, (per_second, share, peer)


def test_a_small_regression_is_found_behind_one_very_bad_scrape() -> None:
    """What the cap takes makes it later, and costs no more than as long again."""
    calm, *others = bursts.cells(40, (bursts.CANARY_BAD, 0.10, 0.30))
    for name in bursts.CONFIGURATIONS:
        for cell in others:
            assert cell.taken[name].value < 2.2 * calm.taken[name].value
