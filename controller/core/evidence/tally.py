# SPDX-License-Identifier: Apache-2.0
"""What one scrape interval says about the two tracks: plain counts, never ratios.

A ratio forgets how many requests stand behind it, and 0/0 would have to be read as something.
Counts do neither: no requests are simply no evidence.
"""

import functools
import operator
from bisect import bisect_left
from collections.abc import Iterable

import msgspec
from msgspec import structs

INFINITE = float("inf")


class Tally(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Counts of one track over some time.

    Attributes:
        requests: Answered requests.
        errors: Those of them that count as failed.
        buckets: Cumulative latency counts, (upper bound in seconds, requests not slower), bounds
            ascending, the last one infinite: the number of timed requests. Empty where the
            provider has no histogram.
        reported: Whether the metrics store had samples of this track at all. A track that was
            seen and served nothing is something else than a track that was not seen.
        scrapes: Of how many scrapes of single pods these are the differences; 0 where a gateway
            counted.
        falls: Those of them at which answers had become fewer, as no restart explains it.
    """

    requests: int = 0
    errors: int = 0
    buckets: tuple[tuple[float, int], ...] = ()
    reported: bool = True
    scrapes: int = 0
    falls: int = 0

    @property
    def error_rate(self) -> float | None:
        """Share of failed requests, None without any request."""
        return self.errors / self.requests if self.requests else None

    @property
    def timed(self) -> int:
        """How many requests the histogram has timed."""
        return self.buckets[-1][1] if self.buckets else 0

    def slower_than(self, bound: float) -> int | None:
        """Requests slower than `bound` seconds; None if that is no bound of the histogram."""
        found = self.slow(bound)
        return None if found is None else found[0]

    def slow(self, bound: float) -> tuple[int, int] | None:
        """(slower ones, timed requests) at a bound; None if the histogram has no such bound."""
        buckets = self.buckets
        place = bisect_left(buckets, (bound,))
        if place == len(buckets) or buckets[place][0] != bound:
            return None
        timed = buckets[-1][1]
        return max(timed - buckets[place][1], 0), timed

    def plus(self, other: "Tally") -> "Tally":
        """Both together. Bounds that only one side knows are dropped, unless one side has none."""
        return Tally(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            buckets=_merged(self.buckets, other.buckets),
            reported=self.reported or other.reported,
            scrapes=self.scrapes + other.scrapes,
            falls=self.falls + other.falls,
        )

    def only(self, bounds: frozenset[float]) -> "Tally":
        """The same counts with no other bucket bounds than these and the infinite one."""
        kept = tuple(pair for pair in self.buckets if pair[0] in bounds or pair[0] == INFINITE)
        return structs.replace(self, buckets=kept)


UNREPORTED = Tally(reported=False)
"""A track of which the metrics store had no sample in the interval."""


def summed(tallies: Iterable[Tally]) -> Tally:
    """All of them together; not reported if none is."""
    return functools.reduce(Tally.plus, tallies, UNREPORTED)


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """Both tracks over the same stretch of wall-clock time.

    Attributes:
        at: Its end, the scrape's own time stamp in seconds since the epoch.
        seconds: Its length.
        canary: Counts of the version on trial.
        stable: Counts of the version that serves.
        alone: Nothing is left to compare with: no stable pod serves, or nobody can tell. A stable
            that was not seen is something else.
        skewed: The two were scraped at different moments, so that one may have seen more of what
            befell both.
    """

    at: float
    seconds: float
    canary: Tally
    stable: Tally
    alone: bool = False
    skewed: bool = False

    @property
    def begins(self) -> float:
        """Its beginning, in seconds since the epoch."""
        return self.at - self.seconds


def _merged(
    left: tuple[tuple[float, int], ...], right: tuple[tuple[float, int], ...]
) -> tuple[tuple[float, int], ...]:
    if not left or not right:
        return left or right
    bounds, counts = zip(*left, strict=True)
    also, more = zip(*right, strict=True)
    if bounds == also:
        return tuple(zip(bounds, map(operator.add, counts, more), strict=True))
    known = dict(right)
    return tuple([(bound, count + known[bound]) for bound, count in left if bound in known])
