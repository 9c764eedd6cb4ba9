# SPDX-License-Identifier: Apache-2.0
"""What clients saw, counted in slots of a tenth of a second.

The load generator writes one slot per line; the demo adds them up. An answer is the application's
if it names its version; everything else that is not an answer (a refused or broken connection, a
timeout, a 5xx that the gateway made up) is a failure that only the shifting can have caused.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

MAX_SLOTS = 12_000
"""Twenty minutes of slots: a story lasts one; whoever keeps the demo running loses the oldest."""


class Track(msgspec.Struct, kw_only=True):
    """Answers of one version in one slot."""

    good: int = 0
    bad: int = 0
    """Answers with 5xx."""
    slow: int = 0
    """Answers above the limit for latency, good or bad."""

    @property
    def total(self) -> int:
        """All answers."""
        return self.good + self.bad


class Slot(msgspec.Struct, kw_only=True):
    """What happened until `end` (seconds since 1970) since the slot before."""

    end: float
    sent: int = 0
    skipped: int = 0
    """Requests that were due but not sent, since too many were under way."""
    tracks: dict[str, Track] = {}
    """Answers through the gateway by version."""
    failures: dict[str, int] = {}
    """Failures through the gateway by what went wrong."""
    direct: dict[str, Track] = {}
    """The same for the client that calls the Service's endpoints itself."""
    direct_failures: dict[str, int] = {}
    last: dict[str, float] = {}
    """Time of the newest answer by version, through the gateway."""


def encode(slot: Slot) -> bytes:
    """One line."""
    return msgspec.json.encode(slot) + b"\n"


def decode(line: bytes) -> Slot:
    """The slot of one line; raises msgspec.DecodeError."""
    return msgspec.json.decode(line, type=Slot)


@dataclass(slots=True, kw_only=True)
class Seen:
    """All slots of a story, newest last."""

    slots: deque[Slot] = field(default_factory=lambda: deque(maxlen=MAX_SLOTS))

    def add(self, slot: Slot) -> None:
        """Take the next slot."""
        self.slots.append(slot)

    def between(self, start: float, end: float) -> Iterable[Slot]:
        """Slots that lie wholly between two times."""
        before = 0.0
        for slot in self.slots:
            if before >= start and slot.end <= end:
                yield slot
            before = slot.end

    @property
    def failed(self) -> int:
        """Requests that failed although an application would have answered them."""
        return sum(
            sum(slot.failures.values()) + sum(slot.direct_failures.values()) for slot in self.slots
        )

    def failures(self) -> Counter[str]:
        """Failures by what went wrong, those of the direct client marked as such."""
        found: Counter[str] = Counter()
        for slot in self.slots:
            found.update(slot.failures)
            found.update({f"direct: {what}": n for what, n in slot.direct_failures.items()})
        return found

    def bad(self, *, slow: bool = False) -> int:
        """Bad answers that applications gave; with `slow`, answers above the limit as well."""
        return sum(
            track.bad + (track.slow if slow else 0)
            for slot in self.slots
            for track in (*slot.tracks.values(), *slot.direct.values())
        )

    def last(self, version: str) -> float | None:
        """When the newest answer of `version` came through the gateway."""
        times = [slot.last[version] for slot in self.slots if version in slot.last]
        return max(times, default=None)


def total(slots: Iterable[Slot], version: str) -> Track:
    """Answers of `version` through the gateway in all of these slots."""
    return _sum(slot.tracks.get(version) for slot in slots)


def share(slots: Iterable[Slot], chosen: Callable[[str], bool]) -> float | None:
    """Share of answers whose version is `chosen`; None without any answer."""
    wanted, everything = 0, 0
    for slot in slots:
        for version, track in slot.tracks.items():
            everything += track.total
            wanted += track.total if chosen(version) else 0
    return wanted / everything if everything else None


def _sum(tracks: Iterable[Track | None]) -> Track:
    result = Track()
    for track in tracks:
        if track is not None:
            result.good += track.good
            result.bad += track.bad
            result.slow += track.slow
    return result
