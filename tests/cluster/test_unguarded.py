# SPDX-License-Identifier: Apache-2.0
"""What the policies refuse, done where there are none: a run gets over it by itself."""

from collections.abc import Callable

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import App, Object, until
from tests.cluster.scenes import shipped
from tests.support.dialects import MERGE

pytestmark = [pytest.mark.timeout(400), pytest.mark.once]

POLICY = {"policy": "fast", "steps": "50@3s", "bake": "3s"}
SLOW = {"READY_SECONDS": "6"}
"""So long the Deployment's own pods take to roll, while the canary's carry everything."""


def _owners(item: Object) -> list[str]:
    return [owner["kind"] for owner in item["metadata"].get("ownerReferences") or ()]


async def test_a_canary_that_is_given_to_another_owner_serves_on(
    unguarded: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """With all requests: it gets its own owner back, and is not collected with the other one."""
    shop = app()
    daemon, own = await shipped(unguarded, lab, space)
    await shop.start(annotations=POLICY, replicas=2)
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    await shop.deploy("v2", SLOW)
    await records.reached(lab.api, own.system, "Rolling", log=daemon.log)
    name = f"{shop.name}-canary"
    before = await shop.read("deployments", name)
    assert _owners(before) == ["Deployment"]
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other"}
    made = await shop.create("configmaps", {"metadata": {"name": "other"}})
    owners = {"metadata": {"ownerReferences": [{**other, "uid": made["metadata"]["uid"]}]}}
    taken = await shop.patch("deployments", owners, name=name, mime=MERGE)
    assert _owners(taken.json) == ["ConfigMap"]

    async def owned() -> bool:
        return _owners(await shop.read("deployments", name)) == ["Deployment"]

    await until(owned, 20.0, daemon.log)
    gone = await shop.send("DELETE", shop.path("configmaps", "other"))
    assert gone.status == 200, gone.content
    after = await shop.read("deployments", name)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
    await records.ended(lab.api, own.system, "promoted", daemon.log)
    await shop.complete()
    assert await shop.ready() == {"v2": 2}
    assert load.failures == {}
    await records.journal(lab.api, own.system)
