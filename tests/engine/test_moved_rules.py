# SPDX-License-Identifier: Apache-2.0
"""Rules to the Service that come or lose the canary in mid-run, beside one that keeps it."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from controller.sim import clock
from tests.engine.house import house

IMAGE = "registry.example/app:v2"

Rules = list[dict[str, Any]]
MATCHES = [{"path": {"type": "PathPrefix", "value": "/new"}}]


def _plain(rule: dict[str, Any]) -> dict[str, Any]:
    """As the team has it in git."""
    return {**rule, "backendRefs": [{"name": "checkout", "port": 80}]}


def _in_front(rules: Rules) -> Rules:
    """What the API server makes of it: the new rule has the place, and so the canary's share."""
    (ours,) = rules
    return [{**copy.deepcopy(ours), "matches": MATCHES}, _plain(ours)]


def _behind(rules: Rules) -> Rules:
    (ours,) = rules
    return [ours, {**_plain(ours), "matches": MATCHES}]


@pytest.mark.parametrize("phase", ["Judging", "Committing"])
@pytest.mark.parametrize("moved", [_in_front, _behind])
def test_a_new_rule_for_the_service_gets_the_canary_as_well(
    moved: Callable[[Rules], Rules], phase: str
) -> None:
    """The step begins again from weight 0 with the canary in both; both are the team's at last."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches(phase)
            await asyncio.sleep(0.5)

            def change(item: dict[str, Any]) -> None:
                item["spec"]["rules"] = moved(item["spec"]["rules"])

            world.edit("httproutes", "shop", "checkout", change)
            await found.until(lambda: found.runs()[-1]["slips"] == 1, within=60)
            await found.reaches("Judging")
            for rule in world.get("httproutes", "shop", "checkout")["spec"]["rules"]:
                assert {item["name"] for item in rule["backendRefs"]} == {
                    "checkout",
                    "checkout-canary",
                }
            await found.ended("promoted")
            found.at_rest()
            rules = world.get("httproutes", "shop", "checkout")["spec"]["rules"]
            names = [[(b["name"], b.get("weight", 1)) for b in r["backendRefs"]] for r in rules]
            assert names == [[("checkout", 1)], [("checkout", 1)]]
            assert sum(world.failures.values()) == 0

    clock.run(story())
