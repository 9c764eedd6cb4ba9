# SPDX-License-Identifier: Apache-2.0
"""Where runs, latches and the epoch are kept: documents with compare-and-set.

Errors of every awaited method: `Unavailable`, `Conflict`, `Missing`, `Refused`, `Forbidden`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.core.observation import Latches
from controller.core.values import TARGET_NAME, TARGET_NAMESPACE, TargetRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One run document: its name, the version to write against, and its texts by key."""

    name: str
    version: str
    texts: Mapping[str, str]
    labels: Mapping[str, str]

    @property
    def target(self) -> TargetRef | None:
        """Whose it is by its labels; None where they do not say."""
        name = self.labels.get(TARGET_NAME, "")
        return TargetRef(self.labels.get(TARGET_NAMESPACE, ""), name) if name else None


class Documents(Protocol):
    """Run documents, the kill latch and the cluster document, in the controller's namespace."""

    async def runs(self) -> Sequence[Document]:
        """Every run document, by a fresh list."""
        ...

    async def read(self, name: str) -> Document:
        """One run document, by a quorum read."""
        ...

    async def create(self, name: str, texts: Mapping[str, str], target: TargetRef) -> Document:
        """Create a run document; `Conflict` if the name is taken."""
        ...

    async def replace(self, document: Document, texts: Mapping[str, str]) -> Document:
        """Compare-and-set on the document's version; `Conflict` if it moved."""
        ...

    async def delete(self, document: Document) -> None:
        """Delete a finished run's document; already gone is no error."""
        ...

    async def latches(self) -> Latches:
        """Kill scopes and epoch by quorum reads; a kill document that is not readable kills all."""
        ...

    def latches_seen(self) -> Latches:
        """The same from the watch: for stopping early, never for raising."""
        ...

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Call `changed` when the kill latch or the cluster document moved."""
        ...

    async def engage(self, scope: str, *, actor: str, reason: str) -> None:
        """Persist the kill latch for a scope; already engaged is no error."""
        ...

    async def release(self, scope: str) -> None:
        """Remove a scope from the kill latch."""
        ...

    async def claim_epoch(self) -> int:
        """Raise the epoch by one, by compare-and-set, and return it."""
        ...

    async def open_fleet_breaker(self, why: str) -> None:
        """Latch the fleet breaker; already open is no error."""
        ...

    async def close_fleet_breaker(self) -> None:
        """Close the fleet breaker: a person's act."""
        ...
