# SPDX-License-Identifier: Apache-2.0
"""How the store is asked for what is measured beside requests, by a store that takes its time."""

import asyncio
from collections.abc import Collection
from dataclasses import replace

from controller.adapters.clock import LoopClock
from controller.core.errors import MetricsUnavailable
from controller.core.evidence.calibration import UNKNOWN, watching
from controller.core.evidence.measures import Gauge
from controller.core.evidence.readings import READ_SECONDS
from controller.core.evidence.scraped import Jobs
from controller.core.evidence.series import PodsKey, TrackKey
from controller.core.lifecycle.memory import Memory, Moments, Run
from controller.core.policy.model import Traffic
from controller.core.values import TargetRef
from controller.engine.measurer import MOST_CHECKS, Measurer
from controller.engine.meters import Meters
from controller.ports.metrics import Levels, Measured
from controller.sim import clock

FILES = Gauge(name="open files", usual=0.1, floor=0.2)
CHECKS = tuple((f"check.orders-{n}", "sum(rate(orders_failed_total[1m])) < 1") for n in range(4))


class Store:
    """Answers what can run out at once, and checks after a while."""

    def __init__(self, slow: float) -> None:
        self.slow = slow
        self.now, self.most, self.levels = 0, 0, 0
        self.asked: list[object] = []
        self.refusing = False

    async def value(self, expression: str, keys: Collection[TrackKey]) -> Measured:
        self.asked.append((expression, keys))
        if self.refusing:
            raise MetricsUnavailable("many-to-many matching not allowed")
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.slow)
        self.now -= 1
        return Measured(at=asyncio.get_running_loop().time(), value=0.5)

    async def saturation(self, keys: Collection[PodsKey]) -> Levels:
        self.levels += bool(keys)
        stable = {
            key: {
                "pods": frozenset({f"{key.deployment}-{key.hash}-x2x4z"}),
                "sidecars": frozenset({f"{key.deployment}-{key.hash}-bbbbb"}),
            }
            for key in keys
            if key.hash
        }
        return Levels(evaluated_at=asyncio.get_running_loop().time(), pods=stable)

    async def saturation_past(self, key: PodsKey, seconds: float) -> tuple[Gauge, ...]:
        self.asked.append((key, seconds))
        return (FILES,)


def run_of(number: int, name: str = "checkout") -> Run:
    return Run(
        name=f"r{number}",
        target=TargetRef("shop", name),
        uid="u",
        stable_hash="5d9c7b6f48",
        stable_digest="old",
        digest="new",
        annotations=(("policy", "standard"), *CHECKS),
        calibration=watching(UNKNOWN, (FILES,)).to_json(),
    )


def test_slow_checks_are_few_at_a_time_and_hold_up_nothing_that_runs_out() -> None:
    async def story() -> None:
        store = Store(slow=5.0)
        measurer = Measurer(metrics=store, clock=LoopClock(), meters=Meters())
        runs = [run_of(number) for number in range(20)]
        for run in runs:
            measurer.follow(Memory(run=run, moments=Moments(entered=0.0)))
        tasks = [
            asyncio.ensure_future(work()) for work in (measurer.run_gauges, measurer.run_checks)
        ]
        await asyncio.sleep(101.0)
        assert store.most == MOST_CHECKS
        assert store.levels == 7
        # All 80 checks of both tracks took 100 s, and every run has had its turn.
        assert len(store.asked) == 160
        for run in runs:
            values = [value for found in measurer.readings(run) for value in found.values]
            assert len({value.name for value in values}) == 5
        for task in tasks:
            task.cancel()

    clock.run(story())


def test_what_runs_out_is_not_waited_for_where_no_pod_of_the_canary_can_be_told() -> None:
    """Behind a gateway a Deployment's name may be longer than its pods' names can show."""

    async def story() -> None:
        measurer = Measurer(metrics=Store(slow=0.0), clock=LoopClock(), meters=Meters())
        assert await measurer.past(run_of(0)) == (FILES,)
        assert await measurer.past(run_of(1, "c" * 40)) == ()
        assert await measurer.past(run_of(2, "c" * 39)) == (FILES,)

    clock.run(story())


def test_who_is_scraped_is_asked_for_a_run_that_pods_judge_and_for_no_other() -> None:
    """Nothing that runs out is watched in either."""

    async def story() -> None:
        store, jobs = Store(slow=0.0), Jobs(stable=frozenset({"pods"}))
        measurer = Measurer(metrics=store, clock=LoopClock(), meters=Meters())
        gateway = replace(run_of(0), calibration=None)
        pods = replace(gateway, name="r1", traffic=Traffic.REPLICAS)
        measurer.follow(Memory(run=gateway, moments=Moments(entered=0.0)))
        task = asyncio.ensure_future(measurer.run_gauges())
        await asyncio.sleep(READ_SECONDS * 2)
        assert store.levels == 0
        measurer.follow(Memory(run=pods, moments=Moments(entered=0.0)))
        assert measurer.scraped(pods, jobs) is None
        await asyncio.sleep(READ_SECONDS)
        task.cancel()
        known = measurer.scraped(pods, jobs)
        assert known is not None
        assert known.stable == {"checkout-5d9c7b6f48-x2x4z"}
        anybody = measurer.scraped(pods, Jobs())
        assert anybody is not None
        assert len(anybody.stable) == 2
        assert measurer.scraped(gateway, jobs) is None
        assert measurer.scraped(None, jobs) is None

    clock.run(story())


def test_a_query_that_a_team_wrote_badly_is_no_silence_of_the_store() -> None:
    """An alert waits for that, and wakes people."""

    async def story() -> None:
        store, meters = Store(slow=0.0), Meters()
        store.refusing = True
        measurer = Measurer(metrics=store, clock=LoopClock(), meters=meters)
        measurer.follow(Memory(run=run_of(0), moments=Moments(entered=0.0)))
        task = asyncio.ensure_future(measurer.run_checks())
        await asyncio.sleep(60.0)
        task.cancel()
        assert store.asked
        assert b"switchgear_metrics_failures_total 0.0" in meters.text()

    clock.run(story())
