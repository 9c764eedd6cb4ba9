# SPDX-License-Identifier: Apache-2.0
"""What is measured beside requests: checks that a team wrote itself, and what is about to run out.

A value of PromQL or a gauge has no known noise, so not its size is bet on but how often it is on
the wrong side of its bound. Each reading is one trial, taken over a window that overlaps no other
that was counted. A canary that is no worse than stable fails one in `ASSUMED` of them at most where
stable passes it, and a Bernoulli likelihood ratio against that share is what goes into the
composite: three to five readings in a row roll back, a single one never does.
"""

import enum
import math
import operator
from dataclasses import dataclass
from typing import Final

import msgspec

ASSUMED: Final = 0.03
"""The largest share of its readings that a healthy canary fails by chance."""

FAILING: Final = (0.1, 0.4, 0.9)
"""The shares that are bet on: a version that is broken now and then, often, or always."""

REBET: Final = 1 / 16
"""Share of the reserve that is bet anew at each reading: there are few of them in a run."""

LEAST_READINGS: Final = 2
"""The composite grows so much at one reading at most that it takes these and more. The cap of
scrapes is about errors that come in bunches; it would ask for more of what comes once a minute."""

GAUGE_SECONDS: Final = 60.0
"""What one reading of the gauges is about; readings that are nearer to each other are one trial."""

BEYOND: Final = 1.5
"""How many times as high as ever before, or as stable's now, is more than the usual ups and downs.
"""

DRIFT: Final = 1.25
"""So many times as high as ever before is still no news where stable's own use says little, since
its requests went to the canary."""

FULL: Final = 0.95
"""From here on there is nothing left of what has an end."""

CHECK: Final = "check "
"""What the names of a team's checks begin with, so that none is ever taken for a gauge."""


class Comparison(enum.Enum):
    """How a measured value must stand to its limit, with the value on the left."""

    BELOW = "<"
    AT_MOST = "<="
    ABOVE = ">"
    AT_LEAST = ">="

    def holds(self, value: float, limit: float) -> bool:
        """Whether the value is on the right side of the limit; NaN never is."""
        return bool(_OPERATORS[self](value, limit))


_OPERATORS: Final = {
    Comparison.BELOW: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.ABOVE: operator.gt,
    Comparison.AT_LEAST: operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """What a team says must hold of a version: a measured value on the right side of a limit.

    Attributes:
        name: As the team calls it.
        comparison: How the value must stand to the limit.
        limit: What the value is compared with.
        window_seconds: How far back the value looks.
    """

    name: str
    comparison: Comparison
    limit: float
    window_seconds: float

    @property
    def title(self) -> str:
        """What it is called beside gauges and checks of requests."""
        return CHECK + self.name

    def holds(self, value: float) -> bool:
        """Whether a version with this value is as it must be."""
        return self.comparison.holds(value, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """Something that can run out: memory, connections, the CPU's share.

    Attributes:
        name: What people call it.
        usual: The highest that stable showed before the run.
        floor: So much above its measure is still nothing, in the gauge's own unit.
        patience_seconds: How long after the canary's pods are warm it says nothing yet.
        ends: Whether 1 is all there is of it.
    """

    name: str
    usual: float
    floor: float
    patience_seconds: float = 0.0
    ends: bool = False

    def exhausted(self, canary: float, stable: float | None) -> bool:
        """Whether the canary uses far more than stable does, or both far more than ever before.

        The second is what a comparison cannot see: a pool that both tracks share and that the new
        version drains.
        """
        usual, floor = self.usual, self.floor
        if canary > BEYOND * usual + floor:
            return True
        if self.ends and canary >= FULL > (usual if stable is None else max(stable, usual)):
            return True
        return stable is not None and canary > DRIFT * usual and canary > BEYOND * stable + floor

    def shared(self, canary: float | None, stable: float | None) -> bool:
        """Whether both have nothing left, as never before: it is not known whose doing it is."""
        if canary is None or stable is None or not self.ends:
            return False
        return min(canary, stable) >= FULL > self.usual and not self.exhausted(canary, stable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One measured value on both tracks; None where there is none."""

    name: str
    canary: float | None
    stable: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read at one moment: the value of one assertion, or of all gauges.

    `at` is the metrics store's own time.
    """

    at: float
    values: tuple[Value, ...]


class Noted(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The newest reading of one assertion or gauge.

    Attributes:
        at: When it was read; -inf: never.
        canary: Value of the canary; None: there was none.
        stable: The same of stable.
        bad: Whether it was on the wrong side.
    """

    at: float = -math.inf
    canary: float | None = None
    stable: float | None = None
    bad: bool = False

    @property
    def told(self) -> str:
        """Both values as a person reads them."""
        return f"canary {_told(self.canary)}, stable {_told(self.stable)}"


def scores(*, bad: bool) -> tuple[float, ...]:
    """Log e of one trial for each share in `FAILING`, against `ASSUMED`."""
    if bad:
        return tuple(math.log(share / ASSUMED) for share in FAILING)
    return tuple(math.log((1 - share) / (1 - ASSUMED)) for share in FAILING)


def _told(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4g}"
