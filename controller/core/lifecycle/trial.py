# SPDX-License-Identifier: Apache-2.0
"""The trial of the canary: what is fed to the judge, and when the answer is no.

Evidence is taken in whenever the canary carries requests, in every phase, so that a version that
turns bad while the next pods start is caught at the same scrape as one that does so in a step.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from msgspec import structs

from controller.core.evidence import judge as evidence
from controller.core.evidence import pods
from controller.core.evidence.calibration import UNKNOWN, Calibration
from controller.core.evidence.judge import Code, Gate, Outcome, Reason, Verdict
from controller.core.evidence.readings import read
from controller.core.evidence.reasons import seconds
from controller.core.evidence.replay import Planned
from controller.core.evidence.settings import Limits, Settings, oldest, restart_rate
from controller.core.evidence.tally import UNREPORTED, Interval
from controller.core.guard.permit import Refusal
from controller.core.lifecycle import coverage, rungs
from controller.core.lifecycle.memory import Memory, Run
from controller.core.lifecycle.situation import Decision, Request, Situation
from controller.core.lifecycle.table import ALL_IN, ARMED, COMMITTED, SERVED
from controller.core.lifecycle.tracks import by_pods
from controller.core.policy import caps
from controller.core.policy.model import Policy
from controller.core.values import WHOLE_BP, Same

CHECKPOINT_SECONDS = 30.0
"""How much evidence a crash may cost, at most; the tail is read again from the metrics store."""

BETA = 0.05
"""Largest probability that a version which is worse by the margin is promoted."""

LEAST_MARGIN = 0.005
"""What is proven before a promotion is no finer than this: it would take a day of requests."""

WATCH_SECONDS = 10.0
"""A run that waits for evidence is woken by each scrape, and looked at so often all the same: not
as often as most are scraped, or the clock would wake it a moment before the scrape does."""

HOLDS = 2.0
"""A run that waits for requests or for its pods takes longer than planned, mostly by less."""

MOST_REMEMBERED = 2048
"""Of what follows from a run's policy and past alone, and every look of it asks for. More runs than
that at a time are as right, and slower."""

Known: TypeAlias = Same[Mapping[str, Any] | None]
"""What a run's document has of stable's past."""

LEAST_SCRAPES = 2
"""A step that its budget would end sooner lasts for so many."""


def rehearsed(run: Run, policy: Policy, ceilings: caps.Ceilings) -> Callable[[float], Planned]:
    """The run as it is replayed on stable's past before it begins, by the seconds of a scrape."""
    steps = rungs.planned(run, policy, ceilings)

    def paced(scrape_seconds: float) -> Planned:
        return Planned(
            settings=_strictness(policy, scrape_seconds, run.slips),
            steps=tuple((step.weight_bp / WHOLE_BP, step.dwell_seconds) for step in steps),
            seconds=HOLDS * rungs.planned_seconds(policy),
        )

    return paced


def settings(situation: Situation, run: Run) -> Settings:
    """How strict the judge is in this run: fixed by its policy and by stable's history."""
    known = Same(run.calibration)
    return _settings(situation.plan, known, situation.scrape_seconds, run.slips)


@functools.lru_cache(maxsize=MOST_REMEMBERED)
def _settings(policy: Policy, known: Known, scrape_seconds: float, slips: int) -> Settings:
    return _recalled(known).applied(_strictness(policy, scrape_seconds, slips))


def _strictness(policy: Policy, scrape_seconds: float, slips: int) -> Settings:
    """What the policy says to it, while nothing is known of stable's past."""
    total = rungs.planned_seconds(policy)
    scrape = max(scrape_seconds, 1.0)
    return Settings(
        min_requests=policy.min_requests,
        limits=Limits(
            max_error_rate=policy.error_rate,
            latency=tuple((limit.seconds, limit.slow_share) for limit in policy.latency),
        ),
        assertions=policy.checks,
        max_age_seconds=oldest(scrape),
        restart_rate=restart_rate(int(total / scrape)),
        fast_error_rate=policy.breaker_share,
        safe_margin=max((policy.error_rate or 0.0) / 2, LEAST_MARGIN),
        # A step that begins again is another chance to be wrong: all together come to BETA.
        beta=BETA / 2 ** (slips + 4) if slips else BETA * 15 / 16,
    )


def calibration(run: Run) -> Calibration:
    """What was known of stable's past when the run began."""
    return _recalled(Same(run.calibration))


@functools.lru_cache(maxsize=MOST_REMEMBERED)
def _recalled(known: Known) -> Calibration:
    return Calibration.from_json(known.value) if known.value else UNKNOWN


def gate(situation: Situation, run: Run) -> Gate:
    """What a PASS asks for at the present rung.

    Before all requests go to the new version it is proven that it is no worse than by half of what
    the policy's limit allows and keeps the latency limits; and a ladder with a budget is climbed no
    faster than that allows.
    """
    index, policy = run.step, situation.plan
    step, after = rungs.at(situation, run, index), rungs.at(situation, run, index + 1)
    scrape = max(situation.scrape_seconds, 1.0)
    steered = policy.budget is not None and index < rungs.count(situation, run)
    return Gate(
        dwell_seconds=max(step.dwell_seconds, LEAST_SCRAPES * scrape * steered),
        proven=index == rungs.final(situation, run) - 1,
        warm_seconds=LEAST_SCRAPES * scrape,
        budget=policy.budget if steered and policy.budget is not None else math.inf,
        next_share=after.weight_bp / WHOLE_BP,
        # Rolled natively, the new version is watched with all requests for as long as it bakes.
        next_seconds=max(
            after.dwell_seconds if after.weight_bp < WHOLE_BP else policy.bake.seconds,
            LEAST_SCRAPES * scrape,
        ),
        reaction_seconds=calibration(run).cap_scrapes * scrape + situation.settle_seconds,
    )


def watched(situation: Situation, memory: Memory) -> Memory:
    """Evidence is gathered from the first request on, before any weight is known to be in force.

    What is seen then can only speak against the canary: a PASS needs the window that `begun` opens.
    """
    if memory.evidence is not None:
        return memory
    return replace(memory, evidence=evidence.start(settings(situation, memory.run)))


def warming(situation: Situation, memory: Memory) -> Memory:
    """Pods are being started: they are cold from their first answer on, at whatever weight."""
    found = memory.evidence
    if found is None or not situation.clock:
        return memory
    until = max(found.warm_until, situation.clock + situation.plan.warm_up_seconds)
    warm = structs.replace(found, warm_until=until)
    memory = replace(memory, evidence=warm)
    if found.warm_until >= situation.clock:
        return memory  # They have been asked for a moment ago, and that is on record.
    return memory.with_run(evidence=warm.to_json()).at(checkpoint=situation.now)


def begun(situation: Situation, memory: Memory, *, cold: bool = False) -> Memory:
    """The present weight is in force: open the window now, by the metrics store's own clock.

    Nothing that was scraped before this moment counts toward the PASS. `cold` says that pods have
    been started for this weight, which may be slow and err more often in their first minute.
    """
    chosen = settings(situation, memory.run)
    found = memory.evidence or evidence.start(chosen)
    warm_up = situation.plan.warm_up_seconds if cold else 0.0
    opened = evidence.weight_changed(found, situation.clock, warm_up_seconds=warm_up)
    return replace(memory, evidence=opened)


def fed(situation: Situation, memory: Memory) -> Memory:
    """The memory with what was scraped since; a checkpoint goes along when it is due."""
    if memory.evidence is None or not (situation.intervals or situation.readings):
        return memory
    chosen = settings(situation, memory.run)
    found = memory.evidence
    for interval in situation.intervals:
        found = evidence.observe(found, chosen, _tracks(memory, interval))
    for reading in situation.readings:
        found = read(found, chosen, reading)
    # The store is not asked again for a reading that was bet on, so that it must not be lost; and
    # a tail needs a scrape that it begins at.
    urgent = found.trials != memory.evidence.trials
    urgent |= math.isfinite(found.last_at) and not math.isfinite(memory.evidence.last_at)
    memory = replace(memory, evidence=found)
    last = memory.moments.checkpoint
    if not urgent and last is not None and situation.now - last < CHECKPOINT_SECONDS:
        return memory
    return memory.with_run(evidence=found.to_json()).at(checkpoint=situation.now)


def _tracks(memory: Memory, interval: Interval) -> Interval:
    """While the Deployment's own pods change under traffic a gateway cannot tell them apart.

    The Service leads to stable and new pods alike in a native roll, and to new pods alone when the
    traffic is handed back to them. So all of it counts as the new version's: the absolute limits
    speak, and there is nothing left to compare with. As soon as all requests go to the canary it is
    no gap either that stable has none.
    """
    if memory.phase in ALL_IN and not interval.stable.requests:
        interval = structs.replace(interval, stable=UNREPORTED, alone=True)
    if memory.phase not in SERVED or by_pods(memory.run):
        return interval
    everything = interval.canary.plus(interval.stable)
    return structs.replace(interval, canary=everything, stable=UNREPORTED, alone=True)


def verdict(situation: Situation, memory: Memory) -> Verdict:
    """What evidence and pod state say now; a PASS stands on the counts of all pods."""
    found = _judged(situation, memory, coverage.lasting(situation, memory))
    if found.outcome is not Outcome.PASS:
        return found
    doubts = coverage.doubts(situation, memory)
    return _judged(situation, memory, doubts) if doubts else found


def _judged(situation: Situation, memory: Memory, unseen: Sequence[Reason]) -> Verdict:
    chosen = settings(situation, memory.run)
    armed = memory.phase in ARMED
    return evidence.judge(
        memory.evidence or evidence.start(chosen),
        chosen,
        situation.clock,
        gate=Gate(dwell_seconds=situation.plan.bake.seconds)
        if armed
        else gate(situation, memory.run),
        hard_trips=_hard_trips(situation),
        unseen=unseen,
        alone=armed,
    )


def _hard_trips(situation: Situation) -> Sequence[Reason]:
    rolled = [pod for pod in situation.rolled or () if not pod.orphan]
    return pods.hard_trips([*situation.view.pods, *rolled])


def failed(situation: Situation, memory: Memory) -> Verdict | None:
    """The verdict, if it is FAIL."""
    if not evidence.tripped(memory.evidence, _hard_trips(situation)):
        return None
    return verdict(situation, memory)


def doubtful(situation: Situation, memory: Memory) -> bool:
    """Whether the evidence is such that nothing would pass on it."""
    found = memory.evidence
    return found is not None and found.level >= settings(situation, memory.run).log_doubt


def unfit(situation: Situation, memory: Memory) -> Refusal | None:
    """Why what is known of the version is nothing to raise on now; None: nothing stands against it.

    Between a PASS and the raise that it allows minutes may go by until pods are ready, and hours if
    somebody pauses. So the PASS is not all: what was seen of the canary at the weight in force has
    to be as fresh as the judge would ask for, and not such that nothing would pass on it.
    """
    run = memory.run
    if memory.phase in COMMITTED or (run.recovery and run.step >= rungs.final(situation, run)):
        # After the commit the road to the end is the safe one; and stable that is down must never
        # bar its own fix.
        return None
    if run.granted > 0 and doubtful(situation, memory):
        message = "the evidence against the version has grown since it passed; nothing is raised"
        return Refusal(code=Code.EVIDENCE_AGAINST.value, message=message)
    unheard = _unheard(situation, memory)
    return Refusal(code=Code.METRICS_STALE.value, message=unheard) if unheard else None


def _unheard(situation: Situation, memory: Memory) -> str:
    """What is too old, or was never heard, as a sentence; empty: nothing is.

    Of whom nothing was ever seen nothing can be fresh: before the first step, for which perhaps
    nobody was asked yet, and where a person promotes without traffic. There it is enough that the
    store is not known to be silent.
    """
    run, found, age = memory.run, memory.evidence, situation.metrics_age
    limit = oldest(max(situation.scrape_seconds, 1.0))
    if run.granted == 0 and age is None:
        return ""
    if not situation.clock:
        return "the metrics store has not answered; nothing is raised before it does"
    what = "answer of the metrics store"
    if run.granted > 0 and found is not None and math.isfinite(found.canary_at):
        seen, what = situation.scraped_at, "sample of the run"
        if run.weight_bp > 0:
            seen, what = found.canary_at, "sample of the canary"
        age = situation.clock - seen if seen is not None else None
    if age is None:
        return f"there is no {what}; nothing is raised before there is one"
    if age <= limit:
        return ""
    return f"the newest {what} is {seconds(age)} old, at most {limit:g} s are accepted"


def soak(situation: Situation, run: Run) -> float:
    """Seconds with all requests after which the rolled pods have been seen well enough.

    The composite takes so many scrapes to say FAIL, and one more goes by before the first full one.
    Nothing is watched for longer than the policy bakes.
    """
    scrapes = calibration(run).cap_scrapes + 1
    most = max(situation.plan.bake.seconds, situation.settle_seconds)
    return max(situation.settle_seconds, min(scrapes * situation.scrape_seconds, most))


def vouched(person: Request) -> str:
    """Why a step passes that the evidence has not let pass."""
    return f"promoted by {person.actor} without full evidence ({person.reason or 'no reason'})"


def sentence(found: Verdict) -> str:
    """All reasons as one text."""
    return "; ".join(reason.message for reason in found.reasons)


def waiting(situation: Situation, memory: Memory, found: Verdict, most: float) -> Decision:
    """Why nothing passes yet, when that is expected to change, and when a deadline ends it.

    Args:
        situation: The world.
        memory: The run.
        found: The verdict, which is HOLD.
        most: Seconds from the beginning of the phase to its deadline.
    """
    told = "; ".join(reason.told for reason in found.reasons)
    ends = [] if situation.paused else [most - (situation.now - memory.moments.entered)]
    silent = coverage.silence(situation, memory).seconds
    hears = math.inf
    if coverage.at_stake(situation, memory):
        hears = situation.plan.metrics_deadline_seconds - silent
    if silent > found.settings.max_age_seconds and hears < math.inf:
        ends.append(hears)
    ending = "paused, so that no deadline runs"
    if ends:
        ending = f"the deadline ends the run in {seconds(min(ends))}"
    due = [left for left in (*ends, hears, WATCH_SECONDS) if left > 0]
    return Decision(memory=memory, why=f"{told}; {ending}", verdict=found, wait_seconds=min(due))
