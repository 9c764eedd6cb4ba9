# SPDX-License-Identifier: Apache-2.0
"""The policy of a target on the target's own history. It reads, and writes nothing.

Some moments of the past are chosen. For each of them everything is asked as the daemon would have
asked it then: what six hours told the judge, and what came after, scrape by scrape.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from controller.adapters.clock import LoopClock
from controller.adapters.prometheus import providers
from controller.adapters.prometheus.past import Archive
from controller.app import reading
from controller.app.backtest import gathering, moments
from controller.app.backtest.gathering import MOST_SECONDS, Gathered
from controller.app.doctor import surroundings
from controller.app.doctor.counters import keys_of
from controller.app.doctor.surroundings import Surroundings
from controller.app.reading import Access
from controller.core import checkup, errors
from controller.core.backtest import rehearsal, summary
from controller.core.evidence.series import PodsKey, TrackKey
from controller.core.lifecycle import rungs
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.values import TargetRef, percent

MOST_WINDOWS: Final = 28
"""Moments that a run is begun at: four a day in a week. The daemon's own examination of the past
before a run is what most of the time goes into, and it is made anew for each."""


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
        return await _rehearsed(seen, archive, days=asked.days)
    finally:
        archive.close()


async def _rehearsed(seen: Surroundings, archive: Archive, *, days: float) -> dict[str, Any]:
    situation, run = seen.situation, seen.run
    clock = LoopClock()
    until, end = clock.monotonic() + MOST_SECONDS, clock.wall()
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
        needed = checkup.span(rungs.planned_seconds(situation.plan))
        raise errors.Refused(
            f"the history of {key} has no {needed} in a row, which a run of this policy takes at "
            f"least: {checkup.span(history)} were found",
            advice="wait until Prometheus has seen as much, or ask `switchgear doctor`, which "
            "needs some minutes and says what is to be expected",
        )
    windows = [(moment, min(plan.seconds, times[-1] - moment)) for moment in chosen]
    gathered = await gathering.gather(archive, (situation, run), key, windows, until=until)
    notes += gathered.missed()
    if archive.coarse:
        notes.append(
            "Prometheus refused raw samples (--query.max-samples); every 15 s was taken instead, "
            "which finds later what is scraped more often"
        )
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


def _report(
    seen: Surroundings,
    gathered: Gathered,
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
        for step in rungs.planned(run, situation.plan)
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
        "measured": summary.measured(gathered.played, gathered.silent, gathered.left),
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
        "notes": [*notes, *_unanswered(asks=asks, slow=bool(slow))],
    }


def _unanswered(*, asks: bool, slow: bool) -> Iterator[str]:
    """What the runs could not be asked."""
    if not asks:
        yield (
            "false rollbacks cannot be counted: these counters do not show which pod answered, so "
            "no pod can play the canary; scrape the pods themselves (docs/backtest.md)"
        )
    if not slow:
        yield "no histogram, so that slower answers were not tried"
