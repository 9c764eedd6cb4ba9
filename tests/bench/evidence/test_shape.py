# SPDX-License-Identifier: Apache-2.0
"""The shape of the judge's tables: no cell beyond its bound by more than chance explains.

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
from tests.bench.evidence.goals import FEWER, NEAR, NOISY, PROMISED, SOON_SECONDS, WORSE
from tests.bench.evidence.healthy import Version
from tests.bench.evidence.peers import DOCUMENTED
from tests.bench.evidence.table import Mean, Share, median

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", false_rollbacks.CONFIGURATIONS)
def test_healthy_versions_are_rolled_back_no_more_often_than_promised(name: str) -> None:
    found = list(false_rollbacks.cells(name, 16))
    wrong = [(rate, volume, str(share)) for rate, volume, share in found if share.beyond(PROMISED)]
    assert wrong == []
    whole = Share(sum(s.hits for *_, s in found), sum(s.of for *_, s in found))
    assert not whole.beyond(PROMISED)


@pytest.mark.parametrize("name", healthy.CONFIGURATIONS)
def test_nor_are_those_of_which_everything_is_asked(name: str) -> None:
    shares = [share for _, share in healthy.cells(name, 5)]
    assert not Share(sum(share.hits for share in shares), 20).beyond(PROMISED)


@pytest.mark.parametrize(
    "canary",
    [Version(bad=0.05), Version(shape=latencies.moved(0.1, 0.8)), Version(failing=0.7)],
    ids=["errors", "latency", "readings"],
)
def test_and_each_part_of_everything_could_roll_them_back(canary: Version) -> None:
    asked = healthy.CONFIGURATIONS["everything, default"]
    assert healthy.rolled_back(random.Random(1), asked, 100.0, canary, Version())


@pytest.mark.parametrize("name", noise.SCENARIOS)
def test_noise_that_history_shows_is_no_reason_for_a_rollback(name: str) -> None:
    found = noise.false_rollbacks(name, 24, each=12)
    assert found.phi.value >= 1
    assert not found.share.beyond(NOISY), str(found.share)


@pytest.mark.parametrize("name", [name for name in noise.SCENARIOS if name != noise.BAD_ANYWHERE])
def test_nor_is_noise_that_a_gateway_sees_as_a_whole(name: str) -> None:
    share = noise.false_rollbacks(name, 16, each=2, alone=True).share
    assert not share.beyond(NOISY), str(share)


@pytest.mark.parametrize(
    "name", [name for name in stalls.SCENARIOS if name != stalls.SLOW_ANYWHERE]
)
def test_nor_are_slow_answers_that_come_together(name: str) -> None:
    found = stalls.false_rollbacks(name, 60, each=10, alone=True)
    assert found.far.value >= found.phi.value >= 1
    assert not found.share.beyond(NOISY), str(found.share)


def test_nor_time_outs_in_bunches_that_pods_count() -> None:
    name = "0.05 % time out, in bunches of 20"
    found = stalls.false_rollbacks(name, 60, each=30)
    assert found.phi.value < 2
    assert found.far.value > 10
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
    """With so many runs the error is some 0.06; it is that of one cell, and so not too small."""
    told = [cell.ratio for cell in detection.cells(200) if cell.told]
    assert len(told) >= 15
    middle = median(told)
    assert middle.error < 0.1
    assert middle.value <= NEAR + 3 * middle.error


def test_slower_answers_are_found_as_soon_as_specified() -> None:
    ratios = [cell.ratio for cell in latencies.cells(8)]
    assert median(ratios).value <= 1.1
    assert max(ratio.value for ratio in ratios) <= 1.6


@pytest.mark.parametrize("edge", promotions.EDGES)
def test_a_version_worse_by_the_margin_is_hardly_ever_promoted(
    edge: tuple[float, float, float],
) -> None:
    assert not promotions.worse(*edge, 24).beyond(WORSE)


@pytest.mark.parametrize("edge", promotions.SLOW_EDGES)
def test_nor_one_that_is_slower_than_must_be_ruled_out(edge: tuple[float, float]) -> None:
    assert not promotions.proven_timely(*edge, 1.0, 24).beyond(WORSE)
    assert promotions.proven_timely(*edge, 0.4, 12).hits == 12


def test_nor_where_errors_come_in_bursts() -> None:
    share, _ = promotions.worse_in_bursts(0.005, 24)
    assert not share.beyond(WORSE)


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


@pytest.mark.parametrize("ladder", cold.LADDERS)
@pytest.mark.parametrize("place", cold.PLACES)
def test_versions_whose_pods_start_badly_are_not_rolled_back(
    ladder: str, place: tuple[float, float]
) -> None:
    found = cold.cell(ladder, cold.Traffic(per_second=place[0], bad=place[1]), 16)
    assert not found.rolled_back.beyond(PROMISED), str(found.rolled_back)
    assert found.promoted.value > 0.5


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
