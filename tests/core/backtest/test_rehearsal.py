# SPDX-License-Identifier: Apache-2.0
"""Policies tried on histories that are made up: calm, in bursts, with an incident, with no pods."""

import functools
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from controller.core.backtest import rehearsal, summary, words
from controller.core.backtest.page import page
from controller.core.backtest.rehearsal import End, Plan, Played, planned, play
from controller.core.backtest.stretch import Stretch
from controller.core.backtest.thinning import REGRESSIONS, Dice, Regression, parted, worsened
from controller.core.evidence import calibration
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.past import Past
from controller.core.evidence.tally import INFINITE, UNREPORTED, Tally
from controller.core.lifecycle import trial
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.observation import View
from controller.core.policy import caps
from controller.core.policy.model import PRESETS, Preset, Promotion, Traffic
from controller.core.values import TargetRef
from tests.core.evidence.traffic import around, binomial, certified

GAP = 15.0
AT = 1_764_000_000.0
PODS = 10
BOUNDS = ((0.1, 0.90), (0.5, 0.995), (2.5, 1.0))

Errors = Callable[[random.Random, int, int, int], int]
"""Failed answers of so many requests, of a pod in an interval."""


def alone(source: random.Random, requests: int, _pod: int, _at: int, *, bad: float = 0.002) -> int:
    return binomial(source, requests, bad)


def bursts(source: random.Random, requests: int, _pod: int, _at: int) -> int:
    """The same share, twenty at a time."""
    return min(20 * binomial(source, requests, 0.002 / 20), requests)


def incident(source: random.Random, requests: int, pod: int, at: int) -> int:
    """One pod fails a third of its answers for three minutes."""
    return binomial(source, requests, 0.3 if pod == 3 and 20 <= at < 32 else 0.002)


def row(source: random.Random, errors: Errors, pod: int, count: int, rate: float) -> list[Tally]:
    found = []
    for at in range(count):
        requests = around(source, rate * GAP)
        within = [
            min(
                round(requests * share + source.gauss(0, 1) * (requests * (1 - share)) ** 0.5),
                requests,
            )
            for _, share in BOUNDS
        ]
        found.append(
            Tally(
                requests=requests,
                errors=errors(source, requests, pod, at),
                buckets=(
                    *(
                        (b, min(n, requests))
                        for (b, _), n in zip(BOUNDS, sorted(within), strict=True)
                    ),
                    (INFINITE, requests),
                ),
            )
        )
    return found


@functools.cache
def stretch(seed: int, errors: Errors = alone, *, rate: float = 20.0, count: int = 140) -> Stretch:
    source = random.Random(seed)
    rows = {f"checkout-{pod}": row(source, errors, pod, count, rate) for pod in range(PODS)}
    whole = Tally(reported=False)
    for tallies in rows.values():
        for one in tallies:
            whole = whole.plus(one)
    return Stretch(
        at=AT, gap=GAP, rows=rows, others=[UNREPORTED] * count, whole=whole,
        sums={pod: sum(one.requests for one in tallies) for pod, tallies in rows.items()},
    )  # fmt: skip


POLICY = PRESETS[Preset.STANDARD]
RUN = Run(
    name="r", target=TargetRef("shop", "checkout"), uid="u", annotations=(), stable_hash="h",
    stable_digest="", digest="", replicas=PODS, traffic=Traffic.GATEWAY,
    promotion=Promotion.SHIFT,
)  # fmt: skip


def plan(known: Calibration) -> Plan:
    situation = Situation(now=0.0, view=View(deployment=None), policy=POLICY, scrape_seconds=GAP)
    return planned(situation, replace(RUN, calibration=known.to_json()))


@functools.cache  # It is most of what these tests take.
def measured(errors: Errors, seed: int = 77) -> Calibration:
    """As a daemon measures it: on six hours before, and tried there."""
    before = stretch(seed, errors, count=1000)
    known = Past(
        rows={pod: [(one.requests, one.errors) for one in r] for pod, r in before.rows.items()},
        gap=GAP,
        buckets=before.whole.buckets,
    )
    rehearsed = trial.rehearsed(RUN, POLICY, caps.Ceilings())(GAP)
    found, _ = certified(calibration.of(known, rehearsed.seconds), known, rehearsed)
    return found


def healthy(chosen: Plan, errors: Errors, seeds: Sequence[int] = range(6)) -> list[Played]:
    return [
        play(chosen, stretch(seed, errors), first=first, seed=seed * 100 + first)
        for seed in seeds
        for first in range(0, PODS, 2)
    ]


@pytest.mark.slow
def test_calm_pods_are_promoted_and_never_rolled_back() -> None:
    runs = healthy(plan(measured(alone)), alone)
    assert {one.end for one in runs} == {End.PROMOTED}
    told = summary.promotions(runs)
    # 2, 5, 5 and 5 minutes in whole scrapes, each after the gateway has settled.
    assert 1020 <= told["seconds"]["median"] <= 1140
    assert told["share_of_deadlines"] == 0
    assert summary.false_rollbacks(runs, 6)["rolled_back"] == 0


@pytest.mark.slow
def test_bursts_roll_back_where_nothing_is_known_of_them_and_not_where_it_is() -> None:
    reckless = Calibration(phi=1.0, latency_phi=1.0, cap_scrapes=2, known=True, words="as if alone")
    wild = healthy(plan(reckless), bursts)
    tame = healthy(plan(measured(bursts)), bursts)
    assert sum(one.end is End.ROLLED_BACK for one in wild) >= 3
    assert sum(one.end is End.ROLLED_BACK for one in tame) == 0


@pytest.mark.slow
def test_an_incident_of_one_pod_is_found_with_its_time_and_pod() -> None:
    chosen = plan(measured(alone))
    runs = [play(chosen, stretch(1, incident), first=first, seed=first) for first in range(PODS)]
    told = summary.false_rollbacks(runs, 1)
    assert told["rolled_back"] >= 1
    assert all("checkout-3" in one["pods"] for one in told["examples"])
    assert told["hours_utc"] == {"16:00": told["rolled_back"]}
    assert told["windows_concerned"] == 1
    # An incident of all pods at once is nobody's fault.
    common: Errors = functools.partial(alone, bad=0.05)
    assert End.ROLLED_BACK not in {one.end for one in healthy(chosen, common, range(2))}


def test_what_is_put_in_is_found_the_sooner_the_worse_it_is() -> None:
    chosen = plan(measured(alone))
    found = {
        regression.name: [
            play(chosen, stretch(seed), first=seed, seed=seed, regression=regression)
            for seed in range(5)
        ]
        for regression in REGRESSIONS
    }
    told = {row["regression"]: row for row in summary.detections(found)}
    for name in ("1 % errors", "5 % errors", "50 % errors", "50 % slow", "5 % slow"):
        assert told[name]["found"] == 5, name
    seconds = [told[f"{share} % errors"]["seconds"]["median"] for share in (1, 5, 50)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] <= 2 * GAP
    assert told["50 % errors"]["bad_answers"]["median"] == pytest.approx(150, rel=0.6)
    assert told["1 % slow"]["runs"] == 5


def test_nobody_calls_and_the_deadline_ends_it() -> None:
    chosen = plan(calibration.unknown("no history"))
    quiet = stretch(1, rate=0.001, count=300)
    played = play(chosen, quiet, first=0, seed=1)
    assert played.end is End.DEADLINE
    assert played.verdict is not None
    assert summary.promotions([played])["waited_for"] == {"requests": 1}
    # Where the history is over before the deadline nothing is claimed.
    assert play(chosen, stretch(1, rate=0.001, count=100), first=0, seed=1).end is End.CUT


def test_without_pods_the_requests_are_drawn_for() -> None:
    """A gateway's counters: the canary gets its share, and all requests stay as they were."""
    named = stretch(1)
    one = Stretch(
        at=AT, gap=GAP, rows={"": named.rows["checkout-0"]}, others=named.others,
        sums={"": named.sums["checkout-0"]},
        whole=Tally(requests=named.sums["checkout-0"]),
    )  # fmt: skip
    assert one.pods == ()
    assert rehearsal.group(one, 0.05, 0) == ()
    counts = [one.interval(at, (), 0.25, Dice(at)) for at in range(100)]
    canary = sum(interval.canary.requests for interval in counts)
    stable = sum(interval.stable.requests for interval in counts)
    assert canary + stable == sum(tally.requests for tally in one.rows[""][:100])
    assert canary / (canary + stable) == pytest.approx(0.25, abs=0.01)


def test_a_group_gets_the_share_of_its_step_and_grows_with_it() -> None:
    known = stretch(1)
    for share, pods in ((0.05, 1), (0.25, 3), (0.5, 5), (0.95, 10)):
        group = rehearsal.group(known, share, 8)
        assert len(group) == pods
        assert group[0] == "checkout-8"
        counts = [known.interval(at, group, share, Dice(at)) for at in range(140)]
        canary = sum(interval.canary.requests for interval in counts)
        stable = sum(interval.stable.requests for interval in counts)
        assert canary + stable == known.whole.requests
        assert canary / known.whole.requests == pytest.approx(share, abs=0.005)


def test_parts_make_the_whole_and_regressions_leave_the_number_of_requests() -> None:
    whole = Tally(requests=1000, errors=50, buckets=((0.1, 400), (1.0, 990), (INFINITE, 1000)))
    mine, rest = parted(Dice(1), whole, 0.3)
    assert mine.plus(rest) == whole
    assert mine.requests == pytest.approx(300, abs=60)
    slow = Regression(name="slow", slow=0.5)
    worse, number = worsened(Dice(2), whole, slow, usual=0.05, bound=1.0)
    assert (worse.requests, worse.errors, worse.timed) == (1000, 50, 1000)
    assert worse.slower_than(1.0) == 10 + number
    assert number == pytest.approx(495, abs=60)
    double, number = worsened(Dice(3), whole, Regression(name="x2", times=2.0), usual=0.05, bound=0)
    assert double.errors == 50 + number == pytest.approx(100, abs=25)


def test_the_same_seed_is_the_same_run_and_dice_are_fair() -> None:
    chosen, known = plan(measured(alone)), stretch(2)
    bad = REGRESSIONS[2]
    first = play(chosen, known, first=1, seed=5, regression=bad)
    assert play(chosen, known, first=1, seed=5, regression=bad) == first
    dice = Dice(7)
    for trials, chance in ((50, 0.1), (50, 0.9), (10_000, 0.3)):
        drawn = [dice.binomial(trials, chance) for _ in range(2000)]
        mean = sum(drawn) / len(drawn)
        variance = sum((one - mean) ** 2 for one in drawn) / len(drawn)
        assert mean == pytest.approx(trials * chance, rel=0.02)
        assert variance == pytest.approx(trials * chance * (1 - chance), rel=0.12)


@pytest.mark.parametrize(("hits", "tries"), [(0, 300), (3, 300), (1, 20), (19, 20)])
def test_with_the_upper_limit_so_few_hits_have_a_chance_of_one_in_twenty(
    hits: int, tries: int
) -> None:
    share = summary.at_most(hits, tries)
    chance = sum(
        math.comb(tries, number) * share**number * (1 - share) ** (tries - number)
        for number in range(hits + 1)
    )
    assert chance == pytest.approx(0.05, abs=1e-6)
    assert summary.at_most(tries, tries) == 1.0


def test_a_report_reads_as_text_and_as_a_page_without_scripts() -> None:
    chosen = plan(measured(alone))
    calm = healthy(chosen, alone, range(1))
    bad = [play(chosen, stretch(1, incident), first=3, seed=3)]
    worse = {
        "50 % errors": [play(chosen, stretch(1), first=0, seed=1, regression=REGRESSIONS[4])],
        "<nothing>": calm,
    }
    report = {
        "target": "shop/checkout", "policy": "standard",
        "ladder": [{"share": "5 %", "seconds": 120}],
        "windows": 4, "from": "a", "to": "b", "scrape_seconds": 15.0, "requests_per_second": 200.0,
        "error_share": 0.002, "counters": "pods", "calibrated": 1, "phi": [1.2],
        "slow_beyond_seconds": [0.5], "notes": ["a < b"],
        "measured": summary.measured(
            {"check a": 4, "check c": 3},
            {("check c", "no value"): 2},
            {
                ("check b", "refused"): 1, ("check b", "no pods"): 3,
                ("check d", "a"): 1, ("check d", "b"): 1, ("check d", "c"): 1,
            },
        ),
        "false_rollbacks": summary.false_rollbacks([*calm, *bad], 1),
        "detection": summary.detections(worse),
        "promotion": summary.promotions([*calm, *bad]),
        "nearest": summary.worst([*calm, *bad], 15.0),
    }  # fmt: skip
    told = words.text(report)
    assert "1 of 6 runs" in told
    assert "decided by errors (1)" in told
    assert "judged beside requests, in so many windows: check a (4), check c (3)" in told
    assert "without check b in 4 of 4 windows: no pods (and 1 other reason)\n" in told
    assert "nothing is promoted in 2 of 4 windows for want of check c: no value\n" in told
    assert told.endswith("without check d in 3 of 4 windows: a (and 2 other reasons)")
    assert "not found; 0 bad answers" in told
    assert "5 of 5 not found (5 promoted)" in told
    drawn = page(report)
    pictures = re.findall("<svg.*?</svg>", drawn, re.DOTALL)
    assert len(pictures) == 2
    for picture in pictures:
        assert ET.fromstring(picture).tag.endswith("svg")
    assert "&lt;nothing&gt;" in drawn
    assert "a &lt; b" in drawn
    assert "without check b in 4 of 4 windows: no pods" in drawn
    assert not any(word in drawn for word in ("<script", "http://127", "src=", "<nothing>"))
