# SPDX-License-Identifier: Apache-2.0
"""The latency bet: is the canary's histogram the slower one, judged over all of its bounds at once.

For a vector r of ratios that was fixed before the interval, with c_b and s_b the requests of canary
and stable in cell b of the histogram, n_c and n_s their sums and r0 the tolerance::

    w = n_c r0 / (n_c r0 + n_s)
    log e = sum_b c_b log(r_b) - (c_b + s_b) log(1 + w (r_b - 1))

H0: the share of requests slower than any bound is at most r0 times stable's. For r that never falls
from cell to cell, and is at least 1 where r0 > 1, E[e] <= 1 whatever stable's distribution is and
however it drifts: by 1 + x <= exp(x) the exponent is a sum of terms g_b (p_c,b - r0 p_s,b) with g
not falling either, and so is at most 0. tests/core/evidence/ enumerates it.

Time-outs come in bunches where other answers do not, and each r that never falls bets on them. So
alternatives on the cells far out alone are divided by the phi of those. Of the others that would
leave nothing; there only what the cells far out, all together, say against the canary is divided by
it. What they say for it is not: so e is at most what it would be without, and as valid.

Which r are bet on is a question of power alone. They say what stable's own histogram would look
like if everything took 1.25 times as long, or if one request in a hundred fell into the tail or
hung; so the bet learns from one histogram of the past and needs no model of it.
"""

import functools
import math
import operator
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, TypeAlias

SCALES: Final = (1.1, 1.25, 1.6, 2.5, 5.0)
"""Everything takes so many times as long."""

TAILS: Final = (0.003, 0.01, 0.04, 0.15)
"""So large a share falls above the 99th percentile instead."""

HANGS: Final = (0.002, 0.01, 0.05)
"""So large a share falls into the last cells instead: time-outs."""

HANG_CELLS: Final = 3
TAIL_BEGINS: Final = 0.99

MOST_CELLS: Final = 15
"""More bounds add little and cost time and state."""

BEYOND_SLOWEST: Final = 5
"""So many bounds above the slowest answers of the past are kept: something may get slower."""

LEAST_SEEN: Final = 200
"""Requests of stable that a histogram needs before it says where stable's answers fall."""

LEAST_IN_CELL: Final = 25
"""Cells with fewer share a ratio where everything is slower, or chance would shape the bet."""

LEAST_SHARE: Final = 2e-5
LARGEST_RATIO: Final = 50.0


Column: TypeAlias = tuple[int, tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All alternatives, cell by cell: most intervals leave many cells empty.

    Attributes:
        size: How many alternatives there are.
        columns: For each cell that one of them is about: its index, the natural logarithm of each
            alternative's ratio there, and the ratios less 1. The latter end with the last one that
            is about the cell: alternatives on the tail alone come last, and cells before are many.
    """

    size: int
    columns: tuple[Column, ...]


def thinned(bounds: Sequence[float], past: Iterable[tuple[float, int]] = ()) -> tuple[float, ...]:
    """At most `MOST_CELLS` of the ascending bounds, spread evenly, first and last included.

    Where there are more, those that nothing of the past lies near are left out first: below its
    fastest answers, and further above its slowest than a time-out is.
    """
    if len(bounds) <= MOST_CELLS:
        return tuple(bounds)
    counts = dict(past)
    whole = max(counts.values(), default=0)
    if whole:
        empty = [bound for bound in bounds[:-1] if not counts.get(bound, 0)]
        beyond = [bound for bound in bounds[:-1] if counts.get(bound, 0) == whole]
        left_out = {*empty[:-1], *beyond[BEYOND_SLOWEST:]}
        return thinned([bound for bound in bounds if bound not in left_out])
    last = len(bounds) - 1
    return tuple(bounds[round(place * last / (MOST_CELLS - 1))] for place in range(MOST_CELLS))


def enough(past: Sequence[int]) -> bool:
    """Whether stable's answers in each cell are enough to say where they fall."""
    return sum(past) >= LEAST_SEEN


def cells(buckets: Sequence[tuple[float, int]], bounds: Sequence[float]) -> tuple[int, ...] | None:
    """Requests of each cell, from cumulative counts; None if a bound is not among the buckets."""
    uppers, counts = zip(*buckets, strict=True) if buckets else ((), ())
    if uppers != bounds:
        known = dict(buckets)
        if not all(bound in known for bound in bounds):
            return None
        counts = tuple([known[bound] for bound in bounds])
    inside = tuple(map(operator.sub, counts, (0, *counts)))
    # Counts that fall from bound to bound are no histogram, and say nothing there.
    return inside if min(inside, default=0) >= 0 else tuple([max(count, 0) for count in inside])


@functools.lru_cache(maxsize=1024)  # One for each run that is under way.
def family(bounds: tuple[float, ...], past: tuple[int, ...], tolerance: float) -> Family:
    """The alternatives, from where stable's answers fell in the past.

    Args:
        bounds: Upper bounds of the cells in seconds, the last one infinite.
        past: Stable's requests in each cell.
        tolerance: r0.
    """
    shares = _shares(past)
    vectors = [*_scaled(bounds, past)]
    above = next(
        place for place, sum_ in enumerate(accumulate(shares), 1) if sum_ >= TAIL_BEGINS - 1e-9
    )
    above = min(above, len(shares) - 1)
    vectors += [_moved(shares, above, extra) for extra in TAILS]
    last = max(len(shares) - HANG_CELLS, 1)
    vectors += [_moved(shares, last, extra) for extra in HANGS]
    rows = zip(*(_bounded(vector, tolerance) for vector in vectors), strict=True)
    columns = tuple(
        (
            place,
            tuple(math.log(ratio) for ratio in ratios),
            tuple(ratio - 1.0 for ratio in ratios[:concerned]),
        )
        for place, ratios in enumerate(rows)
        if (concerned := max((at for at, ratio in enumerate(ratios, 1) if ratio != 1.0), default=0))
    )
    return Family(size=len(vectors), columns=columns)


def scores(
    bets: Family,
    canary: Sequence[int],
    stable: Sequence[int],
    tolerance: float,
    *,
    far: int = 0,
    worth: float = 1.0,
) -> Sequence[float] | None:
    """Log e of each bet for one interval; None where one track answered nothing.

    Args:
        bets: The alternatives.
        canary: Its answers in each cell.
        stable: The same of stable.
        tolerance: r0.
        far: The first cell that is far out.
        worth: What answers there count for, 0..1.
    """
    total_c, total_s = sum(canary), sum(stable)
    if total_c <= 0 or total_s <= 0:
        return None
    weight = total_c * tolerance / (total_c * tolerance + total_s)
    if worth >= 1.0:
        return _summed(bets.columns, bets.size, canary, stable, weight)
    split = bisect_left(bets.columns, (far,))
    mixed = max((len(gains) for *_, gains in bets.columns[:split]), default=0)
    near = _summed(bets.columns[:split], bets.size, canary, stable, weight)
    beyond = _summed(bets.columns[split:], bets.size, canary, stable, weight)
    return [
        known + min(more, worth * more) if place < mixed else worth * more
        for place, (known, more) in enumerate(zip(near, beyond, strict=True))
    ]


def _summed(
    columns: Sequence[Column],
    size: int,
    canary: Sequence[int],
    stable: Sequence[int],
    weight: float,
) -> list[float]:
    found, log = [0.0] * size, math.log
    for place, logs, gains in columns:
        in_c = canary[place]
        if both := in_c + stable[place]:
            found[: len(gains)] = [
                known + in_c * worth - both * log(1.0 + weight * gain)
                for known, worth, gain in zip(found, logs, gains, strict=False)
            ]
    return found


def worst(
    bounds: Sequence[float], canary: Sequence[int], stable: Sequence[int]
) -> tuple[float, tuple[int, int], tuple[int, int]]:
    """The bound at which the canary is most clearly the slower one, for people.

    Returns the bound with (slower, requests) of canary and stable; what is told is chosen by the
    standard score of the difference, and no verdict depends on it.
    """
    total_c, total_s = sum(canary), sum(stable)
    best, chosen = -math.inf, (bounds[0], (0, total_c), (0, total_s))
    slow_c, slow_s = total_c, total_s
    for bound, in_c, in_s in zip(bounds[:-1], canary, stable, strict=False):
        slow_c, slow_s = slow_c - in_c, slow_s - in_s
        pooled = (slow_c + slow_s + 1) / (total_c + total_s + 2)
        spread = math.sqrt(pooled * (1 - pooled) * (1 / max(total_c, 1) + 1 / max(total_s, 1)))
        score = (slow_c / max(total_c, 1) - slow_s / max(total_s, 1)) / spread
        if score > best:
            best, chosen = score, (bound, (slow_c, total_c), (slow_s, total_s))
    return chosen


def _shares(past: Sequence[int]) -> list[float]:
    """Stable's share of each cell; one that was empty could have had half a request (Laplace)."""
    total = sum(past) + 0.5 * len(past)
    return [max((count + 0.5) / total, LEAST_SHARE) for count in past]


def _scaled(bounds: Sequence[float], past: Sequence[int]) -> Iterator[list[float]]:
    """The ratios if everything took longer, by logit F as a line between logarithms of bounds.

    Cells of few counts share one ratio: that of all of them together.
    """
    groups = _grouped(past)
    shares = _shares([sum(past[place] for place in group) for group in groups])
    total = sum(shares)
    uppers = [math.log(bounds[group[-1]]) for group in groups[:-1]]
    below = list(accumulate(share / total for share in shares))[:-1]
    logits = [math.log(part / (1 - part)) for part in below]
    if len(uppers) < 2:
        return
    for scale in SCALES:
        shifted = [_logistic(_line(uppers, logits, at - math.log(scale))) for at in uppers]
        parts = [late - early for early, late in pairwise([0.0, *shifted, 1.0])]
        ratios = [
            max(part, 1e-12) * total / share for part, share in zip(parts, shares, strict=True)
        ]
        spread = [0.0] * len(past)
        for group, ratio in zip(groups, ratios, strict=True):
            for place in group:
                spread[place] = ratio
        yield spread


def _grouped(past: Sequence[int]) -> list[list[int]]:
    """Neighbouring cells, together at least `LEAST_IN_CELL`; a poor rest joins those before."""
    groups: list[list[int]] = []
    open_, seen = [], 0
    for place, count in enumerate(past):
        open_.append(place)
        seen += count
        if seen >= LEAST_IN_CELL:
            groups.append(open_)
            open_, seen = [], 0
    if open_ and groups:
        groups[-1] = [*groups[-1], *open_]
    elif open_:
        groups.append(open_)
    return groups


def _line(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """The broken line through the points; beyond the ends the outer pieces go on."""
    place = min(max(sum(1 for known in xs if known <= x), 1), len(xs) - 1)
    x0, x1, y0, y1 = xs[place - 1], xs[place], ys[place - 1], ys[place]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _moved(shares: Sequence[float], first: int, extra: float) -> list[float]:
    """The ratios if `extra` of all requests were spread evenly over the cells from `first` on."""
    each = extra / (len(shares) - first)
    return [
        1 - extra + (each / share if place >= first else 0.0) for place, share in enumerate(shares)
    ]


def _bounded(vector: Sequence[float], tolerance: float) -> Iterator[float]:
    """The ratios as the proof needs them: bounded, never falling, at least 1 with a tolerance."""
    least = 1.0 if tolerance > 1 else 1 / LARGEST_RATIO
    return accumulate((min(max(r, least), LARGEST_RATIO) for r in vector), max)
