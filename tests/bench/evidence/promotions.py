# SPDX-License-Identifier: Apache-2.0
"""What is promoted, and how soon: versions at the edge of the margin, and the ladder by budget.

The judge alone, without a cluster: a weight is in force 2.5 s after it was written and pods take
5 s to start, so that times are those of a run whose pods are quick.
"""

import itertools
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from controller.core.evidence.judge import (
    Evidence,
    Gate,
    Interval,
    Limits,
    Outcome,
    Settings,
    Tally,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.policy.model import (
    AUTO_BAKE_BP,
    AUTO_STEPS,
    DEFAULT_BUDGET,
    PRESETS,
    Preset,
)
from controller.core.values import WHOLE_BP
from tests.bench.evidence import noise, pasts
from tests.bench.evidence.table import Share
from tests.core.evidence.traffic import Traffic, around, binomial

BAKE_SHARE: Final = 0.95
BAKE_SECONDS: Final = 60.0
DEADLINE_SECONDS: Final = 1860.0
SETTLE_SECONDS: Final = 2.5
PODS_SECONDS: Final = 5.0
SCRAPE: Final = 5.0
SLOW_SCRAPE: Final = 15.0
SLOW_SECONDS: Final = 0.3
STABLE_BAD: Final = 0.001
VOLUMES: Final = (10.0, 100.0, 1000.0, 10_000.0)
"""Of the ladders."""
WARM_UP: Final = PRESETS[Preset.FAST].warm_up_seconds
CALM: Final = Settings(dispersion=1.0, cap_scrapes=2, dispersion_known=True, min_requests=1)

Edge: TypeAlias = tuple[float, float, float]
"""Requests per second, share of errors of stable, and the margin."""

EDGES: Final[tuple[Edge, ...]] = tuple(
    (per_second, base, margin)
    for per_second in (10.0, 100.0, 1000.0)
    for base in (0.0001, 0.001, 0.01)
    for margin in (0.005, 0.025)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """One way up the ladder.

    Attributes:
        promoted: Whether the bake was passed.
        seconds: From the first pods on until then, or until it was rolled back.
        bad: Bad answers of the canary that stable would not have given.
    """

    promoted: bool
    seconds: float
    bad: float


NOISES: Final = (
    "bursts of 5",
    "bursts of 20",
    "gamma rates, CV 1 at each scrape",
    "wandering rates, 2 min memory",
    "unequal pods",
    "common incidents, 20x for 3 min",
    "incidents of single pods, 50x for 30 s",
)
NOISY_EDGES: Final[tuple[Edge, ...]] = (
    (200.0, 0.002, 0.005),
    (200.0, 0.002, 0.025),
    (1000.0, 0.0001, 0.005),
)
BAKE_PODS: Final = 20
"""Of each version."""


def worse(per_second: float, base: float, margin: float, runs: int) -> Share:
    """How often a version that is worse by exactly the margin is promoted: never is the goal.

    The bake alone, with a deadline of half an hour: the steps before could only stop it.
    """
    source = random.Random(f"{per_second} {base} {margin}")
    traffic = Traffic(
        per_second=per_second,
        share=BAKE_SHARE,
        canary_bad=base + margin,
        stable_bad=base,
        scrape=15.0,
    )
    settings = replace(CALM, safe_margin=margin)
    looks = int(DEADLINE_SECONDS / traffic.scrape)
    promoted = sum(_passes(settings, traffic.intervals(source, looks)) for _ in range(runs))
    return Share(promoted, runs)


def worse_in_noise(name: str, edge: Edge, runs: int) -> Share:
    """The same where errors are not independent, with what their past says of them."""
    per_second, base, margin = edge
    scenario, fleet = noise.SCENARIOS[name]
    fleet = replace(
        fleet,
        canary=BAKE_PODS,
        stable=BAKE_PODS,
        per_second=per_second,
        bad=base,
        canary_bad=base + margin,
        share=BAKE_SHARE,
    )
    promoted = []
    for number in range(pasts.groups(runs, noise.RUNS_EACH)):
        source = random.Random(f"{name} {edge} {number}")
        found = noise.history(source, scenario, fleet)
        settings = replace(found.applied(CALM), limits=noise.LIMITS, safe_margin=margin)
        baked = (noise.intervals(source, scenario, fleet) for _ in range(noise.RUNS_EACH))
        promoted.append(sum(_passes(settings, run) for run in baked))
    return Share.of_groups(promoted, noise.RUNS_EACH)


SLOW_EDGES: Final = tuple(
    (per_second, allowed) for per_second in (10.0, 100.0) for allowed in (0.001, 0.01, 0.05)
)


def proven_timely(per_second: float, allowed: float, part: float, runs: int) -> Share:
    """How often a latency limit is proven to be kept before the deadline of the bake.

    `part` of the share that must be ruled out is slow: 1 is the edge. The proof alone, since the
    limit's own check would stop nearly all of those beyond it.
    """
    source = random.Random(f"slow {per_second} {allowed} {part}")
    limits = Limits(latency=((SLOW_SECONDS, allowed),))
    settings = replace(CALM, limits=limits, latency_dispersion=1.0)
    share = settings.slow_ruled_out(allowed)
    proven = sum(
        _timely(source, settings, per_second * BAKE_SHARE, part * share, share) for _ in range(runs)
    )
    return Share(proven, runs)


def _timely(
    source: random.Random, settings: Settings, per_second: float, slow: float, share: float
) -> bool:
    evidence = weight_changed(start(settings), 0.0)
    for number in range(1, int(DEADLINE_SECONDS / SLOW_SCRAPE) + 1):
        requests = around(source, per_second * SLOW_SCRAPE)
        quick = requests - binomial(source, requests, slow)
        tally = Tally(requests=requests, buckets=((SLOW_SECONDS, quick), (math.inf, requests)))
        at = number * SLOW_SCRAPE
        interval = Interval(at=at, seconds=SLOW_SCRAPE, canary=tally, stable=tally)
        evidence = observe(evidence, settings, interval)
        if any(known.log_evidence(share) >= settings.log_proven for known in evidence.timely):
            return True
    return False


def _passes(settings: Settings, intervals: Iterable[Interval]) -> bool:
    evidence = weight_changed(start(settings), 0.0)
    gate = Gate(dwell_seconds=BAKE_SECONDS, proven=True)
    for interval in itertools.takewhile(lambda one: one.at <= DEADLINE_SECONDS, intervals):
        evidence = observe(evidence, settings, interval)
        found = judge(evidence, settings, interval.at, gate=gate)
        if found.outcome is not Outcome.HOLD:
            return found.outcome is Outcome.PASS
    return False


def climbs(per_second: float, canary_bad: float, runs: int) -> list[Climb]:
    """Ladders by the default budget, stable at 0.1 %."""
    source = random.Random(f"{per_second} {canary_bad}")
    traffic = Traffic(
        per_second=per_second,
        canary_bad=canary_bad,
        stable_bad=STABLE_BAD,
        scrape=SCRAPE,
        timed=True,
    )
    return [_climb(source, traffic) for _ in range(runs)]


def _climb(source: random.Random, traffic: Traffic) -> Climb:
    evidence, at, bad = start(CALM), 0.0, 0.0
    for gate, share in rungs():
        at += PODS_SECONDS + SETTLE_SECONDS
        # Every step has new pods among its own, which count as cold.
        evidence = weight_changed(evidence, at, warm_up_seconds=WARM_UP)
        step = replace(traffic, share=share)
        # Scrapes do not wait for the weight; the first whole interval begins somewhere in the next.
        at += SCRAPE * source.random()
        more = traffic.canary_bad - traffic.stable_bad
        bad += traffic.per_second * share * more * (SETTLE_SECONDS + SCRAPE / 2)
        evidence, at, served, passed = _rung(source, evidence, step, gate, at)
        bad += served
        if not passed:
            return Climb(promoted=False, seconds=at, bad=bad)
    return Climb(promoted=True, seconds=at, bad=bad)


def rungs() -> Iterator[tuple[Gate, float]]:
    """What each rung of the automatic ladder asks for, and its share."""
    shares = [step.weight_bp / WHOLE_BP for step in AUTO_STEPS]
    bake = AUTO_BAKE_BP / WHOLE_BP
    reaction = CALM.cap_scrapes * SCRAPE + SETTLE_SECONDS
    lasts = [2 * SCRAPE] * (len(shares) - 1) + [BAKE_SECONDS]
    for share, after, seconds in zip(shares, [*shares[1:], bake], lasts, strict=True):
        yield (
            Gate(
                dwell_seconds=2 * SCRAPE,
                budget=DEFAULT_BUDGET,
                next_share=after,
                next_seconds=seconds,
                reaction_seconds=reaction,
            ),
            share,
        )
    warm = 2 * SCRAPE
    yield Gate(dwell_seconds=BAKE_SECONDS, proven=True, warm_seconds=warm), bake


def _rung(
    source: random.Random, evidence: Evidence, step: Traffic, gate: Gate, at: float
) -> tuple[Evidence, float, float, bool]:
    """One weight until PASS or FAIL, or the deadline; with the bad answers it cost."""
    bad = 0.0
    for interval in step.intervals(source, int(DEADLINE_SECONDS / SCRAPE), at):
        evidence = observe(evidence, CALM, interval)
        at = interval.at
        bad += interval.canary.errors - interval.canary.requests * step.stable_bad
        found = judge(evidence, CALM, at, gate=gate)
        if found.outcome is not Outcome.HOLD:
            return evidence, at, bad, found.outcome is Outcome.PASS
    return evidence, at, bad, False
