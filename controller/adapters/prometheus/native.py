# SPDX-License-Identifier: Apache-2.0
"""Native histograms read as counters: of all answers, and of those below fixed bounds.

Their buckets end at powers of 2^(1/2^n), and the store or the client makes them wider when there
are too many. Bounds that every width has stay true then, so that these are what is read: steps of
the square root of 2, or of 2 where buckets are as wide as that. Wider ones, and those with bounds
of their own choice, are left out with a warning.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from controller.adapters.prometheus.wire import Native, Row

FINEST: Final = 8
"""There are 2^8 buckets to a factor of 2 at most."""

BOUNDS: Final = tuple(2.0 ** (half / 2) for half in range(-20, 13))
"""A millisecond to a minute, in seconds."""

WIDE: Final = "a native histogram has too wide buckets or bounds of its own; its times are not read"
BOTH: Final = "native and classic histograms of the same answers; the classic ones are counted"


def counted(rows: Iterable[Row]) -> list[Row]:
    """The rows with every histogram as the counter of its answers."""
    return [
        Row(row.metric, [(at, found.count) for at, found in row.histograms])
        if row.histograms
        else row
        for row in rows
    ]


def bucketed(rows: Iterable[Row], label: str, warnings: dict[str, None]) -> Iterator[Row]:
    """The rows with every histogram as cumulative counters, told apart by the bound in `label`."""
    for row in rows:
        if not row.histograms:
            yield row
            continue
        width = _width(found for _, found in row.histograms)
        if width is None:
            warnings[WIDE] = None
            continue
        for bound in BOUNDS[:: 1 if width == 1 else 2]:
            values = [(at, str(_below(found, bound))) for at, found in row.histograms]
            yield Row({**row.metric, label: repr(bound)}, values)
        whole = [(at, found.count) for at, found in row.histograms]
        yield Row({**row.metric, label: "+Inf"}, whole)


def once(rows: Sequence[Row], native: str, label: str, warnings: dict[str, None]) -> list[Row]:
    """The rows without histograms of which there is a classic form as well."""
    unnamed = {"__name__", label}

    def place(row: Row) -> frozenset[tuple[str, str]]:
        return frozenset(pair for pair in row.metric.items() if pair[0] not in unnamed)

    classic = {place(row) for row in rows if row.metric.get("__name__") != native}
    found = [
        row
        for row in rows
        if row.metric.get("__name__") != native or (row.histograms and place(row) not in classic)
    ]
    if any(row.histograms and place(row) in classic for row in rows):
        warnings[BOTH] = None
    return found


def _width(found: Iterable[Native]) -> int | None:
    """The width of the widest buckets: 1 for up to a factor of sqrt(2), 2 for up to 2, or None."""
    widest = 0.0
    for histogram in found:
        for _, left, right, _ in histogram.buckets:
            low, high = float(left), float(right)
            if low <= 0 < high:
                continue  # The one around zero, which answers hardly ever fall into.
            steps = math.log2(high) * 2**FINEST if low > 0 and high < math.inf else 0.5
            if abs(steps - round(steps)) > 1e-3:
                return None
            widest = max(widest, high / low)
    if widest > 2 + 1e-6:
        return None
    return 1 if widest <= math.sqrt(2) + 1e-6 else 2


def _below(histogram: Native, bound: float) -> int:
    """Answers not slower than the bound."""
    nearly = bound * (1 + 1e-9)
    return round(sum(float(n) for _, _, right, n in histogram.buckets if float(right) <= nearly))
