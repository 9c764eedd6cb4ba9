# SPDX-License-Identifier: Apache-2.0
"""What one tick is given and what it answers.

A `Situation` is everything outside of a run's memory that its rules may look at; a `Decision` is
the new memory, the effects that follow from it and the sentence that says why.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.core.effects import Effect, SplitRef
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.judge import Verdict
from controller.core.evidence.measures import Reading
from controller.core.evidence.scraped import Scraped
from controller.core.evidence.tally import Interval
from controller.core.lifecycle.memory import Lane, Memory, split_of
from controller.core.observation import Latches, Pod, Preflight, Service, View
from controller.core.policy import caps
from controller.core.policy.model import Policy, Problem
from controller.core.values import canary_name


class Verb(enum.Enum):
    """What a person or an agent can ask of a target."""

    ABORT = "abort"
    PROMOTE = "promote"
    RETRY = "retry"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One asked-for act, with who asked; `id` makes sure that it is acted on once."""

    id: str
    verb: Verb
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The world as one tick sees it."""

    now: float
    """Monotonic seconds."""
    view: View
    policy: Policy | tuple[Problem, ...]
    latches: Latches = field(default_factory=Latches)
    ceilings: caps.Ceilings = field(default_factory=caps.Ceilings)
    breaker: str = ""
    """Why the target's breaker is open; empty: closed or half-open."""
    quarantined: tuple[str, ...] = ()
    """Digests that failed before."""
    requests: tuple[Request, ...] = ()
    preflight: Preflight | None = None
    """None: not asked yet."""
    rolled: tuple[Pod, ...] | None = None
    """Pods to which the user's Deployment rolls under traffic, or that an undone roll left behind;
    None: not asked, or no answer."""
    led: Mapping[str, frozenset[str]] | None = None
    """The pods that the team's Services lead to by their EndpointSlices, which may be behind what
    they select; None: not asked, or no answer."""
    intervals: tuple[Interval, ...] = ()
    """What was scraped since the last tick."""
    readings: tuple[Reading, ...] = ()
    """What was measured beside requests since the last tick."""
    scraped: Scraped | None = None
    """Which pods of the run are scraped, as last read; None: not known."""
    scraped_at: float | None = None
    """Scrape time of the newest sample of either track; None before the first."""
    counted_from: float | None = None
    """When the counting began anew, by the metrics store's time, since the tail was gone."""
    too_large: str = ""
    """Why the metrics store's answer about this run cannot be taken in; empty if it can."""
    metrics_age: float | None = None
    """Seconds since the metrics store last answered usefully; None: never yet."""
    scrape_seconds: float = 5.0
    """How far apart the scrapes are, as seen."""
    clock: float = 0.0
    """The metrics store's own time, seconds since the epoch."""
    calibration: Calibration | None = None
    """Measured on stable's history; None: not asked yet."""
    settle_seconds: float = 2.5
    """How long the gateway may take from an accepted route to one that is in force."""
    drain_seconds: float = 3.0
    """How long requests under way get before their pods go."""
    ready_seconds: float = 300.0
    """How long canary pods may take to become ready."""
    roll_seconds: float = 900.0
    """How long the native roll after the commit may take."""

    @property
    def plan(self) -> Policy:
        """The policy where it is known to be valid."""
        if isinstance(self.policy, tuple):
            message = "the policy has problems"
            raise TypeError(message)
        return self.policy

    @property
    def paused(self) -> bool:
        """Somebody paused the run: weights stay, and no deadline runs."""
        deployment = self.view.deployment
        text = deployment.annotations.get("paused", "") if deployment else ""
        return text.lower() not in {"", "false", "no"}

    def asked(self, verb: Verb) -> Request | None:
        """The first request of that kind that was not acted on yet."""
        return next((item for item in self.requests if item.verb is verb), None)

    def service(self, name: str) -> Service | None:
        """The user's Service of that name, as seen."""
        return next((item for item in self.view.services if item.name == name), None)

    def canary_service(self, service: str) -> Service | None:
        """Our twin of a Service (or a foreign object of its name), as seen."""
        twin = canary_name(service)
        return next((item for item in self.view.canary_services if item.name == twin), None)

    def split(self, lane: Lane) -> SplitRef | None:
        """The lane with its backends as seen now; None if the route is gone or made anew."""
        for route in self.view.routes:
            if route.ref == lane.route:
                return split_of(lane, route.backends)
        return None

    def splits(self, lanes: Sequence[Lane]) -> tuple[SplitRef, ...]:
        """Every lane whose route still exists."""
        found = (self.split(lane) for lane in lanes)
        return tuple(split for split in found if split is not None)

    def shares(self, lanes: Sequence[Lane]) -> tuple[int, ...]:
        """What each lane gives the canary now, in basis points."""
        return tuple(
            route.share_bp(lane.service, canary_name(lane.service))
            for lane in lanes
            for route in self.view.routes
            if route.ref == lane.route
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that people are told, as an Event: a stable reason and a sentence."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one tick decided."""

    memory: Memory
    why: str
    """One sentence, for the log, the status and the journal."""
    effects: tuple[Effect, ...] = ()
    """In the order in which they go out."""
    notices: tuple[Notice, ...] = ()
    verdict: Verdict | None = None
    wait_seconds: float = 1.0
    """When to look again if nothing happens until then."""
