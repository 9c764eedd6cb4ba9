# SPDX-License-Identifier: Apache-2.0
"""Counts with fewer requests, and counts of a version that is worse than the one that was counted.

A history holds counts and no single requests, so that each request is drawn for: whether it would
have gone to the canary, whether it would have failed, whether it would have been slow. The dice are
seeded; the same seed gives the same counts.
"""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from controller.core.evidence.tally import Tally

MANY: Final = 100.0
"""Variance from which on a binomial count is drawn as a normal one: its tails differ by little."""

_MASK: Final = (1 << 64) - 1


class Dice:
    """Numbers that look drawn, from a seed (SplitMix64: Steele, Lea and Flood, 2014)."""

    def __init__(self, seed: int) -> None:
        """Any whole number is a seed."""
        self._state = seed & _MASK

    def number(self) -> float:
        """From 0 to below 1."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)

    def normal(self) -> float:
        """With mean 0 and variance 1 (Box and Muller, 1958)."""
        radius = math.sqrt(-2 * math.log(1 - self.number()))
        return radius * math.cos(2 * math.pi * self.number())

    def binomial(self, trials: int, chance: float) -> int:
        """Successes of so many trials, by jumping from one to the next; of many, nearly so."""
        if trials <= 0 or chance <= 0:
            return 0
        if chance >= 1:
            return trials
        if chance > 0.5:
            return trials - self.binomial(trials, 1 - chance)
        spread = trials * chance * (1 - chance)
        if spread > MANY:
            drawn = round(trials * chance + math.sqrt(spread) * self.normal())
            return min(max(drawn, 0), trials)
        hits, place, log_miss = 0, -1, math.log1p(-chance)
        while True:
            place += 1 + int(math.log(1 - self.number()) / log_miss)
            if place >= trials:
                return hits
            hits += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """What is wrong with a version; each request is drawn for on its own.

    Attributes:
        name: As people call it.
        times: So many times stable's share of failed answers fail.
        bad: So large a share of the answers fails beside those.
        slow: So large a share of the answers that are within the bound takes longer than it.
    """

    name: str
    times: float = 1.0
    bad: float = 0.0
    slow: float = 0.0


REGRESSIONS: Final = (
    Regression(name="errors x2", times=2.0),
    Regression(name="errors x5", times=5.0),
    Regression(name="1 % errors", bad=0.01),
    Regression(name="5 % errors", bad=0.05),
    Regression(name="50 % errors", bad=0.5),
    Regression(name="1 % slow", slow=0.01),
    Regression(name="5 % slow", slow=0.05),
    Regression(name="50 % slow", slow=0.5),
)


def parted(dice: Dice, whole: Tally, share: float) -> tuple[Tally, Tally]:
    """Each request goes to the first part by that chance, else to the second."""
    if share >= 1:
        return whole, Tally(reported=False)
    errors = dice.binomial(whole.errors, share)
    good = dice.binomial(whole.requests - whole.errors, share)
    cells = [dice.binomial(count, share) for count in _cells(whole)]
    sums = list(accumulate(cells))
    mine = Tally(
        requests=errors + good,
        errors=errors,
        buckets=tuple((pair[0], sum_) for pair, sum_ in zip(whole.buckets, sums, strict=True)),
        reported=whole.reported,
    )
    rest = Tally(
        requests=whole.requests - mine.requests,
        errors=whole.errors - mine.errors,
        buckets=tuple(
            (pair[0], pair[1] - own[1])
            for pair, own in zip(whole.buckets, mine.buckets, strict=True)
        ),
        reported=whole.reported,
    )
    return mine, rest


def worsened(
    dice: Dice, tally: Tally, regression: Regression, *, usual: float, bound: float
) -> tuple[Tally, int]:
    """The same requests answered by a worse version, and how many answers are worse for it.

    Args:
        dice: What is drawn with.
        tally: As stable answered them.
        regression: What is wrong.
        usual: Stable's share of failed answers, 0..1.
        bound: Seconds; a bucket bound that nearly all answers are within, 0 where none is known.
    """
    chance = regression.bad + (regression.times - 1) * usual / max(1 - usual, 1e-9)
    failed = dice.binomial(tally.requests - tally.errors, min(chance, 1.0))
    slowed, buckets = 0, tally.buckets
    if regression.slow and bound:
        within = [upper <= bound for upper, _ in tally.buckets]
        moved = [
            dice.binomial(count, regression.slow) if inside else 0
            for count, inside in zip(_cells(tally), within, strict=True)
        ]
        slowed = sum(moved)
        # Cumulative counts: who is slowed down is missing up to the bound and there beyond it.
        buckets = tuple(
            (upper, count - (less if inside else 0))
            for (upper, count), less, inside in zip(
                tally.buckets, accumulate(moved), within, strict=True
            )
        )
    worse = Tally(
        requests=tally.requests,
        errors=tally.errors + failed,
        buckets=buckets,
        reported=tally.reported,
    )
    return worse, failed + slowed


def _cells(tally: Tally) -> list[int]:
    before, found = 0, []
    for _, count in tally.buckets:
        found.append(max(count - before, 0))
        before = max(count, before)
    return found
