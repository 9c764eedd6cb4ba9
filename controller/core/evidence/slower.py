# SPDX-License-Identifier: Apache-2.0
"""How much larger the canary's share of slow answers is than stable's: an interval for people.

Latency is judged over all bounds of the histogram at once, which leaves no interval for any one of
them. Here is one that needs nothing but the counts of a window, and so costs the judge nothing. For
n answers of one track of which s were slow, p the mean of their chances to be slow, and a stake g::

    at most:   log e_g(p) = s log(1 - g) + n p g
    at least:  log e_g(p) = s log(1 + g) - n p g

E[e] <= 1 by 1 + x <= exp(x), answer by answer, whatever those chances are and however they drift:
n p is their sum, so that the exponents add up. Where the mean over all stakes refutes p it does so
wrongly with a small probability only, at all looks together (Ville). A difference has two tracks
and so half of that probability for each; it is for the caller to share it among the bounds as well,
where nobody knew beforehand which one would be looked at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controller.core.evidence import checks, gates, latency
from controller.core.evidence.checks import Check
from controller.core.evidence.eprocess import edge
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import Evidence
from controller.core.evidence.tally import INFINITE, Tally
from controller.core.evidence.tempering import tempered

UPPER: Final = (0.02, 0.06, 0.2, 0.45, 0.75, 0.95)
LOWER: Final = (0.02, 0.06, 0.2, 0.6, 2.0, 8.0)
"""Stakes: small ones where there are many slow answers, large ones where there are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slower:
    """Answers of one window that were slower than each bound that is watched.

    Attributes:
        told: The bound in seconds that the verdict is about, or else the one that tells most.
        bounds: All bounds that both tracks have, ascending, in seconds.
        canary: So many answers of the canary were slower, by bound.
        stable: The same of stable.
        timed: How many answers were timed, of the canary and of stable.
        phi: By how much answers slower than `told` come in bunches, at the window's volume.
    """

    told: float
    bounds: tuple[float, ...]
    canary: tuple[int, ...]
    stable: tuple[int, ...]
    timed: tuple[int, int]
    phi: float


def seen(
    evidence: Evidence, settings: Settings, check: str, canary: Tally, stable: Tally
) -> Slower | None:
    """What the histograms of a verdict say; None if there are none.

    Args:
        evidence: What the verdict was read from.
        settings: The settings of the run.
        check: Name of the deciding one.
        canary: The canary's counts as the verdict tells them.
        stable: Stable's.
    """
    known = {bound for bound, _ in stable.buckets}
    bounds = tuple(bound for bound, _ in canary.buckets if bound in known and bound < INFINITE)
    if not bounds:
        return None
    named, window = checks.checks(settings, evidence), evidence.window
    served = window.canary.requests + window.stable.requests
    worth = tempered(settings, served / window.seconds if window.seconds else 0.0)
    told = _told(evidence, named, check, bounds, (canary, stable))
    return Slower(
        told=told,
        bounds=bounds,
        canary=tuple(canary.slower_than(bound) or 0 for bound in bounds),
        stable=tuple(stable.slower_than(bound) or 0 for bound in bounds),
        timed=(canary.timed, stable.timed),
        phi=1 / worth.slower_than(told, settings),
    )


def _told(
    evidence: Evidence,
    named: Sequence[Check],
    check: str,
    bounds: tuple[float, ...],
    tracks: tuple[Tally, Tally],
) -> float:
    """The bound of the trip, or of the deciding limit or its proof; else the first limit's that is
    judged, unless it is all bounds together that decide; else the one that differs most.
    """
    trip = evidence.trip
    if trip is not None and trip.bound in bounds:
        return trip.bound
    limits = [limit for limit in named if limit.absolute and limit.timed]
    found = {limit.name: limit.bound for limit in limits}
    found |= {gates.proof_of(known): known.seconds for known in evidence.timely}
    if found.get(check) in bounds:
        return found[check]
    if limits and limits[0].bound in bounds and check != checks.Kind.LATENCY.value:
        return limits[0].bound
    cells = [latency.cells(track.buckets, (*bounds, INFINITE)) or () for track in tracks]
    return latency.worst((*bounds, INFINITE), cells[0], cells[1])[0]


def difference(
    canary: tuple[int, int], stable: tuple[int, int], *, eta: float, beta: float
) -> tuple[float, float]:
    """How much larger the canary's share is at least, and at most: -1..1.

    Args:
        canary: (slow, timed) of the canary.
        stable: The same of stable.
        eta: 1/phi, the tempering for slow answers in bunches.
        beta: Each end is wrong at any look with this probability at most.
    """
    half = beta / 2
    least = _least(*canary, eta, half) - _most(*stable, eta, half)
    return least, _most(*canary, eta, half) - _least(*stable, eta, half)


def ends(
    canary: tuple[int, int], stable: tuple[int, int], *, eta: float, beta: float
) -> tuple[float, float]:
    """The canary's share at least, and stable's at most. As `difference`."""
    return _least(*canary, eta, beta / 2), _most(*stable, eta, beta / 2)


def _most(slow: int, timed: int, eta: float, beta: float) -> float:
    """How large the share is at most."""
    if not timed:
        return 1.0
    sums = [eta * slow * math.log1p(-stake) for stake in UPPER]
    share = edge(sums, [eta * timed * stake for stake in UPPER], math.log(len(UPPER) / beta))
    return min(max(share, 0.0), 1.0)


def _least(slow: int, timed: int, eta: float, beta: float) -> float:
    """How large the share is at least."""
    if not timed:
        return 0.0
    sums = [eta * slow * math.log1p(stake) for stake in LOWER]
    share = edge(sums, [-eta * timed * stake for stake in LOWER], math.log(len(LOWER) / beta))
    return min(max(share, 0.0), 1.0)
