# SPDX-License-Identifier: Apache-2.0
"""What the peers' documented configurations do with the counts that our judge is given.

Modelled from their sources, rule by rule; where a rule can be read in two ways, in the peer's
favour. Both look at the canary alone, at a share of failed requests over a window, and count the
windows in which it is above a threshold. The counts are cumulative in both: a window that failed
stays failed for the whole run.

*Flagger* (`pkg/controller/scheduler.go`, `pkg/metrics/observers`): a check per interval, 60 s by
default, of the success rate over the same 60 s. A check that fails, or finds no data (NaN or an
empty answer), adds one to the failed checks, and the run is rolled back when they reach
`threshold`. The documented examples have 99 % and 5 or 10; unset it is 1. Read strictly the
rollback comes at the tick after the one that reached the threshold; here it comes at that one.

*Argo Rollouts* (`analysis/analysis.go`, `utils/evaluate`): a measurement per interval, failed if
the `successCondition` is false; NaN compares as false, so that no traffic fails. The run fails when
failed measurements are more than `failureLimit`, 0 by default. The documented example takes 95 %
over five minutes every five minutes, with a limit of 3.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

Count = tuple[int, int]
"""(requests, failed) of the canary in one scrape interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One configuration.

    Attributes:
        name: Whose it is.
        interval: Seconds between two checks, and from the start to the first.
        window: Seconds that a check looks back.
        most_bad: Largest share of failed requests that still passes.
        failures: So many failed checks end the run.
    """

    name: str
    interval: float
    window: float
    most_bad: float
    failures: int

    def rolled_back(self, counts: Iterable[Count], scrape: float) -> float | None:
        """Seconds until the rollback, by one count per scrape; None if there is none."""
        past: list[Count] = []
        failed, due = 0, self.interval
        for number, count in enumerate(counts, start=1):
            past.append(count)
            if number * scrape < due:
                continue
            due += self.interval
            failed += not self._passes(past[-max(round(self.window / scrape), 1) :])
            if failed >= self.failures:
                return number * scrape
        return None

    def _passes(self, window: list[Count]) -> bool:
        """A share of nothing is NaN, and no comparison with it is true."""
        requests = sum(count[0] for count in window)
        bad = sum(count[1] for count in window)
        share = bad / requests if requests else math.nan
        return share <= self.most_bad


FLAGGER = Peer(name="Flagger, 99 %, threshold 5", interval=60, window=60, most_bad=0.01, failures=5)
ARGO = Peer(
    name="Argo Rollouts, 95 % over 5 min, limit 3",
    interval=300,
    window=300,
    most_bad=0.05,
    failures=4,
)
ARGO_TIGHT = Peer(
    name="Argo Rollouts, 99 % over 1 min, limit 0",
    interval=60,
    window=60,
    most_bad=0.01,
    failures=1,
)
"""Tighter than any documented example, to show what such a rule would find."""

DOCUMENTED = (FLAGGER, ARGO)
"""What the goals are about."""

PEERS = (*DOCUMENTED, ARGO_TIGHT)
