# SPDX-License-Identifier: Apache-2.0
"""Without weights: exposure by whole pods, judged by what the pods count, then the native roll."""

import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest

from controller.demo.counts import Track
from tests.cluster import scenes
from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import App, until
from tests.cluster.lab.traffic import Traffic
from tests.cluster.scenes import shipped
from tests.support.realtime import Daemon

POLICY = {"policy": "fast", "traffic": "replicas", "steps": "20@3s", "bake": "3s"}

SHARE = 0.2
"""What one canary pod gets beside four, and what the step allows."""

DRAINS = {"DRAIN_SECONDS": "6"}
"""Longer than a busy gateway may be behind the endpoints."""

SIGMAS = 4.0
"""So far chance may lead a share away from its mean: once in 16,000 looks."""

pytestmark = [pytest.mark.timeout(400), pytest.mark.once]


async def step_over(lab: Lab, space: Space, daemon: Daemon) -> tuple[float, float]:
    """Wait for the step and for its end; returns when it was in force, in seconds since 1970."""
    await records.reached(lab.api, space.system, "Judging", log=daemon.log)
    begin = end = time.time()

    async def over() -> bool:
        nonlocal end
        looked = time.time()
        state = (await records.runs(lab.api, space.system))[-1]
        if state["phase"] != "Judging":
            return True
        end = looked
        return False

    await until(over, 60.0, daemon.log, every=0.05)
    return begin, end


def exposed_as_planned(load: Traffic, begin: float, end: float) -> None:
    """Clients of both kinds got the canary's share in the step, and at no moment before more."""
    for what, share, n in (
        ("gateway", *_share([slot.tracks for slot in load.seen.between(begin, end)])),
        ("direct", *_share([slot.direct for slot in load.seen.between(begin, end)])),
    ):
        error = SIGMAS * (SHARE * (1 - SHARE) / n) ** 0.5
        sys.stderr.write(f"{what}: {share:.3f} of {n} answers, {SHARE:g} ± {error:.3f} expected\n")
        assert n > 100
        assert abs(share - SHARE) <= error, what
    until_then = [slot for slot in load.seen.slots if slot.end <= end]
    for first in range(0, len(until_then), 10):
        second = until_then[first : first + 10]
        share, n = _share([slot.tracks for slot in second])
        assert share <= SHARE + SIGMAS * (SHARE * (1 - SHARE) / max(n, 1)) ** 0.5, second


def _share(slots: list[dict[str, Track]]) -> tuple[float, int]:
    """The new version's share of the answers, and how many there are."""
    found: Counter[str] = Counter()
    for tracks in slots:
        found.update({version: track.total for version, track in tracks.items()})
    return found["v3"] / (found.total() or 1), found.total()


@pytest.mark.parametrize(
    "drain",
    [
        pytest.param(False, id="dies-at-once"),
        pytest.param(True, id="drains", marks=pytest.mark.deep),
    ],
)
async def test_not_more_requests_fail_than_in_a_native_roll(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], drain: bool
) -> None:
    """The same application rolls natively first, and then as a run.

    Whatever fails in the run fails in Kubernetes' own part of it.
    """
    env = DRAINS if drain else {}
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    # A gateway has forgotten the last stable pod when the bake is over.
    await shop.start(annotations={**POLICY, "steps": "20@8s", "bake": "8s"}, env=env)
    load = await lab.load(shop)
    await load.until_answered(scenes.RESTED)
    await shop.deploy("v2", env)
    await shop.complete()
    await load.until_answered(300)
    await load.quiet()
    native, since = load.failures.total(), time.time()
    await daemon.start()
    await shop.adopted()
    gone = scenes.Gone()
    async with scenes.followed(shop, gone.look):
        stable = gone.standing()
        await shop.deploy("v3", env)
        exposed_as_planned(load, *await step_over(lab, own, daemon))
        state = await records.ended(lab.api, own.system, "promoted", daemon.log)
        await load.until_answered(300)
    assert (state["traffic"], state["promotion"]) == ("replicas", "roll")
    assert await shop.ready() == {"v3": 4}
    assert load.answers("v3").total > 100
    ours = load.failures.total() - native
    sys.stderr.write(f"{native} lost in a native roll, {ours} in a run\n")
    scenes.not_more(ours, native, load.failures, spread=scenes.SAME_LAG)
    failed = [at for at in load.failed_at() if at > since]
    await scenes.only_the_roll_cost(lab, own.system, gone, stable, failed)
    if drain:
        assert ours == 0, load.failures


async def test_a_bad_version_meets_a_step_of_whole_pods_and_goes(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    await shop.start(annotations=POLICY)
    await daemon.start()
    await shop.adopted()
    load = await lab.load(shop)
    await shop.deploy("v2", {"ERROR_RATE": "0.5"})
    await records.tripped_in(lab.api, own.system, "Judging", daemon.log, most_bp=2_000)
    await load.until_answered(200)
    assert load.failures == {}
    assert load.answers("v1").bad == 0
    assert load.answers("v2").bad > 0
    assert await shop.ready() == {"v1": 4}


@pytest.mark.parametrize(
    "drain",
    [
        pytest.param(False, id="dies-at-once"),
        pytest.param(True, id="drains", marks=pytest.mark.deep),
    ],
)
async def test_a_version_that_turns_bad_when_it_has_rolled_is_undone(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], drain: bool
) -> None:
    """Its stable pods are gone by then; they come back before the bad ones go."""
    shop, env = app(), DRAINS if drain else {}
    daemon, own = await shipped(gate, lab, space)
    await shop.start(annotations={**POLICY, "bake": "120s"}, env=env)
    await daemon.start()
    await shop.adopted()
    load = await lab.load(shop)
    await shop.deploy("v2", {**env, "ERROR_RATE": "0.5", "ERROR_SECONDS": "60"})
    await records.reached(lab.api, own.system, "Baking", log=daemon.log)
    await load.quiet()
    failed, rolled = load.failures.total(), time.time()
    state = await records.ended(lab.api, own.system, "rolled-back", daemon.log)
    assert state["tripped"]
    await load.until_answered(200)
    assert await shop.ready() == {"v1": 4}
    sys.stderr.write(f"{failed} lost in the roll, {load.failures} in all\n")
    # Its own errors are its own. The way back takes four pods away as the roll did, but when nobody
    # asks them any more.
    assert load.answers("v2").bad > 0
    assert load.answers("v1").bad == 0
    assert [when - rolled for when in load.failed_at() if when > rolled] == []
    if drain:
        assert load.failures == {}


async def test_a_step_that_whole_pods_cannot_make_is_refused_with_the_numbers(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    await shop.start(annotations={**POLICY, "steps": "5@3s"})
    await daemon.start()
    await shop.adopted()
    await shop.deploy("v2")
    state = await records.ended(lab.api, own.system, "", daemon.log)
    assert "1 canary pod beside 4 gets 20 %" in state["reason"]
    assert "19 pods" in state["reason"]
    assert await shop.ready() == {"v1": 4}
    assert (await shop.read("services"))["spec"]["selector"] == {"app": shop.name}
