# SPDX-License-Identifier: Apache-2.0
"""What our own writes showed and the watch has not told of yet.

The answer to a write comes some milliseconds before or after its event on the watch. Whoever looks
in between at a cache that has only the watch's word does everything once more: a create meets its
own object, a patch changes nothing. So the answer goes into the cache too, and until the watch has
come as far, what is older than the answer is left out.

Versions of one resource are numbers that grow; where they are not, nothing is taken from an answer.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from controller.adapters.kube.objects import Peek
from controller.adapters.kube.store import Key, Raw
from controller.ports.clock import Clock

BELIEVED_SECONDS: Final = 60.0
"""An answer holds no longer than that against watch and lists. A watch that lags further is broken,
and a server whose storage was restored from a backup counts from an earlier version again."""

_PEEK: Final = msgspec.json.Decoder(Peek)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    uid: str
    version: int
    """0: the object is gone."""
    until: float


class Ahead:
    """The answers of one resource that the watch has not come to."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is known yet."""
        self._clock = clock
        self._answers: dict[Key, _Answer] = {}

    def wrote(self, key: Key, uid: str, version: int) -> bool:
        """An object stood at this version; returns whether the answer to its end came before."""
        known = self._answers.get(key)
        gone = known is not None and not known.version and known.uid == uid
        if not gone:
            self._note(key, uid, version)
        return gone

    def removed(self, key: Key, uid: str) -> None:
        """This object is gone; a namesake with another uid may come."""
        self._note(key, uid, 0)

    def _note(self, key: Key, uid: str, version: int) -> None:
        until = self._clock.monotonic() + BELIEVED_SECONDS
        self._answers[key] = _Answer(uid=uid, version=version, until=until)

    def clear(self) -> None:
        """A quorum list follows, which is newer than everything here."""
        self._answers.clear()

    def reached(self, version: str) -> None:
        """The watch has come to this version: it has the word on what was written until then."""
        now, at = self._clock.monotonic(), number(version) or 0
        for key, answer in tuple(self._answers.items()):
            if answer.until <= now or 0 < answer.version <= at:
                del self._answers[key]

    def outdates(self, raw: Raw, *, deleted: bool = False) -> bool:
        """Whether what a watch or a list says of an object is older than our answer about it."""
        if not self._answers:
            return False
        try:
            meta = _PEEK.decode(raw).metadata
        except msgspec.MsgspecError:
            return False
        key = (meta.namespace, meta.name)
        answer = self._answers.get(key)
        if answer is None or answer.until <= self._clock.monotonic():
            return False
        if answer.version:
            return (number(meta.resource_version) or answer.version) < answer.version
        if deleted and meta.uid == answer.uid:
            del self._answers[key]
        return not deleted and meta.uid == answer.uid

    def missing_from(self, version: str) -> set[Key]:
        """What was written after a list of this version was taken, which cannot show it."""
        now, at = self._clock.monotonic(), number(version) or 0
        return {
            key
            for key, answer in self._answers.items()
            if answer.version > at and answer.until > now
        }


def number(version: str) -> int | None:
    """A version as a number, or None if it is none."""
    return int(version) if version.isascii() and version.isdigit() else None
