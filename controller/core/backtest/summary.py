# SPDX-License-Identifier: Apache-2.0
"""What many rehearsals say together: false rollbacks, time to detect, time to promote."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from controller.core.backtest.rehearsal import End, Played
from controller.core.evidence.measures import CHECK
from controller.core.evidence.power import HALVINGS
from controller.core.evidence.settings import SATURATION

SURE: Final = 0.95
"""Confidence of the upper limit."""

MOST_TOLD: Final = 20
"""False rollbacks that are told one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Some times or counts: how many, the one in the middle and the worst."""

    number: int
    median: float
    worst: float

    def to_json(self) -> dict[str, float]:
        """For programs."""
        return {"median": round(self.median, 1), "worst": round(self.worst, 1)}


def spread(values: Sequence[float]) -> Spread | None:
    """None of nothing."""
    if not values:
        return None
    return Spread(number=len(values), median=statistics.median(values), worst=max(values))


def at_most(hits: int, tries: int) -> float:
    """The share that so many hits of so many tries leave possible, with 95 % certainty.

    One-sided, by the binomial distribution itself (Clopper and Pearson, 1934).
    """
    if hits >= tries:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(hits, tries, middle) > 1 - SURE else (low, middle)
    return high


def _below(hits: int, tries: int, share: float) -> float:
    """The chance of no more hits than these."""
    if share <= 0:
        return 1.0
    logs = (
        math.lgamma(tries + 1)
        - math.lgamma(number + 1)
        - math.lgamma(tries - number + 1)
        + number * math.log(share)
        + (tries - number) * math.log1p(-share)
        for number in range(hits + 1)
    )
    return math.fsum(math.exp(one) for one in logs)


def moment(at: float) -> str:
    """Seconds since the epoch as people and programs read them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def false_rollbacks(healthy: Sequence[Played], windows: int) -> dict[str, Any]:
    """How often the running version itself would have been rolled back, and when."""
    bad = [one for one in healthy if one.end is End.ROLLED_BACK]
    hours: dict[str, int] = {}
    for one in sorted(bad, key=lambda one: datetime.fromtimestamp(one.at, UTC).hour):
        hour = f"{datetime.fromtimestamp(one.at, UTC).hour:02d}:00"
        hours[hour] = hours.get(hour, 0) + 1
    return {
        "runs": len(healthy),
        "windows": windows,
        "rolled_back": len(bad),
        "windows_concerned": len({one.at for one in bad}),
        "at_most_share": round(at_most(len(bad), len(healthy)), 5) if healthy else None,
        "hours_utc": hours,
        "decided_by": dict(Counter(_check(one) for one in bad).most_common()),
        "examples": [_told(one) for one in bad[:MOST_TOLD]],
    }


def _check(played: Played) -> str:
    return played.verdict.check if played.verdict else ""


def _ended_otherwise(played: Played) -> bool:
    """Whether it was rolled back by something beside requests."""
    check = _check(played)
    beside = check == SATURATION or check.startswith(CHECK)
    return played.end is End.ROLLED_BACK and beside


def _told(played: Played) -> dict[str, Any]:
    found = played.verdict
    return {
        "at": moment(played.at),
        "seconds": round(played.seconds, 1),
        "step": played.step + 1,
        "check": _check(played),
        "why": found.reasons[0].message if found else "",
        "pods": list(played.group),
    }


def measured(
    played: Mapping[str, int],
    silent: Mapping[tuple[str, str], int],
    left: Mapping[tuple[str, str], int],
) -> list[dict[str, Any]]:
    """What is judged beside requests: in how many windows it was played, and why not in others.

    Args:
        played: Windows by name.
        silent: Those of them in which it had no value, by name and reason.
        left: Windows in which it was not played, by name and reason.
    """
    names = sorted({*played, *(name for name, _ in left)})
    return [
        {
            "name": name,
            "windows": played.get(name, 0),
            "without_value": _reasons(name, silent),
            "left_out": _reasons(name, left),
        }
        for name in names
    ]


def _reasons(name: str, counts: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    """The most frequent one first."""
    return [
        {"windows": count, "why": why}
        for (whose, why), count in sorted(counts.items(), key=lambda pair: -pair[1])
        if whose == name
    ]


def detections(by_regression: Mapping[str, Sequence[Played]]) -> list[dict[str, Any]]:
    """For each regression how soon it was found, what it cost, and what became of the others.

    It is put into requests: what rolls back by something else has not found it, and says nothing of
    what it costs until it is.
    """
    found = []
    for name, runs in by_regression.items():
        own = [one for one in runs if not _ended_otherwise(one)]
        caught = [one for one in own if one.end is End.ROLLED_BACK]
        times, costs = spread([one.seconds for one in caught]), spread([one.worse for one in own])
        found.append(
            {
                "regression": name,
                "runs": len(runs),
                "found": len(caught),
                "seconds": times.to_json() if times else None,
                "bad_answers": costs.to_json() if costs else None,
                "promoted": sum(one.end is End.PROMOTED for one in runs),
                "rolled_back_otherwise": len(runs) - len(own),
                "inconclusive": sum(one.end is End.DEADLINE for one in runs),
                "undecided": sum(one.end is End.CUT for one in runs),
            }
        )
    return found


def promotions(healthy: Sequence[Played]) -> dict[str, Any]:
    """How long a version that is in order takes, and how many ran into a deadline."""
    done = spread([one.seconds for one in healthy if one.end is End.PROMOTED])
    late = [one for one in healthy if one.end is End.DEADLINE]
    waited: dict[str, int] = {}
    for one in late:
        for check in {reason.check for reason in one.verdict.reasons} if one.verdict else ():
            waited[check] = waited.get(check, 0) + 1
    return {
        "runs": len(healthy),
        "promoted": sum(one.end is End.PROMOTED for one in healthy),
        "seconds": done.to_json() if done else None,
        "inconclusive": len(late),
        "share_of_deadlines": round(len(late) / len(healthy), 4) if healthy else None,
        "waited_for": waited,
        "undecided": sum(one.end is End.CUT for one in healthy),
    }


def worst(healthy: Sequence[Played], gap: float) -> dict[str, Any] | None:
    """The healthy rehearsal that came nearest to a rollback, and its evidence over time."""
    best = max(healthy, key=lambda one: max(one.levels, default=-math.inf), default=None)
    if best is None or not best.levels:
        return None
    return {
        "at": moment(best.at),
        "pods": list(best.group),
        "end": best.end.value,
        "gap_seconds": gap,
        "log10_evidence": [round(level / math.log(10), 3) for level in best.levels],
    }
