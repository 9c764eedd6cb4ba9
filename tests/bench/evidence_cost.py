# SPDX-License-Identifier: Apache-2.0
"""What one scrape costs the judge, in microseconds, and how large its state is, in bytes.

Run it with `python -m tests.bench.evidence_cost`. The goal is 100 microseconds and 4 KB with a
histogram of four bounds and every limit set.
"""

import json
import math
import random
import sys
import time

from controller.core.evidence.judge import (
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
    began = time.perf_counter()
    for interval in intervals:
        evidence = observe(evidence, settings, interval)
    observed = time.perf_counter()
    for _ in range(ROUNDS):
        judge(evidence, settings, evidence.last_at, dwell_seconds=30)
    judged = time.perf_counter()
    size = len(json.dumps(evidence.to_json(), separators=(",", ":")))
    return (observed - began) / ROUNDS * 1e6, (judged - observed) / ROUNDS * 1e6, size


def main() -> dict[str, float]:
    """Print the figures and return them."""
    limits = Limits(max_error_rate=0.05, latency=((0.3, 0.05),))
    figures: dict[str, float] = {}
    for name, settings, histogram in (
        ("errors only", Settings(), False),
        ("errors, latency and limits", Settings(limits=limits), True),
    ):
        observed, judged, size = measure(settings, histogram=histogram)
        figures[name] = observed
        sys.stdout.write(
            f"{name}: observe {observed:.0f} us  judge {judged:.0f} us  state {size} bytes\n"
        )
    return figures


if __name__ == "__main__":
    main()
