# SPDX-License-Identifier: Apache-2.0
"""The cluster as the engine needs it: views from caches, a few fresh reads, and effects.

Errors of every awaited method: `Unavailable`, `Conflict`, `Missing`, `Refused`, `Forbidden`.
Each call has a deadline of its own, after which it raises `Unavailable`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from controller.core.effects import Effect, SplitRef
from controller.core.observation import Pod, Preflight, Route, View
from controller.core.values import RouteRef, TargetRef


class Cluster(Protocol):
    """Targets, their views and the effects on them."""

    def targets(self) -> Sequence[TargetRef]:
        """Every annotated Deployment (and every one that still carries a mark of ours)."""
        ...

    def view(self, target: TargetRef) -> View:
        """The target as the caches have it; `deployment` is None when it does not exist."""
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

    async def read_pods(self, target: TargetRef, hashes: Sequence[str]) -> tuple[Pod, ...]:
        """The target's pods of these template hashes, owned or orphaned, without the canary's."""
        ...

    async def read_annotations(self, target: TargetRef) -> dict[str, str]:
        """Our annotations on the Deployment by a quorum read."""
        ...

    async def perform(self, effect: Effect, expected: Sequence[Route] = ()) -> str:
        """Carry one effect out with its preconditions; the text says what was written.

        For `RaiseWeight` the routes of `expected` carry the versions that were read: each write is
        a compare-and-set on them. An effect that is already in place is no error.
        """
        ...

    async def zero(self, splits: Sequence[SplitRef]) -> None:
        """Weight 0 for the canary, from memory first; reads again only if an index moved."""
        ...

    async def tell(self, target: TargetRef, *, reason: str, message: str, warning: bool) -> None:
        """Write a Kubernetes Event on the Deployment."""
        ...
