# SPDX-License-Identifier: Apache-2.0
"""What the judge is told before a run and must not change while the run lasts.

The promise (at most `alpha` false rollbacks per run) holds because everything here is fixed before
the first count arrives; a setting tuned on the data that it judges would void it.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controller.core.evidence.measures import GAUGE_SECONDS, Assertion, Gauge
from controller.core.values import HashedOnce

SATURATION: Final = "saturation"
"""Name of the check on all gauges together."""

MOST_LATENCY_LIMITS: Final = 3
"""More would not keep the accumulators within 4 KB."""

OLD_SCRAPES: Final = 3
"""Data older than so many scrape intervals (and 15 s) are no data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Absolute limits, the ones that hold whatever the stable version does.

    Attributes:
        max_error_rate: Largest share of failed requests, 0..1, None for no limit.
        latency: Pairs of (seconds, share of requests that may be slower). "p99 below 300 ms" is
            (0.3, 0.01).
    """

    max_error_rate: float | None = None
    latency: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            ValueError: A share outside 0..1, a bound that is no positive time, too many limits.
        """
        shares = [share for _, share in self.latency]
        if self.max_error_rate is not None:
            shares.append(self.max_error_rate)
        if any(not 0 <= share < 1 for share in shares):
            raise ValueError("a limit is a share of requests from 0 to below 1")
        if any(not 0 < bound < math.inf for bound, _ in self.latency):
            raise ValueError("a latency limit needs a positive time in seconds")
        if len(self.latency) > MOST_LATENCY_LIMITS:
            raise ValueError(f"at most {MOST_LATENCY_LIMITS} latency limits")


@dataclass(frozen=True, kw_only=True)
class Settings(HashedOnce):
    """How strict the judge is. The defaults are those of the simulations in tests/bench.

    What follows from them is found once, since every look of a run asks for it.

    Attributes:
        alpha: Largest probability of a false rollback in one run, over all checks and looks.
        tolerance: How much worse than stable is still the same (r0 in the formulas).
        latency_tolerance: How much larger the share of answers slower than any bound may be; it is
            smaller, since everything that takes 1.25 times as long is a regression that hurts.
        margin: Extra share of failed requests that is forgiven on top of it.
        dispersion: phi, by how much errors cluster beyond chance; evidence is divided by it.
        cap_scrapes: k, the least number of scrapes it takes to roll back by the composite. A whole
            one in a run; in a replay an interval may stand for several scrapes of the run.
        past_doubt: Why no setting is careful enough for stable's own past; empty: this one is.
        dispersion_known: Whether phi was measured on history or is the cautious default.
        latency_dispersion: The same as phi for slow answers.
        far_dispersion: The same for answers slower than `far_bound`, where it is larger.
        far_bound: A bucket bound in seconds; infinite: slow answers are all alike.
        volume: Requests per second that stable answered when phi was measured; 0: unknown. Where
            noise moves whole shares, phi - 1 grows with the requests.
        past_rate: Share of failed answers that stable had then; 0: unknown.
        usual_rate: The same, also where nothing more is known of them; None: too few answers.
        past: Stable's histogram before the run: (upper bound in seconds, requests not slower),
            bounds ascending; empty: learnt from the first intervals.
        beta: Largest probability that a version worse by more than `safe_margin` is promoted.
        safe_margin: Extra share of failed requests that a promotion must have ruled out.
        slow_margin: The same of slow answers, beyond the share that a latency limit allows; half of
            that share where it is more.
        min_requests: Canary requests that a step must have seen at its weight.
        min_stable_requests: The same for stable, of which there are few during a bake at 95/5.
        limits: Absolute limits.
        assertions: What the team measures itself and what must hold of it.
        gauges: What can run out, and how far stable used it before the run.
        max_age_seconds: Older data are no data.
        cold_tolerance: How many times the tolerance is as large while the canary's pods are cold.
        longest_interval_seconds: What one interval counts at most toward the dwell.
        restart_rate: rho, the share of the reserve that is bet anew at each interval, so that a
            regression that starts late is found as well; see `restart_rate`.
        fast_evidence: Evidence needed for the fast trip.
        fast_error_rate: Least share of failed canary requests for the fast trip.
        fast_ratio: Least ratio to stable's share for the fast trip.
    """

    alpha: float = 0.01
    tolerance: float = 1.25
    latency_tolerance: float = 1.1
    margin: float = 0.0
    dispersion: float = 3.0
    cap_scrapes: float = 3
    past_doubt: str = ""
    dispersion_known: bool = False
    latency_dispersion: float = 3.0
    far_dispersion: float = 1.0
    far_bound: float = math.inf
    volume: float = 0.0
    past_rate: float = 0.0
    usual_rate: float | None = None
    past: tuple[tuple[float, int], ...] = ()
    beta: float = 0.05
    safe_margin: float = 0.005
    slow_margin: float = 0.005
    min_requests: int = 100
    min_stable_requests: int = 20
    limits: Limits = Limits()
    assertions: tuple[Assertion, ...] = ()
    gauges: tuple[Gauge, ...] = ()
    max_age_seconds: float = 15.0
    cold_tolerance: float = 5.0
    longest_interval_seconds: float = 60.0
    restart_rate: float = 1 / 256
    fast_evidence: float = 1e6
    fast_error_rate: float = 0.10
    fast_ratio: float = 5.0

    __hash__ = HashedOnce.__hash__

    def __post_init__(self) -> None:
        """Refuse what would make the formulas meaningless.

        Raises:
            ValueError: Naming the first setting that is out of its range.
        """
        ranges = (
            ("alpha", 0 < self.alpha < 1),
            ("tolerance", 1 <= self.tolerance < math.inf),
            ("latency_tolerance", 1 <= self.latency_tolerance < math.inf),
            ("margin", 0 <= self.margin < 1),
            ("dispersion", 1 <= self.dispersion < math.inf),
            ("latency_dispersion", 1 <= self.latency_dispersion < math.inf),
            ("far_dispersion", 1 <= self.far_dispersion < math.inf),
            ("far_bound", self.far_bound > 0),
            ("volume", 0 <= self.volume < math.inf),
            ("past_rate", 0 <= self.past_rate <= 1),
            ("beta", 0 < self.beta < 1),
            ("safe_margin", 0 < self.safe_margin < 1),
            ("slow_margin", 0 < self.slow_margin < 1),
            ("cold_tolerance", 1 <= self.cold_tolerance < math.inf),
            ("cap_scrapes", self.cap_scrapes >= 1),
            ("min_requests", self.min_requests >= 1),
            ("min_stable_requests", self.min_stable_requests >= 0),
            ("restart_rate", 0 < self.restart_rate < 1),
        )
        for name, fits in ranges:
            if not fits:
                raise ValueError(f"{name} is out of its range")

    def slow_ruled_out(self, allowed: float) -> float:
        """The share of slow answers that a promotion must have ruled out, where so many may be.

        Beyond what is allowed, since a version just within its limit could be told from one just
        beyond it after days only.
        """
        return min(allowed + max(allowed / 2, self.slow_margin), (1 + allowed) / 2)

    @functools.cached_property
    def log_needed(self) -> float:
        """Natural logarithm of the evidence that means rollback: 1/alpha."""
        return -math.log(self.alpha)

    @functools.cached_property
    def log_cap(self) -> float:
        """How much the composite may grow in one scrape, as a natural logarithm."""
        return self.log_needed / self.cap_scrapes

    @functools.cached_property
    def log_proven(self) -> float:
        """Natural logarithm of the evidence that proves a canary good enough: 1/beta."""
        return -math.log(self.beta)

    @functools.cached_property
    def log_doubt(self) -> float:
        """Evidence from which on nothing passes any more: 1/sqrt(alpha)."""
        return self.log_needed / 2

    @functools.cached_property
    def log_fast(self) -> float:
        """Natural logarithm of the evidence that the fast trip needs."""
        return math.log(self.fast_evidence)

    @functools.cached_property
    def slow_margins(self) -> tuple[float, ...]:
        """The share of slow answers that must be ruled out, for each latency limit."""
        return tuple(self.slow_ruled_out(allowed) for _, allowed in self.limits.latency)

    @functools.cached_property
    def places(self) -> Mapping[str, int]:
        """Where each assertion, and then each gauge, stands among what is noted, by its name."""
        names = [item.title for item in self.assertions] + [item.name for item in self.gauges]
        return {name: place for place, name in enumerate(names)}

    @functools.cached_property
    def spans(self) -> tuple[float, ...]:
        """Seconds that one trial of each assertion is about, and then of all gauges."""
        gauged = (GAUGE_SECONDS,) if self.gauges else ()
        return (*(item.window_seconds for item in self.assertions), *gauged)


def oldest(scrape_seconds: float) -> float:
    """So old data may be, in seconds; older ones are none."""
    return max(15.0, OLD_SCRAPES * scrape_seconds)


def restart_rate(planned_intervals: int) -> float:
    """The restart rate that suits a run of this many intervals (source: the specification, 1.3)."""
    return min(max(2 / max(planned_intervals, 1), 1 / 1024), 1 / 64)
