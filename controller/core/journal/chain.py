# SPDX-License-Identifier: Apache-2.0
"""Records in a SHA-256 chain of canonical JSON (RFC 8785).

A record is an object with the keys `seq`, `at`, `kind`, `run`, `epoch`, `actor` and `body`; `prev`
is the hash of the record before it and `hash` is SHA-256 over the canonical form of the record
without `hash`. Numbers are integers only: floats have no single spelling that every reader shares.
The head (number of records and last hash) is kept beside the records, so that a truncated tail is
found as well as a changed, dropped, added or moved record.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import rfc8785

GENESIS: Final = "0" * 64
"""What the first record names as its predecessor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a chain ends: how many records there are, and the hash of the last."""

    count: int = 0
    hash: str = GENESIS


def append(head: Head, record: Mapping[str, object]) -> tuple[Head, str]:
    """The new head and the record as one line. `record` must hold no float; `seq` is set here."""
    full: dict[str, Any] = {**record, "seq": head.count + 1, "prev": head.hash}
    digest = hashlib.sha256(rfc8785.dumps(full)).hexdigest()
    line = rfc8785.dumps({**full, "hash": digest}).decode()
    return Head(count=head.count + 1, hash=digest), line


def lines_of(text: str) -> list[str]:
    """The records of a journal's text, one to a line.

    Only the line feed parts them: canonical JSON leaves U+2028 and U+0085 as they are, which
    `str.splitlines` would take for the end of a record, and anybody may put them into a reason.
    """
    return text.removesuffix("\n").split("\n") if text else []


def verify(lines: Sequence[str], head: Head | None = None) -> list[str]:
    """Every place where the chain does not hold, in words; empty means untouched.

    Without `head` a tail that was cut off cannot be seen, and that is all that cannot.
    """
    problems: list[str] = []
    previous = GENESIS
    for number, line in enumerate(lines, start=1):
        problem, previous = _check(number, line, previous)
        if problem:
            problems.append(problem)
    if head is not None and (len(lines), previous) != (head.count, head.hash):
        problems.append(
            f"the document names {head.count} records ending in {head.hash[:12]}, "
            f"found {len(lines)} ending in {previous[:12]}"
        )
    return problems


def _check(number: int, line: str, previous: str) -> tuple[str, str]:
    """What is wrong with one line (empty: nothing), and the hash that the next must name."""
    try:
        record = json.loads(line)
        claimed = record.pop("hash")
        canonical = rfc8785.dumps(record)
        named, seq = record["prev"], record["seq"]
    except (ValueError, KeyError, TypeError, AttributeError, rfc8785.CanonicalizationError):
        return f"record {number} is not readable", previous
    actual = hashlib.sha256(canonical).hexdigest()
    if actual != claimed:
        return f"record {number} was changed: its hash does not match its text", actual
    if named != previous:
        return f"record {number} does not follow the one before it", actual
    if seq != number:
        return f"record {number} carries the number {seq}", actual
    if rfc8785.dumps({**record, "hash": claimed}).decode() != line:
        return f"record {number} is not in canonical form", actual
    return "", actual
