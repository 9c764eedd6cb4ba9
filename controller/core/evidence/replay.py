# SPDX-License-Identifier: Apache-2.0
"""The planned run, replayed on stable's own past: would the judge have rolled stable itself back?

Some of stable's pods play the canary, window by window. They are no worse than the others, so that
each rollback is a false one; if there are more than alpha allows, a more careful setting is tried.
That catches noise which phi alone does not measure, such as single pods with a bad minute.
"""

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.core.evidence.calibration import Calibration
from controller.core.evidence.dispersion import Count
from controller.core.evidence.observe import observe
from controller.core.evidence.past import Past
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import start, weight_changed
from controller.core.evidence.tally import Interval, Tally

LADDER: Final = ((1, 2), (1, 3), (1, 4), (1, 6), (2, 6), (4, 6), (4, 10))
"""(factor of phi, k), from the quickest to the most careful (source: the specification, 1.6)."""

MOST_REPLAYS: Final = 60
MOST_INTERVALS: Final = 240
"""Of one replay; of a longer run its first part is played."""

CANARY_SHARE: Final = 0.1
LEAST_PODS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """Who plays the canary, and when."""

    canary: frozenset[str]
    begin: int
    end: int


def certified(
    found: Calibration, past: Past, run: int | None
) -> Generator[None, None, Calibration]:
    """The calibration with the first setting of the ladder that holds; yields after each replay.

    Args:
        found: What was measured.
        past: Stable's past.
        run: Intervals that the run is planned to last.
    """
    cases = list(_cases(past, run))
    if not found.known or not cases:
        return found
    allowed = math.floor(Settings().alpha * len(cases))
    told = found
    for factor, cap in LADDER:
        told = replace(found, phi=found.phi * factor, cap_scrapes=max(cap, found.cap_scrapes))
        settings = told.applied(Settings())
        hits = 0
        for case in cases:
            hits += _rolled_back(case, past, settings)
            yield
            if hits > allowed:
                break
        else:
            break
    words = (
        f"phi = {told.phi:g} and k = {told.cap_scrapes}: of {len(cases)} replays of this run on "
        f"stable's own past {hits} would have been rolled back"
    )
    return replace(told, words=f"{found.words}; {words}")


def _cases(past: Past, run: int | None) -> Iterator[_Case]:
    """Groups of pods by windows of the run's length, evenly chosen among all of them."""
    length = past.intervals
    span = min(run or length, length, MOST_INTERVALS)
    if len(past.rows) < LEAST_PODS or span < 2:
        return
    size = max(round(len(past.rows) * CANARY_SHARE), 1)
    pods = sorted(past.rows)
    groups = [frozenset(pods[at : at + size]) for at in range(0, len(pods) - size + 1, size)]
    windows = range(length % span, length - span + 1, span)
    every = [_Case(canary=group, begin=at, end=at + span) for at in windows for group in groups]
    step = max(len(every) / MOST_REPLAYS, 1.0)
    yield from (every[int(at * step)] for at in range(int(len(every) / step)))


def _rolled_back(case: _Case, past: Past, settings: Settings) -> bool:
    evidence = weight_changed(start(settings), 0.0)
    rows = {pod: row[-past.intervals :] for pod, row in past.rows.items()}
    canary = [row for pod, row in rows.items() if pod in case.canary]
    stable = [row for pod, row in rows.items() if pod not in case.canary]
    for number, at in enumerate(range(case.begin, case.end), start=1):
        interval = Interval(
            at=number * past.gap,
            seconds=past.gap,
            canary=_tally(canary, at),
            stable=_tally(stable, at),
        )
        evidence = observe(evidence, settings, interval)
        if evidence.trip is not None:
            return True
    return False


def _tally(rows: Sequence[Sequence[Count]], at: int) -> Tally:
    counts = [row[at] for row in rows]
    return Tally(requests=sum(c[0] for c in counts), errors=sum(c[1] for c in counts))
