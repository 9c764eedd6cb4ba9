# SPDX-License-Identifier: Apache-2.0
"""What a run remembers: the durable part, and the few moments that a restart may forget.

The durable part is written in one compare-and-set together with the intents that follow from it.
The moments are readings of a monotonic clock, which mean nothing to another process: after a
restart they begin anew, which costs time and never safety.
"""

import enum
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from controller.core.effects import SplitRef
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.state import Evidence
from controller.core.lifecycle.table import FOLLOWED, RESTING, Event, Phase, advance
from controller.core.observation import Backend, Pairs
from controller.core.policy.model import Promotion, Traffic
from controller.core.values import RouteRef, TargetRef, canary_name


class Ending(enum.Enum):
    """Why a run did not, or not yet, succeed; the value is the outcome that people read."""

    FAILED = "rolled-back"
    """The evidence or the pods' own state said FAIL."""
    INCONCLUSIVE = "inconclusive"
    """A deadline passed without enough evidence; the version is not called bad."""
    ABORTED = "aborted"
    """A person or an agent stopped this run."""
    KILLED = "killed"
    """The kill latch was engaged."""
    REFUSED = "held"
    """A check or guard said no before anything was touched."""
    SUPERSEDED = "superseded"
    """A newer template took its place."""
    CANCELLED = "cancelled"
    """The stable template was put back."""
    GONE = "gone"
    """The Deployment was deleted."""


PROMOTED = "promoted"
UNGATED = "ungated"
"""It rolled before it could be held: reported and adopted, since no stable pod is left."""
REVERTED = "reverted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A Service that we pinned, and the selector it had."""

    service: str
    original: Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A route and a Service on it: the pair of backends between which requests are split."""

    route: RouteRef
    uid: str
    service: str
    original: tuple[Backend, ...]
    """The backends as they stood before the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Monotonic readings; None means not yet."""

    entered: float
    """When the present phase began."""
    asserted: float | None = None
    """Since when the routes have shown the wanted weight."""
    checkpoint: float | None = None
    """When the evidence was last made durable."""
    made: float | None = None
    """When the canary's objects were last made."""
    unscraped: float | None = None
    """Since when some pod is not scraped of which there should be counts."""
    behind: float | None = None
    """Since when some Service has led elsewhere than it selects, or nobody said where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt to bring one new template of a target to production."""

    name: str
    target: TargetRef
    uid: str
    """uid of the Deployment; a namesake with another uid is another target."""
    phase: Phase = Phase.HOLDING
    annotations: Pairs = ()
    """The policy as it was at the start: a change of thresholds in mid-run judges nobody."""
    stable_hash: str
    stable_digest: str
    digest: str
    """Digest of the template on trial."""
    replicas: int = 0
    """Replicas of the Deployment at the start: what stable may be asked to carry again."""
    most_replicas: int | None = None
    """The autoscaler's maximum, if there is one."""
    ladder: tuple[tuple[int, float], ...] = ()
    """Weight and dwell of each step, fixed when the run began; a cap that is lowered later takes
    away from a step's weight, and never moves the run to another step."""
    traffic: Traffic = Traffic.GATEWAY
    """How requests are split, decided when the checks passed; never AUTO."""
    promotion: Promotion = Promotion.SHIFT
    pins: tuple[Pin, ...] = ()
    lanes: tuple[Lane, ...] = ()
    step: int = 0
    """Index of the present rung; the bake is one beyond the last step."""
    granted: int = 0
    """Highest rung that a PASS (or a person) has allowed."""
    weight_bp: int = 0
    """The weight that was last read back in force."""
    evidence: dict[str, Any] | None = None
    """Checkpoint of the accumulators."""
    calibration: dict[str, Any] | None = None
    """What stable's past told the judge before the run; None: nothing."""
    recovery: bool = False
    """Stable was down at the start: a person may promote without evidence."""
    slips: int = 0
    """How often somebody else undid our part."""
    new_hash: str = ""
    """Hash of the ReplicaSet that the user's Deployment rolled to after the commit."""
    orphans: tuple[str, ...] = ()
    """Hashes of ReplicaSets that were deleted from under their pods, noted before the deletion."""
    ending: Ending | None = None
    reason: str = ""
    """Why it ended, in a sentence."""
    outcome: str = ""
    """Set when the end is reached; empty while the run is under way."""
    tripped: bool = False
    """The circuit breaker opened on this run."""
    released: bool = False
    """A person closed that breaker."""
    quarantined: bool = False
    """The template failed; it does not start again by itself."""
    probe: bool = False
    """This run is the one capped probe of a half-open breaker."""

    @property
    def services(self) -> tuple[str, ...]:
        """The user's Services of this run, which may be gone by now."""
        return tuple(dict.fromkeys(lane.service for lane in self.lanes))


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Run)


def encode(run: Run) -> str:
    """The durable text of a run."""
    return _ENCODER.encode(run).decode()


def decode(text: str) -> Run:
    """The run of a durable text. Raises ValueError if it is not one."""
    return _DECODER.decode(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A run with what only this process knows of it."""

    run: Run
    moments: Moments
    evidence: Evidence | None = None

    @property
    def phase(self) -> Phase:
        """Where the run stands."""
        return self.run.phase

    def moved(self, event: Event, now: float, **changes: Any) -> "Memory":
        """The memory after `event`, with durable `changes`, and the moments of a new phase."""
        phase = advance(self.run.phase, event)
        run = replace(self.run, phase=phase, **changes)
        kept = self.evidence.to_json() if self.evidence and phase in FOLLOWED else run.evidence
        moments = Moments(entered=now, checkpoint=now)
        return replace(self, run=replace(run, evidence=kept), moments=moments)

    def with_run(self, **changes: Any) -> "Memory":
        """The memory with durable changes and no change of phase."""
        return replace(self, run=replace(self.run, **changes))

    def at(self, **changes: Any) -> "Memory":
        """The memory with other moments."""
        return replace(self, moments=replace(self.moments, **changes))


def recalled(text: str, now: float) -> Memory:
    """The memory of a run found in its document after a restart. Raises ValueError."""
    run = decode(text)
    # What an ended run was judged on is of no use any more, in whatever form it was written.
    asked = run.evidence if run.phase not in RESTING else None
    evidence = Evidence.from_json(asked) if asked else None
    if run.calibration and run.phase not in RESTING:
        Calibration.from_json(run.calibration)  # It is asked for at every tick, too late to fail.
    return Memory(run=run, moments=Moments(entered=now), evidence=evidence)


def split_of(lane: Lane, seen: tuple[Backend, ...] = ()) -> SplitRef:
    """The lane as effects name it."""
    return SplitRef(
        route=lane.route,
        uid=lane.uid,
        service=lane.service,
        canary=canary_name(lane.service),
        seen=seen,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What stands in the annotation `managed`: which template serves as the stable one."""

    uid: str
    hash: str
    digest: str

    def text(self) -> str:
        """The annotation's value."""
        return f"{self.uid}/{self.hash}/{self.digest}"


def parse_mark(text: str) -> Mark | None:
    """The mark in an annotation's value, or None if it is not one."""
    parts = text.split("/")
    if len(parts) != 3 or not all(parts):
        return None
    return Mark(uid=parts[0], hash=parts[1], digest=parts[2])
