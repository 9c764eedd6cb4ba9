# SPDX-License-Identifier: Apache-2.0
"""The checks of the composite: which there are, what each weighs and what it counts.

The composite is a weighted mean of processes, so it keeps the promise of one alpha per run however
the checks depend on each other. The weights are those of the specification (1.9); a share whose
check is not asked for goes to the others before the run begins, never during it.
"""

import enum
import functools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from controller.core.evidence import eprocess, latency
from controller.core.evidence.safe import Timely
from controller.core.evidence.settings import SATURATION, Settings
from controller.core.evidence.state import Evidence, Window, floored
from controller.core.evidence.tally import INFINITE, Interval, Tally

ERRORS = 0.45
LATENCY = 0.30
ERROR_LIMIT = 0.15
LATENCY_LIMIT = 0.10
MEASURED = 0.15

ROUNDING = 1e-12
"""All weights together miss 1 by less."""

NOBODY = (0, 0)
"""(bad, requests) of a track of which nothing is known."""

NONE_BESIDE = 200
"""Requests of the canary at one weight while stable had none: stable is not there then. At 95 % of
the requests ten of stable would have come among them, and one at least in 99,996 of 100,000 cases.
"""

SHARED_TOLERANCE = 1.25
"""Beyond a limit nobody may be so many times as bad as stable, however much else is tolerated."""


class Kind(enum.Enum):
    """What a check looks at."""

    ERRORS = "errors"
    ERROR_LIMIT = "error limit"
    LATENCY = "latency"
    LATENCY_LIMIT = "latency limit"
    MEASURED = "measured"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        kind: What it looks at.
        weight: Its part of the composite.
        bound: Bucket bound in seconds of a latency limit, or the one by which latency is told.
        limit: Allowed share of bad answers, for limits.
        bounds: Upper bounds of the cells that latency is compared in.
        past: Where stable's answers fell before, by cell: what the latency bet learns from.
        measured: Name of the check where it is about something else than requests.
    """

    kind: Kind
    weight: float
    bound: float = 0.0
    limit: float = 0.0
    bounds: tuple[float, ...] = ()
    past: tuple[int, ...] = ()
    measured: str = ""

    @functools.cached_property
    def name(self) -> str:
        """As people and metrics call it."""
        if self.measured:
            return self.measured
        limited = self.kind is Kind.LATENCY_LIMIT
        return f"{self.kind.value} {self.bound:g} s" if limited else self.kind.value

    @functools.cached_property
    def absolute(self) -> bool:
        """Whether it holds the canary against a limit and not against stable."""
        return self.kind in (Kind.ERROR_LIMIT, Kind.LATENCY_LIMIT)

    @functools.cached_property
    def timed(self) -> bool:
        """Whether it is about how long answers take."""
        return self.kind in (Kind.LATENCY, Kind.LATENCY_LIMIT)

    @functools.cached_property
    def floor(self) -> float:
        """The limit as the formulas can use it."""
        return floored(self.limit)

    @property
    def what(self) -> str:
        """What a bad answer is called in a sentence."""
        return f"slower than {self.bound:g} s" if self.timed else "errors"

    def alternatives(self, tolerance: float) -> int:
        """How many bets its process is made of; `tolerance` is that of latency."""
        if self.absolute:
            return len(eprocess.alternatives(self.floor))
        if self.kind is Kind.LATENCY:
            return latency.family(self.bounds, self.past, tolerance).size
        return len(eprocess.RATIOS)

    def told(self, canary: Tally, stable: Tally) -> "Check":
        """The check with the bound at which latency differs most, for people."""
        if self.kind is not Kind.LATENCY:
            return self
        cells = (
            latency.cells(canary.buckets, self.bounds),
            latency.cells(stable.buckets, self.bounds),
        )
        if cells[0] is None or cells[1] is None:
            return replace(self, bound=self.bounds[0])
        return replace(self, bound=latency.worst(self.bounds, cells[0], cells[1])[0])

    def figures(self, tally: Tally) -> tuple[int, int] | None:
        """(bad, requests) of a track; None if it is not about requests, or the histogram does not
        have the bound.
        """
        if self.timed:
            return tally.slow(self.bound)
        return None if self.measured else (tally.errors, tally.requests)

    def scores(
        self, interval: Interval, settings: Settings, tolerance: float, window: Window, far: float
    ) -> Sequence[float] | None:
        """Log e of the interval per alternative; None where there is nothing to compare.

        What is measured beside requests comes by readings, and says nothing here.

        Args:
            interval: Counts of both tracks.
            settings: The settings of the run.
            tolerance: r0 of errors as it is for this interval.
            window: What was seen at this weight until then.
            far: What answers far out are worth beside other slow ones: 0..1.
        """
        if self.kind is Kind.LATENCY:
            on_canary = latency.cells(interval.canary.buckets, self.bounds)
            on_stable = latency.cells(interval.stable.buckets, self.bounds)
            if on_canary is None or on_stable is None:
                return None
            r0, begins = settings.latency_tolerance, bisect_right(self.bounds, settings.far_bound)
            bets = latency.family(self.bounds, self.past, r0)
            return latency.scores(bets, on_canary, on_stable, r0, far=begins, worth=far)
        if self.kind is Kind.ERRORS:
            canary, stable = interval.canary, interval.stable
            return eprocess.relative(
                (canary.errors, canary.requests),
                (stable.errors, stable.requests),
                tolerance,
                settings.margin,
            )
        figures = self.figures(interval.canary)
        if figures is None or figures[1] <= 0:
            return None
        found = self._limited(figures, interval, settings, window)
        if found is None or not self.timed or far >= 1.0:
            return found
        # Those far out count for less, or where that says more all of it does. Neither is beyond
        # what is found, and so as valid.
        distant = interval.canary.slower_than(max(self.bound, settings.far_bound))
        fewer = figures[0] - (1 - far) * (figures[0] if distant is None else distant)
        left = self._limited((fewer, figures[1]), interval, settings, window) or found
        return [min(max(less, far * whole), whole) for whole, less in zip(found, left, strict=True)]

    def _limited(
        self, canary: tuple[float, int], interval: Interval, settings: Settings, window: Window
    ) -> Sequence[float] | None:
        """The bet on a limit: beyond it, and beyond what stable has as well.

        An incident that both versions share may break any limit, and from one scrape to the next.
        So whoever is within the tolerance of stable loses nothing here, whatever stable does; the
        limit says how much more than that there must be. Where stable serves no more the limit
        alone is left.
        """
        bad, served = self.figures(window.stable) or NOBODY
        beside = self.figures(interval.stable) or NOBODY
        if not beside[1]:
            # It was not scraped, or will serve again: what this interval had is not held against
            # the canary alone.
            _, until_now = self.figures(window.canary) or NOBODY
            # Nor is one there whose answers are counted and not timed.
            untimed = self.timed and interval.stable.requests > 0
            missed = untimed or not interval.stable.reported or served
            waits = missed or until_now + canary[1] < NONE_BESIDE
            alone = interval.alone or not waits
            return eprocess.absolute(self.floor, *canary) if alone else None
        own = settings.latency_tolerance if self.timed else settings.tolerance
        tolerance = min(own, SHARED_TOLERANCE)
        usual = tolerance * bad / served if served else 0.0
        margin = max(self.floor - usual, 0.0)
        return eprocess.beyond(self.floor, canary, beside, tolerance=tolerance, margin=margin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """The checks of one run, with what follows from them alone.

    Attributes:
        checks: Those with a process of their own, in the order of `evidence.processes`.
        weights: Their parts of the composite.
        waiting: The part of those that have no process yet and count as the 1 they start with.
        counted: Those about requests, each with its place among all.
        measured: Places of the others: of each assertion, and then of all gauges.
        limits: Those that hold the canary against a limit.
    """

    checks: tuple[Check, ...]
    weights: tuple[float, ...]
    waiting: float
    counted: tuple[tuple[int, Check], ...]
    measured: tuple[int, ...]
    limits: tuple[Check, ...]


def roster(settings: Settings, evidence: Evidence) -> Roster:
    """The checks that a run has by now."""
    known = evidence.past if latency.enough(evidence.past) else ()
    return _roster(settings, evidence.bounds, evidence.limit_bounds, known)


def checks(settings: Settings, evidence: Evidence) -> tuple[Check, ...]:
    """Those with a process of their own, in the order of `evidence.processes`."""
    return roster(settings, evidence).checks


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
    # Some libraries have a bound of 0, which no answer is within and no logarithm knows.
    finite = sorted(bound for bound in common if 0 < bound < INFINITE)
    if not finite or INFINITE not in common:
        return evidence
    known = {bound for bound, _ in settings.past}
    compared = [bound for bound in finite if bound in known]
    # A past with other bounds is worth less than the bounds that there are now.
    compared = compared if 2 * len(compared) >= len(finite) else finite
    bounds = latency.thinned((*compared, INFINITE), settings.past)
    return _grown(
        settings,
        structs.replace(
            evidence,
            bounds=bounds,
            limit_bounds=tuple(standing_for(asked, finite) for asked, _ in settings.limits.latency),
            timely=tuple(
                Timely(seconds=proven_at(asked, allowed, finite, settings.past))
                for asked, allowed in settings.limits.latency
            ),
            past=latency.cells(settings.past, bounds) or (0,) * len(bounds),
        ),
    )


def standing_for(asked: float, bounds: Sequence[float]) -> float:
    """The bucket bound, of ascending finite ones, that a latency limit is judged by; 0: none is."""
    return next((bound for bound in bounds if bound >= asked), 0.0)


def proven_at(
    asked: float, allowed: float, bounds: Sequence[float], past: tuple[tuple[float, int], ...]
) -> float:
    """The bucket bound at which a promotion has to be proven to keep a latency limit; 0: none.

    For a limit between two bounds the lower one says more, if stable's past kept the limit even
    there (specification, 1.8); where it did not, no version like it could be proven.
    """
    lower = max((bound for bound in bounds if bound <= asked), default=0.0)
    before = Tally(buckets=past)
    slow = before.slower_than(lower)
    if slow is not None and before.timed and slow <= allowed * before.timed:
        return lower
    return standing_for(asked, bounds)


def remembered(settings: Settings, evidence: Evidence, interval: Interval) -> Evidence:
    """Where no history told it: learn from stable's answers of this interval, for the next ones.

    A bet may rest on anything that was known before its interval.
    """
    if not evidence.bounds or latency.enough(evidence.past):
        return evidence
    seen = latency.cells(interval.stable.buckets, evidence.bounds)
    if seen is None:
        return evidence
    past = tuple(before + now for before, now in zip(evidence.past, seen, strict=True))
    return _grown(settings, structs.replace(evidence, past=past))


def _grown(settings: Settings, evidence: Evidence) -> Evidence:
    """With a fresh process for each check that has come."""
    new = checks(settings, evidence)[len(evidence.processes) :]
    fresh = [eprocess.fresh(check.alternatives(settings.latency_tolerance)) for check in new]
    if not fresh:
        return evidence
    return structs.replace(evidence, processes=(*evidence.processes, *fresh))


def composite(known: Roster, evidence: Evidence) -> float:
    """Natural logarithm of the composite."""
    return eprocess.mixed(known.weights, evidence.processes, known.waiting)


def deciding(known: Roster, evidence: Evidence) -> Check:
    """The check that contributes most to it."""
    parts = shares(known, evidence)
    return known.checks[parts.index(max(parts))]


def shares(known: Roster, evidence: Evidence) -> list[float]:
    """The logarithm of what each check adds to the composite."""
    return [
        math.log(weight) + eprocess.value(process)
        for weight, process in zip(known.weights, evidence.processes, strict=True)
    ]


@functools.lru_cache(maxsize=1024)  # Asked for several times per interval, ever the same per run.
def _roster(
    settings: Settings,
    bounds: tuple[float, ...],
    limit_bounds: tuple[float, ...],
    past: tuple[int, ...],
) -> Roster:
    found = tuple(_checks(settings, bounds, limit_bounds, past))
    waiting = 1 - sum(check.weight for check in found)
    return Roster(
        checks=found,
        weights=tuple(check.weight for check in found),
        waiting=waiting if waiting > ROUNDING else 0.0,
        counted=tuple((at, one) for at, one in enumerate(found) if one.kind is not Kind.MEASURED),
        measured=tuple(at for at, one in enumerate(found) if one.kind is Kind.MEASURED),
        limits=tuple(check for check in found if check.absolute),
    )


def _checks(
    settings: Settings,
    bounds: tuple[float, ...],
    limit_bounds: tuple[float, ...],
    past: tuple[int, ...],
) -> Iterator[Check]:
    limits, measured = settings.limits, _measured(settings)
    total = ERRORS + LATENCY
    total += ERROR_LIMIT if limits.max_error_rate is not None else 0
    total += LATENCY_LIMIT if limits.latency else 0
    total += MEASURED if measured else 0
    yield Check(kind=Kind.ERRORS, weight=ERRORS / total)
    if limits.max_error_rate is not None:
        weight = ERROR_LIMIT / total
        yield Check(kind=Kind.ERROR_LIMIT, weight=weight, limit=limits.max_error_rate)
    for name in measured:
        yield Check(kind=Kind.MEASURED, weight=MEASURED / total / len(measured), measured=name)
    each = LATENCY_LIMIT / total / max(len(limits.latency), 1)
    for bound, (_, share) in zip(limit_bounds, limits.latency, strict=False):
        if bound:
            yield Check(kind=Kind.LATENCY_LIMIT, weight=each, bound=bound, limit=share)
    if past:
        yield Check(kind=Kind.LATENCY, weight=LATENCY / total, bounds=bounds, past=past)


def _measured(settings: Settings) -> tuple[str, ...]:
    """Names of the checks that come by readings. Gauges are one together: the others bet more."""
    named = tuple(item.title for item in settings.assertions)
    return (*named, SATURATION) if settings.gauges else named
