# SPDX-License-Identifier: Apache-2.0
"""The closed union of what the core may ask for.

`Safer` effects never raise what any path gives the new version; some are urgent (they go out
before the journal is asked). `Riskier` effects do, or may; one of them at most per tick, each with
a Permit.
Every effect names the uid of what it touches, so that an object that was deleted and created again
under the same name is never taken for the one that was looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from controller.core.observation import Backend, Pairs
from controller.core.values import RouteRef, TargetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRef:
    """One route and the two Services between which its rules split the requests."""

    route: RouteRef
    uid: str
    service: str
    canary: str
    seen: tuple[Backend, ...] = ()
    """The backends as last seen: enough to write weight 0 without reading first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroWeight:
    """Urgent: weight 0 for the canary in all these routes, with no precondition but the name."""

    splits: tuple[SplitRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerWeight:
    """Give the canary at most `weight_bp` in all these routes (never raises)."""

    splits: tuple[SplitRef, ...]
    weight_bp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """All requests back to the canary pods, when a hand-back is undone.

    Both sides are of the same version then, so this adds no exposure; the pods that are left are
    the ones that are about to be deleted.
    """

    splits: tuple[SplitRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Urgent: stop the native roll of the user's Deployment and mark it as held by us."""

    target: TargetRef
    uid: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeReplicaSet:
    """Urgent: scale the new ReplicaSet of the paused Deployment to 0."""

    target: TargetRef
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteReplicaSet:
    """Delete a ReplicaSet that carries no traffic (Background)."""

    target: TargetRef
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanReplicaSet:
    """Delete a ReplicaSet and leave its pods, which go on serving until stable is back."""

    target: TargetRef
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePods:
    """Delete pods that no ReplicaSet owns any more, by name and uid."""

    target: TargetRef
    pods: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinService:
    """Let a Service select only the pods with `key` = `value` besides its own selector."""

    target: TargetRef
    name: str
    uid: str
    original: Pairs
    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Confine:
    """Urgent: these Services select the pods of one hash alone, with no precondition but the name.

    Where no route splits the requests this is what weight 0 is elsewhere.
    """

    target: TargetRef
    services: tuple[str, ...]
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpinService:
    """Give a Service its own selector back and drop our annotation."""

    target: TargetRef
    name: str
    uid: str
    original: Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCanaryService:
    """Create `<service>-canary`, selecting the canary track, owned by the Deployment."""

    target: TargetRef
    owner_uid: str
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCanaryService:
    """Delete our twin of a Service."""

    target: TargetRef
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCanary:
    """Create the canary Deployment at 0 replicas from the user's template, if it has `digest`."""

    target: TargetRef
    owner_uid: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrinkCanary:
    """Scale the canary Deployment down, once it carries no (or less) traffic."""

    target: TargetRef
    uid: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCanary:
    """Delete the canary Deployment (Background: its pods must not be adopted by the user's)."""

    target: TargetRef
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCanary:
    """Make the user's Deployment the owner of the canary again, and its only one."""

    target: TargetRef
    uid: str
    owner_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachBackend:
    """Add the canary to every rule of the route that sends to the Service, at weight 0."""

    split: SplitRef


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachBackend:
    """Undo our part of a route by the inverse patch on the live object."""

    split: SplitRef
    original: tuple[Backend, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotate:
    """Set (or with None remove) annotations of ours on the user's Deployment."""

    target: TargetRef
    uid: str
    annotations: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Unpause a Deployment whose template is the stable one again: no pod changes."""

    target: TargetRef
    uid: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revert:
    """Write the stable template back (from its ReplicaSet) and unpause."""

    target: TargetRef
    uid: str
    replica_set: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCanary:
    """Scale the canary Deployment up to `replicas`."""

    target: TargetRef
    uid: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseWeight:
    """Give the canary `weight_bp` of every route: one declared step."""

    splits: tuple[SplitRef, ...]
    weight_bp: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowCanary:
    """Pin a Service to the canary track: clients that call it directly follow after the bake."""

    target: TargetRef
    name: str
    uid: str
    original: Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """Let Services select the canary pods beside the others: one declared step of exposure.

    The share is that of the pods, so it is counted before the write and again by the guards.
    """

    target: TargetRef
    services: tuple[tuple[str, str], ...]
    """Name and uid of each."""
    weight_bp: int
    """The share that the ready pods make of it, rounded up."""
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """Unpause the user's Deployment, so that it rolls natively."""

    target: TargetRef
    uid: str
    digest: str


Urgent: TypeAlias = ZeroWeight | Confine | Pause | FreezeReplicaSet
Safer: TypeAlias = (
    Urgent
    | LowerWeight
    | Gather
    | DeleteReplicaSet
    | OrphanReplicaSet
    | DeletePods
    | PinService
    | UnpinService
    | CreateCanaryService
    | DeleteCanaryService
    | CreateCanary
    | ShrinkCanary
    | DeleteCanary
    | OwnCanary
    | AttachBackend
    | DetachBackend
    | Annotate
    | Resume
    | Revert
)
Riskier: TypeAlias = StartCanary | RaiseWeight | Admit | FollowCanary | Roll
Effect: TypeAlias = Safer | Riskier

URGENT = (ZeroWeight, Confine, Pause, FreezeReplicaSet)
RISKIER = (StartCanary, RaiseWeight, Admit, FollowCanary, Roll)
