# SPDX-License-Identifier: Apache-2.0
"""The shape of the judge's tables: no cell beyond its bound by more than chance explains.

A few minutes' worth of what `make bench-evidence` prints, with other numbers of runs and the same
seeds; `docs/evidence.md` has the long form and says what is promised.
"""

import pytest

from tests.bench.evidence import detection, false_rollbacks, harm, noise
from tests.bench.evidence.peers import ARGO, FLAGGER
from tests.bench.evidence.table import Share, median

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROMISED = 0.01
NOISY = 0.015


@pytest.mark.parametrize("name", false_rollbacks.CONFIGURATIONS)
def test_healthy_versions_are_rolled_back_no_more_often_than_promised(name: str) -> None:
    found = list(false_rollbacks.cells(name, 16))
    wrong = [(rate, volume, str(share)) for rate, volume, share in found if share.beyond(PROMISED)]
    assert wrong == []
    whole = Share(sum(s.hits for *_, s in found), sum(s.of for *_, s in found))
    assert not whole.beyond(PROMISED)


@pytest.mark.parametrize("name", noise.SCENARIOS)
def test_noise_that_history_shows_is_no_reason_for_a_rollback(name: str) -> None:
    share, phi = noise.false_rollbacks(name, 24, histories=2)
    assert phi >= 1
    assert not share.beyond(NOISY), str(share)


def test_a_regression_is_found_near_the_bound() -> None:
    told = [cell for cell in detection.cells(12, rates=(0.01, 0.05)) if cell.told]
    assert len(told) >= 6
    assert median([cell.strict / cell.bound for cell in told]) <= 1.6


@pytest.mark.parametrize(("rate", "fewer"), [(0.05, 8.0), (0.5, 15.0)])
def test_fewer_bad_answers_than_by_the_peers_rules(rate: float, fewer: float) -> None:
    for per_second, share in harm.PLACES:
        found = harm.compared(per_second, share, rate, 20)
        for peer in (FLAGGER, ARGO):
            assert found[peer.name].bad >= fewer * found[harm.OURS].bad, (per_second, share, peer)
