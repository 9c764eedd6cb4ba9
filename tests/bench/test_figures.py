# SPDX-License-Identifier: Apache-2.0
"""The bench's arithmetic is right; what it measures is nobody's test."""

import os
import re
import time
from pathlib import Path

import pytest

from controller.sim.apiserver.errors import JsonObject
from tests.bench import figures, rig
from tests.bench.figures import Line
from tests.bench.lab_rig import Routes
from tests.bench.lab_scale import BAD_SHARE, Counters
from tests.bench.scale import Cost


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([3.0], 0.99, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([float(n) for n in range(1, 31)], 0.5, 15.0),
        ([float(n) for n in range(1, 31)], 0.99, 30.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 1.0, 100.0),
    ],
)
def test_a_quantile_is_one_of_the_values(
    values: list[float], share: float, expected: float | None
) -> None:
    assert figures.quantile(values, share) == expected


def test_numbers_show_three_digits_that_matter() -> None:
    shown = [figures.number(value) for value in (0, 0.01234, 1.5, 79.0, 6955.4, 1234567.0)]
    assert shown == ["0", "0.0123", "1.5", "79", "6,955", "1,234,567"]


def test_a_line_names_goal_and_peers_as_ratios() -> None:
    line = Line(what="x", value=2.0, unit="s", goal=1.0, peers={"Other": 20.0})
    assert line.text().split("  ")[-2:] == ["ABOVE the goal of 1", "Other 20 (10x ours)"]
    assert "within the goal" in Line(what="x", value=1.0, goal=1.0).text()
    assert "ABOVE" in Line(what="x", value=None, goal=1.0).text()
    assert "(" not in Line(what="x", value=0.0, peers={"Other": 5.0}).text()


def test_a_ratio_without_divisor_is_none() -> None:
    assert figures.ratio(3.0, 2.0) == 1.5
    assert figures.ratio(3.0, 0.0) is None
    assert figures.ratio(None, 2.0) is None


def test_costs_are_told_per_minute() -> None:
    before = rig.Reading(at=100.0, requests=7, queries=10, cpu_seconds=1.0, rss_mib=70.0)
    after = rig.Reading(at=130.0, requests=17, queries=70, cpu_seconds=2.5, rss_mib=80.0)
    assert Cost.between(before, after) == Cost(
        requests=20.0, queries=120.0, cpu_seconds=3.0, rss_mib=80.0
    )


def test_memory_and_processor_time_are_read_from_the_kernel() -> None:
    while time.process_time() < 0.2:
        sum(range(1000))
    assert 0.1 < rig.cpu_seconds(os.getpid()) < 86_400
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    size = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert rig.rss_mib(os.getpid()) == pytest.approx(size, rel=0.2)


def route(**weights: int) -> JsonObject:
    refs = [{"name": name.replace("_", "-"), "weight": weight} for name, weight in weights.items()]
    return {"metadata": {"name": "app"}, "spec": {"rules": [{"backendRefs": refs}]}}


def test_the_canary_share_is_read_from_its_own_backend() -> None:
    assert rig.canary_weight(route(app=9000, app_canary=1000)) == 1000
    assert rig.canary_weight(route(app=10000, app_canary=0)) == 0
    assert rig.canary_weight(route(app=1)) == 0


def test_scripted_counters_divide_the_requests_as_the_route_says() -> None:
    """400 requests a second, of which a canary at 1000 basis points has 40."""
    routes = Routes()
    routes.note(route(app=9000, app_canary=1000))
    since = time.monotonic() - 100.0
    counters = Counters(namespace="shop", routes=routes, names=["app"], at=since)
    counted = re.findall(r'service="shop-(\S+)-http-80@\S+ (\d+)', counters.text())
    seconds = counters.at - since
    # Each counter is a whole number.
    assert {name: int(count) for name, count in counted if int(count)} == {
        "app": pytest.approx(360 * seconds, abs=1),
        "app-canary": pytest.approx(40 * seconds, abs=1),
    }


def test_half_of_what_a_bad_canary_is_sent_fails_in_them() -> None:
    routes = Routes()
    routes.note(route(app=9000, app_canary=1000))
    since = time.monotonic() - 100.0
    counters = Counters(namespace="shop", routes=routes, names=["app"], at=since, bad=True)
    counted = re.findall(r'code="(\d+)".*service="shop-app-canary-.* (\d+)', counters.text())
    counts = {code: int(count) for code, count in counted}
    assert sum(counts.values()) == pytest.approx(40 * (counters.at - since), abs=2)
    assert counts["500"] / sum(counts.values()) == pytest.approx(BAD_SHARE, abs=0.05)
