# SPDX-License-Identifier: Apache-2.0
"""What is learnt of stable before a run: the past as the store thins it out, and the newest scrapes
as they are.
"""

import random
from collections.abc import Collection

from controller.adapters.clock import LoopClock
from controller.core.errors import MetricsUnavailable
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
        """Nobody answers about single scrapes."""
        raise MetricsUnavailable(f"nobody is there: {since_seconds} {keys}")

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


class Pods:
    """Three pods that are scraped every few seconds, whose past stands at every quarter of a
    minute.
    """

    def __init__(self, every: float | None) -> None:
        """`every` is how far scrapes are apart now; None: nobody knows."""
        self._every = every
        self._source = random.Random(11)
        rows: list[Series] = []
        for pod in range(3):
            good = bad = 0
            samples: tuple[list[Sample], list[Sample]] = ([], [])
            for number in range(481):
                good, bad = good + 150, bad + around(self._source, 0.3)
                for found, count in zip(samples, (good, bad), strict=True):
                    found.append(Sample(float(number * STEP), float(count)))
            rows += [
                Series((("code", code), ("pod", f"pod-{pod}")), tuple(found))
                for code, found in zip(("200", "500"), samples, strict=True)
            ]
        self._past = TrackSeries(requests=tuple(rows), errors=tuple(rows[1::2]), pod_label="pod")

    async def samples(self, since_seconds: float, keys: Collection[TrackKey]) -> Batch:
        """The newest scrapes."""
        if self._every is None:
            raise MetricsUnavailable("nobody is there")
        stamps = [number * self._every for number in range(int(since_seconds / self._every))]
        jitter = [stamp + self._source.uniform(-0.02, 0.02) for stamp in stamps]
        series = Series((("code", "200"),), tuple(Sample(at, at) for at in jitter))
        track = TrackSeries(requests=(series,))
        return Batch(evaluated_at=since_seconds, series=dict.fromkeys(keys, track))

    async def history(self, key: TrackKey, seconds: float) -> Batch:
        """See the class."""
        return Batch(evaluated_at=seconds, series={key: self._past})

    async def latency_history(self, key: TrackKey, seconds: float) -> Batch:
        """No histogram."""
        return Batch(evaluated_at=seconds, series={key: TrackSeries()})


def calibrated(every: float | None) -> Calibration:
    async def main() -> Calibration:
        feed = Feed(metrics=Pods(every), clock=LoopClock(), meters=Meters())
        return await feed.calibration([STABLE], lambda _: tenth(900.0))

    return clock.run(main())


def test_the_replay_knows_how_often_the_run_will_be_scraped() -> None:
    """By the newest scrapes, which jitter; the past is thinned out to a sample every 15 s."""
    unknown, same, slower, faster = (calibrated(every) for every in (None, 15.0, 30.0, 5.0))
    assert same == slower == unknown
    assert f"k = {same.cap_scrapes}: of 24 replays" in same.words
    assert f"k = {faster.cap_scrapes} scrapes of 5 s: of 24 replays" in faster.words
