# SPDX-License-Identifier: Apache-2.0
"""Draws must follow their distribution, and shares must be exact."""

from __future__ import annotations

import math

import pytest

from controller.sim import dice


@pytest.mark.parametrize(("count", "chance"), [(7, 0.3), (400, 0.005), (400, 0.9), (20_000, 0.4)])
def test_binomial_draws_have_the_right_mean_and_variance(count: int, chance: float) -> None:
    rng = dice.source(11)
    draws = [dice.binomial(rng, count, chance) for _ in range(4_000)]
    assert all(0 <= draw <= count for draw in draws)
    mean = sum(draws) / len(draws)
    variance = sum((draw - mean) ** 2 for draw in draws) / len(draws)
    wanted = count * chance * (1 - chance)
    # Five standard errors of the mean, and a tenth of the variance: a wrong formula is far off.
    assert abs(mean - count * chance) < 5 * math.sqrt(wanted / len(draws))
    assert abs(variance / wanted - 1) < 0.12


def test_small_binomials_have_the_right_probabilities() -> None:
    rng = dice.source(3)
    draws = [dice.binomial(rng, 3, 0.25) for _ in range(20_000)]
    for value, chance in enumerate((0.421875, 0.421875, 0.140625, 0.015625)):
        assert abs(draws.count(value) / len(draws) - chance) < 0.012


def test_certainty_needs_no_dice() -> None:
    rng = dice.source(0)
    before = rng.getstate()
    assert [dice.binomial(rng, 9, 0.0), dice.binomial(rng, 9, 1.0), dice.binomial(rng, 0, 0.5)] == [
        0,
        9,
        0,
    ]
    assert rng.getstate() == before


def test_shares_add_up_and_are_exact_in_the_long_run() -> None:
    apportion = dice.Apportion()
    given = {"stable": 0, "canary": 0}
    for count in [1, 2, 3, 5, 8] * 200:
        shares = apportion.split(count, {"stable": 95.0, "canary": 5.0, "off": 0.0})
        assert sum(shares.values()) == count
        assert "off" not in shares
        for name, share in shares.items():
            given[name] += share
    assert abs(given["canary"] - 0.05 * 3_800) <= 1


def test_nobody_to_give_to() -> None:
    assert dice.Apportion().split(5, {"a": 0.0}) == {}
