# SPDX-License-Identifier: Apache-2.0
"""False rollbacks by latency alone, and by everything that a policy can ask for at once.

The ladder and the looks are those of the errors' table. Nothing is better than it must be: limits
lie where both versions are, and checks and gauges of the canary alone are on the wrong side as
often as is assumed of a healthy one.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from controller.adapters.prometheus.saturation import Saturation
from controller.core.evidence.judge import (
    Interval,
    Limits,
    Settings,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.measures import (
    ASSUMED,
    GAUGE_SECONDS,
    Assertion,
    Comparison,
    Gauge,
    Reading,
    Value,
)
from controller.core.evidence.readings import read
from controller.core.policy.promql import MAX_CHECKS
from tests.bench.evidence import latencies
from tests.bench.evidence.false_rollbacks import LOOKS, VOLUMES
from tests.bench.evidence.latencies import BOUNDS, SCRAPE, USUAL, Shape
from tests.bench.evidence.table import Share
from tests.core.evidence.traffic import LADDER

BAD: Final = 0.005
LOOKS_PER_READING: Final = round(GAUGE_SECONDS / SCRAPE)

ASSERTIONS: Final = tuple(
    Assertion(
        name=f"check-{number}",
        comparison=Comparison.BELOW,
        limit=0.5,
        window_seconds=GAUGE_SECONDS,
    )
    for number in range(MAX_CHECKS)
)
GAUGES: Final = tuple(Gauge(name=item.name, usual=0.4, floor=0.1) for item in Saturation().items)
SLOW: Final = {bound: 1 - within for bound, within in zip(BOUNDS, accumulate(USUAL), strict=True)}
"""Share of the answers that are slower than each bound."""

LIMITS: Final = Limits(
    max_error_rate=BAD, latency=tuple((bound, SLOW[bound]) for bound in (0.1, 0.25, 0.5))
)


def told() -> str:
    """What everything is."""
    return (
        f"Everything: a limit for errors, {len(LIMITS.latency)} for latency, "
        f"{len(ASSERTIONS)} checks and {len(GAUGES)} gauges."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What a version is like.

    Attributes:
        bad: Share of failed answers.
        shape: How long they take.
        failing: In which share of the minutes each check of the canary fails, and in which any of
            its gauges is too high; those of stable never are.
    """

    bad: float = BAD
    shape: Shape = USUAL
    failing: float = ASSUMED


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One configuration.

    Attributes:
        settings: Of the run, but for stable's past.
        bare: Whether the latency process alone decides, without the others' part of the stake.
        past: Whether an hour of stable's past is known.
    """

    settings: Settings
    bare: bool = False
    past: bool = True


STRICT: Final = Settings(
    tolerance=1.0, latency_tolerance=1.0, dispersion=1.0, latency_dispersion=1.0, cap_scrapes=1
)
DEFAULT: Final = Settings(
    dispersion=1.0, latency_dispersion=1.0, cap_scrapes=2, dispersion_known=True
)


def everything(settings: Settings) -> Settings:
    """The same with all that a policy can ask for."""
    return replace(settings, limits=LIMITS, assertions=ASSERTIONS, gauges=GAUGES)


CONFIGURATIONS: Final = {
    "latency alone, strict": Asked(settings=STRICT, bare=True),
    "latency alone, default": Asked(settings=DEFAULT),
    "latency alone, no history": Asked(settings=Settings(), past=False),
    "everything, strict": Asked(settings=everything(STRICT)),
    "everything, default": Asked(settings=everything(DEFAULT)),
    "everything, no history": Asked(settings=everything(Settings()), past=False),
}


def cells(name: str, runs: int) -> Iterator[tuple[float, Share]]:
    """(requests/s, runs rolled back), every cell with its own seed."""
    asked = CONFIGURATIONS[name]
    # Where latency is alone there is no error that could speak for or against the canary.
    version = Version(bad=BAD if asked.settings.assertions else 0.0)
    for volume in VOLUMES:
        source = random.Random(f"{name} {volume}")
        lost = sum(rolled_back(source, asked, volume, version, version) for _ in range(runs))
        yield volume, Share(lost, runs)


def rolled_back(
    source: random.Random, asked: Asked, per_second: float, canary: Version, stable: Version
) -> bool:
    """Whether the ladder is; with a past of its own."""
    settings = asked.settings
    if asked.past:
        settings = replace(settings, past=latencies.past(source, per_second))
    evidence, at = start(settings), 0.0
    for share in LADDER:
        evidence = weight_changed(evidence, at)
        served = (per_second * share, per_second * (1 - share))
        for look in range(1, LOOKS + 1):
            at += SCRAPE
            seen = interval(source, at, served, canary, stable)
            evidence = observe(evidence, settings, seen)
            if look % LOOKS_PER_READING == 0:
                for reading in readings(source, settings, at, canary):
                    evidence = read(evidence, settings, reading)
            if latencies.proven(evidence, settings) if asked.bare else evidence.trip is not None:
                return True
    return False


def interval(
    source: random.Random, at: float, served: tuple[float, float], canary: Version, stable: Version
) -> Interval:
    """One scrape interval that ends at `at`, with so many requests/s on canary and stable."""
    tallies = [
        latencies.tally(source, per_second * SCRAPE, version.shape, version.bad)
        for per_second, version in zip(served, (canary, stable), strict=True)
    ]
    return Interval(at=at, seconds=SCRAPE, canary=tallies[0], stable=tallies[1])


def readings(
    source: random.Random, settings: Settings, at: float, canary: Version
) -> Iterator[Reading]:
    """What is measured beside requests in the minute before `at`, if anything is asked for."""
    for assertion in settings.assertions:
        failed = source.random() < canary.failing
        yield Reading(at=at, values=(_value(source, assertion.title, high=failed),))
    if settings.gauges:
        worst = source.choice(settings.gauges) if source.random() < canary.failing else None
        values = (_value(source, one.name, high=one is worst) for one in settings.gauges)
        yield Reading(at=at, values=tuple(values))


def _value(source: random.Random, name: str, *, high: bool) -> Value:
    """One that is on the wrong side of every bound here, or on the right one; with many digits."""
    usual = (source.uniform(0.2, 0.3), source.uniform(0.2, 0.3))
    return Value(name=name, canary=usual[0] + high, stable=usual[1])
