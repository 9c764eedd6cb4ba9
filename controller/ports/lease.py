# SPDX-License-Identifier: Apache-2.0
"""The one lease for which replicas compete: read, and compare-and-set.

Errors of every awaited method: `Unavailable`, `Conflict`, `Missing`, `Refused`, `Forbidden`.
A lease says who should lead, so that two do not do the same work. It fences nobody: that is what
the epoch is for.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """The lease as it was read or written."""

    holder: str
    """Empty: released."""
    address: str
    """Where the holder's doors are, as HOST:PORT; empty if it does not say."""
    seconds: float
    """How long the holder may be silent, by its own settings."""
    transitions: int
    version: str
    """What a write is compared with. Moves with every renewal, whatever the clocks say."""
    mark: str
    """Whose write it was. Compared, never read as a time."""


class Lease(Protocol):
    """One lease and the identity under which this process competes for it."""

    @property
    def identity(self) -> str:
        """Ours, of no other process and of no earlier life of this one."""
        ...

    async def read(self) -> Tenure | None:
        """The lease by a quorum read; None if there is none."""
        ...

    async def hold(self, seen: Tenure | None, stamp: str) -> Tenure:
        """Take or renew it, by compare-and-set on what was seen, None being that there is none.

        Raises Conflict if it moved, Missing if it is gone.
        """
        ...

    def marked(self, seen: Tenure, stamp: str) -> str:
        """The mark that a lease of ours has after it was renewed with this stamp."""
        ...

    async def release(self, seen: Tenure) -> None:
        """Give it back for the next one to take at once, by compare-and-set."""
        ...
