# SPDX-License-Identifier: Apache-2.0
"""`promotion: roll` behind a route: the Deployment rolls natively under traffic, breaker armed.

Pods that die at once lose requests in any native roll; neither such a run nor its undoing may lose
more of them than the same application does when nobody controls it.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.cluster import scenes
from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab.application import App, is_ready, version_of

POLICY = {"policy": "fast", "promotion": "roll", "steps": "50@3s", "bake": "3s"}

MOMENTS = {
    "last step": ("Judging", {"steps": "50@120s"}),
    "roll": ("RollingOut", {}),
    "bake": ("Baking", {"bake": "120s"}),
}
"""In which phase the run is stopped, and what keeps it there long enough."""

BAD_AT = 40.0
"""Age in seconds at which a pod turns bad; no machine needs as long to come to the last step."""

pytestmark = [pytest.mark.timeout(500), pytest.mark.once]


async def native(lab: Lab, shop: App) -> Counter[str]:
    """What requests fail by when v1 becomes v1a and nobody controls it."""
    load = await lab.load(shop)
    await load.until_answered(scenes.RESTED)
    await shop.deploy("v1a")
    await shop.complete(within=120.0)
    await load.until_answered(300)
    await load.stop()
    return load.failures


@pytest.mark.parametrize(
    "plane", ["traefik", pytest.param("envoy", marks=pytest.mark.deep)], ids=scenes.PLANES
)
async def test_not_more_requests_fail_than_in_a_native_roll(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], plane: str
) -> None:
    unmanaged = app(name="unmanaged", gateway=plane)
    await unmanaged.start()
    theirs = await native(lab, unmanaged)
    # A gateway has forgotten the last stable pod when the bake is over.
    policy = {**POLICY, "bake": "8s"}
    scene = await scenes.begun(gate, lab, space, app(gateway=plane), policy=policy)
    stable, gone = await _names(scene), scenes.Gone()
    async with scenes.followed(scene.shop, gone.look):
        await scene.shop.deploy("v2")
        state = await scene.ended("promoted")
        await scene.load.until_answered(200)
    assert state["promotion"] == "roll"
    assert await _own(scene) == {"v2": 4}
    ours = scene.load.failures
    sys.stderr.write(f"lost in a native roll: {theirs}, in a run: {ours}\n")
    # The route leads half of its clients to the canary pods, which outlast the roll.
    direct = sum(count for cause, count in theirs.items() if cause.startswith("direct"))
    most = (theirs.total() + direct + 1) // 2
    scenes.not_more(ours.total(), most, (theirs, ours), spread=scenes.SAME_LAG)
    failed = scene.load.failed_at()
    await scenes.only_the_roll_cost(lab, scene.space.system, gone, stable, failed)


@pytest.mark.parametrize(
    "moment",
    [pytest.param(m, marks=() if m == "last step" else pytest.mark.deep) for m in MOMENTS],
)
async def test_a_person_stops_it(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], moment: str
) -> None:
    phase, about = MOMENTS[moment]
    theirs = 0
    if moment != "last step":
        unmanaged = app(name="unmanaged")
        await unmanaged.start()
        theirs = (await native(lab, unmanaged)).total()
    scene = await scenes.begun(gate, lab, space, app(), policy={**POLICY, **about})
    stable = await _names(scene)
    await scene.shop.deploy("v2")
    await scene.reached(phase)
    await scene.abort()
    state = await scene.ended("aborted")
    assert state["phase"] == "Held"
    await _undone(scene, stable, theirs)
    if moment == "last step":
        assert scene.load.failures == {}


# On the second plane with the pods of which none may cost anything.
@pytest.mark.parametrize(
    ("pods", "plane"),
    [("dies-at-once", "traefik"), pytest.param("drains", "envoy", marks=pytest.mark.deep)],
)
async def test_a_version_that_turns_bad_while_it_rolls(
    *,
    gate: Installed,
    lab: Lab,
    space: Space,
    app: Callable[..., App],
    pods: str,
    plane: str,
) -> None:
    """The moment that has most to put right: stable pods are gone and going.

    Pods that drain lose nothing in a native roll, and so nothing here.
    """
    env, theirs = scenes.DRAINS[pods], 0
    if not env:
        unmanaged = app(name="unmanaged", gateway=plane)
        await unmanaged.start()
        theirs = (await native(lab, unmanaged)).total()
    shop = app(gateway=plane)
    # A pod is rolled every seven seconds, so that the second one is on its way at the trip.
    scene = await scenes.begun(gate, lab, space, shop, policy=POLICY, env=env, minReadySeconds=6)
    stable = await _names(scene)
    turns = {"ERROR_RATE": "0.5", "ERROR_SECONDS": str(BAD_AT)}
    await scene.shop.deploy("v2", {**env, **turns})
    await scene.reached("Judging", share=50)
    await scene.in_time_for(BAD_AT - 12.0)
    await scene.reached("RollingOut")
    await scene.tripped_in("RollingOut")
    assert scene.load.answers("v2").bad > 0
    await _undone(scene, stable, theirs)
    if env:
        assert scene.load.failures == {}


async def _undone(scene: scenes.Scene, stable: set[str], theirs: int) -> None:
    """Stable serves alone, and nothing was lost but by the stable pods that the roll took away.

    Each of them may cost its part of a native roll. All pods that the way back deletes it deletes
    when nobody asks them any more: from when stable is back, and a gateway has forgotten whoever
    went before, nothing fails at all.
    """
    ended = time.time()
    await scene.load.until_answered(200)
    assert scene.load.answers("v1").bad == 0
    assert scene.load.answers("v2", since=ended + 1.0).total == 0
    assert await _own(scene) == {"v1": 4}
    gone = len(stable - await _names(scene))
    lost = scene.load.failures
    sys.stderr.write(f"{gone} of 4 stable pods went: {lost}; a native roll may lose {theirs}\n")
    scenes.not_more(lost.total(), theirs * gone // 4, lost, pods=gone)
    back = await scene.went_to("RollingBack")
    assert [when - back for when in scene.load.failed_at() if when > back + 3.0] == []


async def _names(scene: scenes.Scene) -> set[str]:
    """The application's own pods."""
    return {
        pod["metadata"]["name"]
        for pod in await scene.shop.pods()
        if pod["metadata"]["labels"]["app"] == scene.shop.name
    }


async def _own(scene: scenes.Scene) -> dict[str, int]:
    """Ready pods of the application by version."""
    found = [
        pod
        for pod in await scene.shop.pods()
        if pod["metadata"]["labels"]["app"] == scene.shop.name and is_ready(pod)
    ]
    return Counter(map(version_of, found))
