# SPDX-License-Identifier: Apache-2.0
"""The name under which both the journal and the API server's audit log know a write.

An adapter sends it along with each write of the effect that is being carried out, so that every
line of the audit log leads to one record of the journal, and back.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

CALL: Final[ContextVar[str]] = ContextVar("call", default="")
"""Empty outside of an effect."""


@contextlib.contextmanager
def call(name: str) -> Iterator[None]:
    """Writes within are sent under this name."""
    token = CALL.set(name)
    try:
        yield
    finally:
        CALL.reset(token)
