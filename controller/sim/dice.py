# SPDX-License-Identifier: Apache-2.0
"""Exact draws from a seeded source, and sharing without a draw.

Python 3.11 has no binomial draw.  The one here is exact at any size: large counts are halved by the
median of uniform order statistics (L. Devroye, Non-Uniform Random Variate Generation, 1986, chapter
X.4.3), small ones are counted through geometric waiting times.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Mapping
from typing import TypeVar

_K = TypeVar("_K", bound=Hashable)

# Below this many expected successes, waiting times are quicker than another beta draw.
_FEW = 12.0


def source(seed: float | str) -> random.Random:
    """A generator of its own for one part of the world."""
    return random.Random(seed)  # noqa: S311 - dice of a simulation, not secrets


def binomial(rng: random.Random, count: int, chance: float) -> int:
    """How many of ``count`` independent trials succeed, each with probability ``chance``."""
    if chance <= 0.0 or count <= 0:
        return 0
    if chance >= 1.0:
        return count
    if chance > 0.5:
        return count - binomial(rng, count, 1.0 - chance)
    successes = 0
    while count * chance > _FEW:
        middle = 1 + count // 2
        median = rng.betavariate(middle, count + 1 - middle)
        if median <= chance:
            successes += middle
            count -= middle
            chance = (chance - median) / (1.0 - median)
        else:
            count = middle - 1
            chance /= median
        if chance > 0.5:
            return successes + count - binomial(rng, count, 1.0 - chance)
    return successes + _by_waiting(rng, count, chance)


def _by_waiting(rng: random.Random, count: int, chance: float) -> int:
    if chance <= 0.0 or count <= 0:
        return 0
    scale = math.log1p(-chance)
    if scale == 0.0:
        return 0
    successes, position = 0, 0
    while True:
        position += int(math.log(1.0 - rng.random()) / scale) + 1
        if position > count:
            return successes
        successes += 1


class Apportion:
    """Shares whole things in given proportions, as exactly as whole things can be shared.

    What a round could not give is owed in the next one, as in a weighted round robin.
    """

    def __init__(self) -> None:
        """Nobody is owed anything."""
        self._owed: dict[Hashable, float] = {}

    def split(self, count: int, weights: Mapping[_K, float]) -> dict[_K, int]:
        """Give ``count`` things to those with a positive weight."""
        total = sum(weights.values())
        if count <= 0 or total <= 0:
            return {}
        ideal = {
            key: self._owed.get(key, 0.0) + count * weight / total
            for key, weight in weights.items()
            if weight > 0
        }
        given = {key: max(0, math.floor(share + 1e-9)) for key, share in ideal.items()}
        left = count - sum(given.values())
        ranked = sorted(ideal, key=lambda key: ideal[key] - given[key], reverse=left > 0)
        for at in range(abs(left)):
            key = ranked[at % len(ranked)]
            given[key] += 1 if left > 0 else -1
        # Debts of those that left the round are forgotten, so that none is paid much later.
        self._owed = {key: ideal[key] - given[key] for key in ideal}
        return {key: share for key, share in given.items() if share > 0}
