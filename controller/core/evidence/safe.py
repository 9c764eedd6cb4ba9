# SPDX-License-Identifier: Apache-2.0
"""Proof that the canary is no worse than stable by more than a margin: what a promotion rests on.

The mirror image of `eprocess`: a bet against H0: p_c >= p_s + m, for every margin m at once. With n
requests and e errors of canary (c) and stable (s), for a bet a below 1::

    log e_a(m) = e_c log a + e_s log(1 + n_c/n_s (1 - a)) + n_c m (1 - a)

E[e] <= exp(n_c (1 - a) (p_s + m - p_c)) <= 1 by 1 + x <= exp(x), for any p_s and any split. The
margin stands in the last term alone, and that term is a sum of requests: so two sums for each bet
answer for all margins, and the smallest margin that is refuted is an upper bound on how much worse
the canary is, right with probability 1 - beta at every look (the hypotheses are nested).

A latency limit of the policy is held against the canary alone, which is the same bet with p_s = 0
and m the largest share that may be slower. (The specification, 1.10, compares with stable here as
well; but in the bake stable has 5 % of the requests, and a share of slow answers is so much larger
than one of errors that those few would leave healthy versions unproven for hours.)
"""

import math
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from controller.core.evidence.eprocess import edge, log_sum

BETS: Final = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98)
"""The last ones are for the bake, where stable's few errors stand for many."""

SLOW_BETS: Final = (0.05, 0.2, 0.4, 0.65)
"""Fewer, since a limit is held against the canary's many answers alone."""

MOST_OPEN: Final = 12
"""So many intervals of the canary wait for stable; what is older may be of another time of day."""


class Proof(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What has been seen in favour of the canary; begins anew where its promise begins anew.

    Attributes:
        sums: For each bet the logarithms settled so far, without the margin's term.
        requests: The canary's requests behind them, tempered as they are.
        open: (errors, requests, intervals) of the canary that wait for a next request of stable,
            with which they are settled: late in a run stable answers few.
    """

    sums: tuple[float, ...] = (0.0,) * len(BETS)
    requests: float = 0.0
    open: tuple[int, int, int] = (0, 0, 0)

    def settled(self, canary: tuple[int, int], stable: tuple[int, int], eta: float) -> "Proof":
        """After one more interval.

        Args:
            canary: (errors, requests) of the canary.
            stable: The same of stable.
            eta: 1/phi, the tempering for clustered errors.
        """
        bad_c, total_c = self.open[0] + canary[0], self.open[1] + canary[1]
        bad_s, total_s = stable
        if total_c <= 0:
            return self
        if total_s <= 0:
            waited = self.open[2] + 1
            return replace(
                self, open=(bad_c, total_c, waited) if waited <= MOST_OPEN else (0, 0, 0)
            )
        odds, sums = total_c / total_s, self.sums
        if bad_c or bad_s:
            sums = tuple(
                [
                    known + eta * (bad_c * log_bet + bad_s * math.log1p(odds * left))
                    for known, (log_bet, left) in zip(sums, _TERMS, strict=True)
                ]
            )
        return Proof(sums=sums, requests=self.requests + eta * total_c)

    def log_evidence(self, margin: float) -> float:
        """Natural logarithm of the evidence that the canary is within `margin` of stable."""
        return _mean(self._parts(margin))

    def proves(self, margin: float, needed: float) -> bool:
        """Whether that evidence is as much as needed, a natural logarithm."""
        return _suffices(self._parts(margin), needed)

    def bound(self, beta: float) -> float:
        """How much larger than stable's the canary's share of errors is at most: 0..1.

        Wrong at any look of a run with probability `beta` at most.
        """
        return _bound(self.sums, self.requests, beta, _TERMS)

    def _parts(self, margin: float) -> Sequence[float]:
        """What each bet says at this margin, as natural logarithms."""
        owed = self.requests * margin
        return [known + owed * left for known, (_, left) in zip(self.sums, _TERMS, strict=True)]


class Timely(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The same about one latency limit, which is not compared with stable.

    Attributes:
        seconds: The bucket bound that it is proven at; 0: there is none.
        slow: The canary's answers that took longer, tempered.
        requests: All that were timed, tempered.
    """

    seconds: float
    slow: float = 0.0
    requests: float = 0.0

    def settled(self, slow: int, timed: int, eta: float) -> "Timely":
        """After one more interval with so many slow ones of so many answers; `eta` is 1/phi."""
        return Timely(
            seconds=self.seconds,
            slow=self.slow + eta * slow,
            requests=self.requests + eta * timed,
        )

    def log_evidence(self, share: float) -> float:
        """Natural logarithm of the evidence that no more than this share is slow."""
        return _mean(self._parts(share))

    def proves(self, share: float, needed: float) -> bool:
        """Whether that evidence is as much as needed, a natural logarithm."""
        return _suffices(self._parts(share), needed)

    def bound(self, beta: float) -> float:
        """How large the share of slow answers is at most, wrong with probability `beta` at most."""
        sums = [self.slow * log_bet for log_bet, _ in _SLOW_TERMS]
        return _bound(sums, self.requests, beta, _SLOW_TERMS)

    def _parts(self, share: float) -> Sequence[float]:
        slow, owed = self.slow, self.requests * share
        return [slow * log_bet + owed * left for log_bet, left in _SLOW_TERMS]


_Terms = tuple[tuple[float, float], ...]


def _terms(bets: tuple[float, ...]) -> _Terms:
    return tuple((math.log(bet), 1 - bet) for bet in bets)


_TERMS: Final = _terms(BETS)
_SLOW_TERMS: Final = _terms(SLOW_BETS)

NOTHING: Final = Proof()
"""Before the first request."""


def _mean(parts: Sequence[float]) -> float:
    return log_sum(parts) - math.log(len(parts))


def _suffices(parts: Sequence[float], needed: float) -> bool:
    """Mostly one bet alone says it."""
    return max(parts) >= needed + math.log(len(parts)) or _mean(parts) >= needed


def _bound(sums: Sequence[float], requests: float, beta: float, terms: _Terms) -> float:
    if not requests:
        return 1.0
    slopes = [requests * left for _, left in terms]
    margin = edge(sums, slopes, math.log(len(terms) / beta))
    return min(max(margin, 0.0), 1.0)
