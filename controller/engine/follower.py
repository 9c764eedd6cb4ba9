# SPDX-License-Identifier: Apache-2.0
"""One run's place in the stream of scrapes: what of an answer is new, and when more is due."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from controller.core.evidence.grid import NEIGHBOUR
from controller.core.evidence.samples import LONG_GAP, Look, difference
from controller.core.evidence.scraped import Jobs
from controller.core.evidence.series import Cursor, TrackKey, TrackSeries
from controller.core.evidence.tally import Interval
from controller.core.lifecycle.tracks import Tracks
from controller.core.values import TargetRef
from controller.engine.tail import Tail
from controller.ports.metrics import Batch

USUAL_SECONDS: Final = 5.0
"""Between two scrapes, until a run's own samples say it."""

LOOKS_PER_SCRAPE: Final = 5
"""While a scrape is overdue; before it is due nothing new can be found."""

SOONEST_SECONDS: Final = 0.1
"""Least time between two looks."""

INGESTED_SECONDS: Final = 0.25
"""At most so long after its time stamp a scrape is looked for: it has to be fetched and stored."""

LEAST_WINDOW: Final = 6.0
MOST_WINDOW: Final = 900.0
"""Seconds of samples that one look asks for: four scrapes and what was missed while it failed. More
would only be sent and parsed again: the cursors remember what was counted for an hour."""

NEAR_SECONDS: Final = 120.0
"""So far before a tail begins its samples are asked for where the store does not give all that one
look may ask for: four scrapes that are half a minute apart."""

ANSWER_SECONDS: Final = 10.0
"""More than a store may take for an answer, which is about the moment at which it gives it."""

NOBODY: Final = Jobs()

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Follower:
    """What was seen of one run so far."""

    target: TargetRef
    tracks: Tracks
    """May grow in mid-run; what was counted stays counted, since the cursor knows each series."""
    tail: Tail | None
    """Until it has been read; None: there is none."""
    cursor: Cursor = field(default_factory=Cursor)
    opened: bool = False
    reach: float = MOST_WINDOW
    """How far before its tail samples are asked for."""
    intervals: list[Interval] = field(default_factory=list)
    lost: float | None = None
    """Where a tail began that was gone: which counters were counted until then is not known."""
    counted_from: float | None = None
    """When the counting began anew behind it, by the store's clock."""
    scraped_at: float | None = None
    scrape_seconds: float = USUAL_SECONDS
    """Between two of its own scrapes: neighbours may be scraped once a minute."""
    measured: bool = False
    """Whether its own samples have said so."""
    slower: tuple[float, float] | None = None
    """The newest scrape when they began to seem to come far more seldom, and how seldom."""
    answered: float | None = None
    """When the store last answered about it, or was asked in vain for the first time; monotonic."""
    seen_at: float | None = None
    """Until when, by the store's clock, everything of it was seen."""
    stamps: list[float] = field(default_factory=list)
    """When each counter was last scraped, the one that is due next first; any may come late."""
    jobs: Jobs = NOBODY

    @property
    def keys(self) -> tuple[TrackKey, ...]:
        """Whose counters it is about."""
        return (*self.tracks.canary, *self.tracks.stable)

    def due_at(self) -> float:
        """When to look for its next scrape, by the store's clock."""
        if not self.stamps:
            return 0.0
        ingested = min(self.scrape_seconds / (4 * LOOKS_PER_SCRAPE), INGESTED_SECONDS)
        return self.stamps[0] + self.scrape_seconds + ingested

    def pace(self) -> float:
        """Seconds between two looks while its scrape is overdue."""
        return max(self.scrape_seconds / LOOKS_PER_SCRAPE, SOONEST_SECONDS)

    def window(self, now: float) -> float:
        """Seconds of samples to ask for at the store's time `now`, which is 0 if not known yet."""
        if self.tail is not None:
            age = now - self.tail.at if now else 0.0
            return min(age + self.reach + ANSWER_SECONDS, MOST_WINDOW)
        missed = 0.0 if self.seen_at is None else now - self.seen_at
        return min(max(LEAST_WINDOW, 4 * self.scrape_seconds) + missed, MOST_WINDOW)

    def heard(self, batch: Batch, at: float) -> None:
        """Note an answer, by our own clock. One without any sample says nothing of a run that had
        some before this process began.
        """
        judged = self.tail is not None and self.tail.judged
        if not judged or any(key in batch.series for key in self.keys) or self.answered is None:
            self.answered = at

    def take(self, batch: Batch, window: float) -> bool:
        """Count what is new in an answer about `window` seconds; returns whether anything was."""
        canary = joined(batch, self.tracks.canary)
        stable = joined(batch, self.tracks.stable)
        stamps = _stamps((canary, stable))
        newest, same = max(stamps, default=None), self.opened and stamps == self.stamps
        self.stamps = stamps
        look = None if self.seen_at is None else Look(batch.evaluated_at, self.seen_at)
        if self.opened:
            self.seen_at = batch.evaluated_at
        if stamps and same:
            return False  # Most looks fall between two scrapes; there is nothing to find.
        if self.tail is not None:
            if newest is None:
                return False  # A store that has just started shows nothing yet of the past.
            since = batch.evaluated_at - window
            if since > self.tail.at - self.reach and window < MOST_WINDOW:
                return False  # The store's clock was not known; now it is.
            self._resume(self.tail, canary, stable, since, batch.evaluated_at)
        self.opened, self.tail, self.seen_at = True, None, batch.evaluated_at
        newborn = self.tracks.newborn
        if newborn:  # A gateway's jobs say nothing of pods.
            self.jobs = Jobs.of(canary, stable)
        if self.lost is not None:
            canary, newborn = canary and canary.since(self.lost), False
            stable = stable and stable.since(self.lost)
        found = difference(self.cursor, canary, stable, newborn=newborn, look=look)
        self.cursor = found.cursor
        self.intervals.extend(found.intervals)
        self._paced(found.gap, newest)
        for problem in found.problems:
            log.info("odd samples", target=str(self.target), problem=problem)
        if newest is None or same:
            return False
        self.scraped_at = newest
        return True

    def _paced(self, gap: float, newest: float | None) -> None:
        """Learn the scrape interval. One that is many times as long as before is believed when it
        has gone by once more: after an outage the first scrape seems to come as seldom as it
        lasted, and data as old as that would be good enough.
        """
        if not gap:
            return
        if self.measured and gap > LONG_GAP * self.scrape_seconds and newest is not None:
            began, first = self.slower = self.slower or (newest, gap)
            if newest - began < NEIGHBOUR * gap:
                return
            gap = min(gap, first)
        self.measured, self.slower, self.scrape_seconds = True, None, gap

    def _resume(
        self,
        tail: Tail,
        canary: TrackSeries | None,
        stable: TrackSeries | None,
        since: float,
        now: float,
    ) -> None:
        """Go on behind the checkpoint; `since` is how far back the samples reach."""
        found = tail.resumed(canary, stable, since)
        if found is not None:
            self.cursor = found
            return
        # Of what cannot be told whether it was counted nothing is, neither of the tail nor, as the
        # difference to it or for newborn, later on.
        self.lost, self.counted_from = tail.at, now
        log.warning("the samples since the checkpoint are gone", target=str(self.target))


def joined(batch: Batch, keys: Iterable[TrackKey]) -> TrackSeries | None:
    """The series of all keys of a track together; None where the store knows none."""
    found = [batch.series[key] for key in keys if key in batch.series]
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    return replace(
        found[0],
        requests=tuple(series for item in found for series in item.requests),
        errors=tuple(series for item in found for series in item.errors),
        buckets=tuple(bucket for item in found for bucket in item.buckets),
    )


def _stamps(tracks: Iterable[TrackSeries | None]) -> list[float]:
    """When the counters were last scraped, in order. One that is gone makes its run seem overdue
    for as long as the window holds it, which only means more looks.
    """
    return sorted(
        series.samples[-1].at
        for track in tracks
        if track is not None
        for series in track.requests
        if series.samples
    )
