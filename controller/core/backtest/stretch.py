# SPDX-License-Identifier: Apache-2.0
"""A stretch of stable's history on the grid of its scrapes, pod by pod, as a run would meet it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controller.core.backtest.thinning import Dice, parted
from controller.core.evidence import past
from controller.core.evidence.grid import usual_gap
from controller.core.evidence.series import TrackSeries
from controller.core.evidence.tally import INFINITE, UNREPORTED, Interval, Tally, summed

ALWAYS: Final = 0.9
"""Part of the stretch that a pod must have been scraped in to play the canary."""

EDGE: Final = 0.25
"""Part of an interval by which one may end behind the grid and still be the one that ends there."""

LEAST_ACTORS: Final = 2
"""With one alone nobody is left to compare with."""

WITHIN: Final = 0.99
"""A version that is slow answers beyond the first bound that such a share of answers is within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What stable's pods answered, scrape by scrape.

    Attributes:
        at: Its begin, in seconds since the epoch.
        gap: Seconds between two scrapes.
        rows: For each pod that was there all the time its counts; a pod that was not scraped in
            an interval is not reported in it.
        others: The counts of all pods that came or went.
        sums: For each of those pods, all it answered.
        whole: All that was answered.
    """

    at: float
    gap: float
    rows: Mapping[str, Sequence[Tally]]
    others: Sequence[Tally]
    sums: Mapping[str, int] = field(default_factory=dict)
    whole: Tally = UNREPORTED

    @property
    def intervals(self) -> int:
        """How many scrape intervals it has."""
        return len(self.others)

    @property
    def end(self) -> float:
        """When its last interval ends, in seconds since the epoch."""
        return self.at + self.intervals * self.gap

    @property
    def pods(self) -> tuple[str, ...]:
        """Who can play the canary; none where a gateway counted, or a single pod."""
        named = tuple(sorted(pod for pod in self.rows if pod))
        return named if len(named) >= LEAST_ACTORS else ()

    @property
    def usual(self) -> float:
        """Stable's share of failed answers, with half an error more: none is not never."""
        return (self.whole.errors + 0.5) / (self.whole.requests + 1)

    @property
    def bound(self) -> float:
        """The first bucket bound that nearly all answers are within, in seconds; 0: none is."""
        finite = [pair for pair in self.whole.buckets if 0 < pair[0] < INFINITE]
        enough = WITHIN * self.whole.timed
        return next((upper for upper, count in finite if count >= enough > 0), 0.0)

    def interval(self, number: int, group: Sequence[str], share: float, dice: Dice) -> Interval:
        """One interval with the group as the canary, which gets that share of all requests.

        What its pods have answered beyond that share counts as stable's, drawn by chance; without
        a group the share is drawn out of all requests.
        """
        mine = frozenset(group)
        acting = sum(self.sums[pod] for pod in group) if group else self.whole.requests
        rest = [row[number] for pod, row in self.rows.items() if pod not in mine]
        rest.append(self.others[number])
        played = summed(self.rows[pod][number] for pod in group) if group else summed(rest)
        part = share * self.whole.requests / acting if acting else 1.0
        canary, left = parted(dice, played, part)
        stable = summed([*rest, left]) if group else left
        return Interval(
            at=self.at + (number + 1) * self.gap,
            seconds=self.gap,
            canary=canary,
            stable=stable,
            alone=share >= 1,
        )


def read(stable: TrackSeries, begin: float, end: float) -> Stretch | None:
    """The stretch between two times; None where there is not even a single interval.

    Each pod is differenced on its own and put on one grid: pods that are scraped at other phases
    are as much as an interval apart, as they are in a run.

    Args:
        stable: Raw series, which may begin sooner.
        begin: In seconds since the epoch.
        end: The same.
    """
    gap = usual_gap(one.samples for one in stable.requests)
    count = int((end - begin) / gap) if gap else 0
    if count < 1:
        return None
    rows: dict[str, list[Tally]] = {}
    others: list[Tally] = [UNREPORTED] * count
    for pod, intervals in past.by_pod(stable).items():
        row: list[Tally] = [UNREPORTED] * count
        for one in intervals:
            # One that ends on the grid, or a moment beside it, is the one that ends there.
            place = math.ceil((one.at - begin) / gap - EDGE) - 1
            if 0 <= place < count:
                row[place] = row[place].plus(one.stable)
        if sum(one.reported for one in row) >= ALWAYS * count:
            rows[pod] = row
        else:
            others = [before.plus(one) for before, one in zip(others, row, strict=True)]
    everything = [*others, *(one for row in rows.values() for one in row)]
    whole = summed(everything)
    if not whole.reported:
        return None
    return Stretch(
        at=begin,
        gap=gap,
        rows=rows,
        others=others,
        sums={pod: sum(one.requests for one in row) for pod, row in rows.items()},
        whole=whole,
    )
