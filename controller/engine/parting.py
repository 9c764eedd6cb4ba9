# SPDX-License-Identifier: Apache-2.0
"""Which runs are asked for together in one look.

All of them, as long as the store's answer is not too large to be taken in. Then they are parted
until each part fits, so that a run whose counters are out of hand is left alone with that and takes
nobody's counts away. After a while they are asked for together again; one that is too large by
itself stays apart until it has had an answer.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

TOGETHER_SECONDS: Final = 60.0
"""After so long parts are asked for together again, which costs one answer that is too large."""

ALONE_SECONDS: Final = 10.0
"""So often one is asked for that is too large by itself: all others wait for the refusal."""

Part: TypeAlias = tuple[str, ...]
"""Names of runs."""


@dataclass(slots=True)
class _Alone:
    """One that is too large by itself, why, and when it is asked for again."""

    why: str
    again: float


class Parting:
    """All times are monotonic."""

    def __init__(self) -> None:
        """Nobody was asked for yet."""
        self._parts: tuple[Part, ...] = ()
        self._together = 0.0
        self._alone: dict[str, _Alone] = {}

    def due(self, names: Collection[str], now: float) -> list[Part]:
        """Whom to ask for now, part by part."""
        alone = [(name,) for name in names if name in self._alone]
        rest = tuple(name for name in names if name not in self._alone)
        known = self._known(rest) if now < self._together else [rest]
        return [part for part in known if part] + [
            part for part in alone if not self.waits(part[0], now)
        ]

    def waits(self, name: str, now: float) -> bool:
        """Whether one that is too large by itself is not to be asked for yet."""
        return name in self._alone and now < self._alone[name].again

    def _known(self, names: Part) -> list[Part]:
        """These as they were parted last; those who are new, together."""
        found = [tuple(name for name in part if name in names) for part in self._parts]
        new = tuple(name for name in names if not any(name in part for part in self._parts))
        return [part for part in (*found, new) if part]

    def parted(self, part: Part, now: float) -> list[Part]:
        """What to ask for instead of several that were too large."""
        self._together = now + TOGETHER_SECONDS
        known = self._known(part)
        if len(known) > 1:
            return known
        half = len(part) // 2
        return [part[:half], part[half:]]

    def fitted(self, parts: Sequence[Part]) -> None:
        """So those who are not alone were asked for this time."""
        self._parts = tuple(parts)

    def refused(self, name: str, why: str, now: float) -> None:
        """One was too large by itself."""
        self._alone[name] = _Alone(why, now + ALONE_SECONDS)

    def answered(self, name: str) -> None:
        """One has had an answer, or is gone."""
        self._alone.pop(name, None)

    def why(self, name: str) -> str:
        """Why one gets no answer; empty if it is not too large by itself."""
        known = self._alone.get(name)
        return known.why if known else ""
