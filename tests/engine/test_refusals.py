# SPDX-License-Identifier: Apache-2.0
"""Changes that may not begin: every reason at once, stable serves on, and the way out works."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from controller.engine.observe import Bounds
from controller.sim import clock, manifests
from controller.sim.world import World
from tests.engine.house import BOUNDS, POLICY, House, house

IMAGE = "registry.example/app:v2"


def _events(world: World) -> list[tuple[str, str]]:
    """Reasons and messages that people were told."""
    found = [*world.store.list("events", "shop")]
    return [(item["reason"], item.get("message") or item.get("note") or "") for item in found]


async def _refused(found: House, reason: str) -> None:
    """Held on the stable pods, with an Event of that reason, and nothing of ours made."""
    world = found.world
    world.set_image("shop", "checkout", IMAGE)
    await found.until(lambda: bool(found.runs()) and found.runs()[-1]["phase"] == "Held", 60)
    await asyncio.sleep(2)
    assert found.runs()[-1]["ending"] == "held"
    assert reason in {name for name, _ in _events(world)}, _events(world)
    assert world.ready_pods("v1") == len(world.pods())
    assert world.get("deployments", "shop", "checkout")["spec"]["paused"]
    assert all(
        "canary" not in item["metadata"]["name"]
        or item["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") != "switchgear"
        for kind in ("deployments", "services")
        for item in world.store.list(kind, "shop")
    )


def _no_service(world: World) -> None:
    world.delete("services", "shop", "checkout")


def _no_selector(world: World) -> None:
    world.edit("services", "shop", "checkout", lambda item: item["spec"].pop("selector"))


def _other_selector(world: World) -> None:
    selector = {"app": "somebody"}
    world.edit("services", "shop", "checkout", lambda item: item["spec"].update(selector=selector))


def _shared(world: World) -> None:
    made = manifests.deployment("shop", "twin", labels={"tier": "web"})
    world.create(made)
    world.edit(
        "deployments", "shop", "twin", lambda item: item["metadata"]["labels"].update(tier="web")
    )
    world.edit(
        "services", "shop", "checkout", lambda item: item["spec"].update(selector={"tier": "web"})
    )


def _no_route(world: World) -> None:
    world.delete("httproutes", "shop", "checkout")


def _not_accepted(world: World) -> None:
    world.edit(
        "httproutes",
        "shop",
        "checkout",
        lambda item: item["spec"]["rules"].append(
            {"backendRefs": [{"name": "nowhere", "port": 80}]}
        ),
    )


def _recreate(world: World) -> None:
    world.edit(
        "deployments",
        "shop",
        "checkout",
        lambda item: item["spec"].update(strategy={"type": "Recreate"}),
    )


def _ingress(world: World) -> None:
    backend = {"service": {"name": "checkout", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    world.create(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "old-door", "namespace": "shop"},
            "spec": {"rules": [{"host": "a.example.test", "http": {"paths": [path]}}]},
        }
    )


def _fine_weights(world: World) -> None:
    refs = [
        {"name": "checkout", "port": 80, "weight": 667},
        {"name": "checkout", "port": 80, "weight": 333},
    ]
    world.edit(
        "httproutes",
        "shop",
        "checkout",
        lambda item: item["spec"].update(rules=[{"backendRefs": refs}]),
    )


def _tcp_route(world: World) -> None:
    world.create(
        {
            "apiVersion": "gateway.networking.k8s.io/v1alpha2",
            "kind": "TCPRoute",
            "metadata": {"name": "raw", "namespace": "shop"},
            "spec": {
                "parentRefs": [{"name": "edge"}],
                "rules": [{"backendRefs": [{"name": "checkout", "port": 80}]}],
            },
        }
    )


def _memory_autoscaler(world: World) -> None:
    target = {"type": "Utilization", "averageUtilization": 70}
    world.create(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": "checkout",
                },
                "maxReplicas": 20,
                "metrics": [{"type": "Resource", "resource": {"name": "memory", "target": target}}],
            },
        }
    )


def _quota(world: World) -> None:
    world.create(manifests.quota("shop", "small", 6))


def _foreign(world: World) -> None:
    world.create(manifests.deployment("shop", "checkout-canary", replicas=1))


def _foreign_service(world: World) -> None:
    world.create(manifests.service("shop", "checkout-canary", selector={"app": "else"}))


def _memory_autoscaler_of_a_roll(world: World) -> None:
    world.annotate("shop", "checkout", {"switchgear.dev/promotion": "roll"})
    _memory_autoscaler(world)


CASES: dict[str, tuple[Callable[[World], None], str]] = {
    "no Service": (_no_service, "NoService"),
    "Service without selector": (_no_selector, "NoService"),
    "Service that selects other pods": (_other_selector, "NoService"),
    "no route": (_no_route, "StepUnreachable"),
    "route not accepted": (_not_accepted, "RouteNotAccepted"),
    "weights that leave no room": (_fine_weights, "WeightsTooFine"),
    "Recreate": (_recreate, "StrategyNotRolling"),
    "Ingress": (_ingress, "PathNotWeighable"),
    "TCPRoute": (_tcp_route, "PathNotWeighable"),
    "HPA on memory": (_memory_autoscaler, "AutoscalerUnfit"),
    "HPA on memory, and a roll": (_memory_autoscaler_of_a_roll, "AutoscalerUnfit"),
    "quota": (_quota, "QuotaTooSmall"),
    "foreign Deployment": (_foreign, "ForeignName"),
    "foreign Service": (_foreign_service, "ForeignName"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str) -> None:
    """Held with its reason; the stable template leads out of it and leaves nothing behind."""
    spoil, reason = CASES[case]

    async def story() -> None:
        async with house() as found:
            world = found.world
            spoil(world)
            await world.settle()
            await _refused(found, reason)
            world.set_image("shop", "checkout", "registry.example/app:v1")
            await found.until(lambda: found.runs()[-1]["phase"] == "Ended", 60)
            await asyncio.sleep(2)
            assert not world.get("deployments", "shop", "checkout")["spec"].get("paused", False)
            assert len(world.pods(version="v1")) >= 4

    clock.run(story())


def test_a_service_of_two_deployments() -> None:
    """Pinning it would take the other one's traffic away."""

    async def story() -> None:
        async with house(labels={"tier": "web"}) as found:
            _shared(found.world)
            await found.world.settle()
            await _refused(found, "ServiceShared")
            assert "twin" in found.runs()[-1]["reason"]

    clock.run(story())


def test_a_singleton_with_a_volume_for_one_node() -> None:
    """A second pod could not mount it."""

    async def story() -> None:
        async with house(replicas=1) as found:
            world = found.world
            claim = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data", "namespace": "shop"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }
            world.create(claim)

            def change(item: dict[str, Any]) -> None:
                item["spec"]["template"]["spec"]["volumes"] = [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
                ]

            world.edit("deployments", "shop", "checkout", change)
            await found.until(lambda: bool(found.runs()) and found.runs()[-1]["phase"] == "Held")
            await asyncio.sleep(2)
            assert "SingletonVolume" in {name for name, _ in _events(world)}
            assert len(world.pods()) == 1

    clock.run(story())


@pytest.mark.slow
def test_all_problems_of_the_annotations_at_once() -> None:
    """With suggestions, in the Events; corrected, the same change runs."""

    async def story() -> None:
        wrong = {
            "switchgear.dev/polcy": "fast",
            "switchgear.dev/steps": "5@20s,banana",
            "switchgear.dev/bake": "soon",
        }
        async with house() as found:
            world = found.world
            world.annotate("shop", "checkout", wrong)
            await _refused(found, "InvalidPolicy")
            text = json.dumps(_events(world))
            for word in ("polcy", "mean", "banana", "soon"):
                assert word in text
            await asyncio.sleep(5)
            world.annotate("shop", "checkout", {"switchgear.dev/polcy": None, **POLICY})
            await found.ended("promoted")
            found.at_rest()

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bounds", "most"),
    [
        ({"cluster_cap_bp": 300}, 300),
        ({"namespace_caps_bp": {"shop": 1000}}, 1000),
        ({"cluster_cap_bp": 2000, "namespace_caps_bp": {"shop": 700}}, 700),
    ],
)
def test_the_least_cap_counts(bounds: dict[str, Any], most: int) -> None:
    """Until the bake no step is above it."""

    async def story() -> None:
        async with house(start=False) as found:
            figures = {name: getattr(BOUNDS, name) for name in BOUNDS.__slots__}
            capped = House(found.world, Bounds(**{**figures, **bounds}))
            shares: set[float] = set()
            await capped.start()
            await asyncio.sleep(5)
            found.world.set_image("shop", "checkout", IMAGE)
            while capped.outcome() != "promoted":
                await asyncio.sleep(0.5)
                weights = found.world.weights("checkout")
                share = 10_000 * weights.get("checkout-canary", 0) / (sum(weights.values()) or 1)
                shares.add(round(share))
                assert asyncio.get_running_loop().time() < 5_000
            await capped.stop()
            assert max(share for share in shares if share < 9_000 and share != 5_000) == most

    clock.run(story())
