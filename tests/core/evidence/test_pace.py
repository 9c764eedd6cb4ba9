# SPDX-License-Identifier: Apache-2.0
"""A past that is thinned out, and a run that is scraped more often: k counts the run's scrapes."""

import functools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from controller.core.evidence import calibration, replay
from controller.core.evidence.calibration import KNOWN_CAP, Calibration
from controller.core.evidence.judge import Interval, Limits, Settings, Tally
from controller.core.evidence.past import Past
from tests.core.evidence.traffic import around, binomial, certified, noticed, tenth

PAST_GAP, SCRAPE = 15.0, 5.0
PODS, CANARY = 20, 2
RUN_SECONDS = 1200.0
BAD, WORSE = 0.002, 50.0
INCIDENT_SECONDS = 30.0
SELDOM = 40_000.0
"""Seconds between two of one pod: in six hours of eighteen pods there are ten."""

PASTS, EACH = 4, 8

Count = tuple[int, int]


def served(source: random.Random, *, failing: bool) -> Count:
    """What a pod answers in one scrape of the run."""
    requests = around(source, 10.0 * SCRAPE)
    return requests, binomial(source, requests, BAD * (WORSE if failing else 1.0))


def summed(counts: Sequence[Count]) -> Count:
    return sum(one[0] for one in counts), sum(one[1] for one in counts)


def past(source: random.Random, every: float) -> Past:
    """Six hours of stable, a sample every 15 s: each pod fails for half a minute now and then."""
    together = round(PAST_GAP / SCRAPE)
    rows: dict[str, list[Count]] = {}
    for pod in range(PODS - CANARY):
        until, row = 0.0, list[Count]()
        for number in range(round(6 * 3600 / SCRAPE)):
            at = number * SCRAPE
            if source.random() < SCRAPE / every:
                until = at + INCIDENT_SECONDS
            row.append(served(source, failing=at < until))
        parts = range(0, len(row), together)
        rows[str(pod)] = [summed(row[begin : begin + together]) for begin in parts]
    return Past(rows=rows, gap=PAST_GAP)


def run(source: random.Random, *, struck: bool = False, bad: float = BAD) -> Iterator[Interval]:
    """One run; if it is `struck`, one of the canary's two pods has such an incident in it."""
    for number in range(round(RUN_SECONDS / SCRAPE)):
        hit = struck and 400.0 <= number * SCRAPE < 400.0 + INCIDENT_SECONDS
        each = [served(source, failing=hit and pod == 0) for pod in range(PODS)]
        canary, stable = summed(each[:CANARY]), summed(each[CANARY:])
        if bad != BAD:
            canary = (canary[0], binomial(source, canary[0], bad))
        yield Interval(
            at=(number + 1) * SCRAPE,
            seconds=SCRAPE,
            canary=Tally(requests=canary[0], errors=canary[1]),
            stable=Tally(requests=stable[0], errors=stable[1]),
        )


def learnt(known: Past, scrape: float) -> Calibration:
    planned = replace(tenth(RUN_SECONDS), scrape_seconds=scrape)
    return certified(calibration.of(known, RUN_SECONDS), known, planned)[0]


@functools.cache
def pasts() -> list[tuple[Calibration, Calibration]]:
    """What is learnt of pasts with incidents, at the pace of the past and at that of the run."""
    known = [past(random.Random(f"pace {number}"), SELDOM) for number in range(PASTS)]
    return [(learnt(one, 0.0), learnt(one, SCRAPE)) for one in known]


def found_at(found: Calibration, intervals: Iterator[Interval]) -> float | None:
    return noticed(found.applied(Settings(limits=Limits(max_error_rate=0.05))), intervals)


def test_an_incident_as_the_past_had_rolls_no_run_back_that_is_scraped_more_often() -> None:
    """Certified for scrapes of 15 s, four of 5 s are over before the incident is."""
    lost = [0, 0]
    for number, known in enumerate(pasts()):
        for turn in range(EACH):
            for place, found in enumerate(known):
                source = random.Random(f"run {number} {turn}")
                lost[place] += found_at(found, run(source, struck=True)) is not None
    coarse, paced = lost
    assert paced <= 1
    # What the same incidents do to a cap that was tried at the pace of the past.
    assert coarse >= PASTS * EACH / 4


def test_who_is_bad_for_longer_than_that_is_found_when_the_scrapes_are_over() -> None:
    for number, (_, found) in enumerate(pasts()):
        at = found_at(found, run(random.Random(number), bad=0.2))
        assert found.cap_scrapes > KNOWN_CAP
        assert at is not None
        assert at <= (found.cap_scrapes + 2) * SCRAPE


def test_a_calm_past_asks_for_no_more_scrapes_however_often_the_run_is_scraped() -> None:
    calm = past(random.Random("calm"), math.inf)
    usual = learnt(calm, 0.0)
    assert usual.cap_scrapes == KNOWN_CAP
    for scrape in (5.0, 1.0):
        assert replace(learnt(calm, scrape), words=usual.words) == usual


@pytest.mark.parametrize("scrape", [15.0, 30.0])
def test_a_run_that_is_scraped_no_more_often_is_played_as_its_past_stands(scrape: float) -> None:
    known = past(random.Random("pace 0"), SELDOM)
    assert learnt(known, scrape) == pasts()[0][0]


def test_what_is_tried_is_as_patient_in_seconds_as_at_the_pace_of_the_past() -> None:
    assert tuple(replay.ladder(1.0)) == replay.LADDER
    assert replay.ladder(3.0) == [
        (1, 2), (1, 3), (1, 4), (1, 6), (1, 9), (1, 12), (1, 18), (2, 18), (4, 18), (4, 30),
    ]  # fmt: skip
    for scrapes in (1.25, 7.5, 15.0):
        most = max(cap for _, cap in replay.ladder(scrapes))
        assert most >= scrapes * max(cap for _, cap in replay.LADDER)
