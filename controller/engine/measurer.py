# SPDX-License-Identifier: Apache-2.0
"""Values that are measured beside requests: the teams' own checks and what pods use up.

It runs beside the feed, so that a slow query of a team never delays the counts that most verdicts
rest on, nor what is known of things that run out. That is one query for all runs, and tells also
which pods are scraped; a check is one for each track of its run, and few are asked at a time: where
they are slow they come less often.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from controller.core import errors
from controller.core.evidence.measures import Gauge, Reading, Value
from controller.core.evidence.readings import READ_SECONDS
from controller.core.evidence.scraped import Jobs, Scraped
from controller.core.journal import story
from controller.core.lifecycle import tracks, trial
from controller.core.lifecycle.memory import Memory, Run
from controller.core.policy.model import UserCheck
from controller.core.values import TargetRef
from controller.engine.meters import Meters
from controller.ports.clock import Clock
from controller.ports.metrics import Levels, Values

PAST_SECONDS: Final = 3600.0
"""How much of stable's past says what it uses: it is gone through between two other things."""

MOST_READINGS: Final = 100
"""Readings that wait for a run's next tick."""

MOST_CHECKS: Final = 8
"""Checks that are asked at a time: a store works on 20 queries by default, and the counts must find
room between those of the teams."""

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Measured:
    """One run and what is asked for it."""

    run: Run
    """As it stands now: whose values are asked for is found when they are."""
    checks: tuple[UserCheck, ...]
    gauges: tuple[str, ...]
    """Names of what stable had a past of; nothing else is compared."""
    readings: list[Reading] = field(default_factory=list)
    levels: Levels | None = None
    """The newest that are known, however old."""


class Measurer:
    """Follows the runs that have something to be measured."""

    def __init__(self, *, metrics: Values, clock: Clock, meters: Meters) -> None:
        """Nothing is asked until `run`."""
        self._metrics = metrics
        self._clock = clock
        self._meters = meters
        self._followed: dict[str, _Measured] = {}
        self._wake: Callable[[TargetRef], None] = lambda _: None
        self._asking = asyncio.Semaphore(MOST_CHECKS)

    def on_reading(self, wake: Callable[[TargetRef], None]) -> None:
        """Call `wake` for each target that a new reading is about."""
        self._wake = wake

    def follow(self, memory: Memory) -> None:
        """Begin to measure for a run; again: take over its tracks as they stand now."""
        run = memory.run
        known = self._followed.get(run.name)
        if known is not None:
            known.run = run
            return
        policy = story.policy_of(run)
        self._followed[run.name] = _Measured(
            run=run,
            checks=policy.checks if policy else (),
            gauges=tuple(gauge.name for gauge in trial.calibration(run).gauges),
        )

    def forget(self, run: Run) -> None:
        """The run ended, or carries nothing any more."""
        self._followed.pop(run.name, None)

    def clear(self) -> None:
        """Measure for nobody."""
        self._followed.clear()

    async def past(self, run: Run) -> tuple[Gauge, ...]:
        """What stable's pods have used up before the run; nothing is compared without it.

        Nor where the names of the canary's pods will not tell whose they are.
        """
        pods = tracks.pods_of(run)
        (stable,) = pods.stable
        if any(key.is_cut for key in (*pods.canary, stable)):
            return ()
        try:
            return await self._metrics.saturation_past(stable, PAST_SECONDS)
        except errors.MetricsUnavailable as error:
            self._failed("saturation before the run", error)
            return ()

    def readings(self, run: Run | None) -> tuple[Reading, ...]:
        """What is new for a run; each reading is handed out once."""
        found = self._followed.get(run.name) if run else None
        if found is None:
            return ()
        fresh = tuple(found.readings)
        found.readings.clear()
        return fresh

    def scraped(self, run: Run | None, jobs: Jobs) -> Scraped | None:
        """Which pods of a run are scraped by the jobs that bring its counts; None: not known."""
        found = self._followed.get(run.name) if run else None
        if found is None or found.levels is None:
            return None
        pods = tracks.pods_of(found.run)
        return found.levels.scraped(pods.canary, pods.stable, jobs)

    async def run_gauges(self) -> None:
        """Measure what can run out and who is scraped until cancelled; idle where nobody asks."""
        while True:
            await self._gauged()
            await self._clock.sleep(READ_SECONDS)

    async def run_checks(self) -> None:
        """Ask the teams' checks until cancelled, each as often as the others."""
        while True:
            followed = tuple(self._followed.values())
            asked = [self._checked(one, check) for one in followed for check in one.checks]
            await asyncio.gather(*asked)
            await self._clock.sleep(READ_SECONDS)

    async def _gauged(self) -> None:
        asked = self._followed.values()
        gauged = [one for one in asked if one.gauges or tracks.by_pods(one.run)]
        pods = [tracks.pods_of(one.run) for one in gauged]
        keys = {key for both in pods for key in (*both.canary, *both.stable)}
        if not keys:
            return
        try:
            levels = await self._metrics.saturation(keys)
        except errors.MetricsUnavailable as error:
            self._failed("saturation", error)
            return
        for one, both in zip(gauged, pods, strict=True):
            one.levels = levels
            values = tuple(
                Value(
                    name=name,
                    canary=levels.of(both.canary, name),
                    stable=levels.of(both.stable, name),
                )
                for name in one.gauges
            )
            self._hand(one, Reading(at=levels.evaluated_at, values=values))

    async def _checked(self, one: _Measured, check: UserCheck) -> None:
        try:
            async with self._asking:
                both = tracks.checked_by(one.run)
                # One after the other: of two at once the second would go on when the first fails.
                found = await self._metrics.value(check.expression, both.canary)
                other = await self._metrics.value(check.expression, both.stable)
        except errors.MetricsUnavailable as error:
            # No failure of the store: it may be this one query that is too much for it, or wrong.
            what = f"check {check.name} of {one.run.target}"
            log.warning("not measured", what=what, why=error.diagnostics())
            return
        for warning in dict.fromkeys((*found.warnings, *other.warnings)):
            log.info("check is odd", target=str(one.run.target), check=check.name, what=warning)
        value = Value(name=check.title, canary=found.value, stable=other.value)
        self._hand(one, Reading(at=min(found.at, other.at), values=(value,)))

    def _hand(self, one: _Measured, reading: Reading) -> None:
        one.readings.append(reading)
        # A target that does not tick for so long has no use for what is older.
        del one.readings[:-MOST_READINGS]
        self._wake(one.run.target)

    def _failed(self, what: str, error: errors.MetricsUnavailable) -> None:
        self._meters.metrics_failed()
        log.warning("not measured", what=what, why=error.diagnostics())
