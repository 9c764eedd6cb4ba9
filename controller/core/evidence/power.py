# SPDX-License-Identifier: Apache-2.0
"""How much the judge can see with the traffic there is: said before a run, never used in one.

A bet on errors is expected to grow in proportion to the time. With n requests a second, of which
the canary gets the share s, errors of rate p_c against stable's p_s, and the relative bet of
`eprocess` with its a and b (which depend on the split alone)::

    growth per second = n (s p_c log a + (1 - s) p_s log b) / phi

which for the best of the alternatives is the Kullback-Leibler divergence of the two splits of the
errors. A rollback is due when that has made up for the threshold, for the weight of the errors
check in the composite and for the part of the money that stands on that alternative::

    seconds = (log 1/alpha + log 1/weight + log(alternatives / FIRST_BET)) / growth

in whole scrapes, and never in fewer than k. (Source: Wald's identity for the expected length of a
sequential test, less its overshoot; Lorden, 1971, for the best alternative of a mixture.) The real
time scatters around it: half of the regressions of this size are found sooner.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from controller.core.evidence import checks, eprocess, gates, readings
from controller.core.evidence.gates import Gate
from controller.core.evidence.measures import Noted
from controller.core.evidence.reasons import Reason
from controller.core.evidence.safe import Proof, Timely
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import Evidence, Window, start
from controller.core.evidence.tally import Tally
from controller.core.evidence.tempering import tempered

HALVINGS: Final = 40
"""Of an interval in which something is looked for; more changes no digit that is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What both tracks will serve.

    Attributes:
        per_second: Requests per second of both tracks together.
        share: The canary's part of them, 0..1.
        stable_bad: Share of stable's answers that fail, 0..1.
        scrape_seconds: Between two scrapes.
    """

    per_second: float
    share: float
    stable_bad: float
    scrape_seconds: float

    def counts(self, span: float) -> tuple[Tally, Tally]:
        """What canary and stable are expected to have answered after so many seconds, if healthy.

        Whole requests and errors, as the judge counts them.
        """
        canary = self.per_second * self.share * span
        stable = self.per_second * (1 - self.share) * span
        return (
            Tally(requests=round(canary), errors=round(canary * self.stable_bad)),
            Tally(requests=round(stable), errors=round(stable * self.stable_bad)),
        )


def growth(settings: Settings, load: Load, bad: float) -> float:
    """By how much the best bet on errors grows in a second, as a natural logarithm.

    `bad` is the share of the canary's answers that fail. Not above 0: there is nothing to be found.
    """
    share, rest = load.share, 1 - load.share
    scores = eprocess.relative(
        (share * bad, share), (rest * load.stable_bad, rest), settings.tolerance, settings.margin
    )
    best = max(0.0, *scores) if scores else 0.0
    return load.per_second * best * tempered(settings, load.per_second).errors


def detection_seconds(settings: Settings, load: Load, bad: float) -> float:
    """Seconds at a weight until a canary with this share of failed answers is rolled back.

    Infinite where it would not be: it is no worse than what counts as the same, or nobody calls.
    """
    pace = growth(settings, load, bad)
    if pace <= 0:
        return math.inf
    stake = math.log(len(eprocess.RATIOS) / eprocess.FIRST_BET)
    weight = checks.checks(settings, start(settings))[0].weight
    slow = (settings.log_needed - math.log(weight) + stake) / pace
    scrapes = max(math.ceil(slow / load.scrape_seconds), math.ceil(settings.cap_scrapes))
    if bad >= max(settings.fast_error_rate, settings.fast_ratio * load.stable_bad):
        fast = (math.log(settings.fast_evidence) + stake) / pace
        scrapes = min(scrapes, max(math.ceil(fast / load.scrape_seconds), 1))
    return scrapes * load.scrape_seconds


def smallest(settings: Settings, load: Load, within: float) -> float | None:
    """The smallest share of failed answers that is found within so many seconds; None: none is."""
    if detection_seconds(settings, load, 1.0) > within:
        return None
    _, found = _halved(
        load.stable_bad, 1.0, lambda bad: detection_seconds(settings, load, bad) <= within
    )
    return found


def _halved(least: float, most: float, enough: Callable[[float], bool]) -> tuple[float, float]:
    """Neighbours between which `enough` begins to hold, which it does at `most`."""
    for _ in range(HALVINGS):
        middle = (least + most) / 2
        least, most = (least, middle) if enough(middle) else (middle, most)
    return least, most


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """How a healthy canary gets through a step.

    Attributes:
        seconds: At this weight, at least; infinite: it does not get through in the time it has.
        slowest: What is waited for last, beyond the time that it takes anyway; empty: nothing.
    """

    seconds: float
    slowest: tuple[Reason, ...]


def passage(
    settings: Settings, load: Load, gate: Gate, *, most: float, warm_up_seconds: float = 0.0
) -> Passage:
    """How long a healthy canary takes to satisfy a gate, by the gate's own rules.

    Args:
        settings: The settings of the run.
        load: What both tracks serve at this weight.
        gate: What a PASS asks for.
        most: Seconds that a step may take at most.
        warm_up_seconds: How long its pods are cold at this weight.
    """

    def lacking(span: float) -> tuple[Reason, ...]:
        seen = _seen(settings, load, span, warm_up_seconds)
        seen = structs.replace(seen, noted=_measured(settings, seen, span))
        unread = readings.unread(seen, settings, span, proven=gate.proven)
        return (*gates.lacking(seen, settings, gate, alone=False), *unread)

    begin = lacking(gate.dwell_seconds)
    if not begin:
        return Passage(seconds=gate.dwell_seconds, slowest=())
    last = lacking(most)
    if last:
        return Passage(seconds=math.inf, slowest=last)
    short, enough = _halved(gate.dwell_seconds, most, lambda span: not lacking(span))
    return Passage(seconds=enough, slowest=lacking(short) or begin)


def _seen(settings: Settings, load: Load, span: float, warm_up_seconds: float) -> Evidence:
    """What the judge is expected to have of a healthy canary after so many seconds at a weight."""
    canary, stable = load.counts(span)
    warm, _ = load.counts(max(span - warm_up_seconds, 0.0))
    worth = tempered(settings, load.per_second)
    slow = [_slow_before(settings, *limit) for limit in settings.limits.latency]
    return structs.replace(
        start(settings),
        timely=tuple(
            Timely(seconds=bound).settled(
                round(share * warm.requests),
                warm.requests,
                worth.slower_than(bound, settings),
            )
            for bound, share in slow
        ),
        window=Window(at=0.0, seconds=span, canary=canary, stable=stable),
        warm_until=warm_up_seconds,
        last_at=span,
        proof=Proof().settled(
            (canary.errors, canary.requests),
            (stable.errors, stable.requests),
            worth.proof,
        ),
    )


def _measured(settings: Settings, seen: Evidence, span: float) -> tuple[Noted, ...]:
    """What is read by then beside requests: of each gauge as soon as it speaks for the canary."""
    said = Noted(at=span, canary=0.0)
    gauged = said if span >= readings.measured_from(seen) + readings.READ_SECONDS else Noted()
    return (said,) * len(settings.assertions) + (gauged,) * len(settings.gauges)


def _slow_before(settings: Settings, asked: float, allowed: float) -> tuple[float, float]:
    """The bucket bound at which a limit is proven, and stable's share beyond it.

    Where nothing is known of stable the best is assumed, since it is told what a step takes at
    least.
    """
    before = Tally(buckets=settings.past)
    finite = [bound for bound, _ in settings.past if 0 < bound < math.inf]
    bound = checks.proven_at(asked, allowed, finite, settings.past)
    if not bound or not before.timed:
        return asked, 0.0
    return bound, (before.slower_than(bound) or 0) / before.timed
