# SPDX-License-Identifier: Apache-2.0
"""`promotion: roll` behind a route: the Deployment rolls natively under traffic, breaker armed.

Pods that die at once lose requests in any native roll; neither such a run nor its undoing may lose
more of them than the same application does when nobody controls it.
"""

import time
from collections.abc import Callable

import pytest

from tests.cluster import scenes
from tests.cluster.conftest import Lab, Space
from tests.cluster.lab.application import App, is_ready

POLICY = {"policy": "fast", "promotion": "roll", "steps": "50@3s", "bake": "3s"}

MOMENTS = {
    "last step": ("Judging", {"steps": "50@120s"}),
    "roll": ("RollingOut", {}),
    "bake": ("Baking", {"bake": "120s"}),
}
"""In which phase the run is stopped, and what keeps it there long enough."""

pytestmark = [pytest.mark.timeout(500), pytest.mark.once]


async def native(lab: Lab, shop: App) -> int:
    """How many requests fail when v1 becomes v1a and nobody controls it."""
    load = await lab.load(shop)
    await shop.deploy("v1a")
    await shop.complete(within=120.0)
    await load.until_answered(300)
    await load.child.stop()
    return load.failures.total()


@pytest.mark.parametrize(
    "plane", ["traefik", pytest.param("envoy", marks=pytest.mark.deep)], ids=scenes.PLANES
)
async def test_not_more_requests_fail_than_in_a_native_roll(
    lab: Lab, space: Space, app: Callable[..., App], plane: str
) -> None:
    unmanaged = app(name="unmanaged", gateway=plane)
    await unmanaged.start()
    theirs = await native(lab, unmanaged)
    scene = await scenes.begun(lab, space, app(gateway=plane), policy=POLICY)
    await scene.shop.deploy("v2")
    state = await scene.ended("promoted")
    await scene.load.until_answered(200)
    assert state["promotion"] == "roll"
    assert await _own(scene) == {"v2": 4}
    scenes.not_more(scene.load.failures.total(), theirs, scene.load.failures)


@pytest.mark.parametrize(
    "moment",
    [
        # The one that has most to put right: stable pods are gone and going.
        name if name == "roll" else pytest.param(name, marks=pytest.mark.deep)
        for name in MOMENTS
    ],
)
async def test_stopped(lab: Lab, space: Space, app: Callable[..., App], moment: str) -> None:
    phase, about = MOMENTS[moment]
    unmanaged = app(name="unmanaged")
    await unmanaged.start()
    theirs = await native(lab, unmanaged)
    scene = await scenes.begun(lab, space, app(), policy={**POLICY, **about})
    await scene.shop.deploy("v2")
    await scene.reached(phase)
    await scene.abort()
    state = await scene.ended("aborted")
    ended = time.time()
    await scene.load.until_answered(200)
    assert state["phase"] == "Held"
    assert scene.load.answers("v1").bad == 0
    assert scene.load.answers("v2", since=ended + 1.0).total == 0
    assert await _own(scene) == {"v1": 4}
    # There and back: no more than two native rolls, and none where no pod of the user's went.
    scenes.not_more(scene.load.failures.total(), 2 * theirs, scene.load.failures)
    if moment == "last step":
        assert scene.load.failures == {}


async def _own(scene: scenes.Scene) -> dict[str, int]:
    """Ready pods of the application by version."""
    found = [
        pod
        for pod in await scene.shop.pods()
        if pod["metadata"]["labels"]["app"] == scene.shop.name and is_ready(pod)
    ]
    images = [pod["spec"]["containers"][0]["image"].rpartition(":")[2] for pod in found]
    return {image: images.count(image) for image in images}
