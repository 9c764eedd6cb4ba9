# SPDX-License-Identifier: Apache-2.0
"""Promotion by shift is stopped in each of its phases, under load, on both data planes.

A person stops it, by an abort or by the kill latch, since a phase of two seconds is hit by nothing
else; once a version does it that turns bad by itself. No request fails in either case.
"""

import time
from collections.abc import Callable

import pytest

from tests.cluster import scenes
from tests.cluster.conftest import Lab, Space
from tests.cluster.lab.application import App

POLICY = {"policy": "fast", "steps": "5@3s", "bake": "3s"}

MOMENTS = {
    "first step": ("Judging", 5, "120s"),
    "bake": ("Judging", 95, "120s"),
    "commit": ("Committing", 100, "3s"),
    "roll after the commit": ("Rolling", None, "3s"),
    "hand-back": ("HandingBack", None, "3s"),
}
"""Phase, share of the canary in percent, and how long the bake lasts: its end is met, or never."""

pytestmark = [pytest.mark.timeout(400), pytest.mark.once]

SECOND = "first step"
"""What is tried on the second plane each time; the rest on the first one, and deep on both."""
CASES = [
    pytest.param(
        plane,
        moment,
        id=f"{plane}-{moment}",
        marks=() if (plane == scenes.PLANES[0]) == (moment != SECOND) else pytest.mark.deep,
    )
    for plane in scenes.PLANES
    for moment in MOMENTS
]


async def back_on_stable(scene: scenes.Scene) -> None:
    """Everything is as it was, but for the pause; nobody meets the new version any more."""
    shop, load = scene.shop, scene.load
    ended = time.time()
    await load.until_answered(200)
    assert load.failures == {}
    assert load.answers("v1").bad == 0
    assert load.answers("v2", since=ended + 1.0).total == 0
    assert await shop.ready() == {"v1": 4}
    after = await scene.objects()
    assert after["deployments"]["spec"].pop("paused") is True
    for kind in ("services", "httproutes"):
        assert after[kind] == scene.before[kind]


@pytest.mark.parametrize(("plane", "moment"), CASES)
async def test_stopped(
    lab: Lab, space: Space, app: Callable[..., App], plane: str, moment: str
) -> None:
    phase, share, bake = MOMENTS[moment]
    policy = {**POLICY, "bake": bake}
    scene = await scenes.begun(lab, space, app(gateway=plane), policy=policy)
    await scene.shop.deploy("v2")
    await scene.reached(phase, share=share)
    killed = moment in {"first step", "roll after the commit"}
    await (scene.kill() if killed else scene.abort())
    state = await scene.ended("killed" if killed else "aborted")
    assert state["phase"] == "Held"
    assert scene.load.answers("v2").total > 0
    await back_on_stable(scene)


@pytest.mark.parametrize(
    "plane", [pytest.param("traefik", marks=pytest.mark.deep), "envoy"], ids=scenes.PLANES
)
async def test_a_version_that_turns_bad_in_its_bake(
    lab: Lab, space: Space, app: Callable[..., App], plane: str
) -> None:
    """All its pods were good at first: that is what it was given 95 % for."""
    policy = {**POLICY, "bake": "120s"}
    scene = await scenes.begun(lab, space, app(gateway=plane), policy=policy)
    await scene.shop.deploy("v2", {"ERROR_RATE": "0.5", "ERROR_SECONDS": "40"})
    await scene.reached("Judging", share=95)
    state = await scene.ended("rolled-back")
    assert (state["phase"], state["tripped"]) == ("Held", True)
    assert scene.load.answers("v2").bad > 0
    await back_on_stable(scene)
