# SPDX-License-Identifier: Apache-2.0
"""An API server before 1.36, which does not serve the mutating policies, with what is meant for it.

The lab's own server emulates the oldest version that it can: its kinds, its defaults, and of CEL
what that version compiles.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
import yaml

from tests.cluster import scenes
from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed, installed, without_pods
from tests.cluster.lab import network, records, worker
from tests.cluster.lab.application import UNHURRIED, App, new_version
from tests.cluster.lab.worker import Cluster, Refusal
from tests.cluster.people import Desk, P, enter
from tests.cluster.pipelines import Way, applying, rounds, without_route
from tests.manifests.rendered import key, kustomized

pytestmark = [pytest.mark.timeout(400), pytest.mark.once]

MINOR = "34"
NOT_SERVED = {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}
POLICY = {"policy": "fast", "steps": "25@3s", "bake": "3s"}


@pytest.fixture(scope="module")
def cluster(cluster: Cluster) -> Iterator[Cluster]:
    """A second cluster for this file, beside the worker's, to whose network the thread returns."""
    folder = cluster.folder / "older"
    with network.aside(), worker.started(folder, emulates=f"1.{MINOR}") as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(cluster: Cluster) -> AsyncIterator[Installed]:
    """What is to be applied there."""
    async with installed(cluster, "overlays/before-1.36") as found:
        yield found


def test_the_overlay_for_newer_servers_is_refused_for_its_mutating_kinds_alone(
    cluster: Cluster,
) -> None:
    """The command names them and fails; it has applied the rest, which is what belongs there."""
    version = json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]
    assert (version["emulationMinor"], version["minCompatibilityMinor"]) == (MINOR, MINOR)
    objects = without_pods(kustomized("overlays/central"))
    apply = ("apply", "--server-side", "-f", "-")
    with pytest.raises(Refusal) as caught:
        cluster.kubectl(*apply, stdin=yaml.safe_dump_all(objects))
    found = re.findall(r'name: "(\S+)" .* no matches for kind "(\w+)"', str(caught.value))
    refused = [item for item in objects if item["kind"] in NOT_SERVED]
    assert sorted(found) == sorted((item["metadata"]["name"], item["kind"]) for item in refused)
    right = without_pods(kustomized("overlays/before-1.36"))
    there = cluster.kubectl("get", "-o", "json", "-f", "-", stdin=yaml.safe_dump_all(right))
    assert {key(item) for item in json.loads(there)["items"]} == {
        key(item) for item in objects if item not in refused
    }


@pytest.mark.deep
async def test_a_forced_apply_is_refused_until_the_run_is_over(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """As Flux does it: what would take our pin is refused as a whole, and goes through afterwards.

    The route is not in its git.
    """
    shop = app()
    git, daemon, own, load = await without_route(
        gate, lab, space, shop, way=Way.FLUX, policy=POLICY
    )
    async with applying(git):
        git.commit("v2", UNHURRIED)
        await records.ended(lab.api, own.system, "promoted", daemon.log)
        refused = list(git.refusals)
        await rounds(git, 2)
        now = len(git.refusals)
        await rounds(git, 2)
        assert len(git.refusals) == now, git.refusals[now:]
        await shop.complete()
        assert await git.drift() == []
    assert refused
    assert all("services" in told and "switchgear" in told for told in refused), refused
    assert load.failures == {}


async def test_a_good_version_is_promoted_and_a_bad_one_goes_back(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Each change is held by the controller, which watches, and is judged."""
    scene = await scenes.begun(gate, lab, space, app(), policy=POLICY, env=UNHURRIED)
    shop, load = scene.shop, scene.load
    answer = await shop.patch("deployments", new_version("v2", UNHURRIED))
    assert answer.status == 200
    assert "paused" not in answer.json["spec"], "no policy holds it"
    await scene.reached("Judging")
    await scene.pause(on=True)
    await asyncio.to_thread(_guarded, gate, shop)
    await scene.pause(on=False)
    await scene.ended("promoted")
    await shop.complete()
    assert await shop.ready() == {"v2": 4}
    await shop.deploy("v3", {**UNHURRIED, "ERROR_RATE": "0.5"})
    await scene.reached("Judging")
    await scene.tripped_in("Judging", most_bp=2_500)
    assert await shop.ready() == {"v2": 4}
    assert load.answers("v3").bad > 0
    assert load.answers("v1").bad + load.answers("v2").bad == 0
    assert load.failures == {}


def _guarded(gate: Installed, shop: App) -> None:
    """While a run is on each policy that guards it refuses a developer what it is there for."""
    alice, bob = enter(gate.cluster, shop.namespace)
    desk = Desk(app=shop, gate=gate, alice=alice, bob=bob)
    mark = f"{P}track=canary"
    weight = [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 9_000}]
    labelled = {"spec": {"template": {"metadata": {"labels": {P + "track": "canary"}}}}}
    unpinned = {"spec": {"selector": {"pod-template-hash": None}}}
    attempts: dict[str, Callable[[], object]] = {
        "deployment": lambda: desk.kubectl("annotate", "deployment/checkout", f"{P}policy-"),
        "canary": lambda: desk.kubectl("set", "env", "deployment/checkout-canary", "A=b"),
        "track": lambda: desk.kubectl("label", "deployment/checkout", mark),
        "template": lambda: desk.patch(labelled),
        "service": lambda: desk.patch(unpinned, kind="service"),
        "route": lambda: desk.patch(weight, kind="httproute"),
    }
    for name, attempt in attempts.items():
        with pytest.raises(Refusal, match=f"'switchgear-guard-{name}'"):
            attempt()
