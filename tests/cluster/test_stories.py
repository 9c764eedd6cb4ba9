# SPDX-License-Identifier: Apache-2.0
"""The two stories that the product is about, on a real control plane with a real gateway."""

from collections.abc import Callable

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.lab import records
from tests.cluster.lab.application import PREFIX, App, Object, until
from tests.support.realtime import Daemon

POLICY = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s"}

# Whole runs in real time, each with two dozen processes.
pytestmark = pytest.mark.timeout(400)


def without_ours(found: dict[str, Object]) -> dict[str, Object]:
    """Objects without the annotations by which the controller tells how it sees a target."""
    given = {PREFIX + name for name in POLICY}
    for obj in found.values():
        annotations = obj["metadata"].get("annotations") or {}
        for name in [n for n in annotations if n.startswith(PREFIX) and n not in given]:
            del annotations[name]
    return found


async def adopted(app: App, daemon: Daemon) -> None:
    async def managed() -> bool:
        return await app.annotation("managed") is not None

    await until(managed, 90.0, daemon.log)


@pytest.mark.parametrize("drain", [False, True], ids=["dies-at-once", "drains"])
async def test_a_good_version_is_promoted_without_one_failed_request(
    lab: Lab, space: Space, app: Callable[..., App], drain: bool
) -> None:
    env = {"DRAIN_SECONDS": "3"} if drain else {}
    shop, daemon = app(), lab.daemon(space)
    await shop.start(annotations=POLICY, env=env)
    before = without_ours(await shop.of_git())
    await daemon.start()
    await adopted(shop, daemon)
    load = await lab.load(shop)
    await shop.deploy("v2", env)
    await records.ended(lab.api, space.system, "promoted", daemon.log)
    await load.until_answered(100)
    assert load.failures == {}
    assert load.answers("v1").total > 100
    assert load.answers("v2").total > 100
    await shop.complete()
    assert await shop.ready() == {"v2": 4}
    before["deployments"]["spec"]["template"]["spec"]["containers"][0]["image"] = (
        "registry.example/app:v2"
    )
    assert without_ours(await shop.of_git()) == before


async def test_a_bad_version_is_held_and_rolled_back(
    lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    shop, daemon = app(), lab.daemon(space)
    await shop.start(annotations=POLICY)
    before = without_ours(await shop.of_git())
    await daemon.start()
    await adopted(shop, daemon)
    load = await lab.load(shop)
    await shop.deploy("v2", {"ERROR_RATE": "0.5"})
    state = await records.ended(lab.api, space.system, "rolled-back", daemon.log)
    assert state["phase"] == "Held"
    await load.until_answered(100)
    assert load.failures == {}
    # Nobody but those who were sent to the canary met an error.
    assert load.answers("v1").bad == 0
    assert load.answers("v2").bad > 0
    assert load.direct().keys() == {"v1"}
    assert await shop.ready() == {"v1": 4}
    after = without_ours(await shop.of_git())
    assert after["deployments"]["spec"].pop("paused") is True
    assert after["services"] == before["services"]
    assert after["httproutes"] == before["httproutes"]
