# SPDX-License-Identifier: Apache-2.0
"""What is learnt of stable before a run, from the past that the store thins out."""

import random
from collections.abc import Collection

from controller.adapters.clock import LoopClock
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.replay import Planned
from controller.core.evidence.series import Sample, Series, ServiceKey, TrackKey, TrackSeries
from controller.engine.feed import Feed
from controller.engine.meters import Meters
from controller.ports.metrics import Batch
from controller.sim import clock
from tests.core.evidence.traffic import around, tenth

STABLE = ServiceKey("shop", "checkout")
STEP = 15


class Thinned:
    """A gateway that is scraped every so many seconds, with errors in bursts of 50."""

    def __init__(self, every: int) -> None:
        """Six hours of it, a sample every quarter of a minute."""
        source, good, bad = random.Random(every), 0, 0
        samples: list[tuple[Sample, Sample]] = []
        for at in range(0, 6 * 3600, STEP):
            if at % every == 0:
                good += around(source, 100.0 * every)
                bad += 50 * around(source, 0.02 * every)
            samples.append((Sample(float(at), float(good)), Sample(float(at), float(bad))))
        named = (("code", "200"),), (("code", "500"),)
        rows = [
            Series(labels, found)
            for labels, found in zip(named, zip(*samples, strict=True), strict=True)
        ]
        self._track = TrackSeries(requests=tuple(rows), errors=(rows[1],))

    async def samples(self, since_seconds: float, keys: Collection[TrackKey]) -> Batch:
        """Nobody asks."""
        raise AssertionError(f"{since_seconds} {keys}")

    async def history(self, key: TrackKey, seconds: float) -> Batch:
        """See the class."""
        assert seconds == 6 * 3600
        return Batch(evaluated_at=seconds, series={key: self._track})

    async def latency_history(self, key: TrackKey, seconds: float) -> Batch:
        """No histogram."""
        return Batch(evaluated_at=seconds, series={key: TrackSeries()})


def learnt(every: int) -> tuple[Calibration, list[float]]:
    gaps: list[float] = []

    def planned(gap: float) -> Planned:
        gaps.append(gap)
        return tenth(600.0)

    async def main() -> Calibration:
        feed = Feed(metrics=Thinned(every), clock=LoopClock(), meters=Meters())
        return await feed.calibration([STABLE], planned)

    return clock.run(main()), gaps


def test_bursts_show_however_far_scrapes_are_apart() -> None:
    for every in (15, 30, 60):
        found, gaps = learnt(every)
        assert gaps == [every]
        assert 40 <= found.phi <= 70
        assert 90 <= found.volume <= 110
