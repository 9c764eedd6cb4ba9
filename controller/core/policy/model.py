# SPDX-License-Identifier: Apache-2.0
"""What a team asked for: the policy of one target, as values.

Every field has a value after parsing, from the preset where no annotation speaks, so that no later
room needs to know a default. Shares are basis points (0..10000) where we ask for them and
fractions (0..1) where we measure them; durations are seconds.
"""

import enum
from dataclasses import dataclass
from typing import Final

from controller.core.evidence.measures import Assertion
from controller.core.values import HashedOnce, RouteKind


class Preset(enum.Enum):
    """The one annotation that enables a target; all else overrides what it stands for."""

    STANDARD = "standard"
    CAUTIOUS = "cautious"
    FAST = "fast"
    OBSERVE = "observe"


class Traffic(enum.Enum):
    """How requests are split between the tracks."""

    AUTO = "auto"
    """By a route where one leads to the Service, else by the number of pods."""
    GATEWAY = "gateway"
    """By the weights of a route."""
    REPLICAS = "replicas"
    """By the number of pods: the canary's stand behind the same Service as the others."""


class Promotion(enum.Enum):
    """How the new version becomes the one that serves."""

    SHIFT = "shift"
    """The judged pods carry everything while the Deployment rolls with no traffic on it."""
    ROLL = "roll"
    """The Deployment rolls natively under traffic, with the breaker armed."""


class AfterTrip(enum.Enum):
    """Who closes an open breaker."""

    LATCH = "latch"
    """A person, and nobody else."""
    NEXT_REVISION = "next-revision"
    """The next template that is not the failed one starts a run in spite of it."""


class OnFailure(enum.Enum):
    """What becomes of the Deployment after a rollback."""

    HOLD = "hold"
    """It stays paused on the stable pods, with the failed template in its spec."""
    REVERT = "revert"
    """The stable template is put back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and what to do about it.

    `key` is the annotation without prefix, or the manifest that it is about; `code` is stable and
    for machines; `message` says what is so; `hint` says what to write instead, and may be empty.
    """

    key: str
    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """One line: key, message and hint."""
        return f"{self.key}: {self.message}{f' ({self.hint})' if self.hint else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rung of the ladder: the share that the canary gets, and for how long at least."""

    weight_bp: int
    """Share in basis points."""
    dwell_seconds: float
    """Least time at this weight, in evidence time."""


BAKE_BP: Final = 9500
"""Weight of a bake, which every step has to stay below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bake:
    """The last trial: nearly all requests on the canary while the stable pods still stand."""

    weight_bp: int = BAKE_BP
    """Not the whole, so that the comparison with stable goes on."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyLimit:
    """At least the share `quantile` of the requests must be faster than `seconds`."""

    quantile: float
    """0.99 for p99."""
    seconds: float

    @property
    def slow_share(self) -> float:
        """The share of requests that may be slower: 0.01 for p99."""
        return 1.0 - self.quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteName:
    """A route that the policy names; without a kind, every kind of that name is meant."""

    name: str
    kind: RouteKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCheck(Assertion):
    """What must hold of each track, by a query of the team's own.

    The query is written once and for no track; whose series it reads is put into each of its
    selectors when it is asked (`promql.inject`). Its name is the part of the annotation after
    `check.`, and it reaches back 15 s at least.
    """

    text: str
    """As the team wrote it."""
    expression: str
    """The side that is measured, as the parser understood it, without the matchers of a track."""


@dataclass(frozen=True, kw_only=True)
class Policy(HashedOnce):
    """The complete policy of one target."""

    preset: Preset
    """Where the values come from that no annotation gives."""

    steps: tuple[Step, ...]
    """The ladder, strictly rising, never empty."""

    max_weight_bp: int
    """Cap on the canary's share until the promote permit; 0 only under `observe`."""

    bake: Bake
    """The trial between the last step and the commit."""

    error_rate: float | None
    """Absolute limit for the share of failed requests; None leaves only the comparison."""

    min_requests: int
    """Canary requests in one step below which the evidence says HOLD."""

    budget: float | None = None
    """Bad requests that the ladder may cost before a bad version is taken away: a step is left when
    the next one is known to cost less. None: steps take the time that stands beside them."""

    deadline_seconds: float
    """How long a step may wait for evidence after its dwell; then the run ends Inconclusive."""

    metrics_deadline_seconds: float
    """How long the metrics store may be silent before exposure goes to 0."""

    latency: tuple[LatencyLimit, ...] = ()
    """Absolute limits; each needs a bucket bound of the provider at or near it."""

    checks: tuple[UserCheck, ...] = ()
    """What else must hold, in the order of the names."""

    warm_up_seconds: float = 60.0
    """So long new pods are cold: they may fail more, and be slower, than warm ones."""

    breaker_share: float = 0.10
    """Least share of bad answers for the fast trip, which does not wait for the cap per scrape."""

    after_trip: AfterTrip = AfterTrip.LATCH
    on_failure: OnFailure = OnFailure.HOLD
    promotion: Promotion | None = None
    """None: shift where a route splits the requests, roll where the number of pods does."""
    traffic: Traffic = Traffic.AUTO

    routes: tuple[RouteName, ...] = ()
    """Routes that must be among those that lead to the Services, of which every one is weighed."""

    service: str | None = None
    """A Service that must be among those that select the pods, of which every one is pinned."""

    metrics: str = "auto"
    """Name of the provider that the daemon has to read; auto takes whichever it reads."""

    total_load: tuple[str, ...] = ()
    """External metrics of the autoscaler that follow the load of both versions, as the team says:
    nobody can tell it from the outside."""

    paused: bool = False
    """Weights stay where they are; toward safety they still move."""

    __hash__ = HashedOnce.__hash__

    @property
    def name(self) -> str:
        """The preset's name, as the annotation has it."""
        return self.preset.value

    @property
    def observes_only(self) -> bool:
        """Whether nothing is held or touched: a change rolls natively and is only reported."""
        return self.preset is Preset.OBSERVE


def _ladder(*rungs: tuple[float, float]) -> tuple[Step, ...]:
    """Steps from pairs of percent and minutes."""
    return tuple(
        Step(weight_bp=round(percent * 100), dwell_seconds=minutes * 60)
        for percent, minutes in rungs
    )


_STANDARD = Policy(
    preset=Preset.STANDARD,
    steps=_ladder((5, 2), (25, 5), (50, 5)),
    max_weight_bp=5000,
    bake=Bake(seconds=300),
    error_rate=0.05,
    min_requests=100,
    deadline_seconds=1800,
    metrics_deadline_seconds=300,
)

AUTO_STEPS: Final = _ladder((1, 1 / 6), (10, 1 / 6), (50, 1 / 6))
"""The ladder that climbs by its budget: ten seconds a step at least, and no step is left out."""

AUTO_BAKE_BP: Final = 8000
"""Weight of its bake. A fifth of the requests on stable makes a bad version show with a quarter of
the errors that it takes with a twentieth, so that the budget lets it bake as much sooner."""

DEFAULT_BUDGET: Final = 100.0
"""Bad requests that it may cost if nothing else is said."""

PRESETS: Final[dict[Preset, Policy]] = {
    # 5 % for 2 min, 25 % for 5 min, 50 % for 5 min, bake 5 min: a healthy version takes 17 min.
    Preset.STANDARD: _STANDARD,
    # Small first steps and long stays, for what is costly to get wrong: 85 min.
    Preset.CAUTIOUS: Policy(
        preset=Preset.CAUTIOUS,
        steps=_ladder((1, 5), (5, 10), (10, 10), (25, 15), (50, 15)),
        max_weight_bp=5000,
        bake=Bake(seconds=1800),
        error_rate=0.02,
        min_requests=500,
        deadline_seconds=3600,
        metrics_deadline_seconds=120,
    ),
    # A minute per rung is the least that leaves the judge its scrapes at an interval of 15 s.
    Preset.FAST: Policy(
        preset=Preset.FAST,
        steps=_ladder((5, 1), (25, 1), (50, 1)),
        max_weight_bp=5000,
        bake=Bake(seconds=60),
        error_rate=0.05,
        min_requests=50,
        deadline_seconds=600,
        metrics_deadline_seconds=120,
    ),
    # Nothing is held, touched or judged. The values only let every policy have the same shape,
    # and the cap of 0 would keep each request away even if a run were begun by mistake.
    Preset.OBSERVE: Policy(
        preset=Preset.OBSERVE,
        steps=_STANDARD.steps,
        max_weight_bp=0,
        bake=Bake(seconds=300),
        error_rate=0.05,
        min_requests=100,
        deadline_seconds=1800,
        metrics_deadline_seconds=300,
    ),
}
"""What each preset stands for. The first step of every one is at most 5 %."""
