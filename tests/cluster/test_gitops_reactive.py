# SPDX-License-Identifier: Apache-2.0
"""Pipelines where no admission policy keeps what is ours: what holds, and what gives way."""

import asyncio
from collections.abc import Callable

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import UNHURRIED, App
from tests.cluster.pipelines import (
    SHIFT,
    Way,
    applying,
    no_more_writes,
    pipeline,
    theirs,
    without_route,
)
from tests.cluster.scenes import shipped

pytestmark = [pytest.mark.timeout(600), pytest.mark.once]


async def test_a_tool_that_leaves_the_route_alone_does_no_harm(
    unguarded: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """The 3-way patch keeps the pin; `ignoreDifferences` on the backends keeps the share."""
    shop = app()
    git, daemon, own, load = await without_route(
        unguarded, lab, space, shop, way=Way.ARGO, policy=SHIFT
    )
    async with applying(git):
        git.commit("v2", UNHURRIED)
        await records.ended(lab.api, own.system, "promoted", daemon.log)
        await shop.complete()
        assert await git.drift() == []
    assert load.failures == {}


@pytest.mark.deep
@pytest.mark.parametrize("way", [Way.ARGO, Way.FLUX], ids=["argo", "flux"])
async def test_the_run_gives_way_to_a_tool_that_takes_everything(
    *, unguarded: Installed, lab: Lab, space: Space, app: Callable[..., App], way: Way
) -> None:
    """Its limit of slips ends it, without a verdict and without one failed request."""
    shop = app()
    daemon, own = await shipped(unguarded, lab, space)
    slow = {**SHIFT, "steps": "5@60s,50@60s"}
    git = await asyncio.to_thread(pipeline, lab.cluster, shop, way, annotations=slow, replicas=3)
    await git.applied()
    await shop.complete()
    before = theirs(await shop.of_git())
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop, direct_rate=0)
    async with applying(git):
        git.commit("v2", UNHURRIED)
        back = ("RollingBack", "Cleaning", "Held")
        await records.reached(lab.api, own.system, *back, log=daemon.log, within=200.0)
        # From here on the pins are in force between two rounds for as long as a gateway needs.
        git.between = 6.0
        state = await records.ended(lab.api, own.system, "inconclusive", daemon.log)
        assert state["phase"] == "Held"
        assert "another writer undid" in state["reason"]
        assert await shop.ready() == {"v1": 3}
        await no_more_writes(lab.cluster, git)
    after = theirs(await shop.of_git())
    assert after["services"] == before["services"]
    assert after["httproutes"] == before["httproutes"]
    assert load.failures == {}
    await records.journal(lab.api, own.system)
