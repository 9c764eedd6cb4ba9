# SPDX-License-Identifier: Apache-2.0
"""From evidence to one of three words: PASS, HOLD or FAIL, with its reasons.

FAIL needs proof, PASS needs proof that there was something to see, and everything else is HOLD.
No data is therefore never a PASS and never a FAIL. The function has no memory and no clock: the
same evidence gives the same verdict, before and after a restart.
"""

import enum
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from controller.core.evidence import (
    baseline,
    blind,
    checks,
    gates,
    limits,
    readings,
    slower,
    timing,
    young,
)
from controller.core.evidence.checks import NOBODY, Check, Kind, Roster
from controller.core.evidence.gates import Gate
from controller.core.evidence.observe import observe
from controller.core.evidence.reasons import (
    UNDECIDED,
    UNKNOWN,
    Code,
    Reason,
    counted,
    percent,
    power,
    share_of,
)
from controller.core.evidence.settings import SATURATION, Limits, Settings, restart_rate
from controller.core.evidence.slower import Slower
from controller.core.evidence.state import Evidence, Trip, start, weight_changed
from controller.core.evidence.tally import INFINITE, UNREPORTED, Interval, Tally

__all__ = [
    "UNREPORTED",
    "Code",
    "Evidence",
    "Gate",
    "Interval",
    "Limits",
    "Outcome",
    "Reason",
    "Settings",
    "Tally",
    "Verdict",
    "judge",
    "observe",
    "restart_rate",
    "start",
    "tripped",
    "weight_changed",
]


LOG_10: Final = math.log(10)

UNFORESEEN: Final = (UNKNOWN, UNDECIDED, blind.OVERDUE)
"""How that ends which is expected where no figure says when."""


class Outcome(enum.Enum):
    """What the evidence allows."""

    PASS = "pass"  # noqa: S105  # A verdict, no password.
    HOLD = "hold"
    FAIL = "fail"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, complete enough to be written down and argued about.

    Attributes:
        outcome: The word.
        reasons: Why; never empty. The first one decides.
        fast: Whether the fast trip or a hard trip decided, which did not wait for the cap.
        check: Name of the deciding check.
        canary: The canary's counts at the present weight.
        stable: Stable's.
        log10_evidence: Decimal logarithm of the evidence against the canary.
        log10_needed: What it needs to reach for a rollback.
        evidence_seconds: How much time at the present weight the scrapes have covered.
        window_at: Since when that weight is in force; None if no window is open.
        data_at: Scrape time of the newest interval judged; None before the first.
        evidence: The accumulators that it was read from.
        settings: The settings of the run.
        gate: What a PASS asked for.
        now: When it was said, by the metrics store's own clock.
        alone: Whether it asked nothing of stable.
    """

    outcome: Outcome
    reasons: tuple[Reason, ...]
    fast: bool
    check: str
    canary: Tally
    stable: Tally
    log10_evidence: float
    log10_needed: float
    evidence_seconds: float
    window_at: float | None
    data_at: float | None
    evidence: Evidence
    settings: Settings
    gate: Gate
    now: float
    alone: bool = False

    # What only people ask for is found when they do: most verdicts are looked at by nobody.

    @property
    def at_least(self) -> float:
        """How much larger than stable's the canary's share of errors is at least, at this weight.

        Wrong at any look of a run with probability `Settings.beta` at most.
        """
        return self.evidence.excess.bound(self.settings.beta)

    @property
    def at_most(self) -> float:
        """The same the other way."""
        return self.evidence.proof.bound(self.settings.beta)

    @property
    def seconds_to_go(self) -> float | None:
        """When to expect an end of HOLD if all goes on as it does; None if unknown."""
        if self.outcome is not Outcome.HOLD:
            return None
        if any(reason.expected.endswith(UNFORESEEN) for reason in self.reasons):
            return None
        warm = young.seconds_to_go(self.evidence, self.settings)
        read = readings.seconds_to_go(
            self.evidence, self.settings, self.now, proven=self.gate.proven
        )
        known = gates.seconds_to_go(self.evidence, self.settings, self.gate, alone=self.alone)
        return None if known is None else max(known, read, warm) or None

    @property
    def parts(self) -> tuple[tuple[str, float], ...]:
        """Each check with the decimal logarithm of what it adds to the evidence."""
        known = checks.roster(self.settings, self.evidence)
        shares = checks.shares(known, self.evidence)
        return tuple(
            (check.name, part / LOG_10) for check, part in zip(known.checks, shares, strict=True)
        )

    @property
    def slower(self) -> Slower | None:
        """Answers slower than each bound that is watched; None without a histogram."""
        return slower.seen(self.evidence, self.settings, self.check, self.canary, self.stable)


def judge(
    evidence: Evidence,
    settings: Settings,
    now: float,
    *,
    gate: Gate,
    hard_trips: Sequence[Reason] = (),
    unseen: Sequence[Reason] = (),
    alone: bool = False,
) -> Verdict:
    """What the evidence says now.

    Args:
        evidence: The accumulators after the newest interval.
        settings: The settings the run was started with.
        now: Seconds since the epoch by the metrics store's own clock.
        gate: What a PASS at this weight asks for.
        hard_trips: Failures that need no statistics, from `pods.hard_trips`.
        unseen: What is missing among the counts, from `scraped.lacking`.
        alone: No stable pod serves any more, so that a PASS asks nothing of stable.
    """
    level = evidence.level
    if hard_trips:
        return _verdict(
            evidence, settings, gate, Outcome.FAIL, tuple(hard_trips),
            check=hard_trips[0].check, now=now, level=level, fast=True,
        )  # fmt: skip
    known = checks.roster(settings, evidence)
    if evidence.trip is not None:
        return _failed(evidence.trip, known.checks, evidence, settings, gate, now=now)
    found = [*_doubts(known, evidence, settings), *readings.doubts(evidence, settings)]
    found += [*young.doubts(evidence, settings)]
    found += [*baseline.doubts(evidence, settings)] if alone else []
    found += [*blind.lacking(evidence, settings, now, alone=alone), *unseen]
    found += [*readings.unread(evidence, settings, now, proven=gate.proven)]
    found += [*gates.lacking(evidence, settings, gate, alone=alone)]
    if found:
        return _verdict(
            evidence, settings, gate, Outcome.HOLD, tuple(found),
            check=found[0].check, now=now, level=level, alone=alone,
        )  # fmt: skip
    passed = _passed(evidence, level, settings, alone=alone)
    deciding = checks.deciding(known, evidence)
    return _verdict(
        evidence, settings, gate, Outcome.PASS, (passed,),
        check=deciding.name, now=now, level=level, alone=alone,
    )  # fmt: skip


def tripped(evidence: Evidence | None, hard_trips: Sequence[Reason] = ()) -> bool:
    """Whether `judge` says FAIL of this: asked of every run at every look, and mostly not so."""
    return bool(hard_trips) or (evidence is not None and evidence.trip is not None)


def _trip_tally(figures: tuple[int, int], bound: float) -> Tally:
    """A trip's (bad, requests) of one track; where slow ones are meant, as a histogram too."""
    bad, requests = figures
    buckets = ((bound, requests - bad), (INFINITE, requests)) if bound else ()
    return Tally(requests=requests, errors=bad, buckets=buckets)


def _verdict(
    evidence: Evidence,
    settings: Settings,
    gate: Gate,
    outcome: Outcome,
    reasons: tuple[Reason, ...],
    *,
    now: float,
    check: str,
    level: float,
    fast: bool = False,
    alone: bool = False,
) -> Verdict:
    return Verdict(
        outcome=outcome,
        reasons=reasons,
        fast=fast,
        check=check,
        canary=evidence.window.canary,
        stable=evidence.window.stable,
        log10_evidence=level / LOG_10,
        log10_needed=settings.log_needed / LOG_10,
        evidence_seconds=evidence.window.seconds,
        window_at=evidence.window.at,
        data_at=evidence.last_at if math.isfinite(evidence.last_at) else None,
        evidence=evidence,
        settings=settings,
        gate=gate,
        now=now,
        alone=alone,
    )


def _failed(
    trip: Trip,
    named: Sequence[Check],
    evidence: Evidence,
    settings: Settings,
    gate: Gate,
    *,
    now: float,
) -> Verdict:
    """The verdict once the evidence has sufficed."""
    errors = Check(kind=Kind.ERRORS, weight=1.0)
    check = next((check for check in named if check.name == trip.check), errors)
    if check.measured:
        reason = _stated(trip, readings.broken(evidence, settings, trip.check), settings)
    else:
        reason = _failure(trip, replace(check, bound=trip.bound), settings)
    if settings.past_doubt:
        message = f"{reason.message}; beware: {settings.past_doubt}"
        reason = msgspec.structs.replace(reason, message=message)
    found_bad = _verdict(
        evidence, settings, gate, Outcome.FAIL, (reason,),
        check=trip.check, now=now, level=trip.log_evidence, fast=trip.fast,
    )  # fmt: skip
    if evidence.window.canary.requests or check.measured:
        return found_bad
    # It tripped while the weight was still settling: the figures are those of the trip.
    canary, stable = _trip_tally(trip.canary, trip.bound), _trip_tally(trip.stable, trip.bound)
    return msgspec.structs.replace(found_bad, canary=canary, stable=stable)


def _failure(trip: Trip, check: Check, settings: Settings) -> Reason:
    canary = counted(*trip.canary, check.what)
    stable = counted(*trip.stable, "")
    needed = math.log(settings.fast_evidence) if trip.fast else settings.log_needed
    limit = settings.latency_tolerance if check.timed else settings.tolerance
    code, bar = Code.WORSE_THAN_STABLE, f"{limit:g}x"
    if check.absolute:
        code, limit, bar = Code.LIMIT_VIOLATED, check.limit, percent(check.limit)
    if trip.fast:
        code = Code.FAST_TRIP
    weight = f"{power(trip.log_evidence)} of {power(needed)} needed"
    return Reason(
        check=trip.check,
        code=code,
        message=f"canary {canary} against stable {stable}, limit {bar}; evidence {weight}",
        canary_value=share_of(trip.canary),
        stable_value=share_of(trip.stable),
        n=trip.canary[1],
        limit=limit,
    )


def _stated(trip: Trip, words: str, settings: Settings) -> Reason:
    """A failure that no requests are counted for."""
    weight = f"{power(trip.log_evidence)} of {power(settings.log_needed)} needed"
    code = Code.SATURATED if trip.check == SATURATION else Code.CHECK_BROKEN
    return Reason(check=trip.check, code=code, message=f"{words}; evidence {weight}")


def _doubts(known: Roster, evidence: Evidence, settings: Settings) -> Iterator[Reason]:
    """What speaks against the canary or its surroundings without being proof."""
    yield from limits.doubts(known, evidence, settings)
    window = evidence.window
    level = evidence.level
    if level >= settings.log_doubt:
        deciding = checks.deciding(known, evidence)
        deciding = deciding.told(window.canary, window.stable)
        canary = deciding.figures(window.canary) or NOBODY
        stable = deciding.figures(window.stable) or NOBODY
        told = f"canary {counted(*canary, deciding.what)} against stable {counted(*stable, '')}"
        if deciding.measured:
            told = readings.broken(evidence, settings, deciding.name)
        yield Reason(
            check=deciding.name,
            code=Code.EVIDENCE_AGAINST,
            message=f"{told}: evidence "
            f"{power(level)}, nothing passes from {power(settings.log_doubt)} on, "
            f"rollback at {power(settings.log_needed)}",
            expected=UNDECIDED,
            canary_value=share_of(canary),
            stable_value=share_of(stable),
            n=canary[1],
        )


def _passed(evidence: Evidence, level: float, settings: Settings, *, alone: bool) -> Reason:
    window, sure = evidence.window, percent(1 - settings.beta)
    excess = percent(evidence.proof.bound(settings.beta))
    slow = "".join(
        f", and {percent(known.bound(settings.beta))} slower than {known.seconds:g} s"
        for known in evidence.timely
        if known.requests
    )
    unseen = ", ".join(readings.unmeasured(evidence, settings))
    untimed = timing.uncompared(evidence, alone=alone)
    canary = counted(window.canary.errors, window.canary.requests, "errors")
    stable = counted(window.stable.errors, window.stable.requests, "")
    return Reason(
        check="errors",
        code=Code.PASSED,
        message=f"canary {canary} against stable {stable} in {window.seconds:.0f} s at this "
        f"weight; evidence against it {power(level)}, rollback at {power(settings.log_needed)}; "
        f"with {sure} certainty at most {excess} more errors than stable{slow}"
        + (f"; not measured on the canary so far: {unseen}" if unseen else "")
        + (f"; {untimed}" if untimed else ""),
        canary_value=window.canary.error_rate,
        stable_value=window.stable.error_rate,
        n=window.canary.requests,
    )
