# SPDX-License-Identifier: Apache-2.0
"""Why the judge said what it said: stable tokens for machines, sentences for the person on call.

The tokens end up in Events, metrics and the journal, where alerts and queries hold on to them: one
may be added here, none may change its meaning.
"""

import enum
import math
from typing import Final

import msgspec

UNKNOWN: Final = "until when is not known"
"""What is expected of something that no figure says anything about; a deadline ends it."""

UNDECIDED: Final = "and when it fades or suffices is not known"
"""The same of evidence."""


class Code(enum.StrEnum):
    """Every reason there is."""

    PASSED = "Passed"
    TOO_FEW_REQUESTS = "TooFewRequests"
    TOO_FEW_STABLE_REQUESTS = "TooFewStableRequests"
    DWELL_NOT_OVER = "DwellNotOver"
    NOT_PROVEN = "NotProven"
    OVER_BUDGET = "OverBudget"
    WINDOW_NOT_OPEN = "WindowNotOpen"
    NO_CANARY_DATA = "NoCanaryData"
    NO_STABLE_DATA = "NoStableData"
    NO_LATENCY_DATA = "NoLatencyData"
    LATENCY_LIMIT_UNMEASURABLE = "LatencyLimitUnmeasurable"
    METRICS_STALE = "MetricsStale"
    PODS_NOT_SCRAPED = "PodsNotScraped"
    COUNTS_FALL = "CountsFall"
    EVIDENCE_AGAINST = "EvidenceAgainst"
    ABOVE_LIMIT = "AboveLimit"
    STABLE_VIOLATES_LIMIT = "StableViolatesLimit"
    WORSE_THAN_BEFORE = "WorseThanBefore"
    WORSE_THAN_STABLE = "WorseThanStable"
    LIMIT_VIOLATED = "LimitViolated"
    FAST_TRIP = "FastTrip"
    CRASH_LOOP = "CrashLoop"
    OUT_OF_MEMORY = "OutOfMemory"
    IMAGE_PULL_ERROR = "ImagePullError"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    READINESS_LOST = "ReadinessLost"
    NO_CHECK_DATA = "NoCheckData"
    CHECK_BROKEN = "CheckBroken"
    SATURATED = "Saturated"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One reason of a verdict.

    Attributes:
        check: Which check speaks: "errors", "latency 0.3 s", "error limit", "dwell", "pods" ...
        code: The stable token.
        message: A sentence with the numbers in it.
        expected: Of a HOLD when it is expected to go, in words that follow on the sentence.
        canary_value: The canary's figure (a share, seconds or a count, as the check has it).
        stable_value: Stable's figure.
        n: How many requests the figures stand on.
        limit: What the canary's figure is held against.
    """

    check: str
    code: Code
    message: str
    expected: str = ""
    canary_value: float | None = None
    stable_value: float | None = None
    n: int | None = None
    limit: float | None = None

    @property
    def told(self) -> str:
        """The whole of it for a person who waits."""
        return ", ".join(part for part in (self.message, self.expected) if part)

    def to_json(self) -> dict[str, str | int]:
        """The same without floats, for canonical JSON; absent figures are left out."""
        told: dict[str, str | int] = {
            "check": self.check,
            "code": self.code.value,
            "message": self.message,
        }
        if self.expected:
            told["expected"] = self.expected
        figures = (
            ("canary", self.canary_value),
            ("stable", self.stable_value),
            ("limit", self.limit),
        )
        told.update({name: repr(figure) for name, figure in figures if figure is not None})
        if self.n is not None:
            told["n"] = self.n
        return told


def share_of(figures: tuple[int, int]) -> float | None:
    """The share of (bad, all); None of nothing."""
    return figures[0] / figures[1] if figures[1] else None


def percent(share: float | None) -> str:
    """A share in words, with as many digits as matter."""
    if share is None:
        return "no requests"
    scaled = share * 100
    return f"{scaled:.1f} %" if scaled >= 0.1 or scaled == 0 else f"{scaled:.2g} %"


def counted(bad: int, total: int, what: str) -> str:
    """A share with what it stands on: `52.1 % errors (41 of 79)`."""
    share = percent(bad / total) if total else "no requests,"
    return " ".join(part for part in (share, what, f"({bad} of {total})") if part)


def seconds(span: float) -> str:
    """A span as a person says it: `about 40 s`, `about 3 min`."""
    if not span < math.inf:
        return "an unknown time"
    if span < 120:
        return f"about {max(round(span), 1)} s"
    if span < 7200:
        return f"about {round(span / 60)} min"
    return f"about {round(span / 3600)} h"


def power(log_e: float) -> str:
    """Evidence as a power of ten, from its natural logarithm: `10^6.3`."""
    return f"10^{log_e / 2.302585092994046:.1f}"
