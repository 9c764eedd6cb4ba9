# SPDX-License-Identifier: Apache-2.0
"""Window by window: what is asked of the past, and what the runs in it come to."""

import asyncio
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from controller.adapters.clock import LoopClock
from controller.adapters.prometheus.past import Archive
from controller.app.backtest import measuring
from controller.app.backtest.measuring import Beside
from controller.core import checkup, errors
from controller.core.backtest import rehearsal, stretch
from controller.core.backtest.rehearsal import Plan, Played
from controller.core.backtest.stretch import Stretch
from controller.core.backtest.thinning import REGRESSIONS
from controller.core.evidence import calibration
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.series import TrackKey
from controller.core.lifecycle import trial
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.engine.feed import Feed
from controller.engine.follower import joined
from controller.engine.meters import Meters

MOST_POINTS: Final = 20_000_000
"""Samples that are read; beyond it the label set is out of hand."""

MOST_SECONDS: Final = 1800.0
"""How long is asked and played; a store that takes longer has other things to do."""

EDGE_SCRAPES: Final = 3
"""Read so much sooner than a run begins: the first sample of each series is a predecessor alone."""

USUAL_GAP: Final = 60.0
"""Nobody scrapes less often by far, so that so much is the edge before anything is known."""


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What the rehearsals have brought so far."""

    healthy: list[Played] = field(default_factory=list)
    worse: dict[str, list[Played]] = field(
        default_factory=lambda: {one.name: [] for one in REGRESSIONS}
    )
    stretches: list[Stretch] = field(default_factory=list)
    calibrations: list[Calibration] = field(default_factory=list)
    bounds: set[float] = field(default_factory=set)
    played: Counter[str] = field(default_factory=Counter)
    """In how many windows each check and gauge was played."""
    silent: Counter[tuple[str, str]] = field(default_factory=Counter)
    """In how many of them a check had no value, and why."""
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    """In how many a check or gauge was left out, and why."""
    fewer: list[int] = field(default_factory=list)
    """The number of groups in each window in which there might have been more."""
    gaps: int = 0
    """Windows that were left out for their gaps."""
    unanswered: list[errors.MetricsUnavailable] = field(default_factory=list)
    """Why others were left out for which the store had no answer, one error for each."""
    ended: str = ""
    """Why the later windows were left out, if they were."""

    def missed(self) -> Iterator[str]:
        """What is to be said of windows and runs that there might have been."""
        if self.ended:
            yield f"{self.ended}: the later windows were left out"
        if self.gaps:
            yield f"{_were(self.gaps)} left out for gaps in the counts"
        for message, count in Counter(one.message for one in self.unanswered).items():
            yield f"{_were(count)} left out: {message}"
        if self.fewer:
            least, most = min(self.fewer), max(self.fewer)
            groups = f"{most} groups of pods" if most > 1 else "one group of pods"
            wished = sum(measuring.most_groups(one) for one in self.stretches)
            yield (
                f"in {len(self.fewer)} of {len(self.stretches)} windows only "
                f"{f'{least} to ' if least < most else ''}{groups} played the canary, so that the "
                f"checks took no more than {measuring.MOST_VALUES} queries in each; "
                f"runs in all: {len(self.healthy)} instead of {wished}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """One moment: the run as it would have begun, and what came then."""

    plan: Plan
    stretch: Stretch
    known: Calibration
    beside: Beside


async def gather(
    archive: Archive,
    run: tuple[Situation, Run],
    key: TrackKey,
    windows: Iterable[tuple[float, float]],
    *,
    until: float,
) -> Gathered:
    """Read and play one window after the other.

    Args:
        archive: The store's past.
        run: The run as it would begin now.
        key: Whose counters are replayed.
        windows: When each begins, in seconds since the epoch, and for how many seconds.
        until: When to begin no other one and to ask no more, by the loop's clock.

    Raises:
        MetricsUnavailable: The store had no answer for any window.
        Refused: No window could be played for another reason.
    """
    gathered = Gathered()
    given_up: dict[str, str] = {}
    for moment, seconds in windows:
        if archive.points > MOST_POINTS:
            gathered.ended = f"it read more than {MOST_POINTS} samples"
            break
        try:
            async with asyncio.timeout_at(until):
                found = await _window(
                    archive, run, key, moment=moment, seconds=seconds, given_up=given_up
                )
        except TimeoutError:
            gathered.ended = f"it took more than {checkup.span(MOST_SECONDS)}"
            break
        except errors.MetricsUnavailable as error:
            gathered.unanswered.append(error)
            continue
        if found is None:
            gathered.gaps += 1
        else:
            _play(gathered, found, number=len(gathered.stretches))
    if not gathered.stretches:
        raise _nothing(gathered, key)
    return gathered


def _were(count: int) -> str:
    return "1 window was" if count == 1 else f"{count} windows were"


def _nothing(gathered: Gathered, key: TrackKey) -> errors.SwitchgearError:
    if gathered.unanswered:
        return gathered.unanswered[-1]
    if gathered.ended:
        return errors.Refused(
            f"no window of the history of {key} was read whole: {gathered.ended}",
            advice="see what takes Prometheus so long, or take fewer checks",
        )
    return errors.Refused(
        f"no window of the history of {key} had scrapes from its begin to its end",
        advice="see whether stable is scraped: `switchgear doctor`",
    )


async def _window(
    archive: Archive,
    run: tuple[Situation, Run],
    key: TrackKey,
    *,
    moment: float,
    seconds: float,
    given_up: dict[str, str],
) -> _Window | None:
    """One moment of the past; None where what came then has gaps."""
    situation, begun = run
    feed = Feed(metrics=archive.at(moment), clock=LoopClock(), meters=Meters())
    planned = trial.rehearsed(begun, situation.plan, situation.ceilings)
    known = await feed.calibration([key], planned)
    edge = EDGE_SCRAPES * USUAL_GAP
    batch = await archive.at(moment + seconds).samples(seconds + edge, [key])
    series = joined(batch, [key])
    found = stretch.read(series, moment, moment + seconds) if series else None
    if found is None:
        return None
    situation = replace(situation, scrape_seconds=found.gap)
    # A deadline, a dwell and a gate do not depend on how many pods there are; warming up does.
    pods = max(len(found.pods), 1)
    begun = replace(begun, replicas=pods)
    checks = situation.plan.checks
    plan = rehearsal.planned(situation, begun)
    beside = await measuring.look(archive, key, plan, found, checks, given_up=given_up)
    # Nothing passes without the values of a check: what was not asked is none of these runs, and
    # for one that had no answer they wait, as a daemon would.
    kept = tuple(check for check in checks if check.title in beside.measured.checks)
    situation = replace(situation, policy=replace(situation.plan, checks=kept))
    known = calibration.watching(known, beside.gauges)
    plan = rehearsal.planned(situation, replace(begun, calibration=known.to_json()))
    return _Window(plan=plan, stretch=found, known=known, beside=beside)


def _play(gathered: Gathered, window: _Window, *, number: int) -> None:
    """Every group of pods as it is; one group with each regression."""
    plan, found, beside = window.plan, window.stretch, window.beside
    gathered.stretches.append(found)
    gathered.calibrations.append(window.known)
    gathered.bounds.add(found.bound)
    gauges = (measuring.titled(gauge.name) for gauge in beside.gauges)
    gathered.played.update([*beside.measured.checks, *gauges])
    gathered.silent.update(beside.silent.items())
    gathered.left.update(beside.left.items())
    if beside.fewer:
        gathered.fewer.append(len(beside.firsts))
    for group, first in enumerate(beside.firsts):
        seed = _seed(number, group)
        played = rehearsal.play(plan, found, beside.measured, first=first, seed=seed)
        gathered.healthy.append(played)
    first = beside.firsts[number % len(beside.firsts)]
    for regression in REGRESSIONS:
        if regression.slow and not found.bound:
            continue
        seed = _seed(number, 0, regression.name)
        played = rehearsal.play(
            plan, found, beside.measured, first=first, seed=seed, regression=regression
        )
        gathered.worse[regression.name].append(played)


def _seed(*parts: object) -> int:
    """The same in every process, other than `hash`."""
    return zlib.crc32(repr(parts).encode())
