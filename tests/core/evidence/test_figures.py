# SPDX-License-Identifier: Apache-2.0
"""The figures the judge has to reach, with seeds; the large grid is in tests/bench."""

import random

import pytest

from controller.core.evidence.judge import Settings
from tests.core.evidence.traffic import Traffic, detection, healthy_run

BROKEN = Traffic(per_second=400, share=0.10, canary_bad=0.5, stable_bad=0.001)


@pytest.mark.parametrize(
    ("phi", "cap", "median", "ninety_nine"), [(3.0, 3, 2.2, 3.5), (1.0, 2, 1.2, 2.5)]
)
@pytest.mark.parametrize("healthy", [0, 60])
def test_half_the_requests_failing_is_seen_within_scrapes(
    phi: float, cap: int, median: float, ninety_nine: float, healthy: int
) -> None:
    source = random.Random(17)
    settings = Settings(dispersion=phi, cap_scrapes=cap)
    taken = sorted(detection(source, settings, BROKEN, healthy=healthy)[0] for _ in range(100))
    assert taken[49] <= median
    assert taken[98] <= ninety_nine


@pytest.mark.slow
def test_fifty_runs_of_two_equal_versions_end_without_a_rollback() -> None:
    source = random.Random(50)
    runs = [healthy_run(source, Settings(), Traffic(), 60) for _ in range(50)]
    assert runs.count(True) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "per_second"), [(0.0005, 100.0), (0.02, 10.0), (0.2, 50.0)])
def test_false_rollbacks_stay_below_the_promise(rate: float, per_second: float) -> None:
    source = random.Random(5)
    settings = Settings(dispersion=1.0, cap_scrapes=2)
    traffic = Traffic(per_second=per_second, canary_bad=rate, stable_bad=rate, scrape=15.0)
    runs = [healthy_run(source, settings, traffic, 20) for _ in range(100)]
    assert runs.count(True) <= 1


def test_clustered_errors_need_the_tempering() -> None:
    """Bursts of ten, taken for independent, roll healthy versions back; tempered they do not."""
    traffic = Traffic(per_second=200, canary_bad=0.01, stable_bad=0.01, scrape=15.0, burst=10)
    naive = Settings(dispersion=1.0, cap_scrapes=1, tolerance=1.0)
    source = random.Random(7)
    fooled = [healthy_run(source, naive, traffic, 20) for _ in range(30)]
    calm = [healthy_run(source, Settings(dispersion=10.0), traffic, 20) for _ in range(30)]
    assert fooled.count(True) > 5
    assert calm.count(True) == 0


def test_a_regression_to_five_percent_is_found_and_says_what_it_saw() -> None:
    source = random.Random(3)
    bad = Traffic(per_second=400, share=0.10, canary_bad=0.05, stable_bad=0.001)
    taken, verdict = detection(source, Settings(), bad)
    assert taken <= 60
    assert verdict.reasons[0].stable_value is not None
    assert verdict.log10_evidence >= 2
