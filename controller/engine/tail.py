# SPDX-License-Identifier: Apache-2.0
"""What was scraped since the checkpoint of a run, and where its counting goes on after a restart.

It is read again from the metrics store, by the time stamps of the scrapes, and counted as it was
before, or would have been: the same intervals, the same evidence, the same verdicts. Nothing counts
twice. What may differ:

- A scrape that the store shows only after its interval was judged counts with the next one, and in
  a replay where it belongs. (It is waited for, but no longer than a quarter of their distance, or
  than its target is usually late, which a new process has to see anew.) If the checkpoint was
  written just between, and other targets of the same track were in time, it is lost, good answers
  and bad ones alike.
- After scrapes that were lost, or late by more than a quarter of their distance, that distance
  shows otherwise in a short window than in that of a replay. Scrapes may be grouped otherwise then,
  and another share of the reserve is bet anew in the next one (`settings.restart_rate`).
- Of a pod that was not scraped for as long as a look reaches back at most nothing is known. One of
  the canary counts from its birth again (without a restart: after an hour).

A tail that is gone is not made up for: the run holds, what was answered in it counts for nobody and
for no time, and the counting begins anew with the first scrape after it.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

from controller.core.evidence.samples import LONG_GAP, Difference, difference
from controller.core.evidence.series import Cursor, TrackSeries
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.table import SERVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What was scraped after these times is not in the evidence that was made durable.

    Attributes:
        judged: Whether any was; else the tail begins where the first weight came into force.
        at: End of the latest interval that was.
        canary: The same of the canary, which may have been missing in the newest scrapes.
        stable: The same of stable.
    """

    judged: bool
    at: float
    canary: float
    stable: float

    @classmethod
    def of(cls, memory: Memory) -> Self | None:
        """The tail of a run that is taken up; None before any weight was in force."""
        found = memory.evidence
        if found is None or not math.isfinite(found.last_at):
            at = found.window.at if found else None
            return None if at is None else cls(judged=False, at=at, canary=at, stable=at)
        # While all answers count as the new version's, nothing is noted of stable.
        stable = found.last_at if memory.phase in SERVED else found.stable_at
        ends = [at if math.isfinite(at) else found.last_at for at in (found.canary_at, stable)]
        return cls(judged=True, at=found.last_at, canary=ends[0], stable=ends[1])

    def resumed(
        self, canary: TrackSeries | None, stable: TrackSeries | None, since: float
    ) -> Cursor | None:
        """Where a process that was restarted goes on: behind what is in the checkpoint.

        None where the samples, which reach back to `since`, do not reach to the scrape that was
        judged last, and to those just before it of other targets: nobody can tell what was counted.
        """
        whole = _opened(canary, stable, self.at, self.at)
        if not self.judged:
            return whole.cursor
        if whole.cursor.at != self.at or since > self.at - LONG_GAP * whole.gap:
            return None
        known = _opened(canary, stable, self.canary, self.stable)
        return replace(known.cursor, at=self.at, begun=min(self.canary, self.stable))


def _opened(
    canary: TrackSeries | None, stable: TrackSeries | None, ended: float, until: float
) -> Difference:
    """The first look of somebody who has seen the canary until `ended` and stable until `until`."""
    return difference(Cursor(), canary and canary.until(ended), stable and stable.until(until))
