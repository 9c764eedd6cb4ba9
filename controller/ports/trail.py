# SPDX-License-Identifier: Apache-2.0
"""The name under which both the journal and the API server's audit log know a write.

An adapter sends it along with each write of the effect that is being carried out, so that every
line of the audit log leads to one record of the journal, and back.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True, kw_only=True)
class Call:
    """An effect that is being carried out."""

    name: str
    """Empty: its writes have no name."""
    writes: int = 0
    """How many were accepted so far; none if all was in place already."""


CALL: Final[ContextVar[Call | None]] = ContextVar("call", default=None)


@contextlib.contextmanager
def call(name: str) -> Iterator[Call]:
    """Writes within are sent under this name, and counted."""
    found = Call(name=name)
    token = CALL.set(found)
    try:
        yield found
    finally:
        CALL.reset(token)
