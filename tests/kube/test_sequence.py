# SPDX-License-Identifier: Apache-2.0
"""Every effect once, in the order of a run, judged by the world that it leaves behind."""

import pytest

from controller.adapters.kube.cluster import KubeCluster
from controller.core import effects
from controller.core.effects import SplitRef
from controller.core.errors import Conflict, Refused
from controller.core.observation import View
from controller.core.values import CANARY_TRACK, HASH_LABEL, TRACK_LABEL, TargetRef
from controller.sim import clock
from controller.sim.world import World
from tests.kube.scene import TARGET, scene


def splits(view: View) -> tuple[SplitRef, ...]:
    route = view.routes[0]
    return (
        SplitRef(
            route=route.ref,
            uid=route.uid,
            service="checkout",
            canary="checkout-canary",
            seen=route.backends,
        ),
    )


async def prepared(world: World, cluster: KubeCluster) -> View:
    """A new template held, the canary standing in the route at weight 0."""
    stable = cluster.view(TARGET)
    assert stable.deployment is not None
    world.annotate("shop", "checkout", {"switchgear.dev/managed": "x"})
    await cluster.perform(effects.Pause(target=TARGET, uid=stable.deployment.uid, why="a test"))
    world.set_image("shop", "checkout", "registry.example/checkout:v2")
    await world.settle()
    view = cluster.view(TARGET)
    assert view.deployment is not None
    service = view.services[0]
    for effect in (
        effects.PinService(
            target=TARGET,
            name="checkout",
            uid=service.uid,
            original=service.selector,
            key=HASH_LABEL,
            value=view.replica_sets[0].hash,
        ),
        effects.CreateCanaryService(
            target=TARGET, owner_uid=view.deployment.uid, service="checkout"
        ),
        effects.CreateCanary(
            target=TARGET, owner_uid=view.deployment.uid, digest=view.deployment.digest
        ),
        effects.AttachBackend(split=splits(view)[0]),
    ):
        await cluster.perform(effect)
        await cluster.perform(effect)
    await world.settle()
    return cluster.view(TARGET)


def spec_of(world: World, kind: str, name: str) -> tuple[object, object]:
    found = world.get(kind, "shop", name)
    # An empty map and none at all are the same to a real API server.
    return found["spec"], found["metadata"].get("annotations") or None


def test_what_is_prepared_is_undone_without_a_trace() -> None:
    async def story() -> None:
        async with scene() as (world, cluster, _):
            before = {
                "services": spec_of(world, "services", "checkout"),
                "httproutes": spec_of(world, "httproutes", "checkout"),
            }
            original = cluster.view(TARGET).services[0].selector
            view = await prepared(world, cluster)
            assert view.canary is not None
            assert view.canary.replicas == 0
            assert view.deployment is not None
            assert view.canary.digest == view.deployment.digest
            assert world.weights("checkout") == {"checkout": 10_000, "checkout-canary": 0}
            assert view.routes[0].accepted is True
            lane = splits(view)[0]
            for effect in (
                effects.ZeroWeight(splits=(lane,)),
                effects.DetachBackend(split=lane, original=()),
                effects.DeleteCanary(target=TARGET, uid=view.canary.uid),
                effects.DeleteCanaryService(
                    target=TARGET,
                    name="checkout-canary",
                    uid=view.canary_services[0].uid,
                ),
                effects.UnpinService(
                    target=TARGET,
                    name="checkout",
                    uid=view.services[0].uid,
                    original=original,
                ),
            ):
                await cluster.perform(effect)
                await cluster.perform(effect)
            await world.settle()
            after = {
                "services": spec_of(world, "services", "checkout"),
                "httproutes": spec_of(world, "httproutes", "checkout"),
            }
            assert after == before
            view = cluster.view(TARGET)
            assert view.canary is None
            assert view.canary_services == ()
            assert world.failures.total() == 0

    clock.run(story(), limit=900)


def test_a_canary_is_owned_again_by_its_deployment_and_by_nobody_else() -> None:
    """Another owner would take the canary with it when it goes."""

    async def story() -> None:
        async with scene() as (world, cluster, _):
            view = await prepared(world, cluster)
            assert view.canary is not None
            assert view.deployment is not None
            other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "o1"}
            world.edit(
                "deployments",
                "shop",
                "checkout-canary",
                lambda item: item["metadata"].update(ownerReferences=[other]),
            )
            again = effects.OwnCanary(
                target=TARGET, uid=view.canary.uid, owner_uid=view.deployment.uid
            )
            await cluster.perform(again)
            await cluster.perform(again)
            found = world.get("deployments", "shop", "checkout-canary")
            owners = found["metadata"]["ownerReferences"]
            assert [(owner["kind"], owner["uid"]) for owner in owners] == [
                ("Deployment", view.deployment.uid)
            ]
            with pytest.raises(Conflict):
                await cluster.perform(
                    effects.OwnCanary(target=TARGET, uid="o2", owner_uid=view.deployment.uid)
                )

    clock.run(story(), limit=900)


def test_an_edit_of_the_selector_survives_pin_and_unpin() -> None:
    """Only our own key comes and goes, whatever the run remembers of the rest."""

    async def story() -> None:
        async with scene() as (world, cluster, _):
            original = cluster.view(TARGET).services[0].selector
            view = await prepared(world, cluster)
            service = view.services[0]
            assert service.original == original
            world.edit(
                "services", "shop", "checkout", lambda item: item["spec"]["selector"].update(a="b")
            )
            follow = effects.FollowCanary(
                target=TARGET, name="checkout", uid=service.uid, original=original
            )
            await cluster.perform(follow)
            await world.settle()
            live = world.get("services", "shop", "checkout")["spec"]["selector"]
            assert live == {**dict(original), "a": "b", TRACK_LABEL: CANARY_TRACK}
            seen = cluster.view(TARGET).services[0]
            assert seen.own_selector == seen.original == tuple(sorted((*original, ("a", "b"))))
            unpin = effects.UnpinService(
                target=TARGET, name="checkout", uid=service.uid, original=original
            )
            await cluster.perform(unpin)
            live = world.get("services", "shop", "checkout")["spec"]["selector"]
            assert live == {**dict(original), "a": "b"}

    clock.run(story(), limit=900)


def test_weights_are_exact_and_a_raise_is_a_compare_and_set() -> None:
    async def story() -> None:
        async with scene() as (world, cluster, _):
            view = await prepared(world, cluster)
            assert view.canary is not None
            await cluster.perform(
                effects.StartCanary(target=TARGET, uid=view.canary.uid, replicas=1)
            )
            await world.until(lambda: cluster.view(TARGET).canary_services[0].ready_endpoints == 1)
            lanes = splits(cluster.view(TARGET))
            step = effects.RaiseWeight(splits=lanes, weight_bp=125, step=0)
            old = await cluster.read_routes([lanes[0].route], ["checkout"])
            await cluster.perform(step, old)
            assert world.weights("checkout") == {"checkout": 9875, "checkout-canary": 125}
            more = effects.RaiseWeight(splits=lanes, weight_bp=2500, step=1)
            with pytest.raises(Conflict):
                await cluster.perform(more, old)
            assert world.weights("checkout")["checkout-canary"] == 125
            await world.settle()
            fresh = await cluster.read_routes([lanes[0].route], ["checkout"])
            assert fresh[0].share_bp("checkout", "checkout-canary") == 125
            await cluster.perform(more, fresh)
            lower = effects.LowerWeight(splits=lanes, weight_bp=5000)
            await cluster.perform(lower)
            assert world.weights("checkout")["checkout-canary"] == 2500
            await cluster.perform(effects.LowerWeight(splits=lanes, weight_bp=100))
            assert world.weights("checkout") == {"checkout": 9900, "checkout-canary": 100}
            await cluster.perform(effects.Gather(splits=lanes))
            assert world.weights("checkout") == {"checkout": 0, "checkout-canary": 10_000}
            await cluster.zero(lanes)
            assert world.weights("checkout") == {"checkout": 10_000, "checkout-canary": 0}

    clock.run(story(), limit=900)


def test_weight_0_goes_through_although_the_rules_have_moved() -> None:
    async def story() -> None:
        async with scene() as (world, cluster, wire):
            view = await prepared(world, cluster)
            lanes = splits(view)
            await cluster.perform(effects.Gather(splits=lanes))
            await world.settle()
            seen = splits(cluster.view(TARGET))

            def shift(route: dict[str, object]) -> None:
                rules = route["spec"]["rules"]  # type: ignore[index]
                rules.insert(0, {"backendRefs": [{"name": "other", "port": 80}]})

            world.edit("httproutes", "shop", "checkout", shift)
            wire.sent.clear()
            await cluster.zero(seen)
            assert world.weights("checkout", rule=1) == {"checkout": 10_000, "checkout-canary": 0}
            assert world.weights("checkout", rule=0) == {"other": 1}
            assert len(wire.sent) == 3

    clock.run(story(), limit=900)


def test_a_roll_goes_only_to_the_template_that_was_judged() -> None:
    async def story() -> None:
        async with scene() as (world, cluster, _):
            view = await prepared(world, cluster)
            assert view.deployment is not None
            judged = view.deployment
            world.set_image("shop", "checkout", "registry.example/checkout:v3")
            roll = effects.Roll(target=TARGET, uid=judged.uid, digest=judged.digest)
            with pytest.raises(Conflict):
                await cluster.perform(roll)
            assert world.get("deployments", "shop", "checkout")["spec"]["paused"] is True
            await world.settle()
            back = effects.Revert(
                target=TARGET, uid=judged.uid, replica_set=view.replica_sets[0].name
            )
            await cluster.perform(back)
            await world.settle()
            found = cluster.view(TARGET).deployment
            assert found is not None
            assert found.digest == view.replica_sets[0].digest
            assert not found.paused
            assert "hold" not in found.annotations
            assert world.ready_pods("v1") == found.replicas

    clock.run(story(), limit=900)


def test_the_canary_pods_are_seen_and_followed() -> None:
    async def story() -> None:
        async with scene() as (world, cluster, _):
            told: list[TargetRef] = []
            cluster.subscribe(told.append)
            view = await prepared(world, cluster)
            assert view.canary is not None
            uid = view.canary.uid
            await cluster.perform(effects.StartCanary(target=TARGET, uid=uid, replicas=2))
            await world.settle()
            view = cluster.view(TARGET)
            assert [pod.ready for pod in view.pods] == [True, True]
            assert all(pod.was_ready for pod in view.pods)
            assert view.canary_services[0].ready_endpoints == 2
            assert set(told) == {TARGET}
            service = view.services[0]
            follow = effects.FollowCanary(
                target=TARGET,
                name="checkout",
                uid=service.uid,
                original=tuple(p for p in service.selector if p[0] != HASH_LABEL),
            )
            await cluster.perform(follow)
            selector = world.get("services", "shop", "checkout")["spec"]["selector"]
            assert selector[TRACK_LABEL] == CANARY_TRACK
            assert HASH_LABEL not in selector
            await cluster.perform(effects.ShrinkCanary(target=TARGET, uid=uid, replicas=0))
            await world.settle()
            assert cluster.view(TARGET).pods == ()

    clock.run(story(), limit=900)


def test_a_foreign_object_under_our_name_is_refused() -> None:
    async def story() -> None:
        async with scene() as (world, cluster, _):
            await world.deploy("shop", "checkout-canary", replicas=1)
            view = cluster.view(TARGET)
            assert view.deployment is not None
            assert view.canary is not None
            assert not view.canary.ours
            before = world.get("deployments", "shop", "checkout-canary")
            with pytest.raises(Refused, match="not ours"):
                await cluster.perform(
                    effects.CreateCanary(
                        target=TARGET,
                        owner_uid=view.deployment.uid,
                        digest=view.deployment.digest,
                    )
                )
            assert world.get("deployments", "shop", "checkout-canary") == before

    clock.run(story(), limit=900)


def test_a_target_that_was_deleted_leaves_what_there_is_to_undo_in_view() -> None:
    async def story() -> None:
        async with scene() as (world, cluster, _):
            await prepared(world, cluster)
            told: list[TargetRef] = []
            cluster.subscribe(told.append)
            world.delete("deployments", "shop", "checkout")
            await world.settle()
            view = cluster.view(TARGET)
            assert view.deployment is None
            assert view.canary is None
            assert [service.name for service in view.services] == ["checkout"]
            assert view.routes[0].names("checkout-canary")
            assert TARGET in told
            assert cluster.targets() == []

    clock.run(story(), limit=900)


def test_events_and_annotations_arrive() -> None:
    async def story() -> None:
        async with scene() as (world, cluster, _):
            await cluster.tell(TARGET, reason="Held", message="a" * 5000, warning=True)
            event = world.store.list("events", "shop")[-1]
            assert event["involvedObject"]["name"] == "checkout"
            assert len(event["message"]) == 1000
            deployment = cluster.view(TARGET).deployment
            assert deployment is not None
            note = effects.Annotate(
                target=TARGET, uid=deployment.uid, annotations={"status": "at rest"}
            )
            await cluster.perform(note)
            assert (await cluster.read_annotations(TARGET))["status"] == "at rest"
            again = effects.Annotate(target=TARGET, uid="another", annotations={"status": None})
            with pytest.raises(Conflict):
                await cluster.perform(again)
            assert (await cluster.read_annotations(TARGET))["status"] == "at rest"

    clock.run(story(), limit=900)
