# SPDX-License-Identifier: Apache-2.0
"""When a goal counts as kept."""

import math

import pytest

from tests.bench.evidence import goals
from tests.bench.evidence.goals import Verdict
from tests.bench.evidence.table import Mean, Share


@pytest.mark.parametrize(
    ("hits", "of", "verdict"),
    [
        (0, 200, Verdict.FEW),
        (1, 200, Verdict.FEW),
        (3, 200, Verdict.MISSED),
        (0, 300, Verdict.KEPT),
        (4, 1000, Verdict.KEPT),
        # 0.5 %, and so 1.02 % at most: a thousand runs could have shown less.
        (5, 1000, Verdict.MISSED),
        (11, 1000, Verdict.MISSED),
        (50, 10_000, Verdict.KEPT),
        (0, 1, Verdict.FEW),
        (1, 1, Verdict.MISSED),
    ],
)
def test_a_share_keeps_its_goal_by_its_upper_limit(hits: int, of: int, verdict: Verdict) -> None:
    assert goals.within(Share(hits, of), 0.01) is verdict


def test_a_mean_keeps_it_by_its_figure_if_that_says_something() -> None:
    assert goals.at_most(Mean(1.38, 0.02), 1.4) is Verdict.KEPT
    assert goals.at_most(Mean(1.41, 0.02), 1.4) is Verdict.MISSED
    assert goals.at_most(Mean(1.2, 0.3), 1.4) is Verdict.FEW
    assert goals.at_least(Mean(8.4, 0.1), 8.0) is Verdict.KEPT
    assert goals.at_least(Mean(7.9, 0.1), 8.0) is Verdict.MISSED
    assert goals.at_least(Mean(9.0, math.inf), 8.0) is Verdict.FEW
    assert goals.at_least(Mean(7.0, 1.0), 8.0) is Verdict.FEW
    assert goals.at_least(Mean(3.0, 1.0), 8.0) is Verdict.MISSED


def test_the_cell_that_may_be_furthest_stands_for_all() -> None:
    cells = [("here", Share(0, 1000)), ("there", Share(4, 1000)), ("beyond", Share(1, 1000))]
    goal = goals.each("rolled back", 0.01, cells)
    assert goal.verdict is Verdict.KEPT
    assert goal.measured == "worst of 3: 0.40 ± 0.20 %, at most 0.89 %, there"
    told = goals.table([goal]).splitlines()
    assert told[-1] == f"| rolled back | <= 1 %, 95 % sure | {goal.measured} | kept |"
