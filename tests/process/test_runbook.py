# SPDX-License-Identifier: Apache-2.0
"""The way back by hand, typed exactly as `docs/runbook.md` prints it, with a real kubectl.

Nobody tries these commands before the night in which they are needed, so they are tried here.
"""

import asyncio
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.routers import gateway_api
from controller.core.effects import SplitRef
from controller.core.values import RouteRef
from controller.engine.observe import Bounds
from controller.sim import manifests
from controller.sim.apiserver.serve import serving
from controller.sim.world import World
from tests.engine.house import House
from tests.support.realtime import ROOT, configured, real_world, until
from tests.support.runbook import blocks, typed

pytestmark = pytest.mark.slow

Json = dict[str, Any]
POLICY = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/warm-up": "1s",
    "switchgear.dev/steps": "5@1s",
    "switchgear.dev/bake": "1s",
}
QUICK = Bounds(settle_seconds=0.6, drain_seconds=0.2, ready_seconds=20.0, roll_seconds=30.0)
ROLL = {**POLICY, "switchgear.dev/promotion": "roll", "switchgear.dev/bake": "10m"}
PODS = {**POLICY, "switchgear.dev/steps": "50@1s", "switchgear.dev/bake": "10m"}
"""Without a route: two canary pods beside two."""
NAMES = {
    "NS": "shop",
    **dict.fromkeys("DSR", "checkout"),
    "K": "httproute",
    "APP": "app=checkout",
}
LATCH = "kubectl create configmap switchgear-kill -n switchgear --from-literal=all=by-hand"


def _second_rule(route: Json) -> None:
    """Beside the rule that clients use: one in which the Service has a neighbour."""
    refs = [{"name": "checkout", "port": 80, "weight": 7}, {"name": "other", "port": 80}]
    match = {"path": {"type": "PathPrefix", "value": "/rest"}}
    route["spec"]["rules"].append({"matches": [match], "backendRefs": [*refs]})


async def _stopped_in(
    world: World, phase: str, policy: Mapping[str, str] = POLICY, *, routed: bool = True
) -> House:
    """A rollout whose controller is gone for good in this phase."""
    about: Json = {"annotations": dict(policy), "replicas": 2}
    await world.shop(rate=2000.0, direct_rate=50.0, route=routed, **about)
    if routed:
        world.create(manifests.service("shop", "other"))
        world.edit("httproutes", "shop", "checkout", _second_rule)
    house = House(world, QUICK, routed=routed)
    await house.start()
    try:
        await until(
            lambda: (
                "switchgear.dev/managed"
                in world.get("deployments", "shop", "checkout")["metadata"]["annotations"]
            ),
            20.0,
        )
        world.set_image("shop", "checkout", "registry.example/app:v2")
        await house.reaches(phase, within=40.0)
        if phase in {"Rolling", "RollingOut"}:
            await until(
                lambda: not world.get("deployments", "shop", "checkout")["spec"].get("paused"), 10.0
            )
    finally:
        await house.stop()
    if phase in {"Rolling", "RollingOut"}:
        # The worst case: the roll goes on by itself, and no stable pod is left.
        await until(lambda: world.ready_pods("v1") == 0, 10.0)
    return house


async def _back(phase: str, name: str, folder: Path) -> None:
    async with real_world() as world, serving(world.api) as url:
        kubeconfig = configured(folder, url)
        house = await _stopped_in(world, phase)
        assert LATCH in (ROOT / "docs" / "runbook.md").read_text()
        await typed(f"{LATCH}\n{blocks(name)}", kubeconfig, NAMES)
        assert world.weights("checkout") == {"checkout": 10_000, "checkout-canary": 0}
        rest = {"checkout": 70_000, "checkout-canary": 0, "other": 10_000}
        assert world.weights("checkout", rule=1) == rest
        await until(lambda: world.in_force("checkout").get("checkout-canary") == 0, 5.0)
        assert world.ready_pods("v1") == 2
        before = world.answered()
        await until(lambda: world.answered()["v1"] > before["v1"] + 1000, 10.0)
        assert world.answered()["v2"] - before["v2"] <= 50, "a direct client has half a second"
        assert sum(world.failures.values()) == 0, world.failures
        # The daemon that comes back finds nothing left to do but tidying.
        await house.start()
        try:
            await until(
                lambda: house.outcome() == "killed" and house.runs()[-1]["phase"] == "Held", 30.0
            )
        finally:
            await house.stop()
        assert house.journal()
        house.at_rest(paused=True)
        assert world.ready_pods("v1") == 2
        assert sum(world.failures.values()) == 0, world.failures


async def test_the_way_back_by_hand(tmp_path: Path) -> None:
    """Before the commit and in both halves after it, side by side: no request fails."""
    await asyncio.gather(
        _back("Judging", "before", tmp_path / "judging"),
        _back("Rolling", "after", tmp_path / "rolling"),
        _back("HandingBack", "after", tmp_path / "handing"),
    )


def _of_the_team(world: World, *plurals: str) -> list[Json]:
    """What the team has, as git would have it."""
    found = []
    for plural in plurals:
        obj = copy.deepcopy(world.get(plural, "shop", "checkout"))
        notes = obj["metadata"].get("annotations") or {}
        notes.pop("deployment.kubernetes.io/revision", None)
        found.append({"spec": obj["spec"], "annotations": notes})
    return found


async def _ended(
    phase: str, name: str, policy: Mapping[str, str], folder: Path, *, routed: bool = True
) -> None:
    names, detach = (NAMES, ["detach"]) if routed else ({**NAMES, "R": ""}, [])
    async with real_world(pod_metrics=not routed) as world, serving(world.api) as url:
        kubeconfig = configured(folder, url)
        await _stopped_in(world, phase, policy, routed=routed)
        # Pods that do not drain fail some requests in a native roll, whoever is there or not.
        failed = sum(world.failures.values())
        assert not failed or name == "roll"
        await typed(blocks(name), kubeconfig, names)
        assert world.ready_pods("v1") == 2
        if routed:
            await until(lambda: world.in_force("checkout").get("checkout-canary") == 0, 5.0)
        before = world.answered()
        await until(lambda: world.answered()["v1"] > before["v1"] + 1000, 10.0)
        assert world.answered()["v2"] - before["v2"] <= 50, "a direct client has half a second"
        await typed(blocks(*detach, "restore", "forget"), kubeconfig, names)
        assert {pod["metadata"]["labels"]["app"] for pod in world.pods()} == {"checkout"}
        assert world.ready_pods("v1") == len(world.pods()) == 2
        deployment, service = _of_the_team(world, "deployments", "services")
        assert deployment["annotations"] == dict(policy)
        assert not deployment["spec"].get("paused")
        assert deployment["spec"]["template"]["metadata"]["labels"] == {"app": "checkout"}
        assert service["spec"]["selector"] == {"app": "checkout"}
        assert service["annotations"] == {}
        twins = {item["metadata"]["name"] for item in world.store.list("services", "shop")}
        assert twins == ({"checkout", "other"} if routed else {"checkout"})
        if routed:
            assert _of_the_team(world, "httproutes")[0]["annotations"] == {}
            assert world.weights("checkout") == {"checkout": 1}
            assert world.weights("checkout", rule=1) == {"checkout": 7, "other": 1}
        assert name == "roll" or sum(world.failures.values()) == failed, world.failures


async def test_a_run_is_ended_by_hand_for_good(tmp_path: Path) -> None:
    """No controller will ever come back: everything is the team's own again."""
    await asyncio.gather(
        _ended("Judging", "before", POLICY, tmp_path / "judging"),
        _ended("Rolling", "after", POLICY, tmp_path / "rolling"),
        _ended("RollingOut", "roll", ROLL, tmp_path / "rolling-out"),
        _ended("Baking", "roll", ROLL, tmp_path / "baking"),
        _ended("Judging", "roll", PODS, tmp_path / "pods", routed=False),
        _ended("RollingOut", "roll", PODS, tmp_path / "pods-rolling-out", routed=False),
    )


def _rules(kind: str) -> list[Json]:
    """The Service alone and with neighbours, a rule of others, and one that leads nowhere."""
    ours, other = {"name": "checkout", "port": 80}, {"name": "other", "port": 80}
    return [
        {"backendRefs": [{**other, "weight": 60}, {**ours, "weight": 30}]},
        {"backendRefs": [{**other, "weight": 5}]},
        {"backendRefs": []} if kind == "GRPCRoute" else {},
        {"backendRefs": [{**ours, "weight": 1}]},
        {"backendRefs": [{**ours, "weight": 0}, {**other, "weight": 1}]},
    ]


SHARED = {
    "stable": [
        {"other": 20_000, "checkout": 10_000, "checkout-canary": 0},
        {"other": 5},
        {},
        {"checkout": 10_000, "checkout-canary": 0},
        {"checkout": 0, "checkout-canary": 0, "other": 10_000},
    ],
    "canary": [
        {"other": 20_000, "checkout": 0, "checkout-canary": 10_000},
        {"other": 5},
        {},
        {"checkout": 0, "checkout-canary": 10_000},
        {"checkout": 0, "checkout-canary": 0, "other": 10_000},
    ],
}


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
async def test_every_rule_and_nobody_else(kind: str, tmp_path: Path) -> None:
    """Of a route that the controller has split; taken out, the rules are the team's again."""
    plural = f"{kind.lower()}s"
    split = SplitRef(
        route=RouteRef(kind, "shop", "checkout"),
        uid="",
        service="checkout",
        canary="checkout-canary",
    )
    names = {**NAMES, "K": kind.lower()}
    async with real_world() as world, serving(world.api) as url:
        kubeconfig = configured(tmp_path, url)
        made = world.create(manifests.route("shop", "checkout", kind=kind, rules=_rules(kind)))

        async def patched(ops: str) -> None:
            command = f'kubectl patch "$K" "$R" -n "$NS" --type=json -p "{ops}"'
            await typed(f"{blocks()}\n{command}", kubeconfig, {**names, "OPS": json.dumps(given)})

        def shares() -> list[dict[str, int]]:
            count = len(made["spec"]["rules"])
            return [world.weights("checkout", kind=plural, rule=at) for at in range(count)]

        given = gateway_api.attach(made, split)
        await patched("$OPS")
        given = gateway_api.set_live(
            world.get(plural, "shop", "checkout"), split, 2_500, lower_only=False
        )[1:]  # Without the version, which the gateway's status moves meanwhile.
        await patched("$OPS")
        assert shares()[0] == {"other": 20_000, "checkout": 7_500, "checkout-canary": 2_500}
        await patched("[$(share canary)]")
        assert shares() == SHARED["canary"]
        await typed(blocks("before"), kubeconfig, names)
        assert shares() == SHARED["stable"]
        await typed(blocks("detach"), kubeconfig, names)
        assert world.get(plural, "shop", "checkout")["spec"] == made["spec"]


async def test_a_route_without_the_canary_is_left_alone(tmp_path: Path) -> None:
    """A person who is in the wrong place is told so."""
    async with real_world() as world, serving(world.api) as url:
        kubeconfig = configured(tmp_path, url)
        made = world.create(manifests.route("shop", "checkout", rules=_rules("HTTPRoute")))
        with pytest.raises(AssertionError, match="no rule has the canary"):
            await typed(blocks("before"), kubeconfig, NAMES)
        assert world.get("httproutes", "shop", "checkout")["spec"] == made["spec"]
