# SPDX-License-Identifier: Apache-2.0
"""What one scrape costs the judge, in microseconds of CPU, and how large its state is, in bytes.

Nearly all scrapes fall into the dwell of a step or of the bake, so that is what is judged here. The
goal is 100 microseconds, verdict included, and 4 KB with a histogram of four bounds and every limit
set.
"""

import json
import math
import random
import time
from collections.abc import Sequence
from typing import NamedTuple

from controller.core.evidence.judge import (
    Evidence,
    Gate,
    Interval,
    Limits,
    Settings,
    Tally,
    judge,
    observe,
    start,
    weight_changed,
)
from tests.core.evidence.traffic import Traffic

ROUNDS = 5000
TIMES = 5
"""The least of so many is told, since whatever else the machine does only adds to it."""


def timed(tally: Tally, slow: float) -> Tally:
    """The same with Traefik's default histogram."""
    total = tally.requests
    quick = total - int(total * slow)
    buckets = ((0.1, quick // 2), (0.3, quick), (1.2, total), (5.0, total), (math.inf, total))
    return Tally(requests=total, errors=tally.errors, buckets=buckets)


class Cost(NamedTuple):
    """What one scrape costs.

    Attributes:
        observe: Microseconds of taking it in.
        step: The same with the verdict of a step, whose dwell is not over.
        bake: The same where a proof is asked for as well.
        size: Bytes of the state.
    """

    observe: float
    step: float
    bake: float
    size: int


def measure(settings: Settings, *, histogram: bool) -> Cost:
    """The least of several runs over the same traffic."""
    source = random.Random(1)
    intervals = [
        Interval(
            at=interval.at,
            seconds=interval.seconds,
            canary=timed(interval.canary, 0.02) if histogram else interval.canary,
            stable=timed(interval.stable, 0.02) if histogram else interval.stable,
        )
        for interval in Traffic().intervals(source, ROUNDS)
    ]
    gates = (None, Gate(dwell_seconds=math.inf), Gate(dwell_seconds=math.inf, proven=True))
    runs = [[_run(settings, intervals, gate) for _ in range(TIMES)] for gate in gates]
    observe, step, bake = (min(taken for taken, _ in found) for found in runs)
    _, evidence = runs[0][0]
    size = len(json.dumps(evidence.to_json(), separators=(",", ":")))
    return Cost(observe, step, bake, size)


def _run(
    settings: Settings, intervals: Sequence[Interval], gate: Gate | None
) -> tuple[float, Evidence]:
    """Microseconds of each scrape, judged where there is a gate; and the evidence at the end."""
    evidence = weight_changed(start(settings), 0.0)
    began = time.process_time()
    for interval in intervals:
        evidence = observe(evidence, settings, interval)
        if gate is not None:
            judge(evidence, settings, evidence.last_at, gate=gate)
    return (time.process_time() - began) / len(intervals) * 1e6, evidence


def figures() -> dict[str, Cost]:
    """The same without and with everything that can be judged."""
    limits = Limits(max_error_rate=0.05, latency=((0.3, 0.05),))
    return {
        "errors only": measure(Settings(), histogram=False),
        "errors, latency and limits": measure(Settings(limits=limits), histogram=True),
    }
