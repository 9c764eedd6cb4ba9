# SPDX-License-Identifier: Apache-2.0
"""What one count is worth: 1/phi, and phi at another volume than it was measured at."""

from typing import Final, NamedTuple

from controller.core.evidence.settings import Settings

MOST_WORSE: Final = 4.0
"""A version with so many times stable's errors is found out by the checks before it is proven."""


class Tempered(NamedTuple):
    """1/phi for errors, slow answers, those far out, and the proof before a promotion."""

    errors: float
    latency: float
    far: float
    proof: float

    def slower_than(self, bound: float, settings: Settings) -> float:
        """1/phi for answers slower than a bound."""
        return self.far if bound >= settings.far_bound else self.latency


def tempered(settings: Settings, per_second: float) -> Tempered:
    """1/phi at so many requests per second of both tracks together.

    Noise that moves whole shares, as a bad minute of one pod does, makes the counts' variance grow
    with their square: phi = 1 + kappa n (specification, 1.5), so that busier times than the past
    had count for less. With fewer requests it is left as measured, since clustered errors do not
    thin out. The proof is about a version that errs more often than stable did, by the margin, so
    that there phi grows with the errors as well.
    """
    busier = max(per_second / settings.volume, 1.0) if settings.volume else 1.0
    worse = 1.0
    if settings.past_rate:
        worse = min(1 + settings.safe_margin / settings.past_rate, MOST_WORSE)
    return Tempered(
        errors=1 / (1 + (settings.dispersion - 1) * busier),
        latency=1 / (1 + (settings.latency_dispersion - 1) * busier),
        far=1 / (1 + (max(settings.far_dispersion, settings.latency_dispersion) - 1) * busier),
        proof=1 / (1 + (settings.dispersion - 1) * busier * worse),
    )
