# SPDX-License-Identifier: Apache-2.0
"""The lower end of the interval: its promise by enumeration, and what it says."""

import math
import random

import pytest

from controller.core.evidence.excess import NONE, Excess
from tests.core.evidence.traffic import Traffic

ROUNDING = 1e-9


def chance(hits: int, trials: int, rate: float) -> float:
    return math.comb(trials, hits) * rate**hits * (1 - rate) ** (trials - hits)


@pytest.mark.parametrize("margin", [-0.05, 0.0, 0.2])
@pytest.mark.parametrize("rate", [0.06, 0.4])
@pytest.mark.parametrize("sizes", [(1, 9), (12, 12), (30, 2)])
def test_no_bet_gains_on_a_canary_that_is_worse_by_no_more_than_the_margin(
    margin: float, rate: float, sizes: tuple[int, int]
) -> None:
    totals = [0.0] * len(NONE.sums)
    for bad_c in range(sizes[0] + 1):
        for bad_s in range(sizes[1] + 1):
            weight = chance(bad_c, sizes[0], rate + margin) * chance(bad_s, sizes[1], rate)
            found = NONE.settled((bad_c, sizes[0]), (bad_s, sizes[1]), 1.0)
            for place, (known, owed) in enumerate(zip(found.sums, found.owed, strict=True)):
                totals[place] += weight * math.exp(known - margin * owed)
    assert max(totals) <= 1 + ROUNDING


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_the_interval_closes_in_on_the_difference(share: float) -> None:
    excess: Excess = NONE
    traffic = Traffic(canary_bad=0.06, stable_bad=0.01, share=share)
    assert excess.bound(0.05) == -1.0
    for one in traffic.intervals(random.Random(1), 300):
        canary = (one.canary.errors, one.canary.requests)
        excess = excess.settled(canary, (one.stable.errors, one.stable.requests), 1.0)
    assert 0.03 < excess.bound(0.05) < 0.05
