# SPDX-License-Identifier: Apache-2.0
"""Scraped counts for all runs: one poller, one query per metric, one cursor per run.

The poller runs only while some run may carry requests. It looks as soon as a scrape is due, since
what it finds decides how soon a bad version loses its traffic, and hardly in between. Each new
scrape wakes the targets that it is about.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from controller.core import errors
from controller.core.evidence import calibration, past, replay
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.replay import Planned
from controller.core.evidence.samples import difference
from controller.core.evidence.scraped import Jobs
from controller.core.evidence.series import Cursor, TrackKey, TrackSeries
from controller.core.evidence.tally import Interval
from controller.core.lifecycle.memory import Memory, Run
from controller.core.lifecycle.tracks import Tracks, tracks_of
from controller.core.values import TargetRef
from controller.engine.meters import Meters
from controller.engine.tail import Tail
from controller.ports.clock import Clock
from controller.ports.metrics import Batch, Counts

HISTORY_SECONDS: Final = 6 * 3600.0
"""How much of stable's past says how its errors cluster."""

LATENCY_SECONDS: Final = 3600.0
"""How much of it says where its answers fall; a histogram is many series."""

USUAL_SECONDS: Final = 5.0
"""Between two scrapes, until a run's own samples say it."""

REPLAY_SECONDS: Final = 30.0
"""Longest that a run waits for its replay, and for those of others before it. A tick is held up by
it that has touched nothing yet; who has no turn is judged with the cautious default.
"""

LOOKS_PER_SCRAPE: Final = 5
"""While a scrape is overdue; before it is due nothing new can be found."""

SOONEST_SECONDS: Final = 0.1
LATEST_SECONDS: Final = 2.0
"""Bounds of the time between two looks: the store is not flooded, and its failure is noticed."""

INGESTED_SECONDS: Final = 0.25
"""At most so long after its time stamp a scrape is looked for: it has to be fetched and stored."""

LEAST_WINDOW: Final = 6.0
MOST_WINDOW: Final = 900.0
"""Seconds of samples that one look asks for: four scrapes and what was missed while it failed. More
would only be sent and parsed again: the cursors remember what was counted for an hour."""

MOST_WARNINGS: Final = 50
"""Warnings of one look that are logged; more say the same of other targets."""

NOBODY: Final = Jobs()

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the store says of one run now."""

    intervals: tuple[Interval, ...] = ()
    scraped_at: float | None = None
    age_seconds: float | None = None
    scrape_seconds: float = USUAL_SECONDS
    """To a tenth: two scrapes are never exactly as far apart, and what follows from it is the same
    for every process that looks at them."""
    clock: float = 0.0
    """The store's own time; 0 before its first answer about this run, which brings the tail."""
    jobs: Jobs = NOBODY
    """Who scrapes the run's counters."""


@dataclass(slots=True, kw_only=True)
class _Follower:
    """One run's place in the stream."""

    target: TargetRef
    tracks: Tracks
    """May grow in mid-run; what was counted stays counted, since the cursor knows each series."""
    cursor: Cursor
    opened: bool
    tail: Tail | None
    """Until it has been read; None: there is none."""
    intervals: list[Interval]
    lost: float | None = None
    """Where a tail began that was gone: which counters were counted until then is not known."""
    scraped_at: float | None = None
    scrape_seconds: float = USUAL_SECONDS
    """Between two of its own scrapes: neighbours may be scraped once a minute."""
    laggard: float | None = None
    """Time stamp of the newest sample of the counter that is due next."""
    jobs: Jobs = NOBODY

    def due_at(self) -> float:
        """When to look for its next scrape, by the store's clock."""
        if self.laggard is None:
            return 0.0
        ingested = min(self.scrape_seconds / (4 * LOOKS_PER_SCRAPE), INGESTED_SECONDS)
        return self.laggard + self.scrape_seconds + ingested

    def pace(self) -> float:
        """Seconds between two looks while its scrape is overdue."""
        return max(self.scrape_seconds / LOOKS_PER_SCRAPE, SOONEST_SECONDS)


class Feed:
    """Follows the runs that may carry requests."""

    def __init__(self, *, metrics: Counts, clock: Clock, meters: Meters) -> None:
        """`metrics` answers for all keys at once."""
        self._metrics = metrics
        self._clock = clock
        self._meters = meters
        self._followers: dict[str, _Follower] = {}
        self._wake: Callable[[TargetRef], None] = lambda _: None
        self._answered: float | None = None
        self._silent_since: float | None = None
        """The first look that this process had no answer to, while it has had none at all."""
        self._batch: Batch | None = None
        self._told: frozenset[str] = frozenset()
        self._replaying = asyncio.Lock()

    def on_scrape(self, wake: Callable[[TargetRef], None]) -> None:
        """Call `wake` for each target that a new scrape is about."""
        self._wake = wake

    def follow(self, memory: Memory) -> None:
        """Begin to follow a run; again: take over its tracks as they stand now."""
        run = memory.run
        tracks = tracks_of(run)
        known = self._followers.get(run.name)
        if known is not None:
            known.tracks = tracks
            return
        if not tracks.canary:
            return
        self._followers[run.name] = _Follower(
            target=run.target,
            tracks=tracks,
            cursor=Cursor(),
            opened=False,
            tail=Tail.of(memory),
            intervals=[],
        )

    def forget(self, run: Run) -> None:
        """The run ended, or carries nothing any more."""
        self._followers.pop(run.name, None)

    def clear(self) -> None:
        """Follow nobody."""
        self._followers.clear()
        self._answered, self._silent_since, self._batch = None, None, None

    @property
    def followed(self) -> int:
        """How many runs are followed."""
        return len(self._followers)

    def reading(self, run: Run | None) -> Reading:
        """What is new for a run; each interval is handed out once."""
        now = self._clock.monotonic()
        heard = self._silent_since if self._answered is None else self._answered
        age = None if heard is None else now - heard
        follower = self._followers.get(run.name) if run else None
        if follower is None or not follower.opened:
            return Reading(age_seconds=age)
        fresh = tuple(follower.intervals)
        follower.intervals.clear()
        return Reading(
            intervals=fresh,
            scraped_at=follower.scraped_at,
            age_seconds=age,
            scrape_seconds=max(round(follower.scrape_seconds, 1), SOONEST_SECONDS),
            clock=self._store_clock(),
            jobs=follower.jobs,
        )

    async def run(self) -> None:
        """Poll until cancelled; idle while nothing is followed."""
        while True:
            if self._followers:
                await self.look()
            await self._clock.sleep(self._pause())

    def _pause(self) -> float:
        """Until some scrape is due; a run that nothing is known of yet is always due."""
        followers = self._followers.values()
        idle = USUAL_SECONDS / LOOKS_PER_SCRAPE
        pace = min((item.pace() for item in followers), default=idle)
        due = min((item.due_at() for item in followers), default=0.0)
        return min(max(due - self._store_clock(), pace), LATEST_SECONDS)

    def _store_clock(self) -> float:
        """The store's own time now; 0 before its first answer."""
        if self._batch is None or self._answered is None:
            return 0.0
        return self._batch.evaluated_at + self._clock.monotonic() - self._answered

    async def look(self) -> None:
        """Ask once for everything that is followed and hand it out."""
        asked = tuple(self._followers.values())
        keys = {key for item in asked for key in (*item.tracks.canary, *item.tracks.stable)}
        self._meters.looked()
        try:
            batch = await self._metrics.samples(self._window(), keys)
        except errors.MetricsUnavailable as error:
            self._meters.metrics_failed()
            if self._silent_since is None:
                self._silent_since = self._clock.monotonic()
            log.warning("no metrics", why=error.diagnostics())
            self._wake_all()
            return
        self._batch = batch
        self._answered = self._clock.monotonic()
        self._tell(batch)
        for follower in asked:  # Of who has come meanwhile the answer says nothing.
            self._take(follower, batch)

    def _tell(self, batch: Batch) -> None:
        """Log what the store or the mapping found odd, when it is new."""
        for warning in batch.warnings[:MOST_WARNINGS]:
            if warning not in self._told:
                log.warning("metrics are odd", what=warning)
        self._told = frozenset(batch.warnings[:MOST_WARNINGS])

    def _window(self) -> float:
        missed = 0.0 if self._answered is None else self._clock.monotonic() - self._answered
        if any(item.tail is not None for item in self._followers.values()):
            return MOST_WINDOW  # How far apart its scrapes are is not known yet.
        slowest = max(item.scrape_seconds for item in self._followers.values())
        return min(max(LEAST_WINDOW, 4 * slowest) + missed, MOST_WINDOW)

    def _wake_all(self) -> None:
        for follower in self._followers.values():
            self._wake(follower.target)

    def _take(self, follower: _Follower, batch: Batch) -> None:
        canary = joined(batch, follower.tracks.canary)
        stable = joined(batch, follower.tracks.stable)
        stamps = _stamps((canary, stable))
        newest = max(stamps, default=None)
        follower.laggard = min(stamps, default=None)
        if follower.opened and newest is not None and newest == follower.scraped_at:
            return  # Most looks fall between two scrapes; differencing again would find nothing.
        if newest is None and follower.tail is not None:
            return  # A store that has just started shows nothing yet of what was scraped before.
        newborn = follower.tracks.newborn
        if newborn:  # A gateway's jobs say nothing of pods.
            follower.jobs = Jobs.of(canary, stable)
        if follower.tail is not None:
            _resume(follower, follower.tail, canary, stable, batch.evaluated_at - MOST_WINDOW)
        follower.opened, follower.tail = True, None
        if follower.lost is not None:
            canary, newborn = canary and canary.since(follower.lost), False
            stable = stable and stable.since(follower.lost)
        found = difference(follower.cursor, canary, stable, newborn=newborn)
        follower.cursor = found.cursor
        follower.intervals.extend(found.intervals)
        if newest is not None and newest != follower.scraped_at:
            follower.scraped_at = newest
            self._wake(follower.target)
        lengths = [interval.seconds for interval in found.intervals if interval.seconds > 0]
        follower.scrape_seconds = found.gap or min(lengths, default=follower.scrape_seconds)
        for problem in found.problems:
            log.info("odd samples", target=str(follower.target), problem=problem)

    async def calibration(
        self, keys: Iterable[TrackKey], planned: Callable[[float], Planned]
    ) -> Calibration:
        """What stable's history says to the judge of a run; the cautious default without one.

        `planned` is the run, by the seconds between two scrapes.
        """
        for key in keys:
            try:
                batch = await self._metrics.history(key, HISTORY_SECONDS)
            except errors.MetricsUnavailable as error:
                return calibration.unknown(error.message)
            found = batch.series.get(key)
            if found is not None and found.requests:
                return await self._calibrated(key, found, planned)
        return calibration.unknown("stable has no history")

    async def _calibrated(
        self, key: TrackKey, stable: TrackSeries, planned: Callable[[float], Planned]
    ) -> Calibration:
        """Measured and replayed, with other work let through all the time."""
        timed: TrackSeries | None = None
        try:
            batch = await self._metrics.latency_history(key, LATENCY_SECONDS)
            timed = batch.series.get(key)
        except errors.MetricsUnavailable as error:
            log.warning("no history of latency", key=str(key), why=error.diagnostics())
        known = past.read(stable, timed)
        run = planned(known.gap)
        replays = replay.certified(calibration.of(known, run.seconds), known, run)
        try:
            # One run's at a time: other work waits for a part of one replay, however many begin.
            async with asyncio.timeout(REPLAY_SECONDS), self._replaying:
                while True:
                    try:
                        next(replays)
                    except StopIteration as ended:
                        found: Calibration = ended.value
                        return found
                    await self._clock.sleep(0)
        except TimeoutError:
            return calibration.unknown(f"no replay of its past within {REPLAY_SECONDS:g} s")


def _resume(
    follower: _Follower,
    tail: Tail,
    canary: TrackSeries | None,
    stable: TrackSeries | None,
    since: float,
) -> None:
    """Go on behind the checkpoint; `since` is how far back the samples reach."""
    resumed = tail.resumed(canary, stable, since)
    if resumed is not None:
        follower.cursor = resumed
        return
    # Of what cannot be told whether it was counted nothing is, neither of the tail nor, as the
    # difference to it or for newborn, later on.
    follower.lost = tail.at
    log.warning("the samples since the checkpoint are gone", target=str(follower.target))


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
    """When each counter was last scraped. One that is gone makes its run seem overdue for as long
    as the window holds it, which only means more looks.
    """
    return [
        series.samples[-1].at
        for track in tracks
        if track is not None
        for series in track.requests
        if series.samples
    ]
