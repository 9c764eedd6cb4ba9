# SPDX-License-Identifier: Apache-2.0
"""What one scrape costs the judge, in microseconds of CPU, and how large its state is, in bytes.

Nearly all scrapes fall into a dwell, so that is what is judged here. The goal is 100 microseconds
and 4 KB with a histogram of four bounds and every limit set.
"""

import json
import math
import random
import time

from controller.core.evidence.judge import (
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


def timed(tally: Tally, slow: float) -> Tally:
    """The same with Traefik's default histogram."""
    total = tally.requests
    quick = total - int(total * slow)
    buckets = ((0.1, quick // 2), (0.3, quick), (1.2, total), (5.0, total), (math.inf, total))
    return Tally(requests=total, errors=tally.errors, buckets=buckets)


def measure(settings: Settings, *, histogram: bool) -> tuple[float, float, int]:
    """Microseconds of `observe` and of `judge`, bytes of the state."""
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
    evidence = weight_changed(start(settings), 0.0)
    seen = []
    began = time.process_time()
    for interval in intervals:
        evidence = observe(evidence, settings, interval)
        seen.append(evidence)
    observed = time.process_time()
    for evidence in seen:
        judge(evidence, settings, evidence.last_at, gate=Gate(dwell_seconds=math.inf, proven=True))
    judged = time.process_time()
    size = len(json.dumps(evidence.to_json(), separators=(",", ":")))
    return (observed - began) / ROUNDS * 1e6, (judged - observed) / ROUNDS * 1e6, size


def figures() -> dict[str, tuple[float, float, int]]:
    """The same without and with everything that can be judged."""
    limits = Limits(max_error_rate=0.05, latency=((0.3, 0.05),))
    return {
        "errors only": measure(Settings(), histogram=False),
        "errors, latency and limits": measure(Settings(limits=limits), histogram=True),
    }
