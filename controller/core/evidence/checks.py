# SPDX-License-Identifier: Apache-2.0
"""The checks of the composite: which there are, what each weighs and what it counts.

The composite is a weighted mean of processes, so it keeps the promise of one alpha per run however
the checks depend on each other. The weights are those of the specification (1.9); a share whose
check is not asked for goes to the others before the run begins, never during it.
"""

import enum
import functools
import math
from dataclasses import dataclass

from controller.core.evidence import eprocess
from controller.core.evidence.settings import Limits, Settings
from controller.core.evidence.state import Evidence, floored
from controller.core.evidence.tally import INFINITE, Interval, Tally

ERRORS = 0.45
LATENCY = 0.30
ERROR_LIMIT = 0.15
LATENCY_LIMIT = 0.10

MOST_BOUNDS = 4
"""Latency is compared at no more bounds: more add little and cost time and state."""


class Kind(enum.Enum):
    """What a check looks at."""

    ERRORS = "errors"
    ERROR_LIMIT = "error limit"
    LATENCY = "latency"
    LATENCY_LIMIT = "latency limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        kind: What it looks at.
        weight: Its part of the composite.
        bound: Bucket bound in seconds, for latency.
        limit: Allowed share of bad answers, for limits.
    """

    kind: Kind
    weight: float
    bound: float = 0.0
    limit: float = 0.0

    @property
    def name(self) -> str:
        """As people and metrics call it."""
        return f"{self.kind.value} {self.bound:g} s" if self.bound else self.kind.value

    @property
    def absolute(self) -> bool:
        """Whether it holds the canary against a limit and not against stable."""
        return self.kind in (Kind.ERROR_LIMIT, Kind.LATENCY_LIMIT)

    @property
    def what(self) -> str:
        """What a bad answer is called in a sentence."""
        if self.kind in (Kind.ERRORS, Kind.ERROR_LIMIT):
            return "errors"
        return f"slower than {self.bound:g} s"

    def figures(self, tally: Tally) -> tuple[int, int] | None:
        """(bad, requests) of a track; None if the histogram does not have the bound."""
        if self.kind in (Kind.ERRORS, Kind.ERROR_LIMIT):
            return tally.errors, tally.requests
        slow = tally.slower_than(self.bound)
        return None if slow is None else (slow, tally.timed)

    def scores(self, interval: Interval, settings: Settings) -> tuple[float, ...] | None:
        """Log e of the interval per alternative; None where there is nothing to compare."""
        canary = self.figures(interval.canary)
        if canary is None or canary[1] <= 0:
            return None
        if self.absolute:
            return eprocess.absolute(floored(self.limit), *canary)
        stable = self.figures(interval.stable)
        if stable is None:
            return None
        terms = eprocess.odds(canary[1], stable[1], settings.tolerance, settings.margin)
        return None if terms is None else eprocess.relative(terms, canary[0], stable[0])


def checks(settings: Settings, evidence: Evidence) -> tuple[Check, ...]:
    """The checks with a process of their own, in the order of `evidence.processes`."""
    return _checks(settings.limits, evidence.bounds, evidence.limit_bounds)


def waiting_weight(settings: Settings, evidence: Evidence) -> float:
    """Weight of the checks that have no process yet and count as the 1 they start with."""
    return max(1 - sum(check.weight for check in checks(settings, evidence)), 0.0)


def learned(settings: Settings, evidence: Evidence, interval: Interval) -> Evidence:
    """Fix the latency bounds at the first histogram that both tracks report.

    Only which bounds exist is looked at, not the counts, so the choice favours nobody. For a limit
    between two bounds the higher one stands: a rollback must never rest on requests that were
    within the limit.
    """
    if evidence.bounds or not interval.canary.buckets or not interval.stable.buckets:
        return evidence
    common = {bound for bound, _ in interval.canary.buckets}
    common &= {bound for bound, _ in interval.stable.buckets}
    finite = sorted(bound for bound in common if bound != INFINITE)
    if not finite or INFINITE not in common:
        return evidence
    limit_bounds = tuple(
        next((bound for bound in finite if bound >= asked), 0.0)
        for asked, _ in settings.limits.latency
    )
    bounds = _spread(finite, MOST_BOUNDS)
    grown = _checks(settings.limits, bounds, limit_bounds)[len(evidence.processes) :]
    return Evidence(
        fast=evidence.fast,
        processes=(*evidence.processes, *(eprocess.fresh(_size(check)) for check in grown)),
        bounds=bounds,
        limit_bounds=limit_bounds,
        level=evidence.level,
        window=evidence.window,
        recent=evidence.recent,
        last_at=evidence.last_at,
        canary_at=evidence.canary_at,
        stable_at=evidence.stable_at,
        warm_until=evidence.warm_until,
        trip=evidence.trip,
    )


def composite(
    settings: Settings, evidence: Evidence, *, without_limits: bool = False
) -> tuple[float, Check]:
    """Log of the composite and the check that contributes most to it.

    Args:
        settings: The settings of the run.
        evidence: The accumulators.
        without_limits: Leave the absolute checks out: when stable breaks a limit too, the cause is
            shared and the limit must not blame the canary.
    """
    named = checks(settings, evidence)
    parts: list[float] = []
    deciding, most = named[0], -math.inf
    for check, process in zip(named, evidence.processes, strict=True):
        if without_limits and check.absolute:
            continue
        part = math.log(check.weight) + eprocess.value(process)
        parts.append(part)
        if part > most:
            deciding, most = check, part
    waiting = waiting_weight(settings, evidence)
    if waiting > 1e-12:
        parts.append(math.log(waiting))
    return eprocess.log_sum(parts), deciding


@functools.lru_cache(maxsize=256)  # Asked for several times per interval, ever the same per run.
def _checks(
    limits: Limits, bounds: tuple[float, ...], limit_bounds: tuple[float, ...]
) -> tuple[Check, ...]:
    total = ERRORS + LATENCY
    total += ERROR_LIMIT if limits.max_error_rate is not None else 0
    total += LATENCY_LIMIT if limits.latency else 0
    found = [Check(kind=Kind.ERRORS, weight=ERRORS / total)]
    if limits.max_error_rate is not None:
        found.append(
            Check(kind=Kind.ERROR_LIMIT, weight=ERROR_LIMIT / total, limit=limits.max_error_rate)
        )
    each = LATENCY / total / max(len(bounds), 1)
    found += [Check(kind=Kind.LATENCY, weight=each, bound=bound) for bound in bounds]
    each = LATENCY_LIMIT / total / max(len(limits.latency), 1)
    found += [
        Check(kind=Kind.LATENCY_LIMIT, weight=each, bound=bound, limit=share)
        for bound, (_, share) in zip(limit_bounds, limits.latency, strict=False)
        if bound
    ]
    return tuple(found)


def _size(check: Check) -> int:
    if check.absolute:
        return len(eprocess.alternatives(floored(check.limit)))
    return len(eprocess.RATIOS)


def _spread(finite: list[float], most: int) -> tuple[float, ...]:
    """At most this many of the bounds, spread evenly, first and last included."""
    if len(finite) <= most:
        return tuple(finite)
    last = len(finite) - 1
    return tuple(finite[round(place * last / (most - 1))] for place in range(most))
