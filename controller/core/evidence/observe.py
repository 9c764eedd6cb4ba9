# SPDX-License-Identifier: Apache-2.0
"""Taking one scrape interval into the evidence.

Order of things: every process settles its bets; the composite is capped, so that no single scrape
can roll back alone; then it is looked at whether the evidence now suffices. What has sufficed once
stays so: the promise is about the first crossing.
"""

import math

from msgspec.structs import replace

from controller.core.evidence import checks, eprocess, timing
from controller.core.evidence.checks import Check, Kind
from controller.core.evidence.eprocess import Process
from controller.core.evidence.safe import NOTHING, Timely
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import NEVER, Evidence, Trip, Window
from controller.core.evidence.tally import INFINITE, Interval, Tally
from controller.core.evidence.tempering import Tempered, tempered

SLACK_SECONDS = 1e-3
"""Two neighbouring intervals may seem to overlap by this much, from rounding."""

FADE = 0.8
"""What a scrape's counts are still worth one scrape later in the fading sums: about five scrapes
count, few enough for a collapse to show and enough for 10 % of them to be no accident."""


def observe(evidence: Evidence, settings: Settings, interval: Interval) -> Evidence:
    """The evidence after this interval; unchanged if its time was taken in before.

    Args:
        evidence: The state before.
        settings: The settings the run was started with.
        interval: Counts of both tracks over the same stretch of time.
    """
    if interval.at <= evidence.last_at or interval.begins < evidence.last_at - SLACK_SECONDS:
        return evidence
    known = checks.learned(settings, _resumed(evidence, settings, interval), interval)
    served = interval.canary.requests + interval.stable.requests
    worth = tempered(settings, served / interval.seconds if interval.seconds > 0 else 0.0)
    processes, fast = _settled(known, settings, interval, worth)
    usable = (timing.usable(known, interval.canary), timing.usable(known, interval.stable))
    window, proof, timely = _counted(known, settings, interval, usable), known.proof, known.timely
    canary = (interval.canary.errors, interval.canary.requests)
    stable = (interval.stable.errors, interval.stable.requests)
    # What speaks for the canary counts from the weight in force on, what speaks against it at once.
    if window is not known.window:
        timely = _timely(known, settings, interval, worth)
        if interval.stable.reported:
            proof = known.proof.settled(canary, stable, worth.proof)
    grown = replace(
        checks.remembered(settings, replace(known, processes=processes), interval),
        fast=fast,
        window=window,
        recent=_faded(known.recent, interval),
        last_at=interval.at,
        proof=proof,
        timely=timely,
        excess=known.excess.settled(canary, stable, worth.errors),
        canary_at=interval.at if interval.canary.reported else known.canary_at,
        stable_at=interval.at if interval.stable.reported else known.stable_at,
        canary_timed_at=timing.until(
            known, known.canary_timed_at, interval, interval.canary, whole=usable[0]
        ),
        stable_timed_at=timing.until(
            known, known.stable_timed_at, interval, interval.stable, whole=usable[1]
        ),
    )
    held = capped(grown, settings, settings.log_cap)
    trip = held.trip or _trip(held, evidence, settings, interval)
    return held if trip is held.trip else replace(held, trip=trip)


def _resumed(evidence: Evidence, settings: Settings, interval: Interval) -> Evidence:
    """What lies before this interval and was never counted is a tail that a restart found gone.

    (Counters span an outage of the store, and what a later scrape brings.) Nobody knows what has
    happened in it, so that it is evidence time of neither track, whose counts go on where the
    interval begins; where it is longer than an interval may count, the window begins anew there.
    What speaks for the canary goes on: bets that sit out a while are as good as before, and begun
    anew they would be another chance to be wrong.
    """
    begins, last = interval.begins, evidence.last_at
    lost = begins - last if math.isfinite(last) else 0.0
    if lost <= SLACK_SECONDS:
        return evidence
    later = replace(
        evidence,
        canary_at=begins if math.isfinite(evidence.canary_at) else NEVER,
        stable_at=begins if math.isfinite(evidence.stable_at) else NEVER,
    )
    at = evidence.window.at
    if at is None or lost <= settings.longest_interval_seconds:
        return later
    # What of the canary waits for stable's next answers is of another time than those.
    proof = replace(later.proof, open=NOTHING.open)
    return replace(later, window=Window(at=max(at, begins)), proof=proof)


def _timely(
    evidence: Evidence, settings: Settings, interval: Interval, worth: Tempered
) -> tuple[Timely, ...]:
    """How well the latency limits were kept, which answers of cold pods say nothing about."""
    if interval.begins < evidence.warm_until:
        return evidence.timely
    canary, found = interval.canary, []
    for known in evidence.timely:
        slow = canary.slow(known.seconds)
        eta = worth.slower_than(known.seconds, settings)
        found.append(known if slow is None else known.settled(*slow, eta))
    return tuple(found)


def _settled(
    evidence: Evidence, settings: Settings, interval: Interval, worth: Tempered
) -> tuple[tuple[Process, ...], Process]:
    """The checks' processes and the one of the fast trip after this interval.

    Pods that have just started answer slowly and may fail more often whatever their version is. As
    long as they are cold nothing is said about latency, errors have to be far worse than stable's,
    and the limit for errors and the fast trip look as ever.
    """
    cold = interval.begins < evidence.warm_until
    tolerance = settings.tolerance * (settings.cold_tolerance if cold else 1.0)
    rate, fast, settled = settings.restart_rate, evidence.fast, [*evidence.processes]
    window, far = evidence.window, worth.far / worth.latency
    for place, check in checks.roster(settings, evidence).counted:
        if cold and check.timed:
            continue
        scores = check.scores(interval, settings, tolerance, window, far)
        if scores is None:
            continue
        process = evidence.processes[place]
        paid = eprocess.payout(scores, worth.latency if check.timed else worth.errors)
        settled[place] = eprocess.advance(process, paid, rate)
        if check.kind is not Kind.ERRORS:
            continue
        if cold:
            scores = check.scores(interval, settings, settings.tolerance, window, far) or scores
            paid = eprocess.payout(scores, worth.errors)
        # Until something is capped, or pods are cold, the two are one and the same.
        same = not cold and fast == process
        fast = settled[place] if same else eprocess.advance(fast, paid, rate)
    return tuple(settled), fast


def capped(evidence: Evidence, settings: Settings, most: float) -> Evidence:
    """Let the composite grow by the cap at most (specification, 1.4), a natural logarithm.

    Money beyond it is taken from the bets alone. The specification takes it from the reserve too;
    sparing that keeps the composite as large and the promise as valid, and a single mad scrape
    does not take away the means to see a real regression later.
    """
    known = checks.roster(settings, evidence)
    level = checks.composite(known, evidence)
    # What a healthy past has lost is no further cap: from 1 on it takes k scrapes, and not more.
    ceiling = max(evidence.level, 0.0) + most
    if level <= ceiling:
        return replace(evidence, level=level)
    weighed = list(zip(known.weights, evidence.processes, strict=True))
    bets = eprocess.log_sum(math.log(weight) + process.at_stake for weight, process in weighed)
    spared = eprocess.log_sum(
        [math.log(weight) + process.cash for weight, process in weighed]
        + ([math.log(known.waiting)] if known.waiting else [])
    )
    # The reserve only ever shrinks, so it fits under the ceiling but for rounding.
    room = ceiling + math.log(max(-math.expm1(spared - ceiling), 1e-12))
    factor = room - bets
    processes = tuple(eprocess.shrunk(process, factor) for process in evidence.processes)
    return replace(evidence, processes=processes, level=ceiling)


def _counted(
    evidence: Evidence, settings: Settings, interval: Interval, usable: tuple[bool, bool]
) -> Window:
    """Add the interval to the window, if all of it lies at the present weight.

    `usable` says of the canary's histogram, and of stable's, whether it has all bounds.
    """
    window = evidence.window
    if window.at is None or interval.begins < window.at:
        return window
    # Time in which only stable was seen is none of evidence, until the canary's counters say what
    # happened in it.
    covered = 0.0
    if interval.canary.reported:
        known = evidence.canary_at > window.at
        covered = interval.at - (evidence.canary_at if known else interval.begins)
    return Window(
        at=window.at,
        seconds=window.seconds + min(covered, settings.longest_interval_seconds),
        canary=_together(evidence, window.canary, interval.canary, usable=usable[0]),
        stable=_together(evidence, window.stable, interval.stable, usable=usable[1]),
    )


def _together(evidence: Evidence, known: Tally, seen: Tally, *, usable: bool) -> Tally:
    """Both, at the bounds that are watched: as soon as `known` has any, it has those alone.

    A histogram without the bound of a limit would take that bound from the whole window. Until it
    is known which are watched it is only told how many answers were timed.
    """
    if not evidence.bounds:
        # A histogram without any bound tells nothing of any answer.
        bounded = any(0 < bound < INFINITE for bound, _ in seen.buckets)
        return known.plus(seen.only(frozenset()) if bounded else replace(seen, buckets=()))
    if len(known.buckets) == 1:
        known = replace(known, buckets=())
    if seen.buckets and not usable:
        seen = replace(seen, buckets=())
    elif not known.buckets:
        proven = [one.seconds for one in evidence.timely]
        seen = seen.only(frozenset((*evidence.bounds, *evidence.limit_bounds, *proven)))
    return known.plus(seen)


def _faded(
    recent: tuple[float, float, float, float], interval: Interval
) -> tuple[float, float, float, float]:
    canary, stable = interval.canary, interval.stable
    return (
        FADE * recent[0] + canary.requests,
        FADE * recent[1] + canary.errors,
        FADE * recent[2] + stable.requests,
        FADE * recent[3] + stable.errors,
    )


def _trip(
    evidence: Evidence, before: Evidence, settings: Settings, interval: Interval
) -> Trip | None:
    """Whether the evidence suffices, by the fast way or by the composite."""
    fast = eprocess.value(evidence.fast)
    if fast >= settings.log_fast and _collapsed(evidence, before, settings, interval):
        return _tripped(Check(kind=Kind.ERRORS, weight=1.0), evidence, interval, fast, fast=True)
    return sufficed(evidence, settings, interval)


def sufficed(evidence: Evidence, settings: Settings, interval: Interval) -> Trip | None:
    """The trip of the composite, if it is large enough."""
    if evidence.level < settings.log_needed:
        return None
    # Summed up anew a capped composite is a rounding error away from its level.
    deciding = checks.deciding(checks.roster(settings, evidence), evidence)
    return _tripped(deciding, evidence, interval, evidence.level)


def _tripped(
    check: Check, evidence: Evidence, interval: Interval, level: float, *, fast: bool = False
) -> Trip:
    """The trip with the window's figures, or the interval's where the window saw nothing bad."""
    seen = check.told(evidence.window.canary, evidence.window.stable)
    canary = seen.figures(evidence.window.canary)
    stable = seen.figures(evidence.window.stable)
    if canary is None or not canary[0]:
        seen = check.told(interval.canary, interval.stable)
        canary = seen.figures(interval.canary)
        stable = seen.figures(interval.stable)
    return Trip(
        check=check.name,
        fast=fast,
        at=interval.at,
        canary=canary or (0, 0),
        stable=stable or (0, 0),
        log_evidence=level,
        bound=seen.bound,
    )


def _collapsed(
    evidence: Evidence, before: Evidence, settings: Settings, interval: Interval
) -> bool:
    """Whether the canary's error rate is beyond doubt bad, since the step began or lately.

    Of two that were scraped at different moments one may have seen the beginning of what befalls
    both. So the canary is held as it was a scrape ago against stable as it is now.
    """
    if interval.skewed and not interval.stable.reported:
        return False
    canary, stable = before if interval.skewed else evidence, evidence
    steps = (
        float(canary.window.canary.requests),
        float(canary.window.canary.errors),
        float(stable.window.stable.requests),
        float(stable.window.stable.errors),
    )
    lately = (*canary.recent[:2], *stable.recent[2:])
    return any(_far_worse(sums, settings) for sums in (steps, lately))


def _far_worse(sums: tuple[float, float, float, float], settings: Settings) -> bool:
    canary, canary_bad, stable, stable_bad = sums
    if not canary or not stable:
        return False
    rate = canary_bad / canary
    return rate >= settings.fast_error_rate and rate >= settings.fast_ratio * stable_bad / stable
