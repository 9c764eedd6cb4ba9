# SPDX-License-Identifier: Apache-2.0
"""Where nobody is left to compare with: the new version beside what stable was before.

When the user's own Deployment has rolled, no stable pod answers any more, and what shows under the
whole load alone has never been compared. Limits are often far from what is usual. So nothing passes
that is far worse than stable's past. Times of day differ, and an incident may befall anybody: it is
a reason to wait, and no proof of anything. If it stays, the deadline ends the run (specification,
1.2: no relative evidence without stable).
"""

from collections.abc import Iterator
from typing import Final

from controller.core.evidence import latency
from controller.core.evidence.reasons import UNDECIDED, Code, Reason, counted, percent, share_of
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import Evidence

SLOWER: Final = 3.0
"""Times as many slow answers as before are far more. All that takes a third longer, as at a busy
time of the day, has not twice as many beyond a bound that few are beyond, and at one in the midst
of all answers nothing can be three times as many."""

MORE_SLOW: Final = 0.10
"""And at least this share of all answers more than before: a few milliseconds more are felt in the
pods' first minutes, by a bound that is no larger than those."""


def doubts(evidence: Evidence, settings: Settings) -> Iterator[Reason]:
    """What is far worse at this weight than stable was, in errors and in how long answers take.

    Errors by more than a promotion behind a route has to rule out.
    """
    canary = evidence.window.canary
    figures = (canary.errors, canary.requests)
    usual = settings.usual_rate
    if usual is not None:
        most = usual + settings.safe_margin
        if _beyond(figures, most, settings):
            yield _reason("errors", figures, "errors", usual, most)
    if not latency.enough(evidence.past):
        return
    for place, bound in enumerate(evidence.bounds[:-1], start=1):
        slow, before = canary.slow(bound), sum(evidence.past[place:]) / sum(evidence.past)
        most = max(SLOWER * before, before + MORE_SLOW)
        if slow is not None and _beyond(slow, most, settings):
            yield _reason("latency", slow, f"slower than {bound:g} s", before, most)
            return  # The bounds above tell of the same answers.


def _beyond(figures: tuple[int, int], most: float, settings: Settings) -> bool:
    bad, total = figures
    return total >= settings.min_requests and bad > most * total


def _reason(check: str, figures: tuple[int, int], what: str, before: float, most: float) -> Reason:
    return Reason(
        check=check,
        code=Code.WORSE_THAN_BEFORE,
        message=f"new version {counted(*figures, what)}; stable had {percent(before)} before, and "
        f"with nobody to compare with nothing passes above {percent(most)}",
        expected=UNDECIDED,
        canary_value=share_of(figures),
        stable_value=before,
        n=figures[1],
        limit=most,
    )
