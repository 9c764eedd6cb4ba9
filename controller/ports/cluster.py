# SPDX-License-Identifier: Apache-2.0
"""The cluster as the engine needs it: views from caches, a few fresh reads, and effects.

Errors of every awaited method: `Unavailable`, `Conflict`, `Missing`, `Refused`, `Forbidden`.
Each call has a deadline of its own, after which it raises `Unavailable`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.core.effects import Effect, SplitRef
from controller.core.observation import Pod, Preflight, Route, Service, View
from controller.core.values import RouteRef, TargetRef


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """One object by kind (`Deployment`, `Service` or a kind of route) and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """`Kind namespace/name`."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Which leader's epoch an object carries, and the version at which that was read."""

    ref: ObjectRef
    version: str
    epoch: int | None
    """None: no leader's, or a text that is no epoch."""
    bare: bool
    """It has no annotations at all."""


class Cluster(Protocol):
    """Targets, their views and the effects on them."""

    def targets(self) -> Sequence[TargetRef]:
        """Every annotated Deployment (and every one that still carries a mark of ours)."""
        ...

    def view(self, target: TargetRef, services: Collection[str] = ()) -> View:
        """The target as the caches have it; `deployment` is None when it does not exist.

        `services` names those of its run: their routes are shown even where the Service is gone.
        """
        ...

    def subscribe(self, changed: Callable[[TargetRef], None]) -> None:
        """Call `changed` (quickly, in the reader's task) for each target whose view changed."""
        ...

    async def preflight(self, target: TargetRef) -> Preflight:
        """Ask for what is not cached, once before a run."""
        ...

    async def read_routes(self, refs: Sequence[RouteRef], services: Sequence[str]) -> list[Route]:
        """Quorum reads of routes, reduced to the rules that name `services`."""
        ...

    async def read_services(self, namespace: str, names: Collection[str]) -> list[Service]:
        """Quorum reads of Services; those that are gone are left out."""
        ...

    async def read_pods(self, target: TargetRef, hashes: Sequence[str]) -> tuple[Pod, ...]:
        """The target's pods of these template hashes, owned or orphaned, without the canary's."""
        ...

    async def read_endpoints(
        self, namespace: str, services: Collection[str]
    ) -> dict[str, frozenset[str]]:
        """Names of the pods that each Service leads to, by its EndpointSlices: the ready ones."""
        ...

    async def read_annotations(self, target: TargetRef) -> dict[str, str]:
        """Our annotations on the Deployment by a quorum read."""
        ...

    async def read_claims(self, refs: Sequence[ObjectRef]) -> list[Claim]:
        """Whose epoch each object carries, by quorum reads; what we have no part in is left out."""
        ...

    async def claim(self, claim: Claim, epoch: int) -> None:
        """Put `epoch` on an object, by compare-and-set on the version of `claim`."""
        ...

    async def perform(
        self, effect: Effect, expected: Sequence[Route] = (), *, epoch: int | None = None
    ) -> str:
        """Carry one effect out with its preconditions; the text says what was written.

        For `RaiseWeight` the routes of `expected` carry the versions that were read: each write is
        a compare-and-set on them. With `epoch` each write holds only while its object carries that
        epoch, else it raises `Conflict`. An effect that is already in place is no error.
        """
        ...

    async def zero(self, splits: Sequence[SplitRef]) -> None:
        """Weight 0 for the canary, from memory first; reads again only if an index moved."""
        ...

    async def tell(self, target: TargetRef, *, reason: str, message: str, warning: bool) -> None:
        """Write a Kubernetes Event on the Deployment."""
        ...
