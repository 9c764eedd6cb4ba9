# SPDX-License-Identifier: Apache-2.0
"""What the peers' documented configurations do with the counts that our judge is given.

Modelled from their sources, rule by rule; where a rule can be read in two ways, in the peer's
favour. Both look at the canary alone, at a share of failed requests over a window, and count the
windows in which it is above a threshold. The counts are cumulative in both: a window that failed
stays failed for the whole run.

*Flagger* (`pkg/controller/scheduler.go`, `pkg/metrics/observers`): a check per interval, 60 s by
default, of the success rate over the same 60 s. A check that fails, or finds no data (NaN or an
empty answer), adds one to the failed checks, and the run is rolled back when they reach
`threshold`. The documented examples have 99 % and 5 or 10; unset it is 1. The tick that raises the
weight does not check it, so that the first check comes an interval later. Read strictly the
rollback comes at the tick after the one that reached the threshold; here it comes at that one.

*Argo Rollouts* (`analysis/analysis.go`, `utils/evaluate/evaluate.go`, and for the examples
`docs/features/analysis.md`): a measurement when the analysis begins and one per interval from then
on, failed if the `successCondition` is false; NaN compares as false, so that no traffic fails. The
run fails when failed measurements are more than `failureLimit`, 0 by default. An empty answer is an
error: the measurement is tried again after 10 s, and a run with more errors in a row than
`consecutiveErrorLimit`, 4 by default, is aborted as well. So the measurement at the very beginning,
which finds nothing scraped of the canary, is made up for 20 s later where scrapes are 15 s apart.
The documented example takes 95 % every five minutes, with a limit of 3, and leaves the errors'
limit as it is. Its query is `irate` over five minutes, which sees the last two scrapes of them;
here it is the share in all five, by which fewer versions in order fail.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Count = tuple[int, int]
"""(requests, failed) of the canary in one scrape interval."""

RETRY_SECONDS = 10.0
"""After which a measurement is tried again that found no data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One configuration.

    Attributes:
        name: Whose it is.
        first: Seconds from the start to the first check.
        interval: Seconds between two checks.
        window: Seconds that a check looks back.
        most_bad: Largest share of failed requests that still passes.
        failures: So many failed checks end the run.
        errors: So many checks in a row without any data do; 0: each of them has failed.
    """

    name: str
    first: float
    interval: float
    window: float
    most_bad: float
    failures: int
    errors: int = 0

    def rolled_back(self, counts: Sequence[Count | None], scrape: float) -> float | None:
        """Seconds until the rollback; None if there is none.

        Args:
            counts: One per scrape; None where nothing could be read at that time.
            scrape: Seconds from one to the next.
        """
        failed, errors, at = 0, 0, self.first
        while at <= len(counts) * scrape:
            window = self._window(counts[: int(at // scrape)], scrape)
            if self.errors and not window:
                errors, at = errors + 1, at + RETRY_SECONDS
                if errors == self.errors:
                    return at - RETRY_SECONDS
                continue
            errors = 0
            failed += not self._passes(window)
            if failed == self.failures:
                return at
            at += self.interval
        return None

    def _window(self, past: Sequence[Count | None], scrape: float) -> list[Count]:
        """What a check sees; nothing where the newest scrape brought nothing."""
        if not past or past[-1] is None:
            return []
        return [one for one in past[-max(round(self.window / scrape), 1) :] if one is not None]

    def _passes(self, window: list[Count]) -> bool:
        """A share of nothing is NaN, and no comparison with it is true."""
        requests = sum(count[0] for count in window)
        bad = sum(count[1] for count in window)
        share = bad / requests if requests else math.nan
        return share <= self.most_bad


FLAGGER = Peer(
    name="Flagger, 99 %, threshold 5",
    first=60,
    interval=60,
    window=60,
    most_bad=0.01,
    failures=5,
)
ARGO = Peer(
    name="Argo Rollouts, 95 % over 5 min, limit 3",
    first=0,
    interval=300,
    window=300,
    most_bad=0.05,
    failures=4,
    errors=5,
)
ARGO_TIGHT = Peer(
    name="Argo Rollouts, 99 % over 1 min, limit 0",
    first=0,
    interval=60,
    window=60,
    most_bad=0.01,
    failures=1,
    errors=5,
)
"""Tighter than any documented example, to show what such a rule would find."""

DOCUMENTED = (FLAGGER, ARGO)
"""What the goals are about."""

PEERS = (*DOCUMENTED, ARGO_TIGHT)
