# SPDX-License-Identifier: Apache-2.0
"""By how much the canary is worse at least: the other end of the interval that `safe` has one of.

A bet against H0: p_c <= p_s + m, for every margin m at once, also a negative one. With n requests
and e errors of canary (c) and stable (s), o = n_c/n_s, and a bet g with o g < 1::

    log e_g(m) = e_c log(1 + g) + e_s log(1 - o g) - n_c m g

E[e] <= exp(n_c g (p_c - p_s - m)) <= 1 by 1 + x <= exp(x). The largest margin that is refuted is a
lower bound on the difference of the two shares, right with probability 1 - beta at every look. It
decides nothing: it is there for people.
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from controller.core.evidence.eprocess import edge

STAKES: Final = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
"""Bets are so large a part of what the split allows, 1/o."""

LARGEST_BET: Final = 60.0

_TERMS: Final = tuple((math.log1p(-stake), stake) for stake in STAKES)
"""What an error of stable is worth where no bet is too large, and the stake."""


class Excess(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What has been seen of the difference at the present weight.

    Attributes:
        sums: For each bet the logarithms settled so far, without the margin's term.
        owed: For each bet what the margin is multiplied with.
    """

    sums: tuple[float, ...] = (0.0,) * len(STAKES)
    owed: tuple[float, ...] = (0.0,) * len(STAKES)

    def settled(self, canary: tuple[int, int], stable: tuple[int, int], eta: float) -> "Excess":
        """After one more interval; (errors, requests) of each, and eta = 1/phi."""
        (bad_c, total_c), (bad_s, total_s) = canary, stable
        if total_c <= 0 or total_s <= 0:
            return self
        odds, sums = total_c / total_s, self.sums
        terms: Sequence[tuple[float, float]] = _TERMS
        if STAKES[-1] > LARGEST_BET * odds:
            stakes = [min(stake, LARGEST_BET * odds) for stake in STAKES]
            terms = [(math.log1p(-stake), stake) for stake in stakes]
        if bad_c or bad_s:
            sums = tuple(
                [
                    known + eta * (bad_c * math.log1p(stake / odds) + bad_s * loss)
                    for known, (loss, stake) in zip(sums, terms, strict=True)
                ]
            )
        worth = eta * total_s
        owed = [known + worth * stake for known, (_, stake) in zip(self.owed, terms, strict=True)]
        return Excess(sums=sums, owed=tuple(owed))

    def bound(self, beta: float) -> float:
        """How much larger than stable's the canary's share of errors is at least: -1..1."""
        if not all(self.owed):
            return -1.0
        slopes = [-owed for owed in self.owed]
        margin = edge(self.sums, slopes, math.log(len(STAKES) / beta))
        return min(max(margin, -1.0), 1.0)


NONE: Final = Excess()
"""Before the first request."""
