# SPDX-License-Identifier: Apache-2.0
"""The peers' rules, as their sources have them."""

import pytest

from tests.bench.evidence.peers import ARGO, ARGO_TIGHT, FLAGGER, Peer
from tests.bench.evidence.table import Share, median

SCRAPE = 15.0
GOOD, BAD, NONE = (1000, 1), (1000, 500), (0, 0)


def test_failed_checks_add_up_over_the_whole_run() -> None:
    """Four bad minutes with an hour between them, and a fifth."""
    hour = [GOOD] * 240
    minute = [BAD] * 4
    counts = [*(minute + hour) * 4, *minute]
    assert FLAGGER.rolled_back(counts[:-4], SCRAPE) is None
    assert FLAGGER.rolled_back(counts, SCRAPE) == len(counts) * SCRAPE


@pytest.mark.parametrize(
    ("peer", "seconds"), [(FLAGGER, 300.0), (ARGO, 1200.0), (ARGO_TIGHT, 60.0)]
)
@pytest.mark.parametrize("counts", [BAD, NONE], ids=["half of all", "no traffic"])
def test_nothing_is_quicker_than_its_intervals_and_no_data_fails(
    peer: Peer, seconds: float, counts: tuple[int, int]
) -> None:
    assert peer.rolled_back([counts] * 200, SCRAPE) == seconds


def test_what_is_below_the_threshold_passes_for_ever() -> None:
    assert FLAGGER.rolled_back([(1000, 10)] * 400, SCRAPE) is None
    assert ARGO.rolled_back([(1000, 50)] * 400, SCRAPE) is None
    assert ARGO.rolled_back([(1000, 51)] * 400, SCRAPE) == 1200.0


def test_a_share_tells_how_sure_it_is() -> None:
    assert Share(0, 1000).upper == pytest.approx(0.0027, abs=2e-4)
    assert Share(10, 1000).upper == pytest.approx(0.0167, abs=5e-4)
    assert not Share(18, 1000).beyond(0.01)
    assert Share(25, 1000).beyond(0.01)
    assert str(Share(10, 1000)) == "1.00 ±0.31 %"
    assert median([3.0, 1.0, 2.0, 10.0]) == 2.5
