# SPDX-License-Identifier: Apache-2.0
"""Pipelines that apply what git says every two seconds, in mid-run and at rest.

`docs/gitops.md` has the table that these tests stand behind.
"""

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import App, Object, until
from tests.cluster.lab.worker import Cluster
from tests.cluster.pipelines import (
    SHIFT,
    Pipeline,
    Way,
    applying,
    no_more_writes,
    pipeline,
    rounds,
    theirs,
    written,
)
from tests.cluster.scenes import shipped
from tests.support.realtime import Daemon

pytestmark = [pytest.mark.timeout(600), pytest.mark.once]

ROLL = {**SHIFT, "promotion": "roll"}

ADOPTED = Counter({"deployments/checkout": 1})
"""The annotation `managed` at first sight."""

_PHASES = {"shift": 16, "roll": 12, "bad": 8}
"""Through which a run goes, each told in the Deployment's annotation `status`."""

GOOD_SHIFT = Counter(
    {
        # The epoch and the unpause, and `managed` with the new template.
        "deployments/checkout": _PHASES["shift"] + 3,
        # Made, the epoch, once larger for each of two steps and the bake, three pods less one by
        # one, deleted.
        "deployments/checkout-canary": 9,
        # Pinned to stable; the epoch and the canary; the new pods; unpinned.
        "services/checkout": 5,
        "services/checkout-canary": 2,
        # The canary at 0; the epoch and 5 %; 50 %, the bake, everything; handed back in two parts;
        # restored, and with another write out of `managedFields`.
        "httproutes/checkout": 10,
    }
)
GOOD_ROLL = Counter(
    {
        "deployments/checkout": _PHASES["roll"] + 3,
        # Two steps and no bake of its own: two pods.
        "deployments/checkout-canary": 7,
        # Pinned to stable; the epoch and all pods; the new ones; unpinned.
        "services/checkout": 5,
        "services/checkout-canary": 2,
        # The canary at 0; the epoch and 5 %; 50 %; restored in two writes.
        "httproutes/checkout": 6,
    }
)
BAD = Counter(
    {
        "deployments/checkout": _PHASES["bad"],
        # Made, the epoch, one pod, none, deleted.
        "deployments/checkout-canary": 5,
        # Pinned to stable, unpinned.
        "services/checkout": 2,
        "services/checkout-canary": 2,
        # The canary at 0; the epoch and 5 %; 0; restored in two writes.
        "httproutes/checkout": 6,
    }
)
PUT_BACK = Counter({"deployments/checkout": 3})
"""The pause and the hold taken off in one write, and two phases."""


def at_version(before: dict[str, Object], git: Pipeline) -> dict[str, Object]:
    """What stood before, with git's containers."""
    wanted = git.objects[0]["spec"]["template"]["spec"]["containers"][0]
    made = before["deployments"]["spec"]["template"]["spec"]["containers"][0]
    made["image"] = wanted["image"]
    return before


@pytest.mark.parametrize(
    ("way", "policy"),
    [
        # Both styles always where there is most to lose: by force everything is taken that a
        # promotion by shift touches, and a 3-way patch leaves it. A roll has the pin alone to lose.
        pytest.param(Way.FLUX, SHIFT, id="flux-shift"),
        pytest.param(Way.ARGO, SHIFT, id="argo-shift"),
        pytest.param(Way.FLUX, ROLL, id="flux-roll", marks=pytest.mark.deep),
        pytest.param(Way.ARGO, ROLL, id="argo-roll", marks=pytest.mark.deep),
    ],
)
async def test_a_pipeline_and_a_run_do_not_fight(
    *,
    gate: Installed,
    lab: Lab,
    space: Space,
    app: Callable[..., App],
    way: Way,
    policy: dict[str, str],
) -> None:
    """A good version, then a bad one, then git is put back."""
    shop = app()
    env = {"DRAIN_SECONDS": "4"} if policy is ROLL else {}
    daemon, own = await shipped(gate, lab, space)
    git = await asyncio.to_thread(
        pipeline, lab.cluster, shop, way, annotations=policy, env=env, replicas=3
    )
    await git.applied()
    await shop.complete()
    before = theirs(await shop.of_git())
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    async with applying(git):
        git.commit("v2", env)
        await records.reached(lab.api, own.system, "Judging", log=daemon.log)
        await records.ended(lab.api, own.system, "promoted", daemon.log)
        await records.journal(lab.api, own.system)
        assert load.failures == {}
        await shop.complete()
        assert await shop.ready() == {"v2": 3}
        assert theirs(await shop.of_git()) == at_version(before, git)
        await no_more_writes(lab.cluster, git)
        assert await git.drift() == []

        git.commit("v3", {**env, "ERROR_RATE": "0.5"})
        await _second(lab, own, "Judging", daemon)
        await records.tripped_in(lab.api, own.system, "Judging", daemon.log, most_bp=500)
        await records.journal(lab.api, own.system)
        assert await shop.ready() == {"v2": 3}
        await no_more_writes(lab.cluster, git)
        assert await git.drift() == []

        git.commit("v2", env)
        await until(lambda: _resumed(shop), 60.0, daemon.log())
        await shop.complete()
        await no_more_writes(lab.cluster, git)
        assert theirs(await shop.of_git()) == before
        assert await git.drift() == []
    assert load.failures == {}
    assert load.answers("v3").bad > 0
    assert git.refusals == []
    good = GOOD_ROLL if policy is ROLL else GOOD_SHIFT
    assert too_many(lab.cluster, space, ADOPTED + good + BAD + PUT_BACK) == {}


def too_many(cluster: Cluster, space: Space, needed: Counter[str]) -> dict[str, tuple[int, int]]:
    """By object how often it was written and how often it may be, where the former is more.

    What a pipeline applies all the time costs no write of ours: without it they are as many. Events
    tell people and are no part of anything that git has.
    """
    counted = written(cluster, space.name)
    sys.stderr.write(f"writes: {dict(counted)}\n")
    return {
        name: (count, needed[name])
        for name, count in counted.items()
        if count > needed[name] and not name.startswith("events/")
    }


async def _resumed(app: App) -> bool:
    return not (await app.read("deployments"))["spec"].get("paused")


async def _second(lab: Lab, own: Space, phase: str, daemon: Daemon) -> None:
    """Until the second run has come so far."""

    async def look() -> bool:
        found = await records.runs(lab.api, own.system)
        return len(found) > 1 and found[-1]["phase"] in {phase, *records.AT_REST}

    await until(look, 90.0, daemon.log())


async def timeout_of(shop: App) -> str | None:
    """What the route's only rule says of it now."""
    rule = (await shop.read("httproutes"))["spec"]["rules"][0]
    found: str | None = rule.get("timeouts", {}).get("request")
    return found


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(Way.HELM, id="helm"),
        pytest.param(Way.HELM_3, id="helm-3", marks=pytest.mark.deep),
    ],
)
async def test_helm_upgrades_in_mid_run(
    *, gate: Installed, lab: Lab, space: Space, app: Callable[..., App], way: Way
) -> None:
    """Releases that change every object's labels, once the version, and once a rule of the route.

    The rule is taken as the chart has it, but for the canary's share.
    """
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    git = await helm(lab, shop, way)
    before = theirs(await shop.of_git())
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    async with applying(git):
        git.commit("v2")
        await records.reached(lab.api, own.system, "Judging", log=daemon.log)
        git.edit_route("9s")
        await rounds(git, 2)
        edited, shared = await timeout_of(shop), await shop.weights()
        await records.ended(lab.api, own.system, "promoted", daemon.log)
        assert edited == "9s"
        assert shared.keys() == {shop.name, f"{shop.name}-canary"}
        await shop.complete()
        before["httproutes"]["spec"]["rules"][0]["timeouts"] = {"request": "9s"}
        assert theirs(await shop.of_git()) == at_version(before, git)
        await no_more_writes(lab.cluster, git)
    assert load.failures == {}
    assert git.refusals == []
    await records.journal(lab.api, own.system)
    assert too_many(lab.cluster, space, ADOPTED + GOOD_SHIFT) == {}


@pytest.mark.deep
async def test_helm_without_force_conflicts_over_our_part_alone(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """As `docs/gitops.md` says of Helm 4: the rest is applied, and after the run all of it."""
    shop = app()
    daemon, own = await shipped(gate, lab, space)
    git = await helm(lab, shop, Way.HELM_UNFORCED)
    before = theirs(await shop.of_git())
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    async with applying(git):
        git.commit("v2")
        await records.reached(lab.api, own.system, "Judging", log=daemon.log)
        refused = len(git.refusals)
        await rounds(git, 1)
        assert len(git.refusals) > refused
        await records.ended(lab.api, own.system, "promoted", daemon.log)
        await shop.complete()
        await no_more_writes(lab.cluster, git)
        assert theirs(await shop.of_git()) == at_version(before, git)
    assert load.failures == {}
    found = {conflict for told in git.refusals for conflict in _conflicts(told)}
    assert found == {("switchgear", ".spec.selector"), ("switchgear", ".spec.rules")}
    assert all(_conflicts(told) for told in git.refusals)

    refused = len(git.refusals)
    await git.applied()
    git.edit_route("9s")
    await git.applied()
    assert git.refusals[refused:] == []
    assert await timeout_of(shop) == "9s"


def _conflicts(told: str) -> list[tuple[str, str]]:
    """Whose fields an upgrade ran into; told once by Kubernetes, and again by Helm around it."""
    return sorted(set(re.findall(r'conflict with "([^"]+)" using \S+: (\S+)', told)))


async def helm(lab: Lab, shop: App, way: Way) -> Pipeline:
    """A first release, at rest."""
    git = await asyncio.to_thread(pipeline, lab.cluster, shop, way, annotations=SHIFT, replicas=3)
    await git.applied()
    assert git.refusals == []
    await shop.complete()
    return git
