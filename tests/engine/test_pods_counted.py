# SPDX-License-Identifier: Apache-2.0
"""The feed by the pods' own counters, held against what the clients of the world have seen.

Both versions stand behind one Service, or the Deployment rolls under traffic: no route, no run of
the product, only the feed, the real client and a store that scrapes pods.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from controller.adapters.clock import LoopClock
from controller.adapters.prometheus import providers
from controller.adapters.prometheus.client import Prometheus
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import start
from controller.core.evidence.tally import Interval
from controller.core.lifecycle.memory import Memory, Moments, Run
from controller.core.policy.model import Traffic
from controller.core.values import TargetRef
from controller.engine.feed import Feed
from controller.engine.meters import Meters
from controller.sim import clock, manifests
from controller.sim.traffic import Cause
from controller.sim.world import World
from tests.support.simprom import SimPrometheus

NEW = {"ERROR_RATE": "0.1"}
SCRAPE = 1.0


def hash_of(world: World, version: str) -> str:
    """The pod-template-hash of the pods of a version of the user's Deployment."""
    found = {
        pod["metadata"]["labels"]["pod-template-hash"]
        for pod in world.pods(version=version)
        if not pod["metadata"]["name"].startswith("checkout-canary")
    }
    (only,) = found
    return str(only)


@dataclass
class Watch:
    """A feed that follows one run of the world, and what it has handed out."""

    world: World
    metrics: Prometheus
    run: Run

    def __post_init__(self) -> None:
        self.feed = Feed(metrics=self.metrics, clock=LoopClock(), meters=Meters())
        self.intervals: list[Interval] = []
        self._seen: Counter[tuple[str, bool]] = Counter()

    def restart(self) -> None:
        """A new process: all it has is the evidence that was made durable."""
        last = self.intervals[-1].at if self.intervals else 0.0
        evidence = structs.replace(start(Settings()), last_at=last)
        self.feed = Feed(metrics=self.metrics, clock=LoopClock(), meters=Meters())
        self.feed.follow(Memory(run=self.run, moments=Moments(entered=0.0), evidence=evidence))

    def follow(self, **changes: Any) -> None:
        self.run = replace(self.run, **changes)
        self.feed.follow(Memory(run=self.run, moments=Moments(entered=0.0)))

    async def opened(self) -> None:
        """The first look finds its place; what the world answers counts from its scrape on."""
        self.world.prometheus.scrape()
        await self.feed.look()
        self.feed.reading(self.run)
        self._seen = self._outcomes()

    async def seconds(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(1.0)
            await self.feed.look()
            self.intervals += self.feed.reading(self.run).intervals

    async def caught_up(self) -> None:
        """Nobody calls any more, and the last answers are scraped."""
        self.world.traffic.direct(("shop", "checkout"), 0.0)
        await self.seconds(4)

    def counted(self, track: str) -> tuple[int, int]:
        tallies = [getattr(interval, track) for interval in self.intervals]
        return sum(one.requests for one in tallies), sum(one.errors for one in tallies)

    def answered(self, *versions: str) -> tuple[int, int]:
        """Requests and errors of these versions since the feed was opened, as clients saw them."""
        now = self._outcomes()
        now.subtract(self._seen)
        bad = sum(now[version, True] for version in versions)
        return bad + sum(now[version, False] for version in versions), bad

    def _outcomes(self) -> Counter[tuple[str, bool]]:
        self.world.traffic.advance()
        found: Counter[tuple[str, bool]] = Counter()
        for outcome, count in self.world.traffic.outcomes.items():
            found[outcome.version, outcome.cause is Cause.APPLICATION] += count
        return found


def watched(body: Callable[[Watch], Coroutine[Any, Any, None]], *, replicas: int = 4) -> None:
    async def main() -> None:
        async with World(seed=3, scrape_interval=SCRAPE, pod_metrics=True) as world:
            await world.shop(rate=200.0, replicas=replicas, route=False, env={"ERROR_RATE": "0.02"})
            await asyncio.sleep(10)
            metrics = Prometheus(
                "http://prometheus",
                providers.choose(["traefik", "application"]),
                now=world.wall.timestamp,
                transport=SimPrometheus(world.prometheus),
            )
            watch = Watch(
                world=world,
                metrics=metrics,
                run=Run(
                    name="r1",
                    target=TargetRef("shop", "checkout"),
                    uid="u",
                    stable_hash=hash_of(world, "v1"),
                    stable_digest="old",
                    digest="new",
                    traffic=Traffic.REPLICAS,
                ),
            )
            watch.follow()
            await watch.opened()
            await body(watch)
            await metrics.close()

    clock.run(main(), limit=7_200.0)


def add_canary(world: World, replicas: int) -> None:
    """Canary pods behind the user's own Service."""
    labels = {"app": "checkout", "switchgear.dev/track": "canary"}
    world.create(
        manifests.deployment(
            "shop",
            "checkout-canary",
            labels=labels,
            selector={"matchLabels": labels},
            replicas=replicas,
            image="registry.example/app:v2",
            env=NEW,
        )
    )


def test_canaries_behind_the_same_service_are_told_from_stable() -> None:
    async def body(watch: Watch) -> None:
        await watch.seconds(3)
        add_canary(watch.world, 1)
        await watch.seconds(20)
        watch.world.scale("shop", "checkout-canary", 3)
        await watch.seconds(20)
        await watch.caught_up()
        assert watch.counted("canary") == watch.answered("v2")
        assert watch.counted("stable") == watch.answered("v1")
        requests, errors = watch.counted("canary")
        assert requests > 1_500
        assert errors > 100

    watched(body)


@pytest.mark.slow
def test_a_native_roll_under_traffic_loses_only_the_last_answers_of_the_dead() -> None:
    async def body(watch: Watch) -> None:
        world = watch.world
        add_canary(world, 1)
        await watch.seconds(10)
        world.set_image("shop", "checkout", "registry.example/app:v2", NEW)
        # The run learns of the new hash some scrapes after its first pods have answered.
        await watch.seconds(4)
        watch.follow(new_hash=hash_of(world, "v2"))
        await watch.seconds(40)
        assert world.ready_pods("v2") == 5
        await watch.caught_up()
        assert watch.counted("canary") == watch.answered("v2")
        counted, seen = watch.counted("stable"), watch.answered("v1")
        # Four pods died; each had at most one scrape interval and its stopping time uncounted.
        most = 4 * 200 // 4 * (SCRAPE + 0.5)
        assert seen[0] - most <= counted[0] <= seen[0]
        assert counted[1] <= seen[1]

    watched(body)


@pytest.mark.slow
def test_pods_of_stable_that_are_added_in_mid_run_bring_no_past() -> None:
    async def body(watch: Watch) -> None:
        add_canary(watch.world, 1)
        await watch.seconds(5)
        watch.world.scale("shop", "checkout", 8)
        await watch.seconds(20)
        await watch.caught_up()
        assert watch.counted("canary") == watch.answered("v2")
        counted, seen = watch.counted("stable"), watch.answered("v1")
        # What each of the four answered before its first scrape is nobody's.
        most = 4 * 200 // 5 * SCRAPE
        assert seen[0] - most <= counted[0] <= seen[0]
        assert counted[1] <= seen[1]

    watched(body)


def test_the_tail_after_a_restart_of_the_controller_is_counted_once() -> None:
    """The evidence of the old process ends at a scrape; the new one counts what came after it."""

    async def body(watch: Watch) -> None:
        add_canary(watch.world, 2)
        await watch.seconds(15)
        before = len(watch.intervals)
        last = watch.intervals[-1].at
        watch.restart()
        await asyncio.sleep(10.0)
        await watch.seconds(10)
        await watch.caught_up()
        assert watch.intervals[before].begins == last
        assert watch.counted("canary") == watch.answered("v2")
        assert watch.counted("stable") == watch.answered("v1")

    watched(body)


def test_a_run_that_no_chosen_provider_can_count_is_told_once() -> None:
    async def body(watch: Watch) -> None:
        blind = Prometheus(
            "http://prometheus",
            providers.choose(["traefik"]),
            now=watch.world.wall.timestamp,
            transport=SimPrometheus(watch.world.prometheus),
        )
        watch.metrics = blind
        watch.restart()
        with capture_logs() as logs:
            await watch.seconds(5)
        told = [entry["what"] for entry in logs if entry["event"] == "metrics are odd"]
        assert len(told) == 2
        assert any("pods of shop/checkout-canary-*" in what for what in told)
        assert watch.intervals == []
        await blind.close()

    watched(body)
