# SPDX-License-Identifier: Apache-2.0
"""A controller is installed where many targets stand already, before a slow API server."""

import asyncio

import pytest

from controller.sim import clock, manifests
from controller.sim.apiserver.request import Request, Response
from tests.engine.house import POLICY, house

TARGETS = 150
WRITE_SECONDS = 0.25
"""Each write, one after another: all at once, most would be late for their deadline of 10 s."""


@pytest.mark.slow
def test_every_target_is_marked_by_one_request() -> None:
    async def story() -> None:
        async with house(start=False) as found:
            names = [f"app-{number:03}" for number in range(TARGETS)]
            for name in names:
                made = manifests.deployment("shop", name, replicas=1, annotations=POLICY)
                found.world.create(made)
            await found.world.settle(within=120)
            turn = asyncio.Lock()

            async def slow(request: Request) -> Response | None:
                if request.method == "PATCH":
                    async with turn:
                        await asyncio.sleep(WRITE_SECONDS)
                return None

            found.world.api.before.append(slow)
            await found.start()

            def marked() -> bool:
                return all(
                    "switchgear.dev/managed"
                    in found.world.get("deployments", "shop", name)["metadata"]["annotations"]
                    for name in names
                )

            await found.until(marked, within=300)
            patched = [one.path for one in found.wire.sent if one.method == "PATCH"]
            assert len(patched) == len(set(patched)) == TARGETS + 1

    clock.run(story())
