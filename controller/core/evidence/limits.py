# SPDX-License-Identifier: Apache-2.0
"""A limit that is broken without being proof: a reason to wait, and of which kind.

Where both versions break it a shared cause is the likelier explanation, and nothing is raised into
that. Where stable breaks it alone the canary may be the very version that mends it: nothing is held
against who keeps the limit, and the proof before a promotion stands as ever.
"""

from collections.abc import Iterator

from controller.core.evidence.checks import NOBODY, Check, Kind, Roster
from controller.core.evidence.reasons import (
    UNDECIDED,
    UNKNOWN,
    Code,
    Reason,
    counted,
    percent,
    share_of,
)
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import Evidence

Sums = tuple[float, float]
"""(requests, errors) of the fading sums."""


def doubts(known: Roster, evidence: Evidence, settings: Settings) -> Iterator[Reason]:
    """The limits that the canary breaks, alone or with stable.

    Args:
        known: The checks of the run.
        evidence: The accumulators.
        settings: The settings of the run.
    """
    window, recent = evidence.window, evidence.recent
    for check in known.limits:
        canary = check.figures(window.canary) or NOBODY
        stable = check.figures(window.stable) or NOBODY
        above = _above(check, canary)
        least = max(settings.min_stable_requests, 1)
        # Few of stable say nothing; that the canary keeps a limit is never taken from few.
        also = stable[1] >= least and _above(check, stable)
        shared = (also or _lately(check, recent[2:], least)) and (
            above or _lately(check, recent[:2], 0.0)
        )
        if shared:
            yield _shared(check, canary, stable, evidence)
        elif above:
            yield _reason(
                check,
                Code.ABOVE_LIMIT,
                f"canary {counted(*canary, check.what)}, limit {percent(check.limit)}: above it, "
                "not yet proven",
                canary,
                stable,
            )


def _above(check: Check, figures: tuple[int, int]) -> bool:
    return figures[0] > check.limit * figures[1]


def _lately(check: Check, sums: Sums, least: float) -> bool:
    """Whether a limit for errors is broken in the last five scrapes or so.

    It may not show in a step that was well for long.
    """
    requests, errors = sums
    return check.kind is Kind.ERROR_LIMIT and requests >= least and errors > check.limit * requests


def _shared(
    check: Check, canary: tuple[int, int], stable: tuple[int, int], evidence: Evidence
) -> Reason:
    also = _told(check, stable, evidence.recent[2:])
    told = _told(check, canary, evidence.recent[:2])
    return _reason(
        check,
        Code.STABLE_VIOLATES_LIMIT,
        f"stable breaks the same limit with {also}; canary {told}, "
        f"limit {percent(check.limit)}: a shared cause, paused instead of rolled back",
        canary,
        stable,
    )


def _told(check: Check, figures: tuple[int, int], lately: Sums) -> str:
    """What of a track is above the limit: at this weight, or else in the newest scrapes."""
    words = counted(*figures, check.what)
    if _above(check, figures) or not lately[0]:
        return words
    return f"{words}, lately {percent(lately[1] / lately[0])}"


def _reason(
    check: Check, code: Code, message: str, canary: tuple[int, int], stable: tuple[int, int]
) -> Reason:
    return Reason(
        check=check.name,
        code=code,
        message=message,
        expected=UNKNOWN if code is Code.STABLE_VIOLATES_LIMIT else UNDECIDED,
        canary_value=share_of(canary),
        stable_value=share_of(stable),
        n=canary[1],
        limit=check.limit,
    )
