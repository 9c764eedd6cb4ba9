# SPDX-License-Identifier: Apache-2.0
"""Taking one reading of assertions or gauges into the evidence, and what it says to a verdict."""

import math
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from controller.core.evidence import checks, eprocess
from controller.core.evidence.measures import (
    GAUGE_SECONDS,
    LEAST_READINGS,
    REBET,
    Assertion,
    Noted,
    Reading,
    Value,
    scores,
)
from controller.core.evidence.observe import capped, sufficed
from controller.core.evidence.reasons import UNKNOWN, Code, Reason, seconds
from controller.core.evidence.settings import SATURATION, Settings
from controller.core.evidence.state import Evidence
from controller.core.evidence.tally import UNREPORTED, Interval

READ_SECONDS = 15.0
"""How often a value is asked for anew."""


def read(evidence: Evidence, settings: Settings, reading: Reading) -> Evidence:
    """The evidence after this reading; unchanged if it is older than what was read before.

    Every reading is noted, until the evidence suffices: what was read then says why it did. One is
    bet on only if its window overlaps none that was bet on before, so that one bad minute that is
    looked at ten times stays one bad minute.
    """
    if evidence.trip is not None:
        return evidence
    noted, fresh, exhausted = [*evidence.noted], dict[int, bool](), list[bool]()
    teams = len(settings.assertions)
    for value in reading.values:
        place = settings.places.get(value.name)
        if place is None or reading.at <= noted[place].at:
            continue
        if place < teams:
            assertion = settings.assertions[place]
            noted[place], bad = _asserted(assertion, reading.at, value)
            if bad is not None and not _cold(evidence, assertion, reading.at):
                fresh[place] = bad
            continue
        gauge = settings.gauges[place - teams]
        # Where there is none of the canary the one before stands, and grows old.
        if value.canary is None:
            continue
        bad = gauge.exhausted(value.canary, value.stable)
        shared = not bad and gauge.shared(value.canary, value.stable)
        if reading.at < evidence.warm_until + gauge.patience_seconds:
            noted[place] = _young(reading.at, value, noted[place], bad=bad or shared)
            continue
        noted[place] = _noted(reading.at, value, bad=bad or shared)
        exhausted += [] if shared else [bad]
    if exhausted:
        fresh[teams] = any(exhausted)
    return _bet(replace(evidence, noted=tuple(noted)), settings, reading.at, fresh)


def _asserted(assertion: Assertion, at: float, value: Value) -> tuple[Noted, bool | None]:
    """The reading of one assertion, and whether it counts as failed; None: it says nothing."""
    bad = value.canary is not None and not assertion.holds(value.canary)
    shared = value.stable is not None and not assertion.holds(value.stable)
    return _noted(at, value, bad=bad), None if shared or value.canary is None else bad


def _noted(at: float, value: Value, *, bad: bool) -> Noted:
    return Noted(at=at, canary=value.canary, stable=value.stable, bad=bad)


def _young(at: float, value: Value, known: Noted, *, bad: bool) -> Noted:
    """What a gauge says of pods that are cold, or younger than it has patience with.

    Young pods use more than they will, never less. That the worst of all pods, those among them
    that have served since the first step, uses no more than it may is good news at any age. That
    one uses more says nothing, takes back what was good before, and is no trial.
    """
    if not bad:
        return _noted(at, value, bad=False)
    return known if known.bad else Noted(at=at, stable=value.stable)


def _cold(evidence: Evidence, assertion: Assertion, at: float) -> bool:
    """Whether the value is about cold pods too, which are slow and fail whatever their version."""
    opened = evidence.window.at
    if opened is not None and evidence.warm_until <= opened:
        return False  # No pods were started for this weight.
    return at - assertion.window_seconds < evidence.warm_until


_PAID: Final = {bad: eprocess.payout(scores(bad=bad), 1.0) for bad in (False, True)}
"""What a trial makes of the bets."""


def _bet(evidence: Evidence, settings: Settings, at: float, fresh: Mapping[int, bool]) -> Evidence:
    """Settle the bets on those checks of which this is a new trial, by their numbers."""
    spans, trials = settings.spans, [*evidence.trials]
    due = [number for number in fresh if at - trials[number] >= spans[number]]
    if not due:
        return evidence
    processes, measured = [*evidence.processes], checks.roster(settings, evidence).measured
    for number in due:
        place, trials[number] = measured[number], at
        processes[place] = eprocess.advance(processes[place], _PAID[fresh[number]], REBET)
    grown = replace(evidence, processes=tuple(processes), trials=tuple(trials))
    grown = capped(grown, settings, settings.log_needed / LEAST_READINGS)
    silent = Interval(at=at, seconds=0.0, canary=UNREPORTED, stable=UNREPORTED)
    return replace(grown, trip=sufficed(grown, settings, silent))


def doubts(evidence: Evidence, settings: Settings) -> Iterator[Reason]:
    """What was read last and is on the wrong side, without being proof."""
    teams = len(settings.assertions)
    for place, noted in enumerate(evidence.noted):
        if not noted.bad:
            continue
        if place < teams:
            yield _asserts(settings.assertions[place], noted)
            continue
        gauge = settings.gauges[place - teams]
        also = gauge.shared(noted.canary, noted.stable)
        words = "runs out on both: a shared cause, waiting" if also else "runs out"
        yield _reason(SATURATION, Code.SATURATED, noted, f"{gauge.name} {words}")


def _asserts(assertion: Assertion, noted: Noted) -> Reason:
    """What one assertion has against the canary, or against both."""
    must = f"must be {assertion.comparison.value} {assertion.limit:g}"
    if noted.stable is not None and not assertion.holds(noted.stable):
        words = f"{must}, which stable breaks as well: a shared cause, waiting"
        return _reason(assertion.title, Code.STABLE_VIOLATES_LIMIT, noted, words)
    return _reason(assertion.title, Code.CHECK_BROKEN, noted, f"{must}: not yet proven")


def _reason(check: str, code: Code, noted: Noted, words: str) -> Reason:
    return Reason(
        check=check,
        code=code,
        message=f"{check}: {noted.told}; {words}",
        expected=f"read again every {READ_SECONDS:g} s, {UNKNOWN}",
        canary_value=noted.canary,
        stable_value=noted.stable,
    )


def unread(evidence: Evidence, settings: Settings, now: float, *, proven: bool) -> Iterator[Reason]:
    """Assertions without a value of the canary at this weight, and gauges that fell silent.

    Args:
        evidence: The accumulators.
        settings: The settings of the run.
        now: The metrics store's own time.
        proven: Whether all requests come next: then what can run out must have been looked at.
    """
    opened = evidence.window.at if evidence.window.at is not None else math.inf
    oldest = max(opened, now - 2 * READ_SECONDS - settings.max_age_seconds)
    teams = len(settings.assertions)
    for assertion, noted in zip(settings.assertions, evidence.noted[:teams], strict=True):
        if noted.canary is None or noted.at < oldest:
            yield Reason(
                check=assertion.title,
                code=Code.NO_CHECK_DATA,
                message=f"{assertion.title} has no value of the canary at this weight yet; "
                "`switchgear checks test` tells why",
                expected=f"asked for every {READ_SECONDS:g} s, {UNKNOWN}",
            )
    if proven:
        yield from (reason for reason, _ in _silent(evidence, settings, now))


def seconds_to_go(evidence: Evidence, settings: Settings, now: float, *, proven: bool) -> float:
    """When all gauges are expected to have spoken; infinite: nobody knows. As `unread`."""
    waits = [wait for _, wait in _silent(evidence, settings, now)] if proven else []
    return max(waits, default=0.0)


def measured_from(evidence: Evidence) -> float:
    """When a gauge speaks for the canary: it looks back on a minute, of which half must lie at this
    weight, after the start of the youngest pods; infinite: no weight is in force.
    """
    opened = evidence.window.at if evidence.window.at is not None else math.inf
    return max(opened, evidence.warm_until - GAUGE_SECONDS) + GAUGE_SECONDS / 2


def _silent(evidence: Evidence, settings: Settings, now: float) -> Iterator[tuple[Reason, float]]:
    """Gauges without a value of the canary at this weight that is still new.

    With each the seconds that it is expected to take; infinite: not known.
    """
    opened = evidence.window.at if evidence.window.at is not None else math.inf
    since = measured_from(evidence)
    oldest = max(since, now - 2 * READ_SECONDS - settings.max_age_seconds)
    noted = evidence.noted[len(settings.assertions) :]
    nothing = all(one.canary is None for one in noted)
    for gauge, known in zip(settings.gauges, noted, strict=True):
        if known.canary is not None and known.at >= oldest:
            continue
        name = gauge.name
        due, read = max(opened, evidence.warm_until + gauge.patience_seconds), READ_SECONDS
        if known.canary is not None:
            ago = seconds(now - known.at)
            message = f"{name} of the canary is silent, last measured {ago} ago"
            if now < since + read:
                message = f"{name} was not measured long enough on the canary at this weight yet"
            wait = since + read - now
        elif math.isfinite(known.at):
            # It is measured, and silence after that is no good news.
            message = f"{name} is far above stable's while the canary's pods are young, which is "
            message += "no word against them and none for them"
            wait = due + read - now
        else:
            # A version may have no such thing any more; one of which nothing is seen is not looked
            # at.
            wait = due + 2 * read - now
            if wait <= 0 and not nothing:
                continue
            message = f"{name} was measured on stable and not on the canary yet"
        wait = wait if 0 < wait < math.inf else math.inf
        expected = UNKNOWN if wait == math.inf else seconds(wait)
        code = Code.NO_CHECK_DATA
        yield Reason(check=SATURATION, code=code, message=message, expected=expected), wait


def unmeasured(evidence: Evidence, settings: Settings) -> tuple[str, ...]:
    """The gauges that stable had before the run and the canary did not have in it."""
    noted = evidence.noted[len(settings.assertions) :]
    pairs = zip(settings.gauges, noted, strict=True)
    return tuple(gauge.name for gauge, known in pairs if known.canary is None)


def latest(evidence: Evidence, settings: Settings) -> dict[str, Noted]:
    """The newest reading of each assertion and gauge by its name."""
    return dict(zip(settings.places, evidence.noted, strict=True))


def broken(evidence: Evidence, settings: Settings, check: str) -> str:
    """What of a check is on the wrong side, in words; all that was read if nothing is any more."""
    known = latest(evidence, settings)
    names = [gauge.name for gauge in settings.gauges] if check == SATURATION else [check]
    read = {name: known[name] for name in names if math.isfinite(known[name].at)}
    told = {name: noted for name, noted in read.items() if noted.bad} or read
    return "; ".join(f"{name}: {noted.told}" for name, noted in told.items())
