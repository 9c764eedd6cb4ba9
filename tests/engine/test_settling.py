# SPDX-License-Identifier: Apache-2.0
"""How long a weight is waited for until it counts as in force, and who says so."""

import asyncio
from typing import Any

import pytest

from controller.adapters.prometheus import providers
from controller.app.daemon import bounds_of
from controller.app.reading import Access
from controller.core.policy import lint
from controller.engine.observe import Bounds
from controller.settings import Settings, load
from controller.sim import clock
from tests.engine.house import BOUNDS, POLICY, House, house

FILES = {"traefik": 2.5, "envoy": 1.0, "slow": 9.0, "application": 2.0}


def told(**flags: Any) -> Settings:
    found = load({"prometheus_url": "http://127.0.0.1:9090", **flags}, {})
    assert isinstance(found, Settings), found
    return found


def test_the_files_of_the_chosen_providers_say_it_where_the_operator_does_not() -> None:
    found = bounds_of(told(providers=("envoy", "application")), FILES)
    assert found.settle(None) == 2.0
    # Somebody's policy may name any provider: nothing is in force for all of them before.
    assert found.longest_settle_seconds == 9.0


def test_the_operator_has_the_last_word() -> None:
    found = bounds_of(told(settle_seconds="0.5"), FILES)
    assert found.settle(None) == 0.5
    assert found.longest_settle_seconds == 0.5


def test_no_shipped_file_says_more_than_what_a_kill_without_a_daemon_waits_for() -> None:
    shipped = providers.choose(["traefik"]).settle_seconds
    access = Access(kubeconfig=None, context=None, namespace="switchgear")
    assert shipped.keys() >= {"traefik", "envoy"}
    assert all(0 < seconds <= access.settle_seconds for seconds in shipped.values())
    assert lint.Timing().settle_seconds == access.settle_seconds


def share(found: House) -> int:
    """The canary's weight in the route."""
    return found.world.weights("checkout").get("checkout-canary", 0)


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
