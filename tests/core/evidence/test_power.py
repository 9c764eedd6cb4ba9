# SPDX-License-Identifier: Apache-2.0
"""What is said of a run beforehand, held against runs of the judge itself on simulated traffic."""

import math
import random
import statistics
from dataclasses import replace

import pytest

from controller.core.evidence import power
from controller.core.evidence.gates import Gate
from controller.core.evidence.judge import observe
from controller.core.evidence.measures import Gauge
from controller.core.evidence.power import Load
from controller.core.evidence.reasons import Code
from controller.core.evidence.settings import SATURATION, Limits, Settings
from controller.core.evidence.state import start, weight_changed
from controller.core.evidence.tempering import tempered
from tests.core.evidence.traffic import Traffic, noticed

CALM = Settings(dispersion=1.0, cap_scrapes=2, dispersion_known=True)
RUNS = 40


def told(settings: Settings, traffic: Traffic) -> float:
    return power.detection_seconds(settings, load(traffic), traffic.canary_bad)


def load(traffic: Traffic) -> Load:
    return Load(
        per_second=traffic.per_second,
        share=traffic.share,
        stable_bad=traffic.stable_bad,
        scrape_seconds=traffic.scrape,
    )


def measured(settings: Settings, traffic: Traffic, limit: int) -> float:
    source = random.Random(11)
    found = [noticed(settings, traffic.intervals(source, limit)) for _ in range(RUNS)]
    return statistics.median(math.inf if at is None else at for at in found)


@pytest.mark.parametrize("settings", [CALM, Settings()], ids=["known", "unknown"])
@pytest.mark.parametrize("scrape", [5.0, 15.0])
@pytest.mark.parametrize(
    "case",  # Requests/s, the canary's share of them, stable's errors, the canary's.
    [
        (40, 0.05, 0.001, 0.05),
        (100, 0.05, 0.001, 0.01),
        (100, 0.05, 0.001, 0.5),
        (100, 0.5, 0.001, 0.005),
        (100, 0.25, 0.0, 0.01),
        (1000, 0.01, 0.001, 0.01),
        (1000, 0.1, 0.001, 0.003),
        (400, 0.1, 0.02, 0.05),
        (20, 0.5, 0.01, 0.2),
    ],
)
def test_a_regression_takes_as_long_as_was_said(
    settings: Settings, scrape: float, case: tuple[float, float, float, float]
) -> None:
    """Within a factor of 1.5, or a scrape where it takes only a few of them."""
    per_second, share, stable_bad, canary_bad = case
    traffic = Traffic(
        per_second=per_second,
        share=share,
        stable_bad=stable_bad,
        canary_bad=canary_bad,
        scrape=scrape,
    )
    said = told(settings, traffic)
    seen = measured(settings, traffic, math.ceil(3 * said / scrape))
    assert abs(said - seen) <= scrape or 1 / 1.5 <= seen / said <= 1.5, (said, seen)


HUNDRED = Load(per_second=100, share=0.05, stable_bad=0.001, scrape_seconds=5)


def test_the_smallest_that_is_found_in_time_is_just_found_in_time() -> None:
    least = power.smallest(CALM, HUNDRED, 120)
    assert least is not None
    assert power.detection_seconds(CALM, HUNDRED, least) <= 120
    assert power.detection_seconds(CALM, HUNDRED, least * 0.98) > 120


def test_more_time_finds_smaller_ones() -> None:
    found = [power.smallest(CALM, HUNDRED, span) for span in (30, 120, 600, 3600)]
    assert [one for one in found if one] == sorted((one for one in found if one), reverse=True)
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    "nothing",
    [
        Load(per_second=0, share=0.05, stable_bad=0.001, scrape_seconds=5),
        Load(per_second=100, share=1.0, stable_bad=0.001, scrape_seconds=5),
    ],
)
def test_nothing_is_found_where_there_is_nothing_to_compare(nothing: Load) -> None:
    assert power.detection_seconds(CALM, nothing, 0.5) == math.inf
    assert power.smallest(CALM, nothing, 3600) is None


def test_what_counts_as_the_same_is_never_found() -> None:
    assert power.detection_seconds(CALM, HUNDRED, 0.001 * CALM.tolerance) == math.inf


def test_noise_makes_it_slower_and_busier_traffic_noisier() -> None:
    noisy = Settings(dispersion=10.0, cap_scrapes=2, volume=100.0)
    assert power.detection_seconds(noisy, HUNDRED, 0.01) > power.detection_seconds(
        CALM, HUNDRED, 0.01
    )
    assert 1 / tempered(noisy, 50).errors == 10
    assert 1 / tempered(noisy, 200).errors == 19


def test_a_step_takes_its_dwell_where_that_is_all_it_needs() -> None:
    way = power.passage(CALM, HUNDRED, Gate(dwell_seconds=120), most=1800)
    assert (way.seconds, way.slowest) == (120, ())


def test_a_step_waits_for_its_requests() -> None:
    few = Load(per_second=1, share=0.05, stable_bad=0.0, scrape_seconds=5)
    way = power.passage(CALM, few, Gate(dwell_seconds=120), most=3600)
    assert way.seconds == pytest.approx(100 / 0.05, rel=0.01)
    assert [reason.code for reason in way.slowest] == [Code.TOO_FEW_REQUESTS]


def test_a_step_that_never_gets_its_requests_has_no_end() -> None:
    few = Load(per_second=0.1, share=0.05, stable_bad=0.0, scrape_seconds=5)
    way = power.passage(CALM, few, Gate(dwell_seconds=120), most=1800)
    assert way.seconds == math.inf
    assert Code.TOO_FEW_REQUESTS in {reason.code for reason in way.slowest}


def test_the_last_gate_waits_for_its_proof_as_long_as_the_judge_does() -> None:
    """Held against healthy runs of the judge."""
    settings = Settings(dispersion=3.0, safe_margin=0.025, limits=Limits(max_error_rate=0.05))
    bake = Load(per_second=20, share=0.95, stable_bad=0.002, scrape_seconds=5)
    gate = Gate(dwell_seconds=10, proven=True)
    way = power.passage(settings, bake, gate, most=36_000)
    assert [reason.code for reason in way.slowest] == [Code.NOT_PROVEN]
    traffic = Traffic(per_second=20, share=0.95, canary_bad=0.002, stable_bad=0.002, scrape=5.0)
    needed = -math.log(settings.beta)
    taken = []
    for seed in range(20):
        evidence = weight_changed(start(settings), 0.0)
        for interval in traffic.intervals(random.Random(seed), 1000):
            evidence = observe(evidence, settings, interval)
            if evidence.proof.log_evidence(settings.safe_margin) >= needed:
                taken.append(interval.at)
                break
    assert 1 / 1.5 <= statistics.median(taken) / way.seconds <= 1.5


def test_a_latency_limit_that_stable_nearly_breaks_takes_longer_to_prove() -> None:
    limits = Limits(latency=((0.25, 0.01),))
    took = {}
    for slow in (0, 1, 8):
        past = ((0.1, 900), (0.3, 1000 - slow), (math.inf, 1000))
        settings = replace(CALM, limits=limits, latency_dispersion=1.0, past=past)
        way = power.passage(settings, HUNDRED, Gate(dwell_seconds=2, proven=True), most=36_000)
        took[slow] = way.seconds
        assert {reason.code for reason in way.slowest} == {Code.NOT_PROVEN}
    assert took[0] <= took[1] < took[8] < 3600


def test_what_no_past_tells_of_latency_is_hoped_for_and_takes_its_requests_all_the_same() -> None:
    settings = Settings(limits=Limits(latency=((0.3, 0.001),)))
    bake = Load(per_second=0.5, share=0.95, stable_bad=0.0, scrape_seconds=5)
    way = power.passage(settings, bake, Gate(dwell_seconds=300, proven=True), most=2100)
    assert way.seconds == math.inf
    assert {reason.check for reason in way.slowest} >= {"proof latency 0.3 s"}


def test_a_budget_asks_for_more_the_less_it_allows() -> None:
    settings = Settings(dispersion=1.0, cap_scrapes=2, min_requests=1)
    ways = [
        power.passage(
            settings,
            HUNDRED,
            Gate(dwell_seconds=10, budget=budget, next_share=0.5, next_seconds=60),
            most=36_000,
        )
        for budget in (1000.0, 12.0, 8.0, 4.0)
    ]
    spans = [way.seconds for way in ways]
    assert spans == sorted(spans)
    assert spans[0] == 10 < spans[-1]
    assert [reason.code for reason in ways[-1].slowest] == [Code.OVER_BUDGET]


def test_the_last_gate_waits_until_its_pods_were_measured_for_half_a_minute() -> None:
    gauge = Gauge(name="memory", usual=0.4, floor=0.1, patience_seconds=180.0)
    settings = replace(CALM, gauges=(gauge,), min_requests=1, safe_margin=0.5)
    spans = {}
    for dwell, proven in ((20.0, False), (20.0, True), (60.0, True)):
        gate = Gate(dwell_seconds=dwell, proven=proven)
        way = power.passage(settings, HUNDRED, gate, most=3600, warm_up_seconds=60)
        spans[dwell, proven] = way.seconds
        assert ([reason.check for reason in way.slowest] == [SATURATION]) is (way.seconds > dwell)
    assert spans == {(20.0, False): 20.0, (20.0, True): pytest.approx(45.0), (60.0, True): 60.0}


def test_a_latency_limit_is_proven_on_warm_pods() -> None:
    limits = Limits(latency=((0.3, 0.01),))
    settings = replace(CALM, limits=limits, latency_dispersion=1.0, safe_margin=0.5)
    gate, took = Gate(dwell_seconds=2, proven=True), {}
    for warm_up in (0.0, 60.0):
        way = power.passage(settings, HUNDRED, gate, most=3600, warm_up_seconds=warm_up)
        took[warm_up] = way.seconds
    assert took[60.0] == pytest.approx(60 + took[0.0], abs=0.5)
