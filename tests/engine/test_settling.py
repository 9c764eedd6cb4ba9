# SPDX-License-Identifier: Apache-2.0
"""How long a weight is waited for until it counts as in force, and who says so."""

import asyncio
from typing import Any

import pytest

from controller.adapters.prometheus import providers
from controller.app import reading
from controller.app.daemon import bounds_of
from controller.app.reading import Access
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.table import Phase
from controller.core.observation import Route
from controller.core.policy import keys, lint
from controller.core.values import RouteRef, TargetRef
from controller.engine.observe import Bounds
from controller.settings import Settings, load
from controller.sim import clock
from tests.engine.house import BOUNDS, POLICY, House, house

FILES = {"traefik": 2.5, "envoy": 1.0, "slow": 9.0, "application": 2.0}


def naming(metrics: str) -> Run:
    """A run whose policy names a provider, or leaves the choice to the daemon."""
    return Run(
        name="run-1", target=TargetRef("shop", "checkout"), uid="u1", phase=Phase.JUDGING,
        stable_hash="h", stable_digest="d", digest="e", replicas=4,
        annotations=(("metrics", metrics),),
    )  # fmt: skip


def taken_by(*controllers: str) -> Route:
    """A route that these controllers have taken in."""
    return Route(
        ref=RouteRef("HTTPRoute", "shop", "checkout"), uid="1", version="1", generation=1,
        backends=(), accepted=True, controllers=controllers,
    )  # fmt: skip


def told(**flags: Any) -> Settings:
    found = load({"prometheus_url": "http://127.0.0.1:9090", **flags}, {})
    assert isinstance(found, Settings), found
    return found


def test_the_files_of_the_chosen_providers_say_it_where_the_operator_does_not() -> None:
    found = bounds_of(told(providers=("envoy", "application")), FILES)
    assert found.settle(None) == 2.0
    assert found.settle(naming("auto")) == 2.0
    assert found.settle(naming("traefik")) == 2.5
    # Whose counters judge need not be the gateway, so that the daemon's own choice counts as well.
    assert found.settle(naming("envoy")) == 2.0


def test_the_operator_has_the_last_word() -> None:
    found = bounds_of(told(settle_seconds="0.5"), FILES)
    assert found.settle(None) == 0.5
    assert found.settle(naming("traefik")) == 0.5


def test_a_kill_without_a_daemon_waits_for_the_slowest_gateway_that_it_may_concern() -> None:
    shipped = providers.choose(()).settle_seconds
    assert shipped.keys() >= {"traefik", "envoy"}
    longest = max(shipped[name] for name in keys.SERVICE_PROVIDERS)
    access = Access(kubeconfig=None, context=None, namespace="switchgear")
    contour, strange = "projectcontour.io/gateway-controller", "example.org/gateway"
    assert reading._settle(access, [taken_by(contour)]) == shipped["envoy"]
    assert reading._settle(access, [taken_by(contour), taken_by(strange)]) == longest
    assert reading._settle(access, [taken_by(contour, strange)]) == longest
    assert reading._settle(access, [taken_by()]) == longest
    assert reading._settle(access, []) == reading.SERVICE_SECONDS
    told = Access(kubeconfig=None, context=None, namespace="switchgear", settle_seconds=0.5)
    assert reading._settle(told, [taken_by(strange)]) == 0.5


def test_lint_expects_what_the_daemon_chooses_unless_it_is_told() -> None:
    shipped, chosen = providers.choose(()).settle_seconds, told().providers
    assert lint.Timing().settle_seconds == max(shipped[name] for name in chosen)


@pytest.mark.slow
@pytest.mark.parametrize(("metrics", "least", "most"), [("traefik", 20, 24), ("auto", 2.5, 6)])
def test_a_kill_is_in_force_when_the_gateways_of_its_runs_have_followed(
    metrics: str, least: float, most: float
) -> None:
    """Whatever slower ones there are elsewhere."""

    async def story() -> None:
        annotations = {**POLICY, "switchgear.dev/metrics": metrics}
        slow = {"traefik": 20.0, "envoy": 50.0}
        async with house(annotations=annotations) as found:
            await found.stop()
            found.bounds = Bounds(settle_seconds=BOUNDS.settle_seconds, named_settle_seconds=slow)
            await found.start()
            found.world.set_image("shop", "checkout", "registry.example/app:v2")
            await found.until(lambda: share(found) > 0)
            began = asyncio.get_running_loop().time()
            assert found.engine is not None
            killer = found.engine.killer
            halt = await killer.kill("all", actor="ada", reason="", wait_seconds=60.0)
            assert halt.in_force, halt.pending
            assert least <= asyncio.get_running_loop().time() - began <= most

    clock.run(story())


def share(found: House) -> int:
    """The canary's weight in the route."""
    return found.world.weights("checkout").get("checkout-canary", 0)


@pytest.mark.slow
@pytest.mark.parametrize(("metrics", "least", "most"), [("traefik", 20, 25), ("auto", 2.3, 8)])
def test_a_policy_that_names_a_slow_provider_waits_longer(
    metrics: str, least: float, most: float
) -> None:
    async def story() -> None:
        annotations = {**POLICY, "switchgear.dev/metrics": metrics}
        async with house(annotations=annotations) as found:
            await found.stop()
            found.bounds = Bounds(
                settle_seconds=BOUNDS.settle_seconds, named_settle_seconds={"traefik": 20.0}
            )
            await found.start()
            found.world.set_image("shop", "checkout", "registry.example/app:v2")
            # Looked at ten times a second, so that up to a tenth is missing.
            await found.until(lambda: share(found) > 0)
            began = asyncio.get_running_loop().time()
            await found.until(lambda: found.runs()[-1]["phase"] == "Judging")
            assert least <= asyncio.get_running_loop().time() - began <= most

    clock.run(story())
