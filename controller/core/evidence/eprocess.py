# SPDX-License-Identifier: Apache-2.0
"""Test martingales by betting: the formulas and nothing else.

A process starts with 1 and bets on alternatives. Under the hypothesis that the canary is not worse,
its expected value never grows, whatever the times of looking, the split or the drift common to both
tracks; so it exceeds 1/alpha with probability alpha at most (Ville's inequality).

Relative bet, for n requests and e errors of canary (c) and stable (s), H0: p_c <= r0 p_s + m::

    b = (n_c r0 + n_s) / (n_c r0 theta + n_s);  a = theta b
    log e_theta = e_c log a + e_s log b - n_c m (a - 1)
                = e_c log theta + (e_c + e_s) log b - n_c m (a - 1)

It conditions on the total of errors, so stable's true rate need not be known (Lindon and Malek,
NeurIPS 2022, have the idea; the one-sided mixture over theta is ours). E[e] <= 1 follows from
1 + x <= exp(x); tests/core/evidence/ enumerates it.

Absolute bet, H0: P(error | past) <= x, a plain Bernoulli likelihood ratio::

    log e_q = e log(q/x) + (n - e) log((1 - q)/(1 - x))

Bet on a limit that stable shares, H0: p_c <= r0 p_s + m, for g = q/x - 1 with o g < 1::

    o = n_c r0/n_s;  log e_q = e_c log(1 + g) + e_s log(1 - o g) - n_c m g

It is the relative bet with other stakes: those by which an absolute limit is left the soonest while
stable has hardly any errors. By 1 + x <= exp(x), E[e] <= exp(n_c g (p_c - r0 p_s - m)).

Money is kept relative to the logarithm of a scale that goes with it: a run of any length neither
overflows nor loses more than what has become worthless.
"""

import functools
import math
import operator
from collections.abc import Iterable, Sequence

import msgspec

RATIOS = (1.4, 2.0, 3.0, 4.5, 7.0, 12.0, 25.0, 60.0)
"""Alternatives of the relative bet, as multiples of the tolerated rate."""

EXCESSES = (1.5, 2.0, 3.0, 5.0, 8.0, 16.0, 32.0, 64.0)
"""Alternatives of the absolute bet, as multiples of the limit."""

MOST_AT_STAKE = 0.9
"""So much of o g, or one error of stable would take all of the money."""

FIRST_BET = 0.8
"""Share that is bet from the first interval on; the rest is kept for regressions that come late."""

WEIGHT_CHANGE_BET = 0.25
"""Share of the reserve that is bet anew at a weight change, where regressions tend to begin."""


class Process(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One mixture.

    Attributes:
        bets: The money on each alternative, in units of exp(scale).
        scale: See there.
        cash: Natural logarithm of the reserve.
    """

    bets: tuple[float, ...]
    scale: float
    cash: float

    @property
    def at_stake(self) -> float:
        """Logarithm of the money on all alternatives."""
        total = sum(self.bets)
        return self.scale + math.log(total) if total else -math.inf


LEAST_UNIT = 1e-150
"""Money that has shrunk so far is counted in another unit before it gets lost."""

MOST_UNITS = 300.0
"""Logarithm of how much more than a fresh bet the others may be, or less."""


def log_sum(terms: Iterable[float]) -> float:
    """Logarithm of a sum of exponentials, without overflow."""
    values = list(terms)
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return top
    exp = math.exp
    return top + math.log(sum([exp(value - top) for value in values]))


def fresh(alternatives: int) -> Process:
    """A process that has seen nothing: its value is 1."""
    return Process(
        bets=(1.0,) * alternatives,
        scale=math.log(FIRST_BET / alternatives),
        cash=math.log(1 - FIRST_BET),
    )


def mixed(weights: Sequence[float], processes: Sequence[Process], waiting: float) -> float:
    """Logarithm of a weighted mean of all their money.

    Args:
        weights: Of each process.
        processes: In the same order.
        waiting: Weight of those that have not begun, whose money is 1.
    """
    exp = math.exp
    unit = max([process.scale for process in processes] + [process.cash for process in processes])
    total = 0.0
    if waiting:
        unit = max(unit, 0.0)
        total = waiting * exp(-unit)
    for weight, process in zip(weights, processes, strict=True):
        staked = exp(process.scale - unit) * sum(process.bets)
        total += weight * (staked + exp(process.cash - unit))
    return unit + math.log(total) if total else -math.inf


def value(process: Process) -> float:
    """Logarithm of all its money: the evidence."""
    bets, cash = process.at_stake, process.cash
    if bets > cash:
        return bets + math.log1p(math.exp(cash - bets))
    return cash + math.log1p(math.exp(bets - cash))


class Payout(msgspec.Struct, frozen=True):
    """What one interval makes of the money on each alternative.

    Attributes:
        factors: What each bet is multiplied with, the largest one 1.
        unit: Natural logarithm of what all are multiplied with on top of it.
    """

    factors: Sequence[float]
    unit: float


def payout(scores: Sequence[float], eta: float) -> Payout:
    """What an interval pays.

    Args:
        scores: log e for each alternative.
        eta: 1/phi, the tempering for clustered errors (e to the power eta is an e-value as well).
    """
    top, exp = max(scores), math.exp
    return Payout([exp(eta * (score - top)) for score in scores], eta * top)


def advance(process: Process, paid: Payout, rate: float) -> Process:
    """Bet the share `rate` of the reserve anew, then settle one interval.

    So each alternative goes into the interval with money, whatever the one before has left of it.
    """
    bets: Sequence[float] = process.bets
    scale = process.scale
    fresh = process.cash + math.log(rate / len(bets))
    if abs(fresh - scale) > MOST_UNITS:
        most = max(bets) or 1.0
        # What bets have beyond it decides nothing any more. It is given away, or it would drown the
        # share of the others, and they be without money when this is lost.
        top = min(scale + math.log(most), fresh + MOST_UNITS)
        scale = max(top, fresh)
        bets = [bet / most * math.exp(top - scale) for bet in bets]
    share = math.exp(fresh - scale)
    settled = [(bet + share) * factor for bet, factor in zip(bets, paid.factors, strict=True)]
    # One of the factors is 1, so that what is left is as much as the share at least.
    if share < LEAST_UNIT and (most := max(settled)) < LEAST_UNIT:
        settled, scale = [bet / most for bet in settled], scale + math.log(most)
    return Process(
        bets=tuple(settled), scale=scale + paid.unit, cash=process.cash + math.log1p(-rate)
    )


def put(process: Process, rate: float) -> Process:
    """Move the share `rate` of the reserve onto the alternatives: a bet that starts now."""
    return advance(process, Payout((1.0,) * len(process.bets), 0.0), rate)


NEWTON_STEPS = 4
CLOSE = 1e-8
"""More steps, or shorter ones, would change a margin by less than anybody reads."""


def edge(sums: Sequence[float], slopes: Sequence[float], needed: float) -> float:
    """The margin m at which sum_j exp(sums_j + slopes_j m) is exp(needed).

    All slopes have one sign. One term alone gets there at the margin that is begun with; Newton's
    steps go from it toward the one of all of them together and never pass it, since the logarithm
    of the sum is convex in the margin: what is returned errs on the cautious side.
    """
    alone = [(needed - known) / slope for known, slope in zip(sums, slopes, strict=True)]
    margin = min(alone) if slopes[0] > 0 else max(alone)
    for _ in range(NEWTON_STEPS):
        terms = [known + slope * margin for known, slope in zip(sums, slopes, strict=True)]
        top = max(terms)
        parts = [math.exp(term - top) for term in terms]
        total = sum(parts)
        steep = sum(map(operator.mul, parts, slopes)) / total
        step = (top + math.log(total) - needed) / steep
        margin -= step
        if abs(step) < CLOSE:
            break
    return margin


def shrunk(process: Process, log_factor: float) -> Process:
    """Give money on bets away; the reserve stays. Losing money never breaks the promise."""
    return Process(bets=process.bets, scale=process.scale + log_factor, cash=process.cash)


_LOGS = tuple(math.log(ratio) for ratio in RATIOS)


def relative(
    canary: tuple[float, float], stable: tuple[float, float], tolerance: float, margin: float
) -> Sequence[float] | None:
    """Log e of the relative bet for each alternative ratio.

    None where one track has no requests and nothing can be compared.

    Args:
        canary: (errors, requests) of the canary.
        stable: The same of stable.
        tolerance: r0.
        margin: m.
    """
    (bad_c, total_c), (bad_s, total_s) = canary, stable
    if total_c <= 0 or total_s <= 0:
        return None
    scaled, bad, log = total_c * tolerance, bad_c + bad_s, math.log
    total, toll = scaled + total_s, total_c * margin
    losses = [log(total / (scaled * ratio + total_s)) for ratio in RATIOS]
    scores = [bad_c * known + bad * loss for known, loss in zip(_LOGS, losses, strict=True)]
    if toll:
        gains = [math.expm1(known + loss) for known, loss in zip(_LOGS, losses, strict=True)]
        scores = [score - toll * gain for score, gain in zip(scores, gains, strict=True)]
    return scores


def _rates(limit: float) -> list[float]:
    """The alternatives of a limit."""
    return [limit * excess for excess in EXCESSES if limit * excess < 0.98] or [(1 + limit) / 2]


@functools.lru_cache(maxsize=64)
def alternatives(limit: float) -> tuple[tuple[float, float], ...]:
    """The absolute bet's terms: (worth of an error, worth of a good answer) per alternative."""
    return tuple(
        (math.log(rate / limit), math.log1p(-rate) - math.log1p(-limit)) for rate in _rates(limit)
    )


@functools.lru_cache(maxsize=64)
def _stakes(limit: float) -> tuple[tuple[float, float], ...]:
    """The same alternatives where stable shares the limit: (g, worth of an error) of each."""
    stakes = [rate / limit - 1 for rate in _rates(limit)]
    return tuple((stake, math.log1p(stake)) for stake in stakes)


_STAKED = math.log1p(-MOST_AT_STAKE)
"""What an error of stable leaves of a bet with the most at stake, as a logarithm."""


def absolute(limit: float, bad: float, requests: int) -> Sequence[float]:
    """Log e of the absolute bet for each alternative rate."""
    good = max(requests - bad, 0)
    return [bad * gain + good * loss for gain, loss in alternatives(limit)]


def beyond(
    limit: float,
    canary: tuple[float, int],
    stable: tuple[int, int],
    *,
    tolerance: float,
    margin: float,
) -> Sequence[float]:
    """Log e of the bet on a limit that stable shares, for each alternative rate.

    Args:
        limit: x, of which the alternatives are multiples.
        canary: (bad, requests) of the canary.
        stable: The same of stable, which has served some.
        tolerance: r0.
        margin: m, known before the interval.
    """
    (bad_c, total_c), (bad_s, total_s) = canary, stable
    odds, toll, log1p = total_c * tolerance / total_s, total_c * margin, math.log1p
    most = MOST_AT_STAKE / odds
    boldest = bad_c * log1p(most) + bad_s * _STAKED - toll * most
    return [
        bad_c * gain + bad_s * log1p(-odds * stake) - toll * stake if stake < most else boldest
        for stake, gain in _stakes(limit)
    ]
