# SPDX-License-Identifier: Apache-2.0
"""Whether answers are timed where latency is judged: without a histogram nothing passes.

It is where a limit asks for it, and where stable's answers are timed, with which the canary's are
compared then. A histogram may be lost in any step, of one version or of both, while requests are
counted as ever. What was seen of it at another weight says nothing about the present one.
"""

import math
from collections.abc import Iterator
from typing import Final

from controller.core.evidence import gates
from controller.core.evidence.checks import Kind
from controller.core.evidence.reasons import UNKNOWN, Code, Reason, seconds
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import Evidence
from controller.core.evidence.tally import Interval, Tally

LOST: Final = "its histogram, or a bound in it that is judged by, is missing"
"""Why answers that are counted are not timed."""


def usable(evidence: Evidence, seen: Tally) -> bool:
    """Whether counts of a track have a histogram with the bounds that stand for the limits, or, if
    there are none, with those that latency is compared at.
    """
    if not evidence.bounds or not seen.buckets:
        return False
    if not evidence.limit_bounds:
        known = dict(seen.buckets)
        return all(bound in known for bound in evidence.bounds)
    return all(seen.slow(bound) is not None for bound in evidence.limit_bounds if bound)


def until(
    evidence: Evidence, known: float, interval: Interval, seen: Tally, *, whole: bool
) -> float:
    """Until when none of a track's answers were without a time, after this interval.

    One without answers changes nothing: it may lie between two whose answers were not timed.

    Args:
        evidence: The accumulators before the interval.
        known: Until when it was so then.
        interval: The new one.
        seen: What it counted of the track.
        whole: Whether its histogram is usable.
    """
    if seen.timed and whole:
        return interval.at
    if not math.isfinite(known):
        known = interval.begins
    elif known < evidence.last_at:
        return known
    return known if seen.requests else interval.at


def lacking(evidence: Evidence, settings: Settings, due: float, *, alone: bool) -> Iterator[Reason]:
    """What latency is judged by and the histogram says nothing about, or not enough at this weight.

    Args:
        evidence: The accumulators.
        settings: The settings of the run.
        due: Seconds for which a track's answers may be without a time.
        alone: No stable pod serves any more, so that nothing is asked of stable.
    """
    limits = settings.limits.latency
    if not limits:
        if gates.asks_times(evidence, settings, alone=alone):
            yield from _untimed(evidence, settings, due, alone=alone)
        return
    if not evidence.limit_bounds:
        yield _nothing("a latency limit is set and no histogram of both tracks was seen yet")
        return
    for (asked, _), bound in zip(limits, evidence.limit_bounds, strict=True):
        if not bound:
            yield Reason(
                check=f"{Kind.LATENCY_LIMIT.value} {asked:g} s",
                code=Code.LATENCY_LIMIT_UNMEASURABLE,
                message=f"the histogram has no bucket bound at or above {asked:g} s; lower the "
                "limit or give the histogram a higher bound",
                expected="and not before that",
                limit=asked,
            )
    yield from _untimed(evidence, settings, due, alone=alone)


def _untimed(
    evidence: Evidence, settings: Settings, due: float, *, alone: bool
) -> Iterator[Reason]:
    """Answers that were counted at this weight and not timed, lately or too many of them."""
    window, limited = evidence.window, bool(settings.limits.latency)
    tracks = (
        ("canary", window.canary, evidence.canary_timed_at, settings.min_requests),
        ("stable", window.stable, evidence.stable_timed_at, settings.min_stable_requests),
    )
    for track, tally, timed_at, least in tracks:
        if alone and track == "stable":
            continue
        if evidence.bounds and evidence.last_at - timed_at > due:
            lost = seconds(evidence.last_at - timed_at)
            message = f"answers of the {track} were not timed for {lost} so far: {LOST}"
            yield _nothing(message, limited=limited)
        elif tally.timed < least <= tally.requests:
            wait = gates.wait_for(tally.timed, least, window.seconds)
            message = f"{track} has {tally.timed} of {least} timed answers at this weight"
            if not limited and not tally.timed:
                other = "canary" if track == "stable" else "stable"
                message += f": it shows no histogram, and is not compared with {other} without one"
            yield _nothing(
                message,
                limited=limited,
                expected=UNKNOWN if wait is None else seconds(wait),
                n=tally.timed,
                limit=float(least),
            )


def uncompared(evidence: Evidence, *, alone: bool) -> str:
    """Why latency was not compared in this window, though answers were timed; empty: it was.

    Other libraries have other bounds, and new ones may time what nobody has timed before. To wait
    for what never comes would forbid every such version.
    """
    canary, stable = evidence.window.canary, evidence.window.stable
    if alone or evidence.bounds or not canary.timed:
        return ""
    if not stable.timed:
        return "latency not compared: stable's answers are not timed"
    return "latency not compared: the histograms of the two have no bound in common"


def _nothing(
    message: str,
    *,
    limited: bool = True,
    expected: str = UNKNOWN,
    n: int | None = None,
    limit: float | None = None,
) -> Reason:
    return Reason(
        check=(Kind.LATENCY_LIMIT if limited else Kind.LATENCY).value,
        code=Code.NO_LATENCY_DATA,
        message=message,
        expected=expected,
        n=n,
        limit=limit,
    )
