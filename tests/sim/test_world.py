# SPDX-License-Identifier: Apache-2.0
"""The parts of the world that a real control plane cannot be compared with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller.sim import clock, manifests
from controller.sim.controllers.objects import condition
from controller.sim.traffic import Cause
from controller.sim.world import World


def run(body: Callable[[World], Coroutine[Any, Any, None]], **how: Any) -> None:
    async def main() -> None:
        async with World(**how) as world:
            await body(world)

    clock.run(main(), limit=7_200.0)


def _waiting(world: World) -> list[str]:
    return [
        (pod["status"]["containerStatuses"][0]["state"].get("waiting") or {}).get("reason", "")
        for pod in world.pods()
        if pod["status"].get("containerStatuses")
    ]


def test_the_usual_scene_serves() -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=3)
        assert (world.ready_pods("v1"), world.in_force("checkout")) == (3, {"checkout": 1})
        await asyncio.sleep(10)
        assert world.answered() == {"v1": 1_000}
        assert not world.failures

    run(body)


def test_the_same_seed_gives_the_same_world() -> None:
    seen: list[tuple[str, float, dict[str, int]]] = []

    async def body(world: World) -> None:
        await world.shop(env={"ERROR_RATE": 0.3})
        world.set_image("shop", "checkout", "r/app:v2")
        await world.settle()
        now = asyncio.get_running_loop().time()
        seen.append((str(world.store.version), now, dict(world.answered())))

    for seed in (1, 1, 2):
        run(body, seed=seed)
    assert seen[0] == seen[1] != seen[2]


def test_a_crash_loop_restarts_with_growing_pauses() -> None:
    async def body(world: World) -> None:
        await world.deploy("shop", "checkout", replicas=1, env={"CRASH": 1})
        await asyncio.sleep(60)
        (pod,) = world.pods()
        (status,) = pod["status"]["containerStatuses"]
        # At once, after 10 s, after 20 s; the fourth try waits for 40 s.
        assert status["restartCount"] == 3
        assert _waiting(world) == ["CrashLoopBackOff"]
        assert status["lastState"]["terminated"] == {
            "exitCode": 1,
            "reason": "Error",
            "startedAt": status["lastState"]["terminated"]["startedAt"],
            "finishedAt": status["lastState"]["terminated"]["finishedAt"],
        }
        assert world.ready_pods() == 0

    run(body)


def test_out_of_memory_is_told_apart() -> None:
    async def body(world: World) -> None:
        env = {"OOM": 1, "READY_SECONDS": 0.5, "CRASH_SECONDS": 5}
        await world.deploy("shop", "checkout", replicas=1, env=env)
        assert world.ready_pods() == 1
        await asyncio.sleep(8)
        (pod,) = world.pods()
        terminated = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
        assert (terminated["exitCode"], terminated["reason"]) == (137, "OOMKilled")

    run(body)


@pytest.mark.parametrize(
    ("env", "reason"), [({"IMAGE_PULL_ERROR": 1}, "ImagePullBackOff"), ({"NEVER_READY": 1}, "")]
)
def test_pods_that_never_start(env: dict[str, object], reason: str) -> None:
    async def body(world: World) -> None:
        await world.deploy("shop", "checkout", replicas=1, env=env)
        await asyncio.sleep(5)
        assert (world.ready_pods(), _waiting(world)) == (0, [reason])

    run(body)


def test_a_pod_without_room_stays_pending() -> None:
    async def body(world: World) -> None:
        await world.deploy("shop", "checkout", replicas=1, env={"PENDING": 1})
        (pod,) = world.pods()
        scheduled = condition(pod, "PodScheduled")
        assert pod["status"]["phase"] == "Pending"
        assert scheduled is not None
        assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")

    run(body)


def test_readiness_can_be_lost() -> None:
    async def body(world: World) -> None:
        await world.deploy("shop", "checkout", replicas=1, env={"UNREADY_AFTER": 5})
        assert world.ready_pods() == 1
        await asyncio.sleep(6)
        assert world.ready_pods() == 0
        await world.settle()
        status = world.get("deployments", "shop", "checkout")["status"]
        assert status["unavailableReplicas"] == 1

    run(body)


def test_a_quota_stops_pods_and_is_reported() -> None:
    async def body(world: World) -> None:
        world.create(manifests.quota("shop", "few", 3))
        world.create(manifests.deployment("shop", "checkout", replicas=5))
        await asyncio.sleep(5)
        assert len(world.pods()) == 3
        failure = condition(world.get("deployments", "shop", "checkout"), "ReplicaFailure")
        assert failure is not None
        assert failure["reason"] == "FailedCreate"
        assert "exceeded quota: few" in failure["message"]
        assert world.get("resourcequotas", "shop", "few")["status"]["used"] == {"pods": "3"}
        world.edit("resourcequotas", "shop", "few", lambda q: q["spec"]["hard"].update(pods="9"))
        await asyncio.sleep(30)
        assert world.ready_pods() == 5
        assert condition(world.get("deployments", "shop", "checkout"), "ReplicaFailure") is None

    run(body)


def test_controllers_that_were_down_catch_up() -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=2, rate=0)
        for controller in world.controllers:
            controller.suspend()
        world.set_image("shop", "checkout", "r/app:v2")
        await asyncio.sleep(30)
        assert world.ready_pods("v1") == 2
        for controller in world.controllers:
            controller.resume()
        await world.settle()
        assert (world.ready_pods("v1"), world.ready_pods("v2")) == (0, 2)

    run(body)


def test_mistakes_of_the_simulation_reach_the_test() -> None:
    async def body(world: World) -> None:
        world.cluster.blame(ZeroDivisionError("planted"))
        await world.settle()

    with pytest.raises(ZeroDivisionError, match="planted"):
        run(body)


def test_a_world_that_never_rests_is_named() -> None:
    async def body(world: World) -> None:
        await world.shop(rate=0)

        async def fidget() -> None:
            for at in range(10_000):
                world.annotate("shop", "checkout", {"n": str(at)})
                await asyncio.sleep(0.5)

        task = asyncio.get_running_loop().create_task(fidget())
        with pytest.raises(TimeoutError):
            await world.settle(within=30)
        task.cancel()

    run(body)


def _pod_counts(world: World) -> dict[str, float]:
    """Requests by pod, as the pods expose them now."""
    found: dict[str, float] = {}
    for labels, value in world.traffic.scrape():
        named = dict(labels)
        if named["__name__"] == "http_requests_total":
            found[named["pod"]] = found.get(named["pod"], 0.0) + value
    return found


def test_without_a_route_clients_spread_over_the_endpoints_and_the_pods_count() -> None:
    async def body(world: World) -> None:
        await world.shop(rate=90.0, replicas=3, route=False, env={"ERROR_RATE": 0.2})
        await asyncio.sleep(10)
        assert world.store.list("httproutes", "shop") == []
        counts = _pod_counts(world)
        assert set(counts) == {pod["metadata"]["name"] for pod in world.pods()}
        assert set(counts.values()) == {300.0}
        assert world.answered() == {"v1": 900}
        failed = sum(
            value
            for labels, value in world.traffic.scrape()
            if {("__name__", "http_requests_total"), ("code", "500")} <= set(labels)
        )
        said = sum(
            count
            for outcome, count in world.traffic.outcomes.items()
            if outcome.cause is Cause.APPLICATION
        )
        assert failed == said > 0

    run(body, pod_metrics=True)


def test_a_pod_that_dies_is_scraped_no_more_and_a_restarted_one_counts_from_zero() -> None:
    async def body(world: World) -> None:
        await world.shop(rate=100.0, replicas=2, route=False)
        await asyncio.sleep(10)
        before = _pod_counts(world)
        victim, other = sorted(before)
        world.delete("pods", "shop", victim)
        await world.settle()
        after = _pod_counts(world)
        assert victim not in after
        assert after[other] > before[other]
        (newcomer,) = set(after) - {other}
        assert after[newcomer] < before[victim]

    run(body, pod_metrics=True)

    async def crashing(world: World) -> None:
        await world.shop(rate=100.0, replicas=1, route=False, env={"CRASH": 1, "CRASH_SECONDS": 20})
        await asyncio.sleep(10)
        first = _pod_counts(world)
        assert first
        await world.until(
            lambda: 0 < sum(_pod_counts(world).values()) < sum(first.values()), within=60
        )
        assert set(_pod_counts(world)) == set(first)

    run(crashing, pod_metrics=True)


def test_pods_count_nothing_unless_asked_to() -> None:
    async def body(world: World) -> None:
        await world.shop(direct_rate=50.0)
        await asyncio.sleep(10)
        assert _pod_counts(world) == {}

    run(body)
