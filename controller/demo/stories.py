# SPDX-License-Identifier: Apache-2.0
"""The stories: what a team deploys, and what must come of it.

Each is only a declaration. Dwells are short, so that a story takes less than a minute; they are the
least that leaves the judge its requests at 400 per second and one scrape per second.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from controller.demo.signals import TRAEFIK

RATE: Final = 400.0
"""Requests per second of all clients together."""

FIRST: Final = "v1"
SECOND: Final = "v2"

_FAST: Final = {
    "policy": "fast",
    "steps": "5@4s,25@3s,50@3s",
    "bake": "3s",
    # Its pods are as quick from the first answer on, and nobody watches for a minute.
    "warm-up": "2s",
}
SECONDS: Final = frozenset({"steps", "bake", "deadline", "warm-up"})
"""The annotations that a higher speed divides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One rollout from beginning to end."""

    name: str
    title: str
    outcome: str
    """How the run must end."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of the new version: its faults."""
    annotations: Mapping[str, str] = field(default_factory=lambda: _FAST)
    """The policy, keys without prefix."""
    rate: float = RATE
    kill: bool = False
    """Whether somebody pulls the kill switch once the canary has requests."""
    slow: bool = False
    """Whether slow answers count as bad ones."""
    must_say: str = ""
    """A pattern that the run's last words must match."""

    def policy(self, speed: float, slow_seconds: float = TRAEFIK.slow_seconds) -> dict[str, str]:
        """The annotations with all dwells divided by `speed`.

        A story about latency has `slow_seconds` as its limit.
        """
        found = {
            key: _quicker(text, speed) if key in SECONDS else text
            for key, text in self.annotations.items()
        }
        return found | ({"latency": f"p99<{slow_seconds * 1000:g}ms"} if self.slow else {})

    def at_most(self, rate: float | None) -> float:
        """Requests per second where the usual ones are too many; None where they are not."""
        return self.rate if rate is None else min(self.rate, rate)


def _quicker(text: str, speed: float) -> str:
    """`5@4s,25@4s` at twice the speed is `5@2s,25@2s`; never below half a second."""
    return re.sub(
        r"(\d+(?:\.\d+)?)s\b", lambda match: f"{max(0.5, float(match[1]) / speed):.6g}s", text
    )


_CERTAIN: Final = r"with \d+\.\d % certainty at most \d+(\.\d+)? % more errors than stable"
_EVIDENCE: Final = r"\(\d+ of \d+\) against stable .*; evidence 10\^\d+\.\d of 10\^\d+\.\d needed"

STORIES: Final[tuple[Story, ...]] = (
    Story(
        name="good",
        title="a good version goes all the way, and no request fails",
        outcome="promoted",
        must_say=_CERTAIN,
    ),
    Story(
        name="errors",
        title="half of the new version's answers are errors",
        outcome="rolled-back",
        env={"ERROR_RATE": "0.5"},
        annotations={**_FAST, "steps": "10@6s,25@4s,50@4s"},
        must_say=_EVIDENCE,
    ),
    Story(
        name="slow",
        title="three of ten answers of the new version take half a second",
        outcome="rolled-back",
        env={"SLOW_RATE": "0.3", "SLOW_MS": "500"},
        annotations={**_FAST, "steps": "10@6s,25@4s,50@4s"},
        slow=True,
        must_say=_EVIDENCE,
    ),
    Story(
        name="crash-loop",
        title="the new version's process ends as soon as it starts",
        outcome="rolled-back",
        env={"CRASH": "1"},
    ),
    Story(
        name="kill",
        title="somebody pulls the kill switch at 25 %",
        outcome="killed",
        annotations={**_FAST, "steps": "25@20s,50@4s"},
        kill=True,
    ),
    Story(
        name="no-traffic",
        title="nearly nobody calls, so that nothing can be said",
        outcome="inconclusive",
        annotations={**_FAST, "deadline": "8s"},
        rate=2.0,
        must_say=r"\d+ of \d+",
    ),
)

NAMES: Final = tuple(story.name for story in STORIES)
