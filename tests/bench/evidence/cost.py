# SPDX-License-Identifier: Apache-2.0
"""What one scrape costs the judge, in microseconds of CPU, and how large its state is, in bytes.

Nearly all scrapes fall into the dwell of a step or of the bake, so that is what is judged here. The
goal is 100 microseconds, verdict included, and 4 KB, whatever a policy asks for.
"""

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

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
from controller.core.evidence.measures import Reading
from controller.core.evidence.readings import READ_SECONDS, read
from tests.bench.evidence import healthy, latencies
from tests.core.evidence.traffic import Traffic

ROUNDS: Final = 5000
TIMES: Final = 7
"""Of each stretch the least of so many is told, since whatever else the machine does only adds to
it. They go round by round, with a verdict and without, so that a slow minute hits all alike."""

STRETCH: Final = 100
"""So many scrapes: short enough for some of them to be judged while nothing else goes on."""

GOAL: Final = 100.0
"""Microseconds that a scrape may cost, all told."""

CORE: Final = 0.10
"""The part of a core that a thousand runs may take, read and judged."""

MOST_BYTES: Final = 4096
"""That the state may have."""

SCRAPE_SECONDS: Final = 5.0
"""The scrapes that the goal is about."""

BEGIN: Final = 1_790_000_000.123
"""A time of today: shorter ones would make the state smaller than it is."""

EVERYTHING: Final = "everything"
"""The name of what asks for the most."""

Scrape = tuple[Interval, Sequence[Reading]]
"""What a scrape brings, and what is read beside it."""


class Cost(NamedTuple):
    """What one scrape costs.

    Attributes:
        observe: Microseconds of taking it in.
        step: The same with the verdict of a step, whose dwell is not over.
        bake: The same where a proof is asked for as well.
        reading: Microseconds of taking in what every check and gauge reads; 0: there is none.
        size: Bytes of the state.
    """

    observe: float
    step: float
    bake: float
    reading: float
    size: int

    @property
    def whole(self) -> float:
        """Microseconds of a scrape all told: in the bake, with its part of what is read."""
        return self.bake + self.reading * SCRAPE_SECONDS / READ_SECONDS


class _Run(NamedTuple):
    """Seconds of each stretch, of what is read in it, and the evidence at the end."""

    taken: list[float]
    reading: list[float]
    evidence: Evidence


def measure(settings: Settings, scrapes: Sequence[Scrape]) -> Cost:
    """The least of several runs over the same traffic, stretch by stretch."""
    gates = (None, Gate(dwell_seconds=math.inf), Gate(dwell_seconds=math.inf, proven=True))
    runs = [[_run(settings, scrapes, gate) for gate in gates] for _ in range(TIMES)]
    observe, step, bake = (
        _least([run.taken for run in found], len(scrapes)) for found in zip(*runs, strict=True)
    )
    reading = _least([run.reading for found in runs for run in found], len(scrapes))
    return Cost(observe, step, bake, reading, _size(runs[0][0].evidence))


def _size(evidence: Evidence) -> int:
    """Bytes of the state, as it is written."""
    return len(json.dumps(evidence.to_json(), separators=(",", ":")))


def _least(runs: Sequence[list[float]], scrapes: int) -> float:
    """Microseconds of a scrape, by the quickest run of each stretch."""
    quickest: list[float] = [min(stretch) for stretch in zip(*runs, strict=True)]
    return sum(quickest) / scrapes * 1e6


def _run(settings: Settings, scrapes: Sequence[Scrape], gate: Gate | None) -> _Run:
    """With a verdict on each scrape where there is a gate."""
    evidence = weight_changed(start(settings), BEGIN)
    taken, reading = list[float](), list[float]()
    for first in range(0, len(scrapes), STRETCH):
        began, read_for = time.process_time(), 0.0
        for interval, values in scrapes[first : first + STRETCH]:
            evidence = observe(evidence, settings, interval)
            if values:
                asked = time.process_time()
                for one in values:
                    evidence = read(evidence, settings, one)
                read_for += time.process_time() - asked
            if gate is not None:
                judge(evidence, settings, evidence.last_at, gate=gate)
        taken.append(time.process_time() - began - read_for)
        reading.append(read_for)
    return _Run(taken, reading, evidence)


def timed(tally: Tally, slow: float) -> Tally:
    """The same with Traefik's default histogram."""
    total = tally.requests
    quick = total - int(total * slow)
    buckets = ((0.1, quick // 2), (0.3, quick), (1.2, total), (5.0, total), (math.inf, total))
    return Tally(requests=total, errors=tally.errors, buckets=buckets)


def figures() -> dict[str, Cost]:
    """From errors alone to everything that a policy can ask for, read at every scrape."""
    return {name: measure(settings, scrapes) for name, settings, scrapes in _asked()}


def sizes() -> dict[str, int]:
    """Bytes of the state of each, which are the same wherever they are computed."""
    return {
        name: _size(_run(settings, scrapes, None).evidence) for name, settings, scrapes in _asked()
    }


def _asked() -> Iterator[tuple[str, Settings, Sequence[Scrape]]]:
    """What is asked for, by name, and what comes in."""
    source = random.Random(1)
    counted = list(Traffic().intervals(source, ROUNDS, BEGIN))
    yield "errors", Settings(), [(one, ()) for one in counted]
    slower = [
        Interval(
            at=one.at,
            seconds=one.seconds,
            canary=timed(one.canary, 0.02),
            stable=timed(one.stable, 0.02),
        )
        for one in counted
    ]
    limits = Limits(max_error_rate=0.05, latency=((0.3, 0.05),))
    yield "errors, 4 bounds, 2 limits", Settings(limits=limits), [(one, ()) for one in slower]
    yield EVERYTHING, *_everything(source)


def _everything(source: random.Random) -> tuple[Settings, Sequence[Scrape]]:
    """A histogram of 15 bounds and all that `healthy.told` says, all of it kept."""
    limits = Limits(max_error_rate=0.05, latency=((0.1, 0.3), (0.25, 0.05), (0.5, 0.01)))
    asked = healthy.everything(Settings(past=latencies.past(source, 100.0)))
    version = healthy.Version()
    scrapes: list[Scrape] = []
    for number in range(1, ROUNDS + 1):
        at = BEGIN + number * latencies.SCRAPE
        interval = healthy.interval(source, at, (10.0, 90.0), version, version)
        scrapes.append((interval, tuple(healthy.readings(source, asked, at, version))))
    return replace(asked, limits=limits), scrapes
