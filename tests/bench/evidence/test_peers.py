# SPDX-License-Identifier: Apache-2.0
"""The peers' rules, as their sources have them."""

import math

import pytest

from tests.bench.evidence.peers import ARGO, ARGO_TIGHT, FLAGGER, Peer
from tests.bench.evidence.table import Mean, Share, median, ratio

SCRAPE = 15.0
GOOD, BAD, NONE = (1000, 1), (1000, 500), (0, 0)


def test_failed_checks_add_up_over_the_whole_run() -> None:
    """Four bad minutes with an hour between them, and a fifth."""
    hour = [GOOD] * 240
    minute = [BAD] * 4
    counts = [*(minute + hour) * 4, *minute]
    assert FLAGGER.rolled_back(counts[:-4], SCRAPE) is None
    assert FLAGGER.rolled_back(counts, SCRAPE) == len(counts) * SCRAPE


@pytest.mark.parametrize(("peer", "seconds"), [(FLAGGER, 300.0), (ARGO, 920.0), (ARGO_TIGHT, 20.0)])
@pytest.mark.parametrize("counts", [BAD, NONE], ids=["half of all", "no traffic"])
def test_nothing_is_quicker_than_its_intervals_and_no_traffic_fails(
    peer: Peer, seconds: float, counts: tuple[int, int]
) -> None:
    assert peer.rolled_back([counts] * 200, SCRAPE) == seconds


def test_what_is_below_the_threshold_passes_for_ever() -> None:
    assert FLAGGER.rolled_back([(1000, 10)] * 400, SCRAPE) is None
    assert ARGO.rolled_back([(1000, 50)] * 400, SCRAPE) is None
    assert ARGO.rolled_back([(1000, 51)] * 400, SCRAPE) == 920.0


def test_a_silent_store_fails_the_checks_of_the_one_and_ends_the_run_of_the_other() -> None:
    silent = [None] * 40
    assert FLAGGER.rolled_back(silent, SCRAPE) == 300.0
    # At once, and four times more, ten seconds apart.
    assert ARGO.rolled_back(silent, SCRAPE) == 40.0
    assert ARGO_TIGHT.rolled_back(silent, SCRAPE) == 40.0


def test_errors_in_a_row_are_forgotten_by_the_next_measurement() -> None:
    """Of the first measurement two tries find nothing, and of the next one four."""
    quiet = [GOOD] * 20 + [None] * 3 + [GOOD] * 100
    assert ARGO.rolled_back(quiet, SCRAPE) is None
    assert ARGO.rolled_back([GOOD] * 20 + [None] * 4 + [GOOD] * 100, SCRAPE) == 360.0


def test_a_share_tells_how_sure_it_is() -> None:
    assert Share(0, 1000).upper == pytest.approx(0.0027, abs=2e-4)
    assert Share(10, 1000).upper == pytest.approx(0.0167, abs=5e-4)
    assert not Share(18, 1000).beyond(0.01)
    assert Share(25, 1000).beyond(0.01)
    assert str(Share(10, 1000)) == "1.00 ± 0.31 %"
    assert str(Share(0, 200)) == "0.00 ± 0.50 %"
    assert str(Share(200, 200)) == "100.00 ± 0.50 %"


def test_runs_that_have_a_past_in_common_tell_less() -> None:
    apart, alike = Share.of_groups([1, 1, 0, 0], 10), Share.of_groups([2, 0, 0, 0], 10)
    assert apart == Share(2, 40)
    assert (alike.hits, alike.of) == (2, 40)
    # One past in which all were rolled back, and three in which none was: no more than three runs.
    assert Share.of_groups([10, 0, 0, 0], 10).alike == pytest.approx(40 / 3)
    assert Share(2, 40).upper < alike.upper < Share.of_groups([10, 0, 0, 0], 10).upper
    assert Share.pooled([Share(1, 30), Share(2, 10, 5.0)]) == Share(3, 40, 2.0)
    assert Share.of_groups([0, 0], 10) == Share(0, 20)


def test_so_does_a_mean() -> None:
    found = Mean.of([10.0, 12.0, 14.0, 16.0])
    assert (found.value, found.error) == pytest.approx((13.0, math.sqrt(20 / 3) / 2))
    assert [str(one) for one in (found, found.over(10), found.over(0.1), Mean.of([5.0]))] == [
        "13 ± 1", "1.3 ± 0.1", "130 ± 13", "5 ± inf",
    ]  # fmt: skip
    assert str(Mean.of([15.0, 15.0])) == "15 ± 0"


def test_a_median_has_the_error_of_what_is_in_the_middle() -> None:
    cells = [Mean(3.0, 0.4), Mean(1.0, 5.0), Mean(2.0, 0.3), Mean(10.0, 5.0)]
    found = median(cells)
    assert (found.value, found.error) == pytest.approx((2.5, 0.25))
    assert median(cells[:3]) == Mean(2.0, 0.3)


def test_a_ratio_over_the_same_runs_knows_that_they_are_the_same() -> None:
    runs = [10.0, 20.0, 30.0]
    assert ratio([2 * one for one in runs], runs) == Mean(2.0, 0.0)
    apart = ratio([60.0, 40.0, 20.0], runs)
    assert apart.value == pytest.approx(2.0)
    assert apart.error > 1.0
