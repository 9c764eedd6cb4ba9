# SPDX-License-Identifier: Apache-2.0
"""Checks of a team and what runs out, played on histories that are made up."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import pytest

from controller.core.backtest import rehearsal, summary, words
from controller.core.backtest.measured import Grid, Line, Measured, Pods
from controller.core.backtest.rehearsal import End, Plan, Played, planned, play
from controller.core.backtest.stretch import Stretch
from controller.core.backtest.thinning import Regression
from controller.core.evidence.calibration import Calibration, watching
from controller.core.evidence.measures import Comparison, Gauge
from controller.core.evidence.readings import READ_SECONDS
from controller.core.evidence.tally import INFINITE, UNREPORTED, Tally, summed
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.observation import View
from controller.core.policy.model import PRESETS, Preset, Promotion, Traffic, UserCheck
from controller.core.values import TargetRef

GAP: Final = 15.0
AT: Final = 1_764_000_000.0
PODS: Final = tuple(f"checkout-{number}" for number in range(6))
INTERVALS: Final = 160
FIRST: Final = 0
"""Who plays the canary first."""
BAD: Final = range(20, 80)
"""Moments in which something is wrong: from five minutes on, for a quarter of an hour."""

ORDERS: Final = UserCheck(
    name="orders",
    comparison=Comparison.BELOW,
    limit=0.05,
    window_seconds=60.0,
    text="max(orders) < 0.05",
    expression="max(orders)",
)
FILES: Final = Gauge(name="open files", usual=0.1, floor=0.2, ends=True)
KNOWN: Final = Calibration(phi=1.0, latency_phi=1.0, cap_scrapes=2, known=True, words="calm")

Told = Callable[[str, int], float | None]
"""The value of a pod at a moment."""


@functools.cache
def stretch(pods: tuple[str, ...] = PODS) -> Stretch:
    """A hundred answers of each pod in each interval; one in five hundred failed."""
    buckets = ((0.1, 90), (0.5, 100), (INFINITE, 100))
    row = [
        Tally(requests=100, errors=int(number % 5 == 0), buckets=buckets)
        for number in range(INTERVALS)
    ]
    return Stretch(
        at=AT, gap=GAP, rows=dict.fromkeys(pods, row), others=[UNREPORTED] * INTERVALS,
        sums=dict.fromkeys(pods, 100 * INTERVALS), whole=summed(row * len(pods)),
    )  # fmt: skip


def plan(*, checks: tuple[UserCheck, ...] = (), gauges: tuple[Gauge, ...] = ()) -> Plan:
    policy = replace(PRESETS[Preset.STANDARD], checks=checks)
    situation = Situation(now=0.0, view=View(deployment=None), policy=policy, scrape_seconds=GAP)
    run = Run(
        name="r", target=TargetRef("shop", "checkout"), uid="u", annotations=(), stable_hash="h",
        stable_digest="", digest="", replicas=len(PODS), traffic=Traffic.GATEWAY,
        promotion=Promotion.SHIFT, calibration=watching(KNOWN, gauges).to_json(),
    )  # fmt: skip
    return planned(situation, run)


GRID: Final = Grid.over(AT, stretch().end)


def checked(chosen: Plan, told: Told) -> Measured:
    """The worst value of each track, as `max` over its pods."""

    def line(pods: Pods) -> Line:
        return [
            max((v for pod in pods if (v := told(pod, number)) is not None), default=None)
            for number in range(GRID.count)
        ]

    casts = rehearsal.casts(chosen, stretch(), range(len(PODS)))
    lines = {pods: (line(pods), line(frozenset(PODS) - pods)) for pods in casts}
    return Measured(grid=GRID, checks={ORDERS.title: lines})


def gauged(told: Told) -> Measured:
    figures = {pod: [told(pod, number) for number in range(GRID.count)] for pod in PODS}
    return Measured(grid=GRID, gauges={FILES.name: figures})


def all_of(chosen: Plan, measured: Measured) -> list[Played]:
    return [play(chosen, stretch(), measured, first=n, seed=n) for n in range(len(PODS))]


def wrong(*pods: str) -> Told:
    """A value far beyond its bound on these pods, for a while."""
    return lambda pod, number: 0.97 if pod in pods and number in BAD else 0.01


def test_a_pod_that_breaks_a_check_or_runs_out_rolls_back_where_it_plays_the_canary() -> None:
    by_check, by_gauge = plan(checks=(ORDERS,)), plan(gauges=(FILES,))
    for runs, name in (
        (all_of(by_check, checked(by_check, wrong(PODS[0]))), "check orders"),
        (all_of(by_gauge, gauged(wrong(PODS[0]))), "saturation"),
    ):
        told = summary.false_rollbacks(runs, 1)
        assert told["decided_by"] == {name: told["rolled_back"]}
        assert 1 <= told["rolled_back"] < len(runs)
        for one in told["examples"]:
            assert PODS[0] in one["pods"]
            assert "canary 0.97, stable 0.01" in one["why"]
            # Five minutes until it begins, and not one reading alone.
            assert one["seconds"] > BAD[0] * READ_SECONDS + 60


def test_a_check_that_rolls_back_has_not_found_what_is_wrong_with_the_requests() -> None:
    chosen = plan(checks=(ORDERS,))
    measured = checked(chosen, wrong(PODS[0]))
    found = {
        regression.name: [play(chosen, stretch(), measured, first=0, seed=1, regression=regression)]
        for regression in (Regression(name="nothing"), Regression(name="half", bad=0.5))
    }
    found["both"] = [*found["nothing"], *found["half"]]
    nothing, half, both = summary.detections(found)
    assert (nothing["found"], nothing["rolled_back_otherwise"]) == (0, 1)
    assert (half["found"], half["rolled_back_otherwise"]) == (1, 0)
    assert (both["runs"], both["found"], both["rolled_back_otherwise"]) == (2, 1, 1)
    # What it costs until it is found is not told by a run that something else has ended.
    assert nothing["bad_answers"] is None
    assert both["bad_answers"] == half["bad_answers"]
    assert words.fate(nothing) == "1 rolled back by a check or saturation"


@pytest.mark.parametrize("pods", [(), PODS], ids=["nothing", "everything"])
def test_what_is_in_order_and_what_stable_breaks_too_roll_nothing_back(
    pods: tuple[str, ...],
) -> None:
    chosen = plan(checks=(ORDERS,))
    runs = all_of(chosen, checked(chosen, wrong(*pods)))
    assert summary.false_rollbacks(runs, 1)["rolled_back"] == 0
    quick = [one.seconds for one in runs if one.end is End.PROMOTED]
    # While stable breaks it as well nothing passes, and afterwards it does.
    assert len(quick) == len(runs)
    assert (max(quick) > BAD[-1] * READ_SECONDS) is bool(pods)


def test_pods_without_a_value_wait_for_it_until_the_deadline() -> None:
    chosen = plan(checks=(ORDERS,))
    alone = checked(chosen, lambda pod, _: 0.01 if pod == PODS[0] else None)
    played = play(chosen, stretch(), alone, first=3, seed=1)
    assert played.end is End.DEADLINE
    assert summary.promotions([played])["waited_for"] == {"check orders": 1}


def test_one_pod_is_left_to_stable_where_all_of_them_play() -> None:
    known = stretch()
    everybody = rehearsal.group(known, 0.95, 2)
    assert len(everybody) == len(PODS)
    assert rehearsal.measured_on(known, everybody) == frozenset(everybody) - {everybody[-1]}
    some = rehearsal.group(known, 0.5, 2)
    assert rehearsal.measured_on(known, some) == frozenset(some)


@pytest.mark.parametrize("gap", [1.0, 15.0, 60.0])
def test_every_reading_is_met_once_and_in_order_whatever_the_scrapes(gap: float) -> None:
    grid = Grid.over(100.3, 1000.0)
    figures: Mapping[str, Line] = {
        pod: [float(number) for number in range(grid.count)] for pod in "ab"
    }
    measured = Measured(grid=grid, gauges={"g": figures})
    met = [
        reading
        for number in range(int(900 / gap))
        for reading in measured.readings(
            frozenset("a"), 100.3 + number * gap, 100.3 + (number + 1) * gap
        )
    ]
    assert [one.at for one in met] == [101.0 + 15 * number for number in range(60)]
    assert [one.values[0].canary for one in met] == [float(number) for number in range(60)]
