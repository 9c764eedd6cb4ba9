# SPDX-License-Identifier: Apache-2.0
"""Taking one reading of assertions or gauges into the evidence, and what it says to a verdict."""

import math
from collections.abc import Iterator

from msgspec.structs import replace

from controller.core.evidence import checks, eprocess
from controller.core.evidence.checks import Kind
from controller.core.evidence.measures import (
    GAUGE_SECONDS,
    LEAST_READINGS,
    REBET,
    Assertion,
    Gauge,
    Noted,
    Reading,
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
    known = latest(evidence, settings)
    fresh: dict[str, bool | None] = {}
    for assertion in settings.assertions:
        noted, bad = _asserted(assertion, reading)
        if noted is not None and reading.at > known[assertion.title].at:
            known[assertion.title] = noted
            fresh[assertion.title] = None if _cold(evidence, assertion, reading) else bad
    said = []
    for gauge, noted in _gauged(evidence, settings, reading):
        if reading.at > known[gauge.name].at:
            known[gauge.name] = noted
            said += [] if gauge.shared(noted.canary, noted.stable) else [noted.bad]
    if said:
        fresh[SATURATION] = any(said)
    evidence = replace(evidence, noted=tuple(known.values()))
    return _bet(evidence, settings, reading.at, fresh)


def _asserted(assertion: Assertion, reading: Reading) -> tuple[Noted | None, bool | None]:
    """The reading of one assertion, and whether it counts as failed; None: it says nothing."""
    for value in reading.values:
        if value.name != assertion.title:
            continue
        bad = value.canary is not None and not assertion.holds(value.canary)
        noted = Noted(at=reading.at, canary=value.canary, stable=value.stable, bad=bad)
        shared = value.stable is not None and not assertion.holds(value.stable)
        return noted, None if shared or value.canary is None else bad
    return None, None


def _cold(evidence: Evidence, assertion: Assertion, reading: Reading) -> bool:
    """Whether the value is about cold pods too, which are slow and fail whatever their version."""
    opened = evidence.window.at
    if opened is not None and evidence.warm_until <= opened:
        return False  # No pods were started for this weight.
    return reading.at - assertion.window_seconds < evidence.warm_until


def _gauged(
    evidence: Evidence, settings: Settings, reading: Reading
) -> Iterator[tuple[Gauge, Noted]]:
    """The readings of all gauges that may speak: cold pods use much of everything.

    Where there is none of the canary the one before stands, and grows old.
    """
    values = {value.name: value for value in reading.values}
    for gauge in settings.gauges:
        value = values.get(gauge.name)
        if value is None or value.canary is None:
            continue
        if reading.at < evidence.warm_until + gauge.patience_seconds:
            continue
        bad = gauge.exhausted(value.canary, value.stable)
        bad = bad or gauge.shared(value.canary, value.stable)
        noted = Noted(at=reading.at, canary=value.canary, stable=value.stable, bad=bad)
        yield gauge, noted


def _bet(
    evidence: Evidence, settings: Settings, at: float, fresh: dict[str, bool | None]
) -> Evidence:
    """Settle the bets on those checks of which this is a new trial."""
    spans = [*(item.window_seconds for item in settings.assertions), GAUGE_SECONDS]
    processes, trials = list(evidence.processes), list(evidence.trials)
    number = 0
    for index, check in enumerate(checks.checks(settings, evidence)):
        if check.kind is not Kind.MEASURED:
            continue
        bad = fresh.get(check.measured)
        if bad is not None and at - trials[number] >= spans[number]:
            paid = eprocess.payout(scores(bad=bad), 1.0)
            processes[index] = eprocess.advance(processes[index], paid, REBET)
            trials[number] = at
        number += 1
    if trials == list(evidence.trials):
        return evidence
    grown = replace(evidence, processes=tuple(processes), trials=tuple(trials))
    grown = capped(grown, settings, settings.log_needed / LEAST_READINGS)
    silent = Interval(at=at, seconds=0.0, canary=UNREPORTED, stable=UNREPORTED)
    return replace(grown, trip=sufficed(grown, settings, silent))


def doubts(evidence: Evidence, settings: Settings) -> Iterator[Reason]:
    """What was read last and is on the wrong side, without being proof."""
    if not evidence.noted:
        return
    known = latest(evidence, settings)
    for assertion in settings.assertions:
        name, noted = assertion.title, known[assertion.title]
        if not noted.bad:
            continue
        must = f"must be {assertion.comparison.value} {assertion.limit:g}"
        if noted.stable is not None and not assertion.holds(noted.stable):
            words = f"{must}, which stable breaks as well: a shared cause, waiting"
            yield _reason(name, Code.STABLE_VIOLATES_LIMIT, noted, words)
        else:
            yield _reason(name, Code.CHECK_BROKEN, noted, f"{must}: not yet proven")
    for gauge in settings.gauges:
        noted = known[gauge.name]
        if noted.bad:
            also = gauge.shared(noted.canary, noted.stable)
            words = "runs out on both: a shared cause, waiting" if also else "runs out"
            yield _reason(SATURATION, Code.SATURATED, noted, f"{gauge.name} {words}")


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
    if not (settings.assertions or settings.gauges):
        return
    known = latest(evidence, settings)
    opened = evidence.window.at if evidence.window.at is not None else math.inf
    oldest = max(opened, now - 2 * READ_SECONDS - settings.max_age_seconds)
    for assertion in settings.assertions:
        noted = known[assertion.title]
        if noted.canary is None or noted.at < oldest:
            yield Reason(
                check=assertion.title,
                code=Code.NO_CHECK_DATA,
                message=f"{assertion.title} has no value of the canary at this weight yet; "
                "`switchgear checks test` tells why",
                expected=f"asked for every {READ_SECONDS:g} s, {UNKNOWN}",
            )
    if not proven:
        return
    silent = unmeasured(evidence, settings)
    for gauge in settings.gauges:
        # A version may have no such thing any more; one of which nothing is seen is not looked at.
        due = max(opened, evidence.warm_until + gauge.patience_seconds)
        never, wait = gauge.name in silent, due + 2 * READ_SECONDS - now
        if never and (wait > 0 or len(silent) == len(settings.gauges)):
            message = f"{gauge.name} was measured on stable and not on the canary yet"
        elif not never and known[gauge.name].at < oldest and now >= due:
            ago = seconds(now - known[gauge.name].at)
            message = f"{gauge.name} of the canary is silent, last measured {ago} ago"
        else:
            continue
        yield Reason(
            check=SATURATION,
            code=Code.NO_CHECK_DATA,
            message=message,
            expected=seconds(wait) if 0 < wait < math.inf else UNKNOWN,
        )


def unmeasured(evidence: Evidence, settings: Settings) -> tuple[str, ...]:
    """The gauges that stable had before the run and the canary did not have in it."""
    known = latest(evidence, settings)
    return tuple(gauge.name for gauge in settings.gauges if known[gauge.name].canary is None)


def latest(evidence: Evidence, settings: Settings) -> dict[str, Noted]:
    """The newest reading of each assertion and gauge by its name."""
    names = [item.title for item in settings.assertions]
    names += [gauge.name for gauge in settings.gauges]
    return dict(zip(names, evidence.noted, strict=True))


def broken(evidence: Evidence, settings: Settings, check: str) -> str:
    """What of a check is on the wrong side, in words; all that was read if nothing is any more."""
    known = latest(evidence, settings)
    names = [gauge.name for gauge in settings.gauges] if check == SATURATION else [check]
    read = {name: known[name] for name in names if math.isfinite(known[name].at)}
    told = {name: noted for name, noted in read.items() if noted.bad} or read
    return "; ".join(f"{name}: {noted.told}" for name, noted in told.items())
