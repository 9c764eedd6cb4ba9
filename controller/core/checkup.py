# SPDX-License-Identifier: Apache-2.0
"""What an examination before the first run finds: facts, each with what follows from it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Level(enum.Enum):
    """How a fact stands toward a run."""

    OK = "ok"
    WARNING = "warning"
    """A run would begin, and something about it may not be what somebody expects."""
    PROBLEM = "problem"
    """A run would be held, or could not be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact.

    Attributes:
        topic: What it is about: policy, checks, rights, metrics, history or steps.
        level: How it stands toward a run.
        message: What is so, in a sentence.
        advice: What to do next; empty where there is nothing to do.
        notes: What belongs to it, a line each.
        facts: The same as values, for programs.
    """

    topic: str
    level: Level
    message: str
    advice: str = ""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "topic": self.topic,
            "level": self.level.value,
            "message": self.message,
            "advice": self.advice,
            "notes": list(self.notes),
            "facts": dict(self.facts),
        }


def ok(topic: str, message: str, **more: Any) -> Finding:
    """A fact that is as it should be."""
    return Finding(topic=topic, level=Level.OK, message=message, **more)


def warning(topic: str, message: str, **more: Any) -> Finding:
    """A fact that somebody should know of."""
    return Finding(topic=topic, level=Level.WARNING, message=message, **more)


def problem(topic: str, message: str, **more: Any) -> Finding:
    """A fact that stands in the way of a run."""
    return Finding(topic=topic, level=Level.PROBLEM, message=message, **more)


def span(seconds: float) -> str:
    """A planned time as people say it: `90 s`, `2 min`, `2.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
