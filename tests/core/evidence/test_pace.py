# SPDX-License-Identifier: Apache-2.0
"""A past that is thinned out, and a run that is scraped more often: k stands for its own scrapes."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from controller.core.evidence import calibration, replay
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.judge import Interval, Limits, Settings, Tally
from controller.core.evidence.past import Past
from tests.core.evidence.traffic import around, binomial, certified, noticed, tenth

PAST_GAP, SCRAPE = 15.0, 5.0
PODS, CANARY = 20, 2
RUN_SECONDS = 1800.0
BAD = 0.002

Count = tuple[int, int]


def pods(
    source: random.Random, count: int, seconds: float, *, every: float, factor: float
) -> Iterator[Sequence[Count]]:
    """Scrape by scrape the answers of each pod: one of them fails for half a minute now and then."""
    until = [0.0] * count
    for number in range(int(seconds / SCRAPE)):
        at, row = number * SCRAPE, []
        for pod in range(count):
            if source.random() < SCRAPE / every:
                until[pod] = at + 30.0
            requests = around(source, 10.0 * SCRAPE)
            row.append((requests, binomial(source, requests, BAD * (factor if at < until[pod] else 1.0))))
        yield row


def past(source: random.Random, *, every: float, factor: float) -> Past:
    """Six hours of stable, a sample every 15 s."""
    steps = list(pods(source, PODS - CANARY, 6 * 3600, every=every, factor=factor))
    together = round(PAST_GAP / SCRAPE)
    rows = {
        str(pod): [
            (sum(one[pod][0] for one in part), sum(one[pod][1] for one in part))
            for begin in range(0, len(steps), together)
            for part in [steps[begin : begin + together]]
        ]
        for pod in range(PODS - CANARY)
    }
    return Past(rows=rows, gap=PAST_GAP)


def run(source: random.Random, *, every: float, factor: float) -> Iterator[Interval]:
    """A healthy one."""
    rows = pods(source, PODS, RUN_SECONDS, every=every, factor=factor)
    for number, row in enumerate(rows, 1):
        canary, stable = row[:CANARY], row[CANARY:]
        yield Interval(
            at=number * SCRAPE, seconds=SCRAPE, canary=tally(canary), stable=tally(stable)
        )


def tally(counts: Sequence[Count]) -> Tally:
    return Tally(requests=sum(one[0] for one in counts), errors=sum(one[1] for one in counts))


def learnt(known: Past, scrape: float) -> Calibration:
    planned = replace(tenth(RUN_SECONDS), scrape_seconds=scrape)
    return certified(calibration.of(known, RUN_SECONDS), known, planned)[0]


