# SPDX-License-Identifier: Apache-2.0
"""Bad answers that clients get until a bad version is taken away: by us, and by the peers' rules.

And how often each takes a healthy one away, without which the first says nothing.

The same counts for all of them, scrape by scrape: 0.1 % errors on stable, independent errors, 15 s
scrapes, an hour at most. Ours is the judge with a history that shows no clustering.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controller.core.evidence.judge import Interval, Settings
from tests.bench.evidence.peers import PEERS, Peer
from tests.bench.evidence.table import Mean, Share, ratio
from tests.core.evidence.traffic import Traffic, noticed

OURS: Final = "Switchgear"
SETTINGS: Final = Settings(dispersion=1.0, cap_scrapes=2, dispersion_known=True)
SCRAPE: Final = 15.0
SCRAPES: Final = 240
PLACES: Final = tuple((volume, share) for volume in (100.0, 1000.0) for share in (0.05, 0.10))
"""(requests/s, share of the canary) that the goals are about."""

BESIDE: Final = ((10.0, 0.05), (10.0, 0.10))
"""Told as well: little traffic, where there is less to save."""

RATES: Final = (0.01, 0.05, 0.5)
HEALTHY: Final = tuple(
    (bad, *place)
    for bad in (0.001, 0.005)
    for place in ((10.0, 0.05), (100.0, 0.05), (1000.0, 0.10))
)
"""(errors of both versions, requests/s, share of the canary)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What one judge let through, on average.

    Attributes:
        bad: Failed answers of the canary.
        times: Of those so many times as many as by ours, on the same counts.
        seconds: Until it was taken away; the whole hour where it was not.
        caught: In which share of the runs it was.
    """

    bad: Mean
    times: Mean
    seconds: Mean
    caught: float


def compared(per_second: float, share: float, bad: float, runs: int) -> dict[str, Harm]:
    """All judges on the same traffic, by its own seed."""
    source = random.Random(f"{per_second} {share} {bad}")
    traffic = Traffic(
        per_second=per_second, share=share, canary_bad=bad, stable_bad=0.001, scrape=SCRAPE
    )
    seen: dict[str, list[tuple[float, float, bool]]] = {}
    for _ in range(runs):
        intervals = tuple(traffic.intervals(source, SCRAPES))
        _tell(seen, OURS, noticed(SETTINGS, intervals), intervals)
        for peer in PEERS:
            _tell(seen, peer.name, _by(peer, intervals), intervals)
    return {
        name: Harm(
            bad=Mean.of([one[0] for one in found]),
            times=ratio([one[0] for one in found], [one[0] for one in seen[OURS]]),
            seconds=Mean.of([one[1] for one in found]),
            caught=sum(one[2] for one in found) / runs,
        )
        for name, found in seen.items()
    }


def rolled_back(per_second: float, share: float, bad: float, runs: int) -> dict[str, Share]:
    """In how many hours each judge takes a version away that is as good as stable."""
    source = random.Random(f"healthy {per_second} {share} {bad}")
    traffic = Traffic(
        per_second=per_second, share=share, canary_bad=bad, stable_bad=bad, scrape=SCRAPE
    )
    hits = Counter[str]()
    for _ in range(runs):
        intervals = tuple(traffic.intervals(source, SCRAPES))
        hits[OURS] += noticed(SETTINGS, intervals) is not None
        for peer in PEERS:
            hits[peer.name] += _by(peer, intervals) is not None
    return {name: Share(found, runs) for name, found in hits.items()}


def _by(peer: Peer, intervals: Sequence[Interval]) -> float | None:
    counts = [(interval.canary.requests, interval.canary.errors) for interval in intervals]
    return peer.rolled_back(counts, SCRAPE)


def _tell(
    seen: dict[str, list[tuple[float, float, bool]]],
    name: str,
    after: float | None,
    intervals: Sequence[Interval],
) -> None:
    end = SCRAPES * SCRAPE if after is None else after
    # A scrape interval in which it ends counts as far as it had come.
    served = sum(
        interval.canary.errors * min((end - interval.at) / SCRAPE + 1, 1.0)
        for interval in intervals
        if interval.at < end + SCRAPE
    )
    seen.setdefault(name, []).append((served, end, after is not None))
