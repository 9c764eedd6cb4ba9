# SPDX-License-Identifier: Apache-2.0
"""The circuit breaker of a target and of the fleet.

There is no breaker object to lose: a target's breaker is what its run documents say. A run that
tripped and that no person has released keeps it open, over restarts, quiet and time. `retry` lets
one capped probe through (half-open); a probe that is promoted leaves it closed, one that trips
opens it again.
"""

from collections.abc import Iterable
from typing import Final

from controller.core.lifecycle.memory import Run
from controller.core.policy.model import AfterTrip, Policy

FLEET_TRIPS: Final = 5
"""So many targets tripping within the window point to a shared cause."""

FLEET_WINDOW_SECONDS: Final = 600.0


def why_open(runs: Iterable[Run], policy: Policy, digest: str) -> str:
    """Why the target's breaker refuses the template `digest`; empty: it does not."""
    for run in runs:
        if not run.tripped or run.released:
            continue
        if policy.after_trip is AfterTrip.NEXT_REVISION and run.digest != digest:
            continue
        return (
            f"the breaker opened on run {run.name} ({run.reason}); a person closes it with "
            f"`switchgear release {run.target}` or tries again with `switchgear retry {run.target}`"
        )
    return ""


def quarantined(runs: Iterable[Run]) -> tuple[str, ...]:
    """Digests of templates that failed and were not given another try."""
    return tuple(sorted({run.digest for run in runs if run.quarantined}))
