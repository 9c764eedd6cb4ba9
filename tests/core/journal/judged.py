# SPDX-License-Identifier: Apache-2.0
"""Journals of runs that the judge has judged, scrape by scrape."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from controller.core.evidence.judge import (
    Gate,
    Interval,
    Limits,
    Reason,
    Settings,
    Tally,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.engine import describe

INF = math.inf
BEGIN = 1_700_000_000.0
PAST = ((0.1, 5_000), (0.3, 9_990), (INF, 10_000))

PLAIN = Settings(past=PAST)
LIMITED = Settings(past=PAST, limits=Limits(max_error_rate=0.05, latency=((0.3, 0.01),)))
GATE = Gate(dwell_seconds=4.0)


def answers(total: int, *, bad: int = 0, slow: int = 0) -> Tally:
    """So many answers, some of them failed, some slower than 0.3 s, half of the others 0.1 s."""
    fast = total - slow
    return Tally(requests=total, errors=bad, buckets=((0.1, fast // 2), (0.3, fast), (INF, total)))


STABLE = answers(3_600, bad=4, slow=4)


def journal(
    canary: Sequence[Tally],
    *,
    settings: Settings = PLAIN,
    stable: Tally = STABLE,
    gate: Gate = GATE,
    opened: bool = True,
    hard_trips: Sequence[Reason] = (),
) -> list[dict[str, Any]]:
    """A decision for each scrape of a second; `hard_trips` come with the last one."""
    evidence = start(settings)
    if opened:
        evidence = weight_changed(evidence, BEGIN)
    found: list[dict[str, Any]] = [{"kind": "begun", "at": stamp(BEGIN), "body": {}}]
    for number, tally in enumerate(canary, 1):
        at = BEGIN + number
        interval = Interval(at=at, seconds=1.0, canary=tally, stable=stable)
        evidence = observe(evidence, settings, interval)
        trips = hard_trips if number == len(canary) else ()
        verdict = judge(evidence, settings, at, gate=gate, hard_trips=trips)
        body = {"why": verdict.reasons[0].message, "verdict": describe.verdict(verdict)}
        found.append({"kind": "decision", "at": stamp(at), "actor": "controller", "body": body})
        if verdict.outcome.value == "fail":
            break
    return found


def stamp(at: float) -> str:
    """As the journal writes time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
