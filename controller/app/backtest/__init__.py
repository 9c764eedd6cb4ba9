# SPDX-License-Identifier: Apache-2.0
"""The policy of a target on the target's own history. It reads, and writes nothing.

Some moments of the past are chosen. For each of them everything is asked as the daemon would have
asked it then: what six hours told the judge, and what came after, scrape by scrape.
"""

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from controller.adapters.clock import LoopClock
from controller.adapters.prometheus import providers
from controller.adapters.prometheus.past import Archive
from controller.app import reading
from controller.app.backtest import measuring, moments
from controller.app.backtest.measuring import Beside
from controller.app.doctor import surroundings
from controller.app.doctor.counters import keys_of
from controller.app.doctor.surroundings import Surroundings
from controller.app.reading import Access
from controller.core import checkup, errors
from controller.core.backtest import rehearsal, stretch, summary
from controller.core.backtest.rehearsal import Plan, Played
from controller.core.backtest.stretch import Stretch
from controller.core.backtest.thinning import REGRESSIONS
from controller.core.evidence import calibration
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.series import PodsKey, TrackKey
from controller.core.lifecycle import trial
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.values import TargetRef, percent
from controller.engine import ask
from controller.engine.feed import Feed, joined
from controller.engine.meters import Meters

MOST_WINDOWS: Final = 28
"""Moments that a run is begun at: four a day in a week. The daemon's own examination of the past
before a run is what most of the time goes into, and it is made anew for each."""

MOST_POINTS: Final = 20_000_000
"""Samples that are read; beyond it the label set is out of hand."""

EDGE_SCRAPES: Final = 3
"""Read so much sooner than a run begins: the first sample of each series is a predecessor alone."""

USUAL_GAP: Final = 60.0
"""Nobody scrapes less often by far, so that so much is the edge before anything is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the backtest is told.

    Attributes:
        prometheus_url: Address of Prometheus.
        providers: In which order the daemon chooses them, as `switchgear run` is told.
        preset: The policy to assume where the Deployment is not annotated.
        days: How far to go back.
    """

    prometheus_url: str
    providers: tuple[str, ...]
    preset: str
    days: float


@dataclass(slots=True, kw_only=True)
class _Gathered:
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
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    """In how many one was left out, and why."""
    fewer: int = 0
    """In how many fewer groups played, so that fewer values were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """One moment: the run as it would have begun, and what came then."""

    plan: Plan
    stretch: Stretch
    known: Calibration
    beside: Beside


async def rehearse(access: Access, target: TargetRef, asked: Asked) -> dict[str, Any]:
    """What the policy would have done in the last days.

    Raises:
        Missing: There is no such Deployment.
        Refused: Its policy judges nothing, or there is nothing to judge by.
        MetricsUnavailable: Prometheus gave no answer.
        SwitchgearError: The cluster was not reached, or the Deployment may not be read.
    """
    async with reading.connected(access) as calls:
        seen = await surroundings.look(calls, access.namespace, target, asked.preset)
    if seen.situation.plan.observes_only:
        raise errors.Refused(
            f"{target} is only observed: its policy judges nothing",
            advice="give it another policy to see what that would have done",
        )
    archive = Archive(asked.prometheus_url, providers.choose(asked.providers))
    try:
        return await _rehearsed(seen, archive, end=LoopClock().wall(), days=asked.days)
    finally:
        archive.close()


async def _rehearsed(
    seen: Surroundings, archive: Archive, *, end: float, days: float
) -> dict[str, Any]:
    situation, run = seen.situation, seen.run
    begin = end - days * 86400
    key, times, step, notes = await _source(archive, situation, run, begin, end)
    notes += [f"{one.message}" for one in seen.findings if one.topic == "policy"]
    history = times[-1] - times[0] + step
    plan = rehearsal.planned(situation, run)
    chosen = moments.choose(times, step, plan.seconds, MOST_WINDOWS)
    if history < moments.LEAST_LEAD:
        notes.append(
            f"only {checkup.span(history)} of history: the judge is told nothing of stable's past "
            "and is more careful than it would be"
        )
    if not chosen:
        needed = checkup.span(trial.planned_seconds(situation.plan))
        raise errors.Refused(
            f"the history of {key} has no {needed} in a row, which a run of this policy takes at "
            f"least: {checkup.span(history)} were found",
            advice="wait until Prometheus has seen as much, or ask `switchgear doctor`, which "
            "needs some minutes and says what is to be expected",
        )
    gathered = _Gathered()
    skipped = 0
    for moment in chosen:
        if archive.points > MOST_POINTS:
            notes.append(f"more than {MOST_POINTS} samples: the later windows were left out")
            break
        seconds = min(plan.seconds, times[-1] - moment)
        found = await _window(archive, (situation, run), key, moment=moment, seconds=seconds)
        if found is None:
            skipped += 1
            continue
        _play(gathered, found, number=len(gathered.stretches))
    if skipped:
        notes.append(f"{skipped} windows had gaps and were left out")
    if archive.coarse:
        notes.append(
            "Prometheus refused raw samples (--query.max-samples); every 15 s was taken instead, "
            "which finds later what is scraped more often"
        )
    if not gathered.stretches:
        message = f"no window of the history of {key} had scrapes from its begin to its end"
        raise errors.Refused(message, advice="see whether stable is scraped: `switchgear doctor`")
    return _report(seen, gathered, notes, key=key, span=(times[0], times[-1]), archive=archive)


async def _source(
    archive: Archive, situation: Situation, run: Run, begin: float, end: float
) -> tuple[TrackKey, list[float], float, list[str]]:
    """Whose counters are replayed, when they were there, and what is to be said of them.

    Pods are asked for first, whoever judges: a gateway's counters do not show which pod erred.
    """
    stable, _ = keys_of(situation, run)
    target = run.target
    pods = PodsKey(target.namespace, target.name, "", "")
    by_pods = next((key for key in stable if isinstance(key, PodsKey)), None)
    if by_pods is not None:
        pods = PodsKey(target.namespace, target.name, "", by_pods.provider)
    times, step = await archive.covered(pods, begin, end)
    if times:
        told = [f"replayed by the pods' own counters ({pods})"] if by_pods is None else []
        return pods, times, step, told
    for key in stable:
        if key == by_pods:
            continue
        times, step = await archive.covered(key, begin, end)
        if times:
            return key, times, step, []
    looked = ", ".join(str(key) for key in dict.fromkeys((pods, *stable)))
    raise errors.Refused(
        f"Prometheus has no series of {looked} in that time",
        advice="`switchgear doctor` says what it looks for and what is missing",
    )


async def _window(
    archive: Archive, run: tuple[Situation, Run], key: TrackKey, *, moment: float, seconds: float
) -> _Window | None:
    """One moment of the past; None where what came then has gaps."""
    situation, begun = run
    feed = Feed(metrics=archive.at(moment), clock=LoopClock(), meters=Meters())
    known = await feed.calibration([key], ask.longest(begun))
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
    beside = await measuring.look(archive, key, rehearsal.planned(situation, begun), found, checks)
    # Nothing passes without the values of a check, and some windows of the past have none.
    kept = tuple(check for check in checks if check.title in beside.measured.checks)
    situation = replace(situation, policy=replace(situation.plan, checks=kept))
    known = calibration.watching(known, beside.gauges)
    plan = rehearsal.planned(situation, replace(begun, calibration=known.to_json()))
    return _Window(plan=plan, stretch=found, known=known, beside=beside)


def _play(gathered: _Gathered, window: _Window, *, number: int) -> None:
    """Every group of pods as it is; one group with each regression."""
    plan, found, beside = window.plan, window.stretch, window.beside
    gathered.stretches.append(found)
    gathered.calibrations.append(window.known)
    gathered.bounds.add(found.bound)
    gauges = (measuring.titled(gauge.name) for gauge in beside.gauges)
    gathered.played.update([*beside.measured.checks, *gauges])
    gathered.left.update(beside.left.items())
    gathered.fewer += beside.fewer
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


def _report(
    seen: Surroundings,
    gathered: _Gathered,
    notes: list[str],
    *,
    key: TrackKey,
    span: tuple[float, float],
    archive: Archive,
) -> dict[str, Any]:
    situation, run = seen.situation, seen.run
    pods = [len(one.pods) for one in gathered.stretches]
    gaps = sorted(one.gap for one in gathered.stretches)
    asks = any(pods)
    slow = sorted(bound for bound in gathered.bounds if bound)
    ladder = [
        {"share": percent(step.weight_bp), "seconds": step.dwell_seconds}
        for step in trial.planned(run, situation.plan)
    ]
    known = [one for one in gathered.calibrations if one.known]
    return {
        "target": str(run.target),
        "policy": situation.plan.name,
        "ladder": ladder,
        "counters": str(key),
        "from": summary.moment(span[0]),
        "to": summary.moment(span[1]),
        "windows": len(gathered.stretches),
        "pods": max(pods),
        "scrape_seconds": gaps[len(gaps) // 2],
        "requests_per_second": round(
            sum(one.whole.requests for one in gathered.stretches)
            / sum(one.intervals * one.gap for one in gathered.stretches),
            3,
        ),
        "error_share": sum(one.whole.errors for one in gathered.stretches)
        / max(sum(one.whole.requests for one in gathered.stretches), 1),
        "samples_read": archive.points,
        "measured": summary.measured(gathered.played, gathered.left),
        "calibrated": len(known),
        "phi": sorted(one.phi for one in known),
        "slow_beyond_seconds": slow,
        "false_rollbacks": summary.false_rollbacks(gathered.healthy, len(gathered.stretches))
        if asks
        else None,
        "detection": summary.detections(
            {name: runs for name, runs in gathered.worse.items() if runs}
        ),
        "promotion": summary.promotions(gathered.healthy),
        "nearest": summary.worst(gathered.healthy, gaps[len(gaps) // 2]) if asks else None,
        "notes": [*notes, *_unanswered(gathered, asks=asks, slow=bool(slow))],
    }


def _unanswered(gathered: _Gathered, *, asks: bool, slow: bool) -> Iterator[str]:
    """What the runs could not be asked, or less often."""
    if not asks:
        yield (
            "false rollbacks cannot be counted: these counters do not show which pod answered, so "
            "no pod can play the canary; scrape the pods themselves (docs/backtest.md)"
        )
    if gathered.fewer:
        yield (
            f"in {gathered.fewer} windows fewer groups of pods played the canary, so that the "
            f"checks took no more than {measuring.MOST_VALUES} queries in each"
        )
    if not slow:
        yield "no histogram, so that slower answers were not tried"
