# SPDX-License-Identifier: Apache-2.0
"""Scraped counts for all runs: one poller, one query per metric, one cursor per run.

The poller runs only while some run may carry requests. It looks as soon as a scrape is due, since
what it finds decides how soon a bad version loses its traffic, and hardly in between. Each new
scrape wakes the targets that it is about.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from controller.core import errors
from controller.core.evidence import calibration, past, repeats, replay
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.grid import usual_gap
from controller.core.evidence.replay import Planned
from controller.core.evidence.scraped import Jobs
from controller.core.evidence.series import TrackKey, TrackSeries
from controller.core.evidence.tally import Interval
from controller.core.lifecycle.memory import Memory, Run
from controller.core.lifecycle.tracks import tracks_of
from controller.core.values import TargetRef
from controller.engine.follower import (
    LOOKS_PER_SCRAPE,
    MOST_WINDOW,
    NEAR_SECONDS,
    NOBODY,
    SOONEST_SECONDS,
    USUAL_SECONDS,
    Follower,
)
from controller.engine.meters import Meters
from controller.engine.parting import Part, Parting
from controller.engine.tail import Tail
from controller.ports.clock import Clock
from controller.ports.metrics import Batch, Counts

HISTORY_SECONDS: Final = 6 * 3600.0
"""How much of stable's past says how its errors cluster."""

LATENCY_SECONDS: Final = 3600.0
"""How much of it says where its answers fall; a histogram is many series."""

PACE_SECONDS: Final = 120.0
"""How much of it shows how often is scraped, by the scrapes themselves: the rest is thinned out."""

REPLAY_SECONDS: Final = 30.0
"""Longest that a run waits for its replay, and for those of others before it. A tick is held up by
it that has touched nothing yet; who has no turn is judged as carefully as one without a past.
"""

LATEST_SECONDS: Final = 5.0
"""Longest between two looks: a store that fails is noticed."""

MOST_AT_ONCE: Final = 16
"""Runs whose tails are asked for in one look: after a restart all have one, and a quarter of an
hour of every counter, a dozen of them for each pod, does not fit into one answer."""

MOST_WARNINGS: Final = 50
"""Warnings of one look that are logged; more say the same of other targets."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the store says of one run now."""

    intervals: tuple[Interval, ...] = ()
    scraped_at: float | None = None
    counted_from: float | None = None
    """When the counting began anew, since the tail was gone."""
    age_seconds: float | None = None
    scrape_seconds: float = USUAL_SECONDS
    """To a tenth: two scrapes are never exactly as far apart, and what follows from it is the same
    for every process that looks at them."""
    clock: float = 0.0
    """The store's own time; 0 before its first answer about this run, which brings the tail."""
    jobs: Jobs = NOBODY
    """Who scrapes the run's counters."""
    too_large: str = ""
    """Why the store's answer cannot be taken in, though nothing else was asked; empty if it can."""


class Feed:
    """Follows the runs that may carry requests."""

    def __init__(self, *, metrics: Counts, clock: Clock, meters: Meters) -> None:
        """`metrics` answers for all keys at once."""
        self._metrics = metrics
        self._clock = clock
        self._meters = meters
        self._followers: dict[str, Follower] = {}
        self._wake: Callable[[TargetRef], None] = lambda _: None
        self._answered: float | None = None
        self._evaluated = 0.0
        self._at_once = MOST_AT_ONCE
        self._hurried = False
        """Some runs' tails wait for their turn."""
        self._parting = Parting()
        self._joined = asyncio.Event()
        """Somebody is followed of whom nothing is known yet."""
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
        tail = Tail.of(memory)
        self._followers[run.name] = Follower(target=run.target, tracks=tracks, tail=tail)
        self._joined.set()

    def forget(self, run: Run) -> None:
        """The run ended, or carries nothing any more."""
        self._followers.pop(run.name, None)
        self._parting.answered(run.name)

    def clear(self) -> None:
        """Follow nobody."""
        self._followers.clear()
        self._answered = None
        self._evaluated, self._at_once, self._hurried = 0.0, MOST_AT_ONCE, False
        self._parting = Parting()

    @property
    def followed(self) -> int:
        """How many runs are followed."""
        return len(self._followers)

    def reading(self, run: Run | None) -> Reading:
        """What is new for a run; each interval is handed out once."""
        follower = self._followers.get(run.name) if run else None
        if run is None or follower is None:
            return Reading()
        why = self._parting.why(run.name)
        heard = follower.answered
        age = None if heard is None else self._clock.monotonic() - heard
        if not follower.opened:
            return Reading(age_seconds=age, too_large=why)
        fresh = tuple(follower.intervals)
        follower.intervals.clear()
        return Reading(
            intervals=fresh,
            scraped_at=follower.scraped_at,
            counted_from=follower.counted_from,
            age_seconds=age,
            scrape_seconds=max(round(follower.scrape_seconds, 1), SOONEST_SECONDS),
            clock=self._store_clock(),
            jobs=follower.jobs,
            too_large=why,
        )

    async def run(self) -> None:
        """Poll until cancelled; idle while nothing is followed."""
        while True:
            self._joined.clear()
            if self._followers:
                await self.look()
            pause = self._pause()
            # Many may join one after the other, and each look is for all that are followed.
            unbroken = min(pause, USUAL_SECONDS / LOOKS_PER_SCRAPE)
            await self._clock.sleep(unbroken)
            await self._rested(pause - unbroken)

    async def _rested(self, seconds: float) -> None:
        """Wait so long, or until somebody joins, who is looked for at once."""
        ends = (self._clock.sleep(max(seconds, 0.0)), self._joined.wait())
        waits = [asyncio.ensure_future(end) for end in ends]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _pause(self) -> float:
        """Until some scrape is due; a run that nothing is known of yet is always due."""
        if self._hurried:
            return SOONEST_SECONDS
        # Who is too large alone is overdue as long as that lasts, and nobody is quicker for it.
        followers = [item for name, item in self._followers.items() if not self._parting.why(name)]
        idle = USUAL_SECONDS / LOOKS_PER_SCRAPE
        pace = min((item.pace() for item in followers), default=idle)
        due = min((item.due_at() for item in followers), default=0.0)
        return min(max(due - self._store_clock(), pace), LATEST_SECONDS)

    def _store_clock(self) -> float:
        """The store's own time now; 0 before its first answer."""
        if self._answered is None:
            return 0.0
        return self._evaluated + self._clock.monotonic() - self._answered

    async def look(self) -> None:
        """Ask once for everything that is followed and hand it out; tails, some at a time."""
        followers = tuple(self._followers.items())
        fresh = {name: item for name, item in followers if item.tail is None}
        now = self._clock.monotonic()
        resumed = [
            (name, item)
            for name, item in followers
            if item.tail is not None and not self._parting.waits(name, now)
        ]
        await self._follow(fresh)
        for name, item in resumed[: self._at_once]:
            if self._followers.get(name) is item:
                # Its turn is the last one now, should it need another.
                self._followers[name] = self._followers.pop(name)
        await self._resume(dict(resumed[: self._at_once]))
        self._hurried = len(resumed) > self._at_once and any(
            item.tail is None for _, item in resumed
        )

    async def _follow(self, fresh: Mapping[str, Follower]) -> None:
        """Ask for these together, or in parts where that is too much at once."""
        parts, fitted = self._parting.due(fresh, self._clock.monotonic()), list[Part]()
        while parts:
            part = parts.pop(0)
            # What was missed while it was too large makes it no smaller.
            most = NEAR_SECONDS if self._parting.why(part[0]) else MOST_WINDOW
            try:
                answered = await self._look(tuple(fresh[name] for name in part), most)
            except errors.MetricsTooLarge as error:
                if len(part) > 1:
                    parts = self._parting.parted(part, self._clock.monotonic()) + parts
                else:
                    self._refused(part[0], error)
                continue
            if answered:
                self._parting.answered(part[0])
            if not self._parting.why(part[0]):
                fitted.append(part)
        self._parting.fitted(fitted)

    async def _resume(self, asked: Mapping[str, Follower]) -> None:
        if not asked:
            return
        try:
            answered = await self._look(tuple(asked.values()))
        except errors.MetricsTooLarge as error:
            if len(asked) == 1:
                (name,) = asked
                asked[name].reach = NEAR_SECONDS
                self._refused(name, error)
            answered = False
        if answered:
            for name in asked:
                self._parting.answered(name)
        most = 2 * len(asked) if answered else len(asked) // 2
        self._at_once = min(max(most, 1), MOST_AT_ONCE)

    def _refused(self, name: str, error: errors.MetricsTooLarge) -> None:
        """The answer about this one alone is too large, and nobody else's counts wait for it."""
        if name in self._followers:
            self._parting.refused(name, error.diagnostics(), self._clock.monotonic())

    async def _look(self, asked: tuple[Follower, ...], most: float = MOST_WINDOW) -> bool:
        """Ask for these, and hand it out; returns whether there was an answer.

        `most` is how many seconds of samples are asked for at most.

        Raises MetricsTooLarge if there would have been too much of it.
        """
        window = min(max(item.window(self._store_clock()) for item in asked), most)
        keys = {key for item in asked for key in item.keys}
        self._meters.looked()
        try:
            batch = await self._metrics.samples(window, keys)
        except errors.MetricsUnavailable as error:
            self._meters.metrics_failed()
            now = self._clock.monotonic()
            log.warning("no metrics", why=error.diagnostics())
            for follower in asked:
                follower.answered = now if follower.answered is None else follower.answered
                self._wake(follower.target)
            if isinstance(error, errors.MetricsTooLarge):
                raise
            return False
        self._evaluated, self._answered = batch.evaluated_at, self._clock.monotonic()
        self._tell(batch)
        for follower in asked:
            follower.heard(batch, self._answered)
            if follower.take(batch, window):
                self._wake(follower.target)
        return True

    def _tell(self, batch: Batch) -> None:
        """Log what the store or the mapping found odd, when it is new."""
        for warning in batch.warnings[:MOST_WARNINGS]:
            if warning not in self._told:
                log.warning("metrics are odd", what=warning)
        self._told = frozenset(batch.warnings[:MOST_WARNINGS])

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
        known = past.read(repeats.without(stable), timed and repeats.without(timed))
        run = replace(planned(known.gap), scrape_seconds=await self._scraped_every(key))
        measured = calibration.of(known, run.seconds)
        replays = replay.certified(measured, known, run)
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
            why = f"no replay of its past within {REPLAY_SECONDS:g} s"
            return calibration.unplayed(measured, why)

    async def _scraped_every(self, key: TrackKey) -> float:
        """Seconds between two scrapes of stable as they are now, which are the run's; 0: not known.

        To a tenth, as a run tells its own.
        """
        try:
            batch = await self._metrics.samples(PACE_SECONDS, [key])
        except errors.MetricsUnavailable as error:
            log.warning("no newest scrapes", key=str(key), why=error.diagnostics())
            return 0.0
        found = batch.series.get(key)
        return round(usual_gap(one.samples for one in found.requests), 1) if found else 0.0
