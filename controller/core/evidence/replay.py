# SPDX-License-Identifier: Apache-2.0
"""The planned run, replayed on stable's own past: would the judge have rolled stable itself back?

Some of stable's pods play the canary, window by window, as many at each step as its weight asks
for, and are judged as the policy asks. They are no worse than the others, so that each rollback is
a false one; if there are more than alpha allows, a more careful setting is tried. That catches
noise which phi alone does not measure, such as single pods with a bad minute. Where there are more
with the most careful one as well, that one is taken, and told with how many there are: the promise
does not hold then. What is measured beside requests (checks of the team, saturation) is not played.

The store thins the past out, and the run may be scraped more often than that. Then an interval of
the replay may grow as much as those scrapes of the run together may that it stands for: a cap in
scrapes is a cap in seconds, and the replay plays what the run will do.
"""

import functools
import itertools
import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.core.evidence.calibration import Calibration
from controller.core.evidence.observe import observe
from controller.core.evidence.past import Past
from controller.core.evidence.past import planned as intervals
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import start, weight_changed
from controller.core.evidence.tally import UNREPORTED, Interval, Tally

LADDER: Final = ((1, 2), (1, 3), (1, 4), (1, 6), (2, 6), (4, 6), (4, 10))
"""(factor of phi, k), from the quickest to the most careful (source: the specification, 1.6), for a
run that is scraped as often as the past shows."""

MOST_REPLAYS: Final = 60
MOST_INTERVALS: Final = 240
"""Of one replay; of a longer run its first part is played."""

PART: Final = 10
"""So many intervals are played at a stretch."""

LEAST_PODS: Final = 3
MOST_PODS: Final = 100
"""Of more, so many take part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The run as it would go.

    Attributes:
        settings: How it is judged, as far as that does not depend on stable's past.
        steps: For each step its share of the requests, above 0, and its seconds.
        seconds: How long it is watched; beyond the last step that goes on.
        scrape_seconds: Between two scrapes of the run; 0: as in the past.
    """

    settings: Settings
    steps: tuple[tuple[float, float], ...]
    seconds: float
    scrape_seconds: float = 0.0

    def share(self, after: float) -> float:
        """The canary's share so many seconds after the run began."""
        ends = itertools.accumulate(seconds for _, seconds in self.steps)
        shares = (share for share, _ in self.steps)
        return next(
            (share for share, end in zip(shares, ends, strict=True) if after < end),
            self.steps[-1][0],
        )

    def scrapes(self, gap: float) -> float:
        """So many of its scrapes one interval of a past with this gap stands for, 1 at least."""
        return max(gap / self.scrape_seconds, 1.0) if self.scrape_seconds > 0 else 1.0


def ladder(scrapes: float) -> Sequence[tuple[int, int]]:
    """What is tried where so many scrapes of the run are one interval of the past.

    Beside the caps as they stand those that are as many seconds as they would be in the past.
    """
    quick = {(factor, cap) for factor, cap in LADDER if factor == 1}
    return sorted(quick | {(factor, math.ceil(cap * scrapes)) for factor, cap in LADDER})


def actors(share: float, pods: int) -> int:
    """How many of so many pods a canary with that share of the requests would be."""
    return min(max(math.ceil(share * pods - 1e-9), 1), pods)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """Whose turn it is to play the canary first, and when."""

    first: int
    begin: int


def certified(
    found: Calibration, past: Past, planned: Planned
) -> Generator[None, None, Calibration]:
    """The calibration with the first setting of the ladder that holds, or the last one with its
    doubt; yields after each part.

    Args:
        found: What was measured.
        past: Stable's past.
        planned: The run.
    """
    stage = _Stage(past, planned)
    cases = stage.cases()
    if not found.known or not cases:
        return found
    allowed = math.floor(planned.settings.alpha * len(cases))
    scrapes = planned.scrapes(past.gap)
    rungs = ladder(scrapes)
    told, hits, played = found, 0, (0, 0.0)
    for factor, cap in rungs:
        told = replace(
            found,
            phi=found.phi * factor,
            latency_phi=found.latency_phi * factor,
            far_phi=found.far_phi * factor,
            cap_scrapes=max(cap, found.cap_scrapes),
        )
        before, played = played, (factor, max(told.cap_scrapes / scrapes, 1.0))
        if played == before:
            continue  # Within one interval of the past; it ended as the last one did.
        settings = replace(told.applied(planned.settings), cap_scrapes=played[1])
        # What is told of is counted to the end.
        most = len(cases) if (factor, cap) == rungs[-1] else allowed
        hits = 0
        for case in cases:
            hits += yield from stage.rolled_back(case, settings)
            if hits > most:
                break
        if hits <= allowed:
            break
    pace = f" scrapes of {planned.scrape_seconds:g} s" if scrapes > 1 else ""
    words = (
        f"phi = {told.phi:g} and k = {told.cap_scrapes}{pace}: of {len(cases)} replays of this run "
        f"on stable's own past {hits} would have been rolled back"
    )
    if hits <= allowed:
        return replace(told, words=f"{found.words}; {words}")
    doubt = f"however careful the judge is, stable too is rolled back, in {hits} of {len(cases)}"
    return replace(
        told,
        words=f"{found.words}; {words}, and that is the most careful setting",
        doubt=f"{doubt} replays of this run on its own past",
    )


class _Stage:
    """Stable's past, and the run that is played on it."""

    def __init__(self, past: Past, planned: Planned) -> None:
        self._gap = past.gap
        self._rows = _rows(past)
        self._length = min((len(row) for row in self._rows), default=0)
        run = intervals(planned.seconds, past.gap) or 0
        self._span = min(run, self._length, MOST_INTERVALS)
        self._shares = [planned.share(number * past.gap) for number in range(self._span)]
        # Where answers were timed, at the end.
        timed = min((len(row) for row in past.timed.values()), default=0)
        self._timed_from = self._length - timed * (past.slow_gap == past.gap)

    def cases(self) -> list[_Case]:
        """Groups of pods by windows of the run's length, evenly chosen; half of them, where there
        are so many, from those in which answers were timed.
        """
        if len(self._rows) < LEAST_PODS or self._span < 2:
            return []
        windows = range(self._length % self._span, self._length - self._span + 1, self._span)
        timed = [at for at in windows if at >= self._timed_from]
        counted = [at for at in windows if at < self._timed_from]
        chosen = self._chosen(timed, MOST_REPLAYS // 2 if counted else MOST_REPLAYS)
        return [*chosen, *self._chosen(counted, MOST_REPLAYS - len(chosen))]

    def _chosen(self, windows: Iterable[int], most: int) -> list[_Case]:
        size = actors(self._shares[0], len(self._rows))
        firsts = range(0, len(self._rows) - size + 1, size)
        every = [_Case(first=first, begin=at) for at in windows for first in firsts]
        step = max(len(every) / most, 1.0)
        return [every[int(at * step)] for at in range(int(len(every) / step))]

    def rolled_back(self, case: _Case, settings: Settings) -> Generator[None, None, bool]:
        """Whether the judge would have taken the pods' requests away.

        A canary that gets everything is compared with nobody, as in a native roll.
        """
        evidence = start(settings)
        before = 0.0
        for number, share in enumerate(self._shares):
            if share != before:
                evidence = weight_changed(evidence, number * self._gap)
                before = share
            alone = share >= 1
            size = min(actors(share, len(self._rows)), len(self._rows) - (not alone))
            turned = [row[case.begin + number] for row in self._rows]
            turned = turned[case.first :] + turned[: case.first]
            interval = Interval(
                at=(number + 1) * self._gap,
                seconds=self._gap,
                canary=_together(turned[:size]),
                stable=UNREPORTED if alone else _together(turned[size:]),
                alone=alone,
            )
            evidence = observe(evidence, settings, interval)
            if number % PART == 0:
                yield
            if evidence.trip is not None:
                return True
        return False


def _together(tallies: Iterable[Tally]) -> Tally:
    return functools.reduce(Tally.plus, tallies)


def _rows(past: Past) -> list[list[Tally]]:
    """The newest intervals of every pod that takes part, with its histogram where there is one."""
    pods = sorted(past.rows)
    pods = pods[:: max(math.ceil(len(pods) / MOST_PODS), 1)]
    return [_row(past, pod) for pod in pods]


def _row(past: Past, pod: str) -> list[Tally]:
    counts = past.rows[pod][-past.intervals :]
    timed: Sequence[Tally] = past.timed.get(pod, ()) if past.slow_gap == past.gap else ()
    timed = timed[-len(counts) :] if counts else ()
    buckets = [()] * (len(counts) - len(timed)) + [one.buckets for one in timed]
    return [
        Tally(requests=requests, errors=errors, buckets=cells)
        for (requests, errors), cells in zip(counts, buckets, strict=True)
    ]
