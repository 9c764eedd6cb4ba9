# SPDX-License-Identifier: Apache-2.0
"""The controller is taken away in mid-run, and a person ends the run with the runbook's commands.

They are typed word for word, with the admission policies still there or not. While the shipped
roles are there too, the way back is taken by somebody who has no other rights than these; whatever
comes after the uninstallation, which takes them along, is an administrator's.

Once it is a process that is killed at the worst moment, and once pods that are uninstalled by the
commands that `docs/kubernetes.md` prints: that takes seconds, in which the controller still acts
while its documents, its rights and its lease go one by one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import QUICK, Lab, Space
from tests.cluster.installed import SYSTEM, installed, unguarded, without_pods
from tests.cluster.lab import records
from tests.cluster.lab.application import PREFIX, App, until
from tests.cluster.lab.traffic import Traffic
from tests.cluster.lab.worker import Cluster
from tests.cluster.replicas import log, pods, printed
from tests.manifests.rendered import kustomized
from tests.support.realtime import Daemon
from tests.support.runbook import blocks, typed

pytestmark = [pytest.mark.timeout(600), pytest.mark.once]

SHIFT = {"policy": "fast", "steps": "50@3s", "bake": "3s", "warm-up": "2s"}
ROLL = {**SHIFT, "promotion": "roll"}
LASTING = {**ROLL, "bake": "10m"}
WAITING = {**SHIFT, "steps": "50@10m"}
PODS = {**SHIFT, "traffic": "replicas"}
ENV = {"DRAIN_SECONDS": "4"}
"""Under a native roll only pods that drain fail nothing, whoever is there or not."""

IMAGE_3 = "registry.example/app:v3"
BLOCK_SECONDS = 240.0

Typist = Callable[..., Awaitable[None]]
"""Is given names of blocks, and a kubeconfig."""


def uninstall(cluster: Cluster, *, policies: bool) -> None:
    """Delete the manifests: the policies first if at all, so that nothing is kept from going."""
    for folder in ("admission", "base") if policies else ("base",):
        text = yaml.safe_dump_all(without_pods(kustomized(folder)))
        cluster.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=text)


def hand(cluster: Cluster, namespace: str) -> Path:
    """A person with the roles that `docs/kubernetes.md` names for the runbook, in a namespace."""
    for role in ("hand", "releaser"):
        bind = ("create", "rolebinding", f"oncall-{role}", f"--clusterrole=switchgear-{role}")
        cluster.kubectl(*bind, "--user=oncall", "-n", namespace)
    return cluster.kubeconfig_for("oncall")


async def stopped_in(phase: str, lab: Lab, shop: App, daemon: Daemon) -> None:
    """A run whose controller is killed in this phase, at the worst moment of it."""
    await shop.deploy("v2", ENV)
    if phase == "Orphaning":
        await records.reached(lab.api, SYSTEM, "Baking", log=daemon.log)
        abort = {"metadata": {"annotations": {PREFIX + "abort": "true"}}}
        assert (await shop.patch("deployments", abort)).status == 200
    await records.reached(lab.api, SYSTEM, phase, log=daemon.log)
    if phase in {"Rolling", "RollingOut"}:
        await until(lambda: _rolls(shop), 60.0, daemon.log())
    daemon.kill()
    await daemon.ended()
    if phase in {"Rolling", "RollingOut"}:
        # The roll goes on by itself, until no stable pod is left.
        await until(lambda: _replaced(shop), 60.0, "all pods are new")


async def _rolls(shop: App) -> bool:
    return not (await shop.read("deployments"))["spec"].get("paused")


async def _replaced(shop: App) -> bool:
    return (await shop.ready())["v1"] == 0


@pytest.mark.parametrize(
    ("phase", "way", "policy", "policies_go"),
    [
        ("Judging", "before", SHIFT, False),
        ("Rolling", "after", SHIFT, False),
        pytest.param("Rolling", "after", SHIFT, True, marks=pytest.mark.deep),
        pytest.param("RollingOut", "roll", ROLL, False, marks=pytest.mark.deep),
        pytest.param("Baking", "roll", LASTING, True, marks=pytest.mark.deep),
        pytest.param("Orphaning", "roll", LASTING, True, marks=pytest.mark.deep),
        pytest.param("Judging", "roll", PODS, False, id="pods-judging"),
        pytest.param(
            "RollingOut", "roll", PODS, False, id="pods-rolling-out", marks=pytest.mark.deep
        ),
    ],
)
async def test_a_person_ends_the_run_by_the_runbook(
    *,
    lab: Lab,
    space: Space,
    app: Callable[..., App],
    phase: str,
    way: str,
    policy: dict[str, str],
    policies_go: bool,
) -> None:
    shop, cluster, routed = app(), lab.cluster, policy is not PODS
    type_in = typist(cluster, shop, routed=routed)
    async with installed(cluster, "base", "admission") as gate:
        own = Space(name=space.name, system=SYSTEM)
        daemon = lab.daemon(own, kubeconfig=gate.controller, options=QUICK)
        await shop.start(annotations=policy, env=ENV, replicas=2)
        before = await shop.of_git()
        await daemon.start()
        await shop.adopted(daemon.log)
        load = await lab.load(shop)
        await stopped_in(phase, lab, shop, daemon)
        user = cluster.kubeconfig
        if policies_go:
            await asyncio.to_thread(uninstall, cluster, policies=True)
        else:
            user = await asyncio.to_thread(hand, cluster, space.name)
        weights, exposed = await shop.weights(), load.answers("v2").total
        await load.until_answered(300)
        assert await shop.weights() == weights, "traffic stays where it was"
        assert load.answers("v2").total > exposed + 50, "the new version has its part"
        await type_in(way, user)
        if not policies_go:
            await asyncio.to_thread(uninstall, cluster, policies=False)
        assert (await shop.ready())["v1"] == 2
        await until(lambda: _stands_still(load), 30.0, "nobody is sent to the new version")
        await type_in("detach restore" if routed else "restore")
        await asyncio.to_thread(uninstall, cluster, policies=True)
        await until(lambda: _forgotten(type_in, shop), 60.0, "no mark of ours is left")
    assert await shop.ready() == {"v1": 2}
    for kind in await shop.of_git():
        assert [item["metadata"]["name"] for item in await shop.every(kind)] == [shop.name]
    assert await shop.of_git() == before
    await load.until_answered(100)
    assert load.failures == {}


def typist(cluster: Cluster, shop: App, *, routed: bool = True) -> Typist:
    """Types blocks of the runbook about an application, by default as an administrator.

    A run without a route leaves `R` empty, whether the application has one or not.
    """
    names = {
        "NS": shop.namespace,
        **dict.fromkeys("DSR", shop.name),
        "K": "httproute",
        "APP": f"app={shop.name}",
    }
    if not routed:
        names["R"] = ""

    async def type_in(names_of_blocks: str, user: Path = cluster.kubeconfig) -> None:
        await typed(blocks(*names_of_blocks.split()), user, names, BLOCK_SECONDS)

    return type_in


BY_HELM = ("install-by-helm", "uninstall-by-helm")
BY_KUBECTL = ("install", "uninstall-in-mid-run")


@pytest.mark.parametrize(
    ("commands", "phase", "way", "policy"),
    [
        pytest.param(BY_KUBECTL, "Judging", "before", WAITING, id="kubectl-judging"),
        pytest.param(
            BY_KUBECTL, "Rolling", "after", SHIFT, id="kubectl-rolling", marks=pytest.mark.deep
        ),
        pytest.param(BY_HELM, "Baking", "roll", LASTING, id="helm-baking", marks=pytest.mark.deep),
        pytest.param(BY_HELM, "Rolling", "after", SHIFT, id="helm-rolling", marks=pytest.mark.deep),
        pytest.param(
            BY_KUBECTL, "RollingOut", "roll", ROLL, id="kubectl-out", marks=pytest.mark.deep
        ),
    ],
)
async def test_pods_of_the_controller_are_uninstalled_as_it_is_printed(
    *,
    lab: Lab,
    app: Callable[..., App],
    commands: tuple[str, str],
    phase: str,
    way: str,
    policy: dict[str, str],
) -> None:
    shop, cluster = app(), lab.cluster
    type_in = typist(cluster, shop)

    def told() -> str:
        return log(cluster)

    # Their roll takes longer than the uninstallation.
    slow = {"minReadySeconds": 15} if phase in {"Rolling", "RollingOut"} else {}
    await shop.start(annotations=policy, env=ENV, replicas=4, **slow)
    before = await shop.of_git()
    async with printed(cluster, lab.folder, commands[0]) as checkout:
        await shop.adopted(told)
        load = await lab.load(shop)
        await shop.deploy("v2", ENV)
        await records.reached(lab.api, SYSTEM, phase, log=told)
        if phase in {"Rolling", "RollingOut"}:
            await until(lambda: _rolls(shop), 60.0, told)
        share = await shop.weights()
        await checkout.types(commands[1])
        await until(lambda: _no_pods(cluster), 40.0, told)
        assert await shop.weights() == share, "the last capped weight"
        if phase in {"Rolling", "RollingOut"}:
            await until(lambda: _replaced(shop), 150.0, "all pods are new")
        await load.until_answered(300)
        assert await shop.weights() == share, "nobody is left to change it"
        await type_in(way)
        assert (await shop.ready())["v1"] == 4
        await until(lambda: _stands_still(load), 30.0, "nobody is sent to the new version")
        await type_in("detach restore")
        await until(lambda: _forgotten(type_in, shop), 60.0, "no mark of ours is left")
        assert await shop.ready() == {"v1": 4}
        assert await shop.of_git() == before
        await load.until_answered(100)
        assert load.failures == {}


async def test_at_rest_the_team_keeps_its_objects_alone(lab: Lab, app: Callable[..., App]) -> None:
    """After a promotion; whoever uninstalls has taken the policy away, as it is printed.

    From then on nothing is held, with the admission policies and the controller still there: so a
    namespace is left as well that is to be watched no more.
    """
    shop, cluster = app(), lab.cluster
    await shop.start(annotations=SHIFT, env=ENV, replicas=2)
    before = await shop.of_git()
    async with printed(cluster, lab.folder, "install") as checkout:
        await shop.adopted(lambda: log(cluster))
        load = await lab.load(shop)
        await shop.deploy("v2", ENV)
        await records.ended(lab.api, SYSTEM, "promoted", lambda: log(cluster))
        away = ("annotate", "deployment", shop.name, "-n", shop.namespace, f"{PREFIX}policy-")
        await asyncio.to_thread(cluster.kubectl, *away)
        await until(lambda: _let_go(shop), 60.0, lambda: log(cluster))
        await shop.deploy("v3", ENV)
        await shop.complete()
        assert await shop.ready() == {"v3": 2}
        await checkout.types("uninstall")
        assert pods(cluster) == []
        named = ("-A", "-l", "app.kubernetes.io/name=switchgear", "-o", "name")
        kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,namespaces"
        assert cluster.kubectl("get", kinds, *named, "--ignore-not-found") == ""
        before["deployments"]["spec"]["template"]["spec"]["containers"][0]["image"] = IMAGE_3
        del before["deployments"]["metadata"]["annotations"][PREFIX + "policy"]
        assert await shop.of_git() == before
        await unguarded(cluster)
        assert await shop.ready() == {"v3": 2}
        assert load.failures == {}


async def _let_go(shop: App) -> bool:
    return await shop.annotation("managed") is None


async def _no_pods(cluster: Cluster) -> bool:
    """Helm does not wait for them."""
    return not pods(cluster)


async def _stands_still(load: Traffic) -> bool:
    """A gateway follows a weight within some seconds."""
    answered = load.answers("v2").total
    await load.until_answered(200)
    return load.answers("v2").total == answered


async def _forgotten(type_in: Typist, shop: App) -> bool:
    """The policies may be obeyed for a moment after they are gone: who is refused types again."""
    try:
        await type_in("forget")
    except AssertionError as refused:
        if "denied request" not in str(refused):
            raise
        return False
    found = await shop.of_git()
    return not any(
        key.startswith(PREFIX) and key.removeprefix(PREFIX) not in ROLL | PODS
        for obj in found.values()
        for key in obj["metadata"].get("annotations") or {}
    )


async def test_the_namespace_goes_while_the_policies_are_there(cluster: Cluster) -> None:
    """Its ConfigMaps are deleted as a collection, documents and latch among them."""
    async with installed(cluster, "base", "admission") as found:
        make = ("create", "configmap", "-n", SYSTEM)
        for name in ("r1", "switchgear-cluster", "switchgear-kill", "mine"):
            found.as_controller(*make, name, "--from-literal=a=b")
        found.as_controller("label", "configmap", "r1", "-n", SYSTEM, f"{PREFIX}run=r1")
        cluster.kubectl("delete", "namespace", SYSTEM, "--wait=false")

        async def gone() -> bool:
            get = ("get", "namespace", SYSTEM, "--ignore-not-found", "-o", "name")
            return not await asyncio.to_thread(cluster.kubectl, *get)

        await until(gone, 60.0, "the namespace is gone")
