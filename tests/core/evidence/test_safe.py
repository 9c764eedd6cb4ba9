# SPDX-License-Identifier: Apache-2.0
"""The proof that a promotion rests on: its promise by enumeration, its bound, its patience."""

import math
import random

import pytest

from controller.core.evidence.safe import BETS, MOST_OPEN, NOTHING, Proof, Timely
from tests.core.evidence.traffic import Traffic

ROUNDING = 1e-9
UNSEEN = Timely(seconds=0.3)


def chance(hits: int, trials: int, rate: float) -> float:
    return math.comb(trials, hits) * rate**hits * (1 - rate) ** (trials - hits)


@pytest.mark.parametrize("margin", [0.001, 0.05, 0.4])
@pytest.mark.parametrize("rate", [1e-3, 0.05, 0.4])
@pytest.mark.parametrize("sizes", [(1, 9), (12, 12), (30, 2)])
def test_no_bet_gains_on_a_canary_that_is_worse_by_the_margin(
    margin: float, rate: float, sizes: tuple[int, int]
) -> None:
    total = 0.0
    for bad_c in range(sizes[0] + 1):
        for bad_s in range(sizes[1] + 1):
            weight = chance(bad_c, sizes[0], rate + margin) * chance(bad_s, sizes[1], rate)
            proof = NOTHING.settled((bad_c, sizes[0]), (bad_s, sizes[1]), 1.0)
            total += weight * math.exp(proof.log_evidence(margin))
    assert total <= 1 + ROUNDING


@pytest.mark.parametrize("share", [0.006, 0.015, 0.3])
@pytest.mark.parametrize("trials", [1, 40, 300])
def test_no_bet_gains_on_a_canary_that_is_as_slow_as_must_be_ruled_out(
    share: float, trials: int
) -> None:
    total = sum(
        chance(slow, trials, share)
        * math.exp(UNSEEN.settled(slow, trials, 1.0).log_evidence(share))
        for slow in range(trials + 1)
    )
    assert total <= 1 + ROUNDING


def test_the_largest_share_of_slow_answers_is_told() -> None:
    assert UNSEEN.bound(0.05) == 1.0
    seen = UNSEEN.settled(3, 500, 0.5).settled(1, 500, 0.5)
    bound = seen.bound(0.05)
    assert 0.004 < bound < 0.03
    assert seen.log_evidence(bound) == pytest.approx(math.log(20), abs=1e-6)


def after(traffic: Traffic, count: int, seed: int = 1, eta: float = 1.0) -> Proof:
    proof = NOTHING
    for one in traffic.intervals(random.Random(seed), count):
        canary = (one.canary.errors, one.canary.requests)
        proof = proof.settled(canary, (one.stable.errors, one.stable.requests), eta)
    return proof


def test_the_bound_is_the_smallest_margin_that_is_refuted() -> None:
    for bad in (0.0, 0.005, 0.2):
        proof = after(Traffic(canary_bad=bad, stable_bad=0.002), 30)
        bound = proof.bound(0.05)
        assert bad - 0.002 < bound < 1
        assert proof.log_evidence(bound) >= math.log(20) - 1e-6
        assert proof.log_evidence(bound * 0.99) < math.log(20)


def test_nothing_seen_is_nothing_ruled_out() -> None:
    assert NOTHING.bound(0.05) == 1.0
    assert NOTHING.settled((0, 0), (3, 10), 1.0) == NOTHING
    assert NOTHING.settled((0, 3), (0, 10), 1.0).bound(0.05) == 1.0


def test_the_bound_is_right_at_every_look_in_nearly_all_runs() -> None:
    wrong = 0
    for seed in range(200):
        proof, missed = NOTHING, False
        traffic = Traffic(canary_bad=0.012, stable_bad=0.002)
        for one in traffic.intervals(random.Random(seed), 60):
            canary = (one.canary.errors, one.canary.requests)
            proof = proof.settled(canary, (one.stable.errors, one.stable.requests), 1.0)
            missed = missed or proof.bound(0.05) < 0.010
        wrong += missed
    assert wrong <= 10


def test_what_waits_for_stable_is_settled_with_its_first_request() -> None:
    waiting = NOTHING.settled((1, 50), (0, 0), 1.0).settled((0, 40), (0, 0), 1.0)
    assert (waiting.requests, waiting.open) == (0.0, (1, 90, 2))
    settled = waiting.settled((0, 10), (0, 4), 1.0)
    assert settled == NOTHING.settled((1, 100), (0, 4), 1.0)


def test_tempering_is_patience() -> None:
    traffic = Traffic(canary_bad=0.001, stable_bad=0.001)
    assert after(traffic, 20, eta=1 / 3).bound(0.05) > 2 * after(traffic, 20).bound(0.05)
    assert len(NOTHING.sums) == len(BETS)


def test_what_has_waited_for_too_long_says_nothing_of_now() -> None:
    proof = NOTHING
    for _ in range(MOST_OPEN + 1):
        proof = proof.settled((0, 500), (0, 0), 1.0)
    assert proof == NOTHING
