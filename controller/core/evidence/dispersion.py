# SPDX-License-Identifier: Apache-2.0
"""How much stable's errors cluster: phi, by which all evidence is divided.

A retry storm or a bad pod makes errors come in bunches, and a test that takes them for independent
rolls healthy versions back. Stable's own history shows the bunching: the variance of error counts
is held against what chance alone would give, over blocks of 1, 2, 4 ... scrapes, since bunching may
be slow, up to the length of the run that is to be judged. The largest ratio counts, widened by one
standard error for how little was seen.

Within a block the errors are shared out by traffic between groups (pods; without pod labels two
neighbouring stretches of time), so what moves all groups alike cancels. With k errors in a block b
of n requests, of which the group i has k_i and n_i::

    seen_b = sum_i (k_i - k w_i)^2;  chance_b = sum_i k w_i (1 - w_i);  w_i = n_i / n
    phi_L = sum_b seen_b / sum_b chance_b * (1 + sqrt(2 sum_b chance_b^2 / df_b) / sum_b chance_b)

This is the pooled form of Pearson's chi-square over its degrees of freedom (specification, 1.5);
pooling gives blocks with many errors their due, where a mean of ratios would be swamped by blocks
with a single one. Where the blocks' chances are as their degrees of freedom the widening is
sqrt(2 / df), with df of all of them; where a storm makes one block outweigh the rest, it is more.

Without pod labels an incident that all share looks like bunching too, by hundreds where two
stretches lie on either side of its beginning, and evidence divided by hundreds sees nothing any
more. The two differ in how many neighbouring scrapes they part: bunches nearly all, a level that
moves a few, which count here as what is usual. So what neighbouring scrapes show is believed
whatever it is, and what only longer stretches, or a few, show up to a bound. Healthy versions in
such pasts are rolled back no more often (`make bench-evidence ARGS=noise`).
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

Count: TypeAlias = tuple[int, int]
"""(requests, bad answers) of one scrape interval."""

LEAST_ERRORS = 20
"""Fewer errors than this say nothing about how they cluster."""

LEAST_GROUPS = 20
"""Degrees of freedom that a block length needs; fewer would only measure the widening."""

LEAST_PAIRS = 14
"""The same for times without pod labels: an hour has as many at two minutes, and no more. What
moves a single pod may last as long, and shows in shorter stretches hardly at all."""

MOST_MOVED = 20.0
"""Without pod labels, what only longer stretches of time show counts up to this."""

UNUSUAL = 4.0
"""There two neighbouring scrapes count up to so many times the usual: two standard deviations."""

MEDIAN_SQUARE = 0.4549
"""Median of chi-square with one degree of freedom."""


def phi(
    rows: Mapping[str, Sequence[Count]],
    run: int | None = None,
    *,
    pairs: int = LEAST_GROUPS,
    few: bool = False,
) -> float | None:
    """Phi from counts per scrape interval, at least 1; None where too little was seen.

    Args:
        rows: For each pod (or one entry for the whole) its counts, oldest first; the newest ones of
            all pods stand for the same time.
        run: Intervals that the run is planned to last; None: longer than any history. What takes
            longer to show than that is no noise within it.
        pairs: Degrees of freedom that a block length needs where there are no pods.
        few: Whether a block length may have as few degrees of freedom as there are.
    """
    length = min((len(row) for row in rows.values()), default=0)
    if sum(count[1] for row in rows.values() for count in row) < LEAST_ERRORS:
        return None
    even = [list(row)[-length:] for row in rows.values()]
    groups = [_groups(even, size) for size in _sizes(length, run)]
    least = 1 if few else pairs if len(even) == 1 else LEAST_GROUPS
    found = [ratio for one in groups if (ratio := _ratio(one, least)) is not None]
    if not found:
        return None
    if len(even) == 1:
        bunched = _ratio(_usual(groups[0]), least) or 1.0
        found = [bunched, *(min(ratio, MOST_MOVED) for ratio in found)]
    return math.ceil(max(1.0, *found) * 100) / 100


def _sizes(length: int, run: int | None) -> Iterator[int]:
    """Block lengths: powers of two, and the first one that a run does not exceed as the last."""
    size = 1
    while size <= length:
        yield size
        if run is not None and size >= run:
            return
        size *= 2


class _Group(NamedTuple):
    """One block: how far its errors are from being shared out, how far chance takes them, df."""

    seen: float
    chance: float
    degrees: int


def _groups(rows: Sequence[Sequence[Count]], size: int) -> list[_Group]:
    """The blocks of this length that had errors."""
    blocks = [list(_blocks(row, size)) for row in rows]
    if len(rows) == 1:
        blocks = [blocks[0][::2][: len(blocks[0]) // 2], blocks[0][1::2]]
    found = []
    for group in zip(*blocks, strict=True):
        total, errors = (sum(column) for column in zip(*group, strict=True))
        if not total or not errors:
            continue
        shares = [requests / total for requests, _ in group]
        pairs = zip(shares, group, strict=True)
        seen = sum((bad - errors * share) ** 2 for share, (_, bad) in pairs)
        chance = sum(errors * share * (1 - share) for share in shares)
        degrees = sum(1 for requests, _ in group if requests) - 1
        found.append(_Group(seen, chance if degrees else 0.0, degrees))
    return found


def _usual(groups: Sequence[_Group]) -> list[_Group]:
    """The same with what is unusual cut down."""
    ratios = [group.seen / group.chance for group in groups if group.chance]
    if not ratios:
        return []
    most = UNUSUAL * max(statistics.median(ratios) / MEDIAN_SQUARE, 1.0)
    return [group._replace(seen=min(group.seen, most * group.chance)) for group in groups]


def _ratio(groups: Sequence[_Group], least: int) -> float | None:
    """Phi at one block length; None where too few blocks had errors."""
    expected = sum(group.chance for group in groups)
    if sum(group.degrees for group in groups) < least or not expected:
        return None
    seen = sum(group.seen for group in groups)
    unevenness = sum(group.chance**2 / group.degrees for group in groups if group.degrees)
    # Where a storm makes one block outweigh the rest, less was seen than the blocks' number says.
    return seen / expected * (1 + math.sqrt(2 * unevenness) / expected)


def _blocks(row: Sequence[Count], size: int) -> Iterator[Count]:
    for begin in range(0, len(row) - size + 1, size):
        block = row[begin : begin + size]
        yield sum(count[0] for count in block), sum(count[1] for count in block)
