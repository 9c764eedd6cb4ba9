# SPDX-License-Identifier: Apache-2.0
"""The gateway says yes early and acts late, and traffic goes where it acts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller.sim import clock, manifests
from controller.sim.counters import Era
from controller.sim.traffic import Cause
from controller.sim.world import World

CANARY = {"checkout": 9, "checkout-canary": 1}


def run(body: Callable[[World], Coroutine[Any, Any, None]], **how: Any) -> None:
    async def main() -> None:
        async with World(**how) as world:
            await body(world)

    clock.run(main(), limit=7_200.0)


def _weigh(world: World, weights: dict[str, int]) -> None:
    wanted = manifests.route("shop", "checkout", backends=weights)["spec"]
    world.edit("httproutes", "shop", "checkout", lambda found: found.update(spec=wanted))


async def _canary(world: World, **env: object) -> None:
    """A second version behind a Service of its own, without any weight yet."""
    labels = {"track": "canary"}
    made = manifests.deployment(
        "shop", "checkout-canary", replicas=1, image="r/app:v2", env=env, labels=labels
    )
    made["spec"]["selector"]["matchLabels"] |= labels
    world.create(made)
    world.create(manifests.service("shop", "checkout-canary", selector={"track": "canary"}))
    await world.settle()


def test_acceptance_moves_the_version_before_the_weight_is_in_force() -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=1)
        await _canary(world)
        before = world.get("httproutes", "shop", "checkout")["metadata"]
        _weigh(world, CANARY)
        written = world.get("httproutes", "shop", "checkout")["metadata"]["resourceVersion"]

        def accepted() -> bool:
            found = world.get("httproutes", "shop", "checkout")
            (parent,) = found["status"]["parents"]
            first = parent["conditions"][0]
            return bool(first["observedGeneration"] == before["generation"] + 1)

        took = await world.until(accepted, every=0.001)
        assert 0.004 <= took <= 0.061
        moved = world.get("httproutes", "shop", "checkout")["metadata"]["resourceVersion"]
        assert moved != written
        assert world.in_force("checkout") == {"checkout": 1}
        took += await world.until(lambda: world.in_force("checkout") == CANARY, every=0.001)
        assert 1.0 <= took <= 1.4

    run(body, program_lag=(1.0, 1.3))


def test_shares_follow_weights_and_errors_follow_versions() -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=2)
        await _canary(world, ERROR_RATE=0.5)
        _weigh(world, CANARY)
        await world.settle()
        loop = asyncio.get_running_loop()
        world.traffic.advance()
        begin = loop.time()
        await asyncio.sleep(100)
        counts = world.traffic.counts(begin, loop.time())
        by_version: dict[str, int] = {}
        for outcome, count in counts.items():
            by_version[outcome.version] = by_version.get(outcome.version, 0) + count
        assert by_version == {"v1": 9_000, "v2": 1_000}
        bad = sum(n for o, n in counts.items() if o.cause is Cause.APPLICATION)
        assert 400 <= bad <= 600
        assert not world.failures

    run(body)


def test_pods_that_die_before_the_gateway_knows_fail_requests() -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=4)
        world.set_image("shop", "checkout", "r/app:v2")
        await world.settle()
        assert world.failures[Cause.DEAD_POD] > 0
        assert world.ready_pods("v2") == 4

    run(body)


def test_a_weight_without_endpoints_fails_its_share() -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=1)
        world.create(manifests.service("shop", "checkout-canary", selector={"track": "canary"}))
        _weigh(world, CANARY)
        await world.settle()
        before = world.failures[Cause.NO_ENDPOINTS]
        await asyncio.sleep(100)
        assert world.failures[Cause.NO_ENDPOINTS] - before == pytest.approx(1_000, abs=2)

    run(body)


def test_a_weight_on_a_missing_service_fails_its_share_and_says_so() -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=1)
        _weigh(world, CANARY)
        await world.settle()
        await asyncio.sleep(10)
        assert set(world.failures) == {Cause.MISSING_SERVICE}
        found = world.get("httproutes", "shop", "checkout")
        resolved = found["status"]["parents"][0]["conditions"][1]
        assert (resolved["status"], resolved["reason"]) == ("False", "BackendNotFound")

    run(body)


def test_weight_zero_is_harmless_whatever_stands_behind_it() -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=1)
        _weigh(world, {"checkout": 1, "missing": 0})
        await world.settle()
        await asyncio.sleep(10)
        assert not world.failures

    run(body)


def test_a_refused_route_is_not_programmed() -> None:
    async def body(world: World) -> None:
        world.gateway.refused["httproutes", "shop", "checkout"] = "NotAllowedByListeners"
        await world.shop(replicas=1)
        found = world.get("httproutes", "shop", "checkout")
        accepted = found["status"]["parents"][0]["conditions"][0]
        assert (accepted["status"], accepted["reason"]) == ("False", "NotAllowedByListeners")
        assert world.in_force("checkout") == {}

    run(body)


def test_direct_clients_follow_the_service() -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=1, rate=0, direct_rate=30)
        await _canary(world)
        await asyncio.sleep(10)
        assert world.answered() == {"v1": world.answered()["v1"]}
        world.edit(
            "services", "shop", "checkout", lambda s: s["spec"].update(selector={"track": "canary"})
        )
        await asyncio.sleep(10)
        assert world.answered()["v2"] > 250
        assert not world.failures

    run(body)


@pytest.mark.parametrize(
    ("era", "label"),
    [
        (Era.SERVICE, "shop-checkout-canary-http-80@kubernetesgateway"),
        (Era.ROUTE, "-svc-shop-checkout-canary-1@kubernetesgateway"),
    ],
)
def test_series_are_named_as_traefik_names_them(era: Era, label: str) -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=1)
        await _canary(world)
        _weigh(world, CANARY)
        await world.settle()
        await asyncio.sleep(5)
        world.traffic.advance()
        names = {dict(labels)["service"] for labels, _ in world.traffic.counters.scrape()}
        assert any(name.endswith(label) for name in names)
        assert len(names) == 2

    run(body, era=era)


def test_series_are_born_with_their_first_event_and_die_with_their_service() -> None:
    async def body(world: World) -> None:
        await world.shop(replicas=1)
        await _canary(world, ERROR_RATE=1)

        def codes() -> set[tuple[str, str]]:
            world.traffic.advance()
            found = (dict(labels) for labels, _ in world.traffic.counters.scrape())
            return {("canary" if "canary" in s["service"] else "stable", s["code"]) for s in found}

        assert codes() == {("stable", "200")}
        _weigh(world, CANARY)
        await world.settle()
        await asyncio.sleep(5)
        assert codes() == {("stable", "200"), ("canary", "500")}
        _weigh(world, {"checkout": 1})
        await world.settle()
        codes()
        assert codes() == {("stable", "200")}

    run(body)
