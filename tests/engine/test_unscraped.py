# SPDX-License-Identifier: Apache-2.0
"""Whole runs that pods judge, with a pod on trial that Prometheus does not scrape."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controller.sim import clock
from tests.engine.house import House, house

IMAGE = "registry.example/app:v2"
POLICY = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/steps": "25@30s",
    "switchgear.dev/bake": "20s",
    "switchgear.dev/deadline": "90s",
}
SHOP: dict[str, Any] = {"route": False, "replicas": 10, "annotations": POLICY}

pytestmark = pytest.mark.slow


@asynccontextmanager
async def blind(env: dict[str, str] | None = None) -> AsyncIterator[House]:
    """A run at its step, and one of its three canary pods is not discovered by Prometheus."""
    async with house(**SHOP) as found:
        found.world.set_image("shop", "checkout", IMAGE, env)
        await found.until(lambda: found.world.ready_pods("v2") == 3, within=60)
        found.world.prometheus.faults.hide = hidden(found)
        yield found


def hidden(found: House) -> str:
    """The name of that pod."""
    return min(str(pod["metadata"]["name"]) for pod in found.world.pods(version="v2"))


def reasons(found: House) -> list[str]:
    """The codes of all verdicts in the journal."""
    verdicts = [one["body"].get("verdict") for one in found.journal() if one["kind"] == "decision"]
    return [reason["code"] for verdict in verdicts if verdict for reason in verdict["reasons"]]


def test_nothing_passes_and_the_deadline_ends_it() -> None:
    async def main() -> None:
        async with blind() as found:
            name = hidden(found)
            await found.ended("inconclusive")
            run = found.runs()[-1]
            assert f"1 of 3 pods of the canary is not scraped ({name})" in run["reason"]
            assert (run["step"], run["quarantined"], run["tripped"]) == (0, False, False)
            assert "PodsNotScraped" in reasons(found)
            assert found.world.ready_pods("v1") == 10
            found.at_rest(paused=True)

    clock.run(main(), limit=7_200.0)


def test_it_goes_on_when_the_pod_is_scraped_again() -> None:
    """A restart of the controller in between lets nothing pass."""

    async def main() -> None:
        async with blind() as found:
            await asyncio.sleep(60)
            await found.crash()
            await found.start()
            await asyncio.sleep(60)
            run = found.runs()[-1]
            assert (run["phase"], run["step"]) == ("Judging", 0)
            found.world.prometheus.faults.hide = ""
            await found.ended("promoted")
            assert "PodsNotScraped" in reasons(found)
            found.at_rest()

    clock.run(main(), limit=7_200.0)


def test_a_bad_version_goes_back_at_once() -> None:
    async def main() -> None:
        async with blind({"ERROR_RATE": "0.5"}) as found:
            await found.ended("rolled-back", within=60)
            assert found.runs()[-1]["tripped"]
            assert "scraped" not in found.runs()[-1]["reason"]

    clock.run(main(), limit=7_200.0)
