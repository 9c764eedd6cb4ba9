# SPDX-License-Identifier: Apache-2.0
"""How much stable's errors cluster: phi, by which all evidence is divided.

A retry storm or a bad pod makes errors come in bunches, and a test that takes them for independent
rolls healthy versions back. Stable's own history shows the bunching: the variance of error counts
is held against what chance alone would give, over blocks of 1, 2, 4 ... scrapes, since bunching may
be slow, up to the length of the run that is to be judged. The largest ratio counts, widened by
sqrt(2/df) for how little was seen.

Within a block the errors are shared out by traffic between groups (pods; without pod labels two
neighbouring stretches of time), so what moves all groups alike cancels::

    phi_L = sum (E_i - k w_i)^2 / sum k w_i (1 - w_i) * (1 + sqrt(2 / df)),  w_i = N_i / N

This is the pooled form of Pearson's chi-square over its degrees of freedom; pooling gives blocks
with many errors their due, where a mean of ratios would be swamped by blocks with a single one.
Without pod labels drift looks like bunching: phi comes out larger, which is the safe side.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

Count: TypeAlias = tuple[int, int]
"""(requests, bad answers) of one scrape interval."""

LEAST_ERRORS = 20
"""Fewer errors than this say nothing about how they cluster."""

LEAST_GROUPS = 20
"""Degrees of freedom that a block length needs; fewer would only measure the widening."""


def phi(rows: Mapping[str, Sequence[Count]], run: int | None = None) -> float | None:
    """Phi from counts per scrape interval, at least 1; None where too little was seen.

    Args:
        rows: For each pod (or one entry for the whole) its counts, oldest first; the newest ones of
            all pods stand for the same time.
        run: Intervals that the run is planned to last; None: longer than any history. What takes
            longer to show than that is no noise within it.
    """
    length = min((len(row) for row in rows.values()), default=0)
    if sum(count[1] for row in rows.values() for count in row) < LEAST_ERRORS:
        return None
    even = [list(row)[-length:] for row in rows.values()]
    found = [ratio for size in _sizes(length, run) if (ratio := _ratio(even, size)) is not None]
    return math.ceil(max(1.0, *found) * 100) / 100 if found else None


def _sizes(length: int, run: int | None) -> Iterator[int]:
    """Block lengths: powers of two, and the first one that a run does not exceed as the last."""
    size = 1
    while size <= length:
        yield size
        if run is not None and size >= run:
            return
        size *= 2


def _ratio(rows: Sequence[Sequence[Count]], size: int) -> float | None:
    """Phi at one block length; None where too few blocks had errors."""
    blocks = [list(_blocks(row, size)) for row in rows]
    groups: Iterable[Sequence[Count]]
    if len(rows) > 1:
        groups = zip(*blocks, strict=True)
    else:
        groups = zip(blocks[0][::2], blocks[0][1::2], strict=False)
    seen, expected, unevenness, freedom = 0.0, 0.0, 0.0, 0
    for group in groups:
        total, errors = (sum(column) for column in zip(*group, strict=True))
        if not total or not errors:
            continue
        shares = [requests / total for requests, _ in group]
        seen += sum(
            (bad - errors * share) ** 2 for share, (_, bad) in zip(shares, group, strict=True)
        )
        chance = sum(errors * share * (1 - share) for share in shares)
        degrees = sum(1 for requests, _ in group if requests) - 1
        if degrees:
            expected += chance
            unevenness += chance**2 / degrees
            freedom += degrees
    if freedom < LEAST_GROUPS or not expected:
        return None
    # Where a storm makes one block outweigh the rest, less was seen than the blocks' number says.
    return seen / expected * (1 + math.sqrt(2 * unevenness) / expected)


def _blocks(row: Sequence[Count], size: int) -> Iterator[Count]:
    for begin in range(0, len(row) - size + 1, size):
        block = row[begin : begin + size]
        yield sum(count[0] for count in block), sum(count[1] for count in block)
