# SPDX-License-Identifier: Apache-2.0
"""What the world looked like at one moment: the only thing, with memory, that decisions see.

The views hold just the fields that some decision reads. An adapter fills them from its caches;
an older view is made harmless by the preconditions of the writes that follow from it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from controller.core.values import HASH_LABEL, TRACK_LABEL, WHOLE_BP, RouteRef

Pairs: TypeAlias = tuple[tuple[str, str], ...]
"""A label map or selector as sorted pairs, so that it is hashable and compares by value."""

PIN_LABELS: Final = (HASH_LABEL, TRACK_LABEL)
"""The two keys of a Service's selector by which we choose among a target's pods."""


def pinned(selector: Pairs, key: str, value: str) -> Pairs:
    """A selector with exactly one pin of ours; everything else in it stays."""
    own = {name: text for name, text in selector if name not in PIN_LABELS}
    return tuple(sorted({**own, key: value}.items()))


def unpinned(selector: Pairs, noted: Pairs = ()) -> Pairs:
    """A selector without our pin.

    Of `noted`, the selector before we touched it, only our two keys count: whatever else differs
    is an edit that somebody made meanwhile.
    """
    own = {name: text for name, text in selector if name not in PIN_LABELS}
    own.update((name, text) for name, text in noted if name in PIN_LABELS)
    return tuple(sorted(own.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The user's Deployment, or our canary twin of it."""

    name: str
    uid: str
    version: str
    generation: int
    observed_generation: int
    replicas: int
    paused: bool
    strategy: str
    digest: str
    """SHA-256 of the canonical pod template, without the labels that are ours or the hash's."""
    selector: Pairs
    pod_labels: Pairs
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Only those below our prefix, with the prefix cut off."""
    claims: tuple[str, ...] = ()
    """Names of the PersistentVolumeClaims that the template mounts."""
    history: int = 10
    """How many old ReplicaSets are kept (`revisionHistoryLimit`)."""
    updated: int = 0
    ready: int = 0
    available: int = 0
    status_replicas: int = 0
    stalled: bool = False
    """The progress deadline passed (condition Progressing is False)."""
    deleting: bool = False
    ours: bool = False
    owner_uid: str = ""

    @property
    def observed(self) -> bool:
        """The Deployment controller has seen this generation."""
        return self.observed_generation >= self.generation

    @property
    def settled(self) -> bool:
        """And all pods are of its template."""
        return (
            self.observed
            and self.updated == self.replicas
            and self.available >= self.replicas
            and self.status_replicas == self.replicas
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSet:
    """One ReplicaSet that the target's Deployment owns."""

    name: str
    uid: str
    hash: str
    digest: str
    revision: int
    replicas: int
    ready: int
    status_replicas: int = 0
    deleting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service that selects the target's pods, or our canary twin of one."""

    name: str
    uid: str
    version: str
    selector: Pairs
    annotations: Mapping[str, str] = field(default_factory=dict)
    original: Pairs | None = None
    """The selector in our note; None without a note, or with one that cannot be read."""
    shared_with: tuple[str, ...] = ()
    """Other Deployments whose pods it selects as well."""
    ready_endpoints: int = 0
    ours: bool = False
    owner_uid: str = ""

    @property
    def own_selector(self) -> Pairs:
        """The selector that the Service has when we are not there, with all later edits."""
        if "original" in self.annotations:
            return unpinned(self.selector, self.original or ())
        # Without a note a hash may be the user's own choice; the track label is ours alone.
        return tuple(pair for pair in self.selector if pair[0] != TRACK_LABEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One entry of a rule's backendRefs: where it stands, and its weight (None: not written)."""

    rule: int
    index: int
    service: str
    weight: int | None


MOST_WEIGHT: Final = 100
"""Of a backend beside ours: 10,000 times as much is the largest that the Gateway API admits."""


def weight_of(weight: int | None) -> int:
    """A weight that is not written counts as 1."""
    return 1 if weight is None else weight


def scale(weights: Iterable[int | None]) -> int:
    """The divisor of a rule's weights: what they have in common."""
    return math.gcd(*(weight_of(weight) for weight in weights)) or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route with at least one rule to a Service of the target, in the order of its rules."""

    ref: RouteRef
    uid: str
    version: str
    generation: int
    backends: tuple[Backend, ...]
    """All backends of the rules that name a Service of the target or its canary twin."""
    accepted: bool | None
    """Accepted by every parent for this generation; None while a parent has not spoken yet."""
    message: str = ""
    controllers: tuple[str, ...] = ()
    """Who has answered for the route's parents, as their GatewayClasses name them."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    original: tuple[Backend, ...] = ()
    """The backends in our note, as they stood before us; empty without a note."""

    def share_bp(self, service: str, canary: str) -> int:
        """Largest share, in basis points, that any rule gives `canary` of the two's requests."""
        both, ours = dict[int, int](), dict[int, int]()
        for backend in self.backends:
            weight = weight_of(backend.weight)
            if backend.service == canary:
                ours[backend.rule] = ours.get(backend.rule, 0) + weight
            elif backend.service != service:
                continue
            both[backend.rule] = both.get(backend.rule, 0) + weight
        rules = ((weight, both[rule]) for rule, weight in ours.items())
        return max((-(-weight * WHOLE_BP // total) for weight, total in rules if total), default=0)

    @property
    def finest(self) -> int:
        """The largest weight of any rule as the team wrote it, without what they have in common."""
        written = {backend.rule for backend in self.original}
        found = [*self.original, *(one for one in self.backends if one.rule not in written)]
        rules = [[b.weight for b in found if b.rule == rule] for rule in {b.rule for b in found}]
        return max((weight_of(one) // scale(rule) for rule in rules for one in rule), default=0)

    def names(self, service: str) -> bool:
        """Whether some rule sends requests to `service`."""
        return any(backend.service == service for backend in self.backends)

    def pairs(self, service: str, canary: str) -> bool:
        """Whether `canary` stands in some rule, and in every one that leads to `service`."""
        rules = {
            name: {backend.rule for backend in self.backends if backend.service == name}
            for name in (service, canary)
        }
        return bool(rules[canary]) and rules[service] <= rules[canary]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One canary pod, with what its containers say of themselves."""

    name: str
    uid: str
    phase: str
    ready: bool
    waiting: str = ""
    """The worst container's waiting reason: CrashLoopBackOff, ImagePullBackOff and so on."""
    restarts: int = 0
    oom_killed: bool = False
    deleting: bool = False
    was_ready: bool = False
    """It was ready once in this run; the adapter remembers."""
    orphan: bool = False
    """No ReplicaSet owns it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything of one target in the cluster, from the caches."""

    deployment: Deployment | None
    replica_sets: tuple[ReplicaSet, ...] = ()
    canary: Deployment | None = None
    services: tuple[Service, ...] = ()
    """Services that select the target's pods now, or were pinned by us (annotation `original`)."""
    canary_services: tuple[Service, ...] = ()
    """Objects under the names of our twins, whether they are ours or foreign."""
    routes: tuple[Route, ...] = ()
    pods: tuple[Pod, ...] = ()
    """Pods of the canary Deployment."""
    stale_seconds: float = 0.0
    """Time since the oldest of the caches behind this view last heard from the API server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What is asked of the API server once per run, before anything is touched."""

    unweighable: tuple[str, ...] = ()
    """Paths to the target's Services that cannot be weighed, as `Ingress shop/checkout`."""
    once_claims: tuple[str, ...] = ()
    """PersistentVolumeClaims of the target that only one node may mount (ReadWriteOnce)."""
    autoscaler_runs_away: str = ""
    """Why the HorizontalPodAutoscaler does not go with any canary; empty: it does."""
    autoscaler_starves: str = ""
    """Why it does not go with a canary that a route leads to; empty: it does."""
    autoscaler_external: tuple[str, ...] = ()
    """External metrics that it scales on, by name: whose load they follow cannot be seen."""
    autoscaler_max: int | None = None
    pods_left: int | None = None
    """How many more pods the namespace's quota admits; None: no quota on pods."""
    uncovered: tuple[str, ...] = ()
    """Policies attached to a Service by name that the canary twin would escape."""
    ungranted: tuple[str, ...] = ()
    """What no ReferenceGrant lets a route of another namespace do, as `HTTPRoute edge/checkout lead
    to the Service shop/checkout-canary`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latches:
    """What only a person leaves, read together: kill scopes and the epoch of the controller."""

    kills: tuple[str, ...] = ()
    """Scopes: `all`, `namespace.<namespace>` or `target.<namespace>.<name>`."""
    epoch: int = 0
    fleet_open: str = ""
    """Why the fleet breaker is open; empty: closed."""

    def kill_for(self, namespace: str, name: str) -> str:
        """The scope that stops this target, or an empty text."""
        for scope in ("all", f"namespace.{namespace}", f"target.{namespace}.{name}"):
            if scope in self.kills:
                return scope
        return ""
