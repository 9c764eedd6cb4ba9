# SPDX-License-Identifier: Apache-2.0
"""What the simulated Prometheus says to queries that compute something: what it was told to say.

Evaluating PromQL is not simulated. A query is known by two pieces of its text, one of the
expression and one of the matcher of a track; where nothing was told there are no data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

Told: TypeAlias = "float | Callable[[float], float | None] | None"
"""A value, or one by time in seconds since the epoch; None is no series."""

_COMPUTES = re.compile(r"[^{\"']*\(")


def computes(text: str) -> bool:
    """Tell whether a query is more than a selector: it calls something outside of braces."""
    return _COMPUTES.match(text) is not None


@dataclass(slots=True)
class Computed:
    """Answers by pieces of the expression and of the track; all may be changed at any time."""

    told: dict[tuple[str, str], Told] = field(default_factory=dict)
    """For example `told["orders_failed_total", "checkout-canary"] = 0.2`."""

    def say(self, expression: str, track: str, value: Told) -> None:
        """From now on, answer queries that contain both pieces with this value."""
        self.told[expression, track] = value

    def at(self, text: str, moment: float) -> float | None:
        """The answer to a query at a time; the longest piece of a track that fits counts."""
        fitting = [key for key in self.told if key[0] in text and key[1] in text]
        if not fitting:
            return None
        value = self.told[max(fitting, key=lambda key: (len(key[1]), len(key[0])))]
        return value(moment) if callable(value) else value
