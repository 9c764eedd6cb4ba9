# SPDX-License-Identifier: Apache-2.0
"""Since when nothing in a kill's scope has a weight, as far as that is known.

Gateways need their settling time from the moment on at which the last weight is 0. A route that
reads 0 twice may have been raised and lowered in between while raises can still arrive. Its
generation tells: no weight changes without it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.core.observation import Route
from controller.core.values import RouteRef

Marks = dict[RouteRef, tuple[str, int]]
"""Object and generation of each route."""


@dataclass(slots=True)
class Quiet:
    """What one kill has read back."""

    exposed: bool = False
    """Something had a weight, or may have had: only then gateways have anything to follow."""
    seconds: float = 0.0
    """Of the slowest gateway in the scope, also of a run that has ended since."""
    since: float = 0.0
    """Monotonic time."""
    _seen: Marks = field(default_factory=dict)
    _first: Marks | None = None
    """What stood there when the writes of weight 0 were read back; None: that tells nothing."""
    _certain: bool = False
    """Raises cannot arrive any more, so that what reads 0 is what it was."""

    def read(self, routes: Iterable[Route]) -> None:
        """Routes as they are now."""
        self._seen |= {route.ref: (route.uid, route.generation) for route in routes}

    def begin(self, now: float, *, told: bool) -> None:
        """Weight 0 is written and was read once. `told`: the routes tell everything there is."""
        self.since = now
        self._first = dict(self._seen) if told else None

    def looked(self, now: float, *, pending: bool, voided: bool) -> None:
        """Everything was read again, after raises could not arrive any more if `voided`."""
        if pending:
            self.exposed, self.since = True, now
        elif not self._certain and self._first != self._seen:
            self.since = now
        self._certain = self._certain or voided

    def left(self, now: float) -> float:
        """Seconds that the gateways may still need."""
        return max(0.0, self.since + self.seconds - now) if self.exposed else 0.0
