# SPDX-License-Identifier: Apache-2.0
"""The Role of the sidecars, by calls that a story of theirs seldom makes, or not as it is shipped.

With the account's token and no daemon: what writes is the adapter that a sidecar has.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import yaml

from controller.adapters.clock import LoopClock
from controller.adapters.kube import transport
from controller.adapters.kube.cache import Cache, Only
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.cluster import KubeCluster
from controller.core import effects
from controller.core.errors import Conflict, Refused
from controller.core.observation import Route
from controller.core.values import RouteKind, RouteRef, TargetRef
from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SELDOM, sidecar_objects
from tests.cluster.lab import application
from tests.cluster.lab.application import App, Object, until
from tests.cluster.lab.trail import now, stray, used
from tests.manifests.rendered import rights_of

pytestmark = pytest.mark.timeout(300)

POLICY = {"policy": "fast"}


async def test_what_is_seldom_needed_the_role_lets_the_adapter_do(
    lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """With the account's token and no daemon: the calls that a run makes where it must."""
    shop = app()
    every = sidecar_objects(space.name)
    target = await bound(lab, shop, every, RouteKind.HTTP)
    granted, since = rights_of(every["Role"]["rules"]), now()
    config = lab.cluster.kubeconfig_for_service_account(space.name, shop.name)
    async with adapter(config, target) as cluster:
        assert (await cluster.preflight(target)).once_claims == ("data",)
        owner = (await shop.read("deployments"))["metadata"]["uid"]
        twin = effects.CreateCanaryService(target=target, owner_uid=owner, service=shop.name)
        with pytest.raises(Refused, match="exists and is not ours"):
            await cluster.perform(twin)
        (pod,) = await shop.every("pods")
        named = (pod["metadata"]["name"], pod["metadata"]["uid"])
        await cluster.perform(effects.DeletePods(target=target, pods=(named,)))
        (replica_set,) = await shop.every("replicasets")
        stable = replica_set["metadata"]["name"]
        await cluster.perform(effects.Revert(target=target, uid=owner, replica_set=stable))
        uid = replica_set["metadata"]["uid"]
        await cluster.perform(effects.FreezeReplicaSet(target=target, name=stable, uid=uid))
        await cluster.perform(effects.DeleteReplicaSet(target=target, name=stable, uid=uid))
    user = f"system:serviceaccount:{space.name}:{shop.name}"
    events = lab.cluster.audited(lambda _: True, since=since, user=user)
    assert stray(events, granted) == []
    assert SELDOM.keys() <= used(events, granted)


async def test_behind_a_grpc_route_the_role_is_enough_as_it_is_printed(
    lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """The canary gets a share, loses it, and nothing of it is left; nobody calls it."""
    shop = app()
    every = sidecar_objects(space.name)
    (named,) = (rule for rule in every["Role"]["rules"] if rule["resources"] == ["httproutes"])
    named["resources"] = ["grpcroutes"]
    target, granted = await bound(lab, shop, every, RouteKind.GRPC), rights_of([named])
    before = (await shop.read("grpcroutes"))["spec"]
    config, since = lab.cluster.kubeconfig_for_service_account(space.name, shop.name), now()
    ref = RouteRef(RouteKind.GRPC.value, space.name, shop.name)
    service, canary = shop.name, f"{shop.name}-canary"
    async with adapter(config, target, RouteKind.GRPC) as cluster:

        async def share() -> tuple[Route, int]:
            (found,) = await cluster.read_routes([ref], [service])
            return found, found.share_bp(service, canary)

        first, _ = await share()
        split = effects.SplitRef(route=ref, uid=first.uid, service=service, canary=canary)
        await cluster.perform(effects.AttachBackend(split=split))
        assert (await share())[1] == 0
        step = effects.RaiseWeight(splits=(split,), weight_bp=500, step=0)

        async def raised() -> bool:
            """As a tick does: with the route as just read, and anew where a gateway wrote first."""
            attached, _ = await share()
            with contextlib.suppress(Conflict):
                await cluster.perform(step, (attached,))
            return (await share())[1] == 500

        await until(raised, 30.0, "the canary has its share")
        await cluster.zero((split,))
        assert (await share())[1] == 0
        await cluster.perform(effects.DetachBackend(split=split, original=first.backends))
    assert (await shop.read("grpcroutes"))["spec"] == before
    user = f"system:serviceaccount:{space.name}:{shop.name}"
    events = lab.cluster.audited(lambda _: True, since=since, user=user)
    assert stray(events, rights_of(every["Role"]["rules"])) == []
    assert granted - used(events, granted) == set()


async def bound(lab: Lab, shop: App, every: dict[str, Object], kind: RouteKind) -> TargetRef:
    """The overlay's rights and its account, and a target for them."""
    rights = [every[name] for name in ("ServiceAccount", "Role", "RoleBinding")]
    text = yaml.safe_dump_all(rights)
    await asyncio.to_thread(lab.cluster.kubectl, "apply", "-f", "-", stdin=text)
    return await surrounded(lab, shop, kind)


async def surrounded(lab: Lab, shop: App, kind: RouteKind) -> TargetRef:
    """A target with a claim and a pod, beside somebody else's Service under its twin's name."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    body = application.deployment(shop.name, replicas=1, annotations=POLICY)
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    body["spec"]["template"]["spec"]["volumes"] = [volume]
    services = [application.service(name) for name in (shop.name, f"{shop.name}-canary")]
    route = application.route(shop.name, shop.host)
    route["kind"] = kind.value
    if kind is RouteKind.GRPC:
        del route["spec"]["rules"][0]["matches"]  # Of paths.
    text = yaml.safe_dump_all([claim, body, *services, route])
    space = ("-n", shop.namespace)
    await asyncio.to_thread(lab.cluster.kubectl, *space, "apply", "-f", "-", stdin=text)

    async def started() -> bool:
        return len(await shop.every("pods")) == 1

    await until(started, 30.0, "a pod of it is there")
    return TargetRef(shop.namespace, shop.name)


@contextlib.asynccontextmanager
async def adapter(
    kubeconfig: Path, target: TargetRef, kind: RouteKind = RouteKind.HTTP
) -> AsyncIterator[KubeCluster]:
    """The cluster as a sidecar has it: what is watched is watched by its name."""
    only = Only(
        target=target,
        services=(target.name,),
        routes=((kind.value, target.name),),
    )
    connection = await transport.load(kubeconfig=str(kubeconfig), in_cluster=False)
    calls = Calls(connection.wire, LoopClock())
    cluster = KubeCluster(calls, (target.namespace,), Cache(only))
    watching = asyncio.ensure_future(cluster.run())

    async def synced() -> bool:
        return cluster.synced

    try:
        await until(synced, 30.0, "everything is listed")
        yield cluster
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await connection.wire.aclose()
