# SPDX-License-Identifier: Apache-2.0
"""A run writes what it wants once: nothing is refused, and no write leaves all as it was.

The watches tell of a write some time after its answer, as a real API server's do; each resource by
another time, so that one of them wakes the target while another is behind.
"""

import asyncio
from typing import Any

import pytest

from controller.sim import clock
from controller.sim.apiserver.request import Request, Response
from controller.sim.apiserver.store import Event
from controller.sim.faults import MUTATING, Fault, Plan
from tests.engine.house import House, house

IMAGE = "registry.example/app:v2"
AGENT = "switchgear"
ANSWER_SECONDS = 0.005
LATE = {
    "as the answers": {},
    "a moment": {"services": 0.002, "deployments": 0.03, "replicasets": 0.01, "routes": 0.02},
    "the other way round": {
        "services": 0.3,
        "deployments": 0.1,
        "replicasets": 0.5,
        "routes": 0.01,
    },
}
"""Seconds by which the watches are behind, by a part of their path."""
TRAFFIC: dict[str, dict[str, Any]] = {
    "shift": {},
    "roll": {"annotations": {"switchgear.dev/promotion": "roll"}},
    "replicas": {"route": False},
}
POLICY = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/steps": "10@20s,25@20s",
    "switchgear.dev/bake": "20s",
}


class Writes:
    """Every write of the controller, in their order."""

    def __init__(self, found: House) -> None:
        """Begin to look; answers take their time from now on."""
        self.all: list[str] = []
        self.needless: list[str] = []
        self._moved = False
        found.world.api.before += [self._slow, self._before]
        found.world.api.after.append(self._after)
        found.world.store.subscribe(self._event)

    async def _slow(self, request: Request) -> None:
        if AGENT in request.headers.get("user-agent", "") and not request.flag("watch"):
            await asyncio.sleep(ANSWER_SECONDS)

    async def _before(self, _request: Request) -> None:
        self._moved = False

    def _event(self, _event: Event) -> None:
        # The server answers without giving way, so that this is of the request at hand.
        self._moved = True

    async def _after(self, request: Request, response: Response) -> None:
        if request.method not in MUTATING or AGENT not in request.headers.get("user-agent", ""):
            return
        said = f"{request.method} {request.path} {response.status}"
        self.all.append(said)
        if response.status >= 300 or not self._moved:
            self.needless.append(said)


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["promoted", "rolled-back"])
@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
@pytest.mark.parametrize("traffic", TRAFFIC.values(), ids=TRAFFIC)
def test_no_write_of_a_run_is_needless(
    traffic: dict[str, Any], late: dict[str, float], outcome: str
) -> None:
    async def story() -> None:
        annotations = {**POLICY, **traffic.get("annotations", {})}
        async with house(
            start=False, replicas=10, route=traffic.get("route", True), annotations=annotations
        ) as found:
            plan = Plan().install(found.world.api)
            for path, seconds in late.items():
                plan.add(Fault.LATE, delay=seconds, path=path, agent=AGENT)
            writes = Writes(found)
            await found.start()
            await asyncio.sleep(10)
            rate = "0.5" if outcome == "rolled-back" else "0"
            found.world.set_image("shop", "checkout", IMAGE, {"ERROR_RATE": rate})
            await found.ended(outcome)
            assert writes.needless == []
            created = [one for one in writes.all if one.startswith("POST") and "events" not in one]
            # The cluster's document, the run's, and the canary's objects where they are wanted.
            assert len(created) == (4 if found.routed else 3), created

    clock.run(story())
