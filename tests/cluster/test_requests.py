# SPDX-License-Identifier: Apache-2.0
"""Whole runs by shift under load, on both data planes: no request fails but by its own version."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime

import pytest

from tests.cluster import scenes
from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import App, Object
from tests.cluster.lab.traffic import Traffic

POLICY = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s"}

# Whole runs in real time, each with two dozen processes.
pytestmark = [pytest.mark.timeout(400), pytest.mark.once]


@pytest.mark.parametrize("pods", scenes.DRAINS)
@pytest.mark.parametrize("plane", scenes.PLANES)
async def test_a_good_version_is_promoted_without_one_failed_request(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], *, plane: str, pods: str
) -> None:
    env = scenes.DRAINS[pods]
    scene = await scenes.begun(gate, lab, space, app(gateway=plane), policy=POLICY, env=env)
    shop, load = scene.shop, scene.load
    await shop.deploy("v2", env)
    await scene.ended("promoted")
    await load.until_answered(100)
    assert load.failures == {}
    assert load.answers("v1").total > 100
    assert load.answers("v2").total > 100
    await shop.complete()
    assert await shop.ready() == {"v2": 4}
    expected = scene.before
    (container,) = expected["deployments"]["spec"]["template"]["spec"]["containers"]
    container["image"] = "registry.example/app:v2"
    assert await scene.objects() == expected
    weights_were_held(load, await records.journal(lab.api, scene.space.system))


@pytest.mark.parametrize("plane", scenes.PLANES)
async def test_a_bad_version_is_held_and_only_its_own_answers_were_bad(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], plane: str
) -> None:
    scene = await scenes.begun(gate, lab, space, app(gateway=plane), policy=POLICY)
    shop, load = scene.shop, scene.load
    await shop.deploy("v2", {"ERROR_RATE": "0.5"})
    await scene.tripped_in("Judging", most_bp=500)
    await load.until_answered(100)
    assert load.failures == {}
    # Nobody but those who were sent to the canary met an error.
    assert load.answers("v1").bad == 0
    assert load.answers("v2").bad > 0
    assert load.direct().keys() == {"v1"}
    assert await shop.ready() == {"v1": 4}
    after = await scene.objects()
    assert after["deployments"]["spec"].pop("paused") is True
    for kind in ("services", "httproutes"):
        assert after[kind] == scene.before[kind]


def weights_were_held(load: Traffic, journal: Sequence[Object]) -> None:
    """What clients got of the new version is what each step said, as far as chance allows.

    From the moment from which answers are counted as evidence it is no less either: the weight was
    in force, and not merely accepted.
    """
    left = 0.0
    rungs = [(_time(one), one["body"]["weight_bp"] / 10_000) for one in _moves(journal, to=True)]
    for (opened, weight), last in zip(rungs, _moves(journal, to=False), strict=True):
        until = _time(last)
        most, of = _share(load, left, until)
        assert most <= weight * of + _chance(weight, of), (weight, most, of)
        found, of = _share(load, opened, until)
        assert of > 100, (weight, of)
        assert abs(found - weight * of) <= _chance(weight, of), (weight, found, of)
        left = until
    assert [weight for _, weight in rungs] == [0.05, 0.5, 0.95]


def _moves(journal: Sequence[Object], *, to: bool) -> list[Object]:
    """The decisions that open the evidence window of a step, or that close it."""
    decisions = [one for one in journal if one["kind"] == "decision"]
    return [
        one
        for one in decisions
        if one["body"]["to" if to else "from"] == "Judging"
        and one["body"]["from"] != one["body"]["to"]
    ]


def _time(decision: Object) -> float:
    stamp: str = decision["body"]["decided_at"]
    return datetime.fromisoformat(stamp).timestamp()


def _share(load: Traffic, start: float, end: float) -> tuple[int, int]:
    """Answers of the new version, and of both, between two moments."""
    tracks = [slot.tracks for slot in load.seen.between(start, end)]
    found = [sum(t[v].total for t in tracks if v in t) for v in ("v1", "v2")]
    return found[1], sum(found)


def _chance(weight: float, of: int) -> float:
    """Five standard deviations of independent draws, which both data planes stay well below."""
    return 5.0 * math.sqrt(of * weight * (1 - weight)) + 1
