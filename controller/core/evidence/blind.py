# SPDX-License-Identifier: Apache-2.0
"""Data that are missing or too old to stand on: reasons to wait, and never for or against."""

import math
from collections.abc import Iterator
from typing import Final

from controller.core.evidence import falling, timing
from controller.core.evidence.reasons import UNKNOWN, Code, Reason, seconds
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import Evidence

FALLEN_BEHIND: Final = 3
"""A track that lags the other one by this part of the age at which data are none is missing: five
seconds, or a scrape that takes longer."""

OVERDUE: Final = "one is overdue, and when it comes is not known"
"""What is expected where a scrape is missing."""


def lacking(evidence: Evidence, settings: Settings, now: float, *, alone: bool) -> Iterator[Reason]:
    """What is missing.

    Args:
        evidence: The accumulators.
        settings: The settings of the run.
        now: The metrics store's own time.
        alone: No stable pod serves any more, so that nothing is asked of stable.
    """
    due = settings.max_age_seconds / FALLEN_BEHIND
    if evidence.window.at is None:
        yield Reason(
            check="window",
            code=Code.WINDOW_NOT_OPEN,
            message="no weight has been read back in force yet, so nothing can pass",
            expected=UNKNOWN,
        )
    for track, seen_at, code in (
        ("canary", evidence.canary_at, Code.NO_CANARY_DATA),
        ("stable", evidence.stable_at, Code.NO_STABLE_DATA),
    ):
        behind = now - seen_at
        if alone and track == "stable":
            continue
        if not math.isfinite(seen_at):
            message = f"the metrics store has no sample of the {track} yet"
            first = f"due within {due:g} s of its first answer that is counted"
            yield Reason(check="data", code=code, message=message, expected=first)
        elif evidence.last_at - seen_at > due:
            yield Reason(
                check="data",
                code=Code.METRICS_STALE,
                message=f"the {track} is missing in the newest scrapes, for "
                f"{seconds(evidence.last_at - seen_at)} so far",
                expected=OVERDUE,
                limit=due,
            )
        elif not behind <= settings.max_age_seconds:
            yield Reason(
                check="data",
                code=Code.METRICS_STALE,
                message=f"the newest sample of the {track} is {seconds(behind)} old, "
                f"at most {settings.max_age_seconds:g} s are accepted",
                expected=OVERDUE,
                limit=settings.max_age_seconds,
            )
    yield from falling.lacking(evidence, alone=alone)
    yield from timing.lacking(evidence, settings, due, alone=alone)
