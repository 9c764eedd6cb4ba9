# SPDX-License-Identifier: Apache-2.0
"""Promotion by shift is stopped in each of its phases, under load, on both data planes.

By a person, with an abort or the kill latch; and by the breaker, because of a version that turns
bad after it was found good. No request fails in either case.
"""

import time
from collections.abc import Callable

import pytest

from tests.cluster import scenes
from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab.application import App

POLICY = {"policy": "fast", "steps": "5@3s", "bake": "3s"}

MOMENTS = {
    "kill in the first step": ("Judging", 5, "120s"),
    "abort in the bake": ("Judging", 95, "120s"),
    "abort in the commit": ("Committing", 100, "3s"),
    "kill in the roll after the commit": ("Rolling", None, "3s"),
    "abort in the hand-back": ("HandingBack", None, "3s"),
}
"""Phase, share of the canary in percent, and how long the bake lasts: its end is met, or never."""

pytestmark = [pytest.mark.timeout(400), pytest.mark.once]

TRIPPED = {"abort in the bake", "abort in the commit"}
"""Where the breaker ends a run as well, by the same rules: the person's way there is deep."""
SECOND = "kill in the first step"
"""What is tried on the second plane each time; the rest on the first one, and deep on both."""


def _always(plane: str, moment: str) -> bool:
    first = plane == scenes.PLANES[0]
    return moment not in TRIPPED and first == (moment != SECOND)


CASES = [
    pytest.param(
        plane,
        moment,
        id=f"{plane}-{moment}",
        marks=() if _always(plane, moment) else pytest.mark.deep,
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
async def test_a_person_stops_it(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], *, plane: str, moment: str
) -> None:
    phase, share, bake = MOMENTS[moment]
    policy = {**POLICY, "bake": bake}
    scene = await scenes.begun(gate, lab, space, app(gateway=plane), policy=policy)
    await scene.shop.deploy("v2")
    await scene.reached(phase, share=share)
    killed = moment.startswith("kill")
    await (scene.kill() if killed else scene.abort())
    state = await scene.ended("killed" if killed else "aborted")
    assert state["phase"] == "Held"
    assert scene.load.answers("v2").total > 0
    await back_on_stable(scene)


TURNS: dict[str, tuple[str, float, tuple[str, ...]]] = {
    "bake": ("Judging", 0.0, ()),
    "commit": ("Committing", 5.0, ("--drain-seconds=10",)),
    "roll after the commit": ("Rolling", 11.0, ()),
}
"""In which phase a version turns bad: how many seconds before that the run is let go on, from its
bake under way; and what makes the phase last. In the second and third all requests are its own."""

BAD_AT = 40.0
"""Age of a pod in seconds; no machine needs as long from the first canary pod to the bake."""


@pytest.mark.parametrize(
    ("plane", "moment"),
    [
        pytest.param(
            plane,
            moment,
            id=f"{plane}-{moment}",
            marks=() if (plane == scenes.PLANES[0]) == (moment != "bake") else pytest.mark.deep,
        )
        for plane in scenes.PLANES
        for moment in TURNS
    ],
)
async def test_a_version_that_turns_bad_trips_the_breaker(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], *, plane: str, moment: str
) -> None:
    """All its pods were good at first: that is what it was given its share for."""
    phase, before, options = TURNS[moment]
    policy = {**POLICY, "steps": "50@3s", "bake": "120s" if moment == "bake" else "3s"}
    scene = await scenes.begun(
        gate, lab, space, app(gateway=plane), policy=policy, options=options, minReadySeconds=6
    )
    await scene.shop.deploy("v2", {"ERROR_RATE": "0.5", "ERROR_SECONDS": str(BAD_AT)})
    await scene.reached("Judging", share=95)
    if moment != "bake":
        await scene.in_time_for(BAD_AT - before)
        await scene.reached(phase, share=100)
    await scene.tripped_in(phase)
    assert scene.load.answers("v2").bad > 0
    await back_on_stable(scene)
