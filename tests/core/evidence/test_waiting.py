# SPDX-License-Identifier: Apache-2.0
"""Whatever a run waits for, it is said what for and when that is expected to end.

Counters that restart, pods that are scraped twice and late scrapes are counted rightly and hold
nothing; tests/metrics/shapes has them. What they leave missing is among these.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from controller.core.evidence.judge import (
    UNREPORTED,
    Code,
    Evidence,
    Gate,
    Interval,
    Limits,
    Outcome,
    Reason,
    Settings,
    Tally,
    Verdict,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.measures import Assertion, Comparison, Gauge, Reading, Value
from controller.core.evidence.readings import read
from controller.core.evidence.scraped import Scraped, lacking
from controller.core.observation import Pod

GOOD, STABLE = Tally(requests=40), Tally(requests=360, errors=1)
BEGUN = 1000.0
DWELL = Gate(dwell_seconds=5.0)
PROVEN = Gate(dwell_seconds=5.0, proven=True)
INF = math.inf

ORDERS = Assertion(name="orders", comparison=Comparison.BELOW, limit=0.05, window_seconds=60.0)
MEMORY = Gauge(name="memory", usual=0.4, floor=0.1)
POOL = Gauge(name="pool", usual=0.4, floor=0.1, patience_seconds=30.0)


def seen(
    settings: Settings, canary: Tally = GOOD, stable: Tally = STABLE, *, scrapes: int = 10
) -> Evidence:
    """A window of so many seconds."""
    evidence = weight_changed(start(settings), BEGUN)
    for number in range(1, scrapes + 1):
        interval = Interval(at=BEGUN + number, seconds=1.0, canary=canary, stable=stable)
        evidence = observe(evidence, settings, interval)
    return evidence


def said(
    settings: Settings = Settings(),  # noqa: B008  # Frozen.
    evidence: Evidence | None = None,
    *,
    gate: Gate = DWELL,
    age: float = 0.5,
    unseen: Iterable[Reason] = (),
) -> Verdict:
    evidence = seen(settings) if evidence is None else evidence
    now = (evidence.last_at if math.isfinite(evidence.last_at) else BEGUN) + age
    return judge(evidence, settings, now, gate=gate, unseen=tuple(unseen))


def gone(settings: Settings) -> Evidence:
    """The canary is in none of the last six scrapes."""
    evidence = seen(settings)
    for number in range(11, 17):
        at = BEGUN + number
        interval = Interval(at=at, seconds=1.0, canary=UNREPORTED, stable=STABLE)
        evidence = observe(evidence, settings, interval)
    return evidence


def half_scraped() -> tuple[Reason, ...]:
    pods = [Pod(name=name, uid=name, phase="Running", ready=True) for name in "abcd"]
    return tuple(lacking(Scraped(at=BEGUN, canary=frozenset("ab")), canary=pods))


def measured(name: str, canary: float, stable: float, settings: Settings) -> Evidence:
    value = Value(name=name, canary=canary, stable=stable)
    return read(seen(settings), settings, Reading(at=BEGUN + 9.0, values=(value,)))


def timed(total: int, slow: int, bound: float) -> tuple[tuple[float, int], ...]:
    return ((bound / 3, (total - slow) // 2), (bound, total - slow), (INF, total))


def sloth(limit: float) -> Verdict:
    """Limit and histogram in different units of time."""
    settings = Settings(limits=Limits(latency=((limit, 0.01),)))
    canary = Tally(requests=40, buckets=timed(40, 0, 0.3))
    stable = Tally(requests=360, buckets=timed(360, 0, 0.3))
    return said(settings, seen(settings, canary, stable))


QUICK = Tally(requests=40, buckets=timed(40, 0, 0.3))
STEADY = Tally(requests=360, buckets=timed(360, 1, 0.3))


def untimed(canary: Tally, stable: Tally) -> Verdict:
    """A histogram in the first step, and other counts in the second."""
    evidence = weight_changed(seen(TIMED, QUICK, STEADY), BEGUN + 10.0)
    for number in range(11, 21):
        interval = Interval(at=BEGUN + number, seconds=1.0, canary=canary, stable=stable)
        evidence = observe(evidence, TIMED, interval)
    return said(TIMED, evidence)


def suspected() -> Verdict:
    settings = Settings(cap_scrapes=3)
    canary, stable = Tally(requests=4000, errors=320), Tally(requests=36000, errors=36)
    return said(settings, seen(settings, canary, stable, scrapes=2), gate=Gate(dwell_seconds=0.0))


def shared() -> Verdict:
    settings = Settings(limits=Limits(max_error_rate=0.02), tolerance=50.0, dispersion=1.0)
    canary, stable = Tally(requests=400, errors=24), Tally(requests=3600, errors=216)
    return said(settings, seen(settings, canary, stable))


def alone() -> Verdict:
    """A rolled version that fails more than stable ever did, with no stable left."""
    settings = Settings(dispersion=1.0, usual_rate=0.001)
    evidence = seen(settings, Tally(requests=400, errors=8), UNREPORTED)
    return judge(evidence, settings, evidence.last_at, gate=DWELL, alone=True)


LIMITED = Settings(limits=Limits(max_error_rate=0.05))
CHECKED = Settings(assertions=(ORDERS,))
GAUGED = Settings(gauges=(MEMORY, POOL))
TIMED = Settings(limits=Limits(latency=((0.25, 0.01),)))
COSTLY = replace(DWELL, budget=30.0, next_seconds=600.0, reaction_seconds=20.0, next_share=0.5)

WAITS: dict[str, tuple[Code, Callable[[], Verdict]]] = {
    "no weight in force": (Code.WINDOW_NOT_OPEN, lambda: said(evidence=start(Settings()))),
    "no data": (
        Code.NO_CANARY_DATA,
        lambda: said(evidence=weight_changed(start(Settings()), BEGUN)),
    ),
    "no data of stable": (
        Code.NO_STABLE_DATA,
        lambda: said(evidence=seen(Settings(), GOOD, UNREPORTED)),
    ),
    "stale": (Code.METRICS_STALE, lambda: said(age=60.0)),
    "a time that is no number": (Code.METRICS_STALE, lambda: said(age=math.nan)),
    "partial": (Code.METRICS_STALE, lambda: said(evidence=gone(Settings()))),
    "half of the replicas": (Code.PODS_NOT_SCRAPED, lambda: said(unseen=half_scraped())),
    "a gauge": (
        Code.COUNTS_FALL,
        lambda: said(evidence=seen(Settings(), Tally(requests=400, scrapes=4, falls=1))),
    ),
    "no histogram": (Code.NO_LATENCY_DATA, lambda: said(TIMED)),
    "a histogram that both lost": (Code.NO_LATENCY_DATA, lambda: untimed(GOOD, STABLE)),
    "one that the canary lost": (Code.NO_LATENCY_DATA, lambda: untimed(GOOD, STEADY)),
    "few timed answers": (
        Code.NO_LATENCY_DATA,
        lambda: untimed(Tally(requests=40, buckets=timed(8, 0, 0.3)), STEADY),
    ),
    "a mistaken unit": (Code.LATENCY_LIMIT_UNMEASURABLE, lambda: sloth(300.0)),
    "no requests": (
        Code.TOO_FEW_REQUESTS,
        lambda: said(evidence=seen(Settings(), Tally(), STABLE)),
    ),
    "few requests": (
        Code.TOO_FEW_REQUESTS,
        lambda: said(evidence=seen(Settings(), Tally(requests=2), STABLE)),
    ),
    "few of stable": (
        Code.TOO_FEW_STABLE_REQUESTS,
        lambda: said(evidence=seen(Settings(), GOOD, Tally(requests=1))),
    ),
    "a tail that is gone": (
        Code.TOO_FEW_REQUESTS,
        lambda: said(evidence=weight_changed(seen(Settings()), BEGUN + 10.5)),
    ),
    "warm-up": (Code.DWELL_NOT_OVER, lambda: said(gate=Gate(dwell_seconds=60.0))),
    "not proven": (Code.NOT_PROVEN, lambda: said(gate=PROVEN)),
    "the budget": (Code.OVER_BUDGET, lambda: said(gate=COSTLY)),
    "suspected": (Code.EVIDENCE_AGAINST, suspected),
    "above a limit": (
        Code.ABOVE_LIMIT,
        lambda: said(LIMITED, seen(LIMITED, Tally(requests=18, errors=1), scrapes=6)),
    ),
    "a limit that both break": (Code.STABLE_VIOLATES_LIMIT, shared),
    "worse than ever, with nobody beside it": (Code.WORSE_THAN_BEFORE, alone),
    "no value of a check": (Code.NO_CHECK_DATA, lambda: said(CHECKED)),
    "a check that fails": (
        Code.CHECK_BROKEN,
        lambda: said(CHECKED, measured("check orders", 0.3, 0.01, CHECKED)),
    ),
    "something runs out": (
        Code.SATURATED,
        lambda: said(GAUGED, measured("memory", 0.9, 0.3, GAUGED)),
    ),
    "a gauge without a value": (Code.NO_CHECK_DATA, lambda: said(GAUGED, gate=PROVEN)),
}

DECIDED = {
    Code.PASSED,
    Code.WORSE_THAN_STABLE,
    Code.LIMIT_VIOLATED,
    Code.FAST_TRIP,
    Code.CRASH_LOOP,
    Code.OUT_OF_MEMORY,
    Code.IMAGE_PULL_ERROR,
    Code.CONTAINER_CONFIG_ERROR,
    Code.READINESS_LOST,
}
"""What nothing waits for."""


@pytest.mark.parametrize("name", WAITS)
def test_every_wait_has_a_reason_and_what_is_expected(name: str) -> None:
    code, make = WAITS[name]
    verdict = make()
    assert verdict.outcome is Outcome.HOLD
    assert code in {reason.code for reason in verdict.reasons}
    for reason in verdict.reasons:
        assert reason.message
        assert reason.expected
        assert reason.told == f"{reason.message}, {reason.expected}"
        assert reason.to_json()["expected"] == reason.expected


def test_no_wait_is_left_out() -> None:
    assert {code for code, _ in WAITS.values()} == set(Code) - DECIDED


def test_what_can_be_worked_out_is_a_time() -> None:
    """The rest says that it is not known, which is an answer as well."""
    told = {name: [one.expected for one in make().reasons] for name, (_, make) in WAITS.items()}
    assert told["few requests"] == ["about 40 s"]
    assert told["few timed answers"] == ["about 2 s"]
    assert told["warm-up"] == ["about 50 s"]
    assert told["no requests"] == ["and none are coming"]
    assert "due within 5 s of its first answer that is counted" in told["no data"]
    assert set(told["a histogram that both lost"]) == {"until when is not known"}
    assert told["stale"][0] == "one is overdue, and when it comes is not known"
    assert told["a gauge without a value"][-1].startswith("about ")
    assert all("about" in words for words in told["not proven"])


def test_a_budget_is_kept_after_the_time_that_is_expected_for_it() -> None:
    """If nothing fails; what is not ruled out shrinks no slower than the requests grow."""
    settings, calm = Settings(dispersion=1.0), Tally(requests=360)
    verdict = said(settings, seen(settings, stable=calm), gate=COSTLY)
    (early,) = verdict.reasons
    assert early.code is Code.OVER_BUDGET
    wait = float(early.expected.removeprefix("about ").removesuffix(" s if nothing fails"))
    assert verdict.seconds_to_go == pytest.approx(wait, abs=0.5)
    for part, outcome in ((0.5, Outcome.HOLD), (1.1, Outcome.PASS)):
        later = seen(settings, stable=calm, scrapes=10 + round(wait * part))
        assert said(settings, later, gate=COSTLY).outcome is outcome
