# SPDX-License-Identifier: Apache-2.0
"""The planned run on stable's own past: calm pods need no more care, pods with bad minutes do."""

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from msgspec import structs

from controller.core.evidence import calibration, replay
from controller.core.evidence.calibration import UNKNOWN, Calibration, watching
from controller.core.evidence.dispersion import Count
from controller.core.evidence.judge import (
    Gate,
    Outcome,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.measures import Gauge
from controller.core.evidence.past import Past, with_times
from controller.core.evidence.settings import Settings
from controller.core.evidence.tally import INFINITE, Interval, Tally
from tests.core.evidence.traffic import around, binomial, certified, tenth

SCRAPE = 15.0


def past(source: random.Random, pods: int, *, incident: float = 1.0, count: int = 480) -> Past:
    """Two hours of pods of which one at a time has a bad minute now and then."""
    rows: Mapping[str, Sequence[Count]] = {
        f"pod-{pod}": [
            (requests := around(source, 300), binomial(source, requests, bad))
            for at in range(count)
            for bad in [0.002 * (incident if (at // 4) % (10 * pods) == 10 * pod else 1.0)]
        ]
        for pod in range(pods)
    }
    return Past(rows=rows, gap=SCRAPE)


RUN = 60
"""Intervals."""


def measured(known: Past) -> Calibration:
    return calibration.of(known, RUN * SCRAPE)


def test_a_calm_past_needs_no_more_care_and_says_how_often_it_was_tried() -> None:
    known = past(random.Random(1), 5)
    found, turns = certified(measured(known), known, tenth(RUN * SCRAPE))
    assert found.phi <= 2.0
    assert found.cap_scrapes == calibration.KNOWN_CAP
    assert turns == 40 * RUN // replay.PART
    assert "of 40 replays of this run on stable's own past 0 would have" in found.words


def test_pods_with_bad_minutes_ask_for_more_care_than_phi_alone() -> None:
    known = past(random.Random(2), 5, incident=40.0)
    reckless = Calibration(phi=1.0, cap_scrapes=2, known=True, words="as if errors were alone")
    found, _ = certified(reckless, known, tenth(RUN * SCRAPE))
    assert (found.phi, found.cap_scrapes) > (reckless.phi, reckless.cap_scrapes)
    assert measured(known).phi > 3


@pytest.mark.parametrize("pods", [0, 1, 2])
def test_where_nobody_can_play_the_canary_nothing_is_claimed(pods: int) -> None:
    known = past(random.Random(3), pods)
    found, turns = certified(measured(known), known, tenth(RUN * SCRAPE))
    assert turns == 0
    assert found == measured(known)


def test_a_calibration_survives_being_written_down_and_is_taken_over() -> None:
    found = Calibration(
        phi=1.47, latency_phi=2.5, far_phi=31.5, far_bound=2.5, cap_scrapes=4, known=True,
        volume=123.456, buckets=((0.1, 5), (float("inf"), 9)), words="as measured",
    )  # fmt: skip
    assert Calibration.from_json(found.to_json()) == found
    with pytest.raises(ValueError, match="damaged"):
        Calibration.from_json({"phi": "1"})
    watched = watching(found, (Gauge(name="open files", usual=0.1, floor=0.2, ends=True),))
    assert Calibration.from_json(watched.to_json()) == watched
    # As it was written before anything was watched, and before slow answers were told apart.
    new = ("gauges", "farPhi", "farBound")
    older = {key: value for key, value in found.to_json().items() if key not in new}
    assert Calibration.from_json(older) == replace(found, far_phi=1.0, far_bound=INFINITE)
    settings = found.applied(Settings())
    assert (settings.dispersion, settings.latency_dispersion) == (1.47, 2.5)
    assert (settings.far_dispersion, settings.far_bound) == (31.5, 2.5)
    assert (settings.cap_scrapes, settings.volume, settings.past) == (4, 123.456, found.buckets)
    careful = UNKNOWN.applied(Settings(dispersion=1.0, dispersion_known=True))
    assert (careful.dispersion, careful.dispersion_known) == (3.0, False)


def test_it_is_the_policy_of_the_run_that_is_played() -> None:
    """A pod that fails for the length of one scrape trips a breaker that is set to a tenth of all
    answers, and none that is set to a half; the cap holds the rest.
    """
    source = random.Random(4)
    rows = {
        f"pod-{pod}": [
            (300, binomial(source, 300, 0.6 if at % 60 == 30 + pod else 0.002)) for at in range(480)
        ]
        for pod in range(5)
    }
    known = Past(rows=rows, gap=SCRAPE)
    found = Calibration(phi=1.0, cap_scrapes=2, known=True, words="of pods that fail for a moment")
    run = tenth(RUN * SCRAPE)
    tight, loose = (
        certified(found, known, replace(run, settings=Settings(fast_error_rate=share)))[0]
        for share in (0.1, 0.5)
    )
    assert (loose.phi, loose.cap_scrapes) == (1.0, 2)
    assert tight.phi > loose.phi


def timed(source: random.Random, pods: int, *, stall: float) -> Past:
    """An hour of pods whose answers are timed, of which one at a time stalls for a minute."""
    rows: Mapping[str, list[Tally]] = {
        f"pod-{pod}": [
            Tally(
                requests=300,
                buckets=((0.1, 300 - slow), (1.0, 300 - slow // 20), (INFINITE, 300)),
            )
            for at in range(240)
            for part in [0.05 * (stall if (at // 4) % (10 * pods) == 10 * pod else 1.0)]
            for slow in [binomial(source, 300, part)]
        ]
        for pod in range(pods)
    }
    counts = {
        pod: [(one.requests, binomial(source, 300, 0.002)) for one in row]
        for pod, row in rows.items()
    }
    whole = functools.reduce(Tally.plus, (one for row in rows.values() for one in row))
    return Past(rows=counts, gap=SCRAPE, timed=rows, slow_gap=SCRAPE, buckets=whole.buckets)


def test_where_even_the_most_careful_setting_rolls_stable_back_that_is_counted_and_told() -> None:
    """Each pod fails for a quarter of an hour in turn; the new version is not blamed unwarned."""
    source = random.Random(7)
    rows = {
        f"pod-{pod}": [
            (300, binomial(source, 300, 0.4 if (at // RUN) % 5 == pod else 0.002))
            for at in range(480)
        ]
        for pod in range(5)
    }
    known = Past(rows=rows, gap=SCRAPE)
    found = Calibration(phi=1.0, cap_scrapes=2, known=True, words="of pods that fail in turn")
    told, _ = certified(found, known, tenth(RUN * SCRAPE))
    assert (told.phi, told.cap_scrapes) == (4.0, 10)
    # One of five pods plays the bad canary in each of the eight windows.
    assert "of 40 replays of this run on stable's own past 8 would have been" in told.words
    assert told.words.endswith("and that is the most careful setting")
    assert "in 8 of 40 replays" in told.doubt
    assert Calibration.from_json(told.to_json()) == told
    calm, _ = certified(found, past(random.Random(1), 5), tenth(RUN * SCRAPE))
    assert not calm.doubt


def test_a_rollback_that_stable_would_have_had_as_well_says_so() -> None:
    told = Calibration(phi=4.0, cap_scrapes=2, known=True, doubt="stable is no better")
    settings = told.applied(Settings())
    bad = Interval(
        at=1.0, seconds=1.0, canary=Tally(requests=500, errors=400), stable=Tally(requests=500)
    )
    evidence = weight_changed(start(settings), 0.0)
    for at in (1.0, 2.0, 3.0, 4.0):
        evidence = observe(evidence, settings, structs.replace(bad, at=at))
    verdict = judge(evidence, settings, 4.0, gate=Gate(dwell_seconds=10.0))
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reasons[0].message.endswith("; beware: stable is no better")


def test_answers_that_stall_now_and_then_ask_for_more_care_too() -> None:
    source = random.Random(5)
    found = Calibration(phi=1.0, latency_phi=1.0, cap_scrapes=2, known=True, words="reckless")
    calm = timed(source, 5, stall=1.0)
    told, _ = certified(replace(found, buckets=calm.buckets), calm, tenth(RUN * SCRAPE))
    assert told.latency_phi == 1.0
    stalling = timed(source, 5, stall=10.0)
    told, _ = certified(replace(found, buckets=stalling.buckets), stalling, tenth(RUN * SCRAPE))
    assert (told.latency_phi, told.cap_scrapes) > (1.0, 2)


@pytest.mark.parametrize("pods", [1, 5])
def test_time_outs_in_bunches_have_a_phi_of_their_own(pods: int) -> None:
    """One answer of 2,000, twenty at a time; the others are slow one by one."""
    source = random.Random(6)

    def served(bunch: int) -> Tally:
        hung = sum(bunch for _ in range(around(source, 300 * 0.0005 / bunch)))
        slow = binomial(source, 300, 0.05)
        buckets = ((0.1, 300 - slow), (1.0, 300), (5.0, 300), (INFINITE, 300 + hung))
        return Tally(requests=300 + hung, buckets=buckets)

    def found(bunch: int) -> Calibration:
        rows = {f"pod-{pod}": [served(bunch) for _ in range(1440)] for pod in range(pods)}
        counts = {pod: [(one.requests, 0) for one in row] for pod, row in rows.items()}
        return measured(with_times(Past(rows=counts, gap=SCRAPE), rows, SCRAPE))

    bunched, independent = found(20), found(1)
    assert bunched.latency_phi < 2
    assert (bunched.far_phi > 10, bunched.far_bound) == (True, 1.0)
    assert independent.far_phi < 2


def test_the_canary_grows_as_the_steps_say_and_stays_as_large_as_it_was_at_the_last() -> None:
    planned = replace(tenth(600.0), steps=((0.05, 60.0), (0.25, 120.0), (0.95, 30.0)))
    shares = [
        planned.share(after) for after in (0.0, 59.9, 60.0, 179.9, 180.0, 209.9, 210.0, 599.0)
    ]
    assert shares == [0.05, 0.05, 0.25, 0.25, 0.95, 0.95, 0.95, 0.95]
    assert [replay.actors(share, 20) for share in (0.01, 0.05, 0.25, 0.95, 1.0)] == [
        1,
        1,
        5,
        19,
        20,
    ]


def test_a_single_pod_that_is_worse_is_met_by_every_canary_that_has_it() -> None:
    """Pods that follow each other play together: a tenth of three is one, four fifths are two."""
    source = random.Random(6)
    rows = {
        pod: [(300, binomial(source, 300, bad)) for _ in range(240)]
        for pod, bad in (("a", 0.002), ("b", 0.002), ("c", 0.05))
    }
    known = Past(rows=rows, gap=SCRAPE)
    found = Calibration(phi=1.0, cap_scrapes=2, known=True, words="of a pod that is worse")
    careful, _ = certified(found, known, tenth(RUN * SCRAPE))
    assert (careful.phi, careful.cap_scrapes) == (4.0, 10)
    assert "0 would have" not in careful.words
