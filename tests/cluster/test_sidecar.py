# SPDX-License-Identifier: Apache-2.0
"""The controller as a sidecar in the target's own pods, from the shipped overlay, with its Role.

What is watched beside the outcome: which pod leads. It must never be a canary, nor before the
commit a pod of a template that nobody has judged.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SELDOM, sidecar_objects
from tests.cluster.lab import application, records
from tests.cluster.lab.application import PREFIX, App, Object, until
from tests.cluster.lab.trail import Trail, now, stray, used
from tests.cluster.lab.worker import Refusal
from tests.cluster.people import killed_by
from tests.manifests.rendered import Right, own_containers, rights_of
from tests.support.realtime import plain
from tests.support.runbook import block

POLICY = {"policy": "fast", "steps": "5@5s,50@5s", "bake": "3s"}
TOKEN = "a-long-line"
DRAIN = {"DRAIN_SECONDS": "6"}
"""Under a native roll only pods that drain fail nothing; longer than a gateway may be behind."""

# Each pod brings a controller of its own, on a machine that has two cores.
pytestmark = [pytest.mark.timeout(600), pytest.mark.once]


def objects(lab: Lab, namespace: str, policy: Object, env: Object) -> list[Object]:
    """The shipped overlay with the lab's application in the place of the example's."""
    found = sidecar_objects(namespace)
    host = f"checkout.{namespace}.example"
    found["HTTPRoute"]["spec"] = application.route("checkout", host)["spec"]
    ours = application.deployment("checkout", replicas=2, env=env, annotations={**POLICY, **policy})
    theirs = found["Deployment"]
    theirs["metadata"]["annotations"] = ours["metadata"]["annotations"]
    theirs["spec"]["replicas"] = 2
    template, example = theirs["spec"]["template"], ours["spec"]["template"]
    template["metadata"]["annotations"] = example["metadata"]["annotations"]
    (container,) = example["spec"]["containers"]
    allowed = template["spec"]["containers"][0]["securityContext"]
    template["spec"]["containers"] = [{**container, "securityContext": allowed}]
    (sidecar,) = own_containers(template["spec"])
    sidecar["image"] = "registry.example/switchgear:dev"
    # On the lab names of Services are not resolved, and all pods share one network.
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    sidecar["env"].insert(0, address)
    (prometheus,) = (env for env in sidecar["env"] if env["name"] == "SWITCHGEAR_PROMETHEUS")
    prometheus["value"] = lab.prometheus_url
    everywhere = sidecar["args"].index("--listen=0.0.0.0:8340")
    sidecar["args"][everywhere] = "--listen=$(POD_IP):8340"
    sidecar["args"] += ["--drain-seconds=1", "--ready-seconds=120"]
    return list(found.values())


def caller(deployment: Object) -> Object:
    """A container of the application's that asks the API server for its own Deployment, or fails.

    It has no token but by the line that is printed for it.
    """
    about = deployment["metadata"]
    path = f"/apis/apps/v1/namespaces/{about['namespace']}/deployments/{about['name']}"
    template = deployment["spec"]["template"]["spec"]
    return {
        "name": "caller",
        "image": "registry.example/kubectl:dev",
        "args": ["get", "--raw", path],
        "securityContext": template["containers"][0]["securityContext"],
        **yaml.safe_load(block("token", "kubernetes.md")),
    }


@dataclass
class Leaders:
    """Who held the lease, look by look."""

    shop: App
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Holder and phase, each new pair once."""
    dead: set[str] = field(default_factory=set)
    """Holders whose pod had ended before: they did not give the lease up."""

    async def watch(self, api: Any) -> None:
        """Look until cancelled."""
        while True:
            # Before the lease, so that a pod which gives it up and ends in between is not blamed.
            pods = {pod["metadata"]["name"] for pod in await self.shop.every("pods")}
            answer = await self.shop.send("GET", self.shop.path("leases", "switchgear.checkout"))
            if answer.status == 200:
                runs = await records.runs(api, self.shop.namespace)
                phase = runs[-1]["phase"] if runs else ""
                holder = str(answer.json["spec"].get("holderIdentity", "")).rpartition("_")[0]
                if not self.seen or self.seen[-1] != (holder, phase):
                    self.seen.append((holder, phase))
                if holder and holder not in pods:
                    self.dead.add(holder)
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def started(
    lab: Lab,
    shop: App,
    policy: Object | None = None,
    env: Object | None = None,
    *,
    calls: bool = False,
) -> AsyncIterator[Leaders]:
    """The application with its sidecars; the Deployment is adopted by one of them.

    One that `calls` asks the API server itself before it serves.

    What they did must be in order when the test has passed (`Trail.holds`).

    Its namespace is one in which Kubernetes refuses every pod that asks for more than the least.
    """
    space = ("-n", shop.namespace)
    strict = ("label", "namespace", shop.namespace, "pod-security.kubernetes.io/enforce=restricted")
    await asyncio.to_thread(lab.cluster.kubectl, *strict)
    with pytest.raises(Refusal, match='violates PodSecurity "restricted'):
        await asyncio.to_thread(lab.cluster.kubectl, *space, "run", "lax", "--image=pause:1")
    token = ("create", "secret", "generic", "switchgear-doors", f"--from-literal=token={TOKEN}")
    await asyncio.to_thread(lab.cluster.kubectl, *space, *token)
    pods = lab.cluster.folder / "pods"
    trail = Trail(
        cluster=lab.cluster,
        user=f"system:serviceaccount:{shop.namespace}:{shop.name}",
        system=shop.namespace,
        targets=shop.namespace,
        logs=lambda: pods.glob(f"{shop.namespace}_*/switchgear.log"),
        since=now(),
    )
    lab.trails.append(trail)
    every = objects(lab, shop.namespace, policy or {}, env or {})
    (ours,) = (item for item in every if item["kind"] == "Deployment")
    if calls:
        ours["spec"]["template"]["spec"]["initContainers"].append(caller(ours))
    text = yaml.safe_dump_all(every)
    await asyncio.to_thread(lab.cluster.kubectl, "apply", "-f", "-", stdin=text)
    await shop.complete(120.0)
    for pod in await shop.every("pods"):
        # The API server puts one there by itself, unless it is told not to.
        mounts = [mount["name"] for mount in pod["spec"]["containers"][0].get("volumeMounts", ())]
        assert mounts == [], "the application has no token"
    leaders = Leaders(shop=shop)
    task = asyncio.ensure_future(leaders.watch(lab.api))
    try:
        await shop.adopted("no sidecar leads")
        yield leaders
        assert not task.done(), task
    finally:
        task.cancel()
        sys.stderr.write(f"led by: {leaders.seen}\n")


BEFORE = {"Holding", "Checking", "Preparing", "Scaling", "Raising", "Judging", "Committing"}


def judge(leaders: Leaders, stable: str) -> None:
    """Never a canary; before the commit only a pod of the stable template.

    And whoever led gave the lease up before its pod ended, so that nobody waited for it to run out.
    """
    holders = {holder for holder, _ in leaders.seen if holder}
    assert holders
    assert [name for name in holders if name.startswith("checkout-canary-")] == []
    early = {holder for holder, phase in leaders.seen if holder and phase in BEFORE}
    assert {name.rsplit("-", 1)[0] for name in early} == {f"checkout-{stable}"}
    assert leaders.dead == set(), leaders.seen


async def stable_hash(shop: App) -> str:
    mark = await shop.annotation("managed")
    assert mark is not None
    return mark.split("/")[1]


async def test_a_good_version_is_promoted_by_the_pods_that_it_replaces(
    lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Every pod that could lead is replaced in the roll, and the lead is handed on.

    And the next version is killed, by a person whom the overlay's role for that is bound to.
    """
    shop = app()
    async with started(lab, shop) as leaders:
        stable = await stable_hash(shop)
        load = await lab.load(shop, rate=50.0)
        await shop.deploy("v2")
        await records.ended(lab.api, shop.namespace, "promoted", within=300.0)
        await shop.complete()
        assert await shop.ready() == {"v2": 2}
        assert load.failures == {}
        await until(_led_by(leaders, await stable_hash(shop)), 30.0, "a new pod leads")
        judge(leaders, stable)
        leaders.seen.clear()
        stable = await stable_hash(shop)
        await stopped(lab, space, shop)
        assert load.failures == {}
    judge(leaders, stable)
    assert unused(lab, shop) <= SELDOM.keys()


def unused(lab: Lab, shop: App) -> set[Right]:
    """What the Role grants and nobody asked for; nothing else was asked for."""
    granted = rights_of(sidecar_objects(shop.namespace)["Role"]["rules"])
    events = lab.trails[0].events()
    assert stray(events, granted) == []
    return granted - used(events, granted)


async def stopped(lab: Lab, space: Space, shop: App) -> None:
    """A kill from another namespace names the sidecars, and one from theirs stops them."""
    bind = ("create", "rolebinding", "oncall", "--user=oncall", "-n", shop.namespace)
    role = "--role=switchgear-killer-checkout"
    await asyncio.to_thread(lab.cluster.kubectl, *bind, role)
    await shop.deploy("v3")
    await records.reached(lab.api, shop.namespace, "Judging", within=120.0)
    stay = {"metadata": {"annotations": {PREFIX + "paused": "true"}}}
    assert (await shop.patch("deployments", stay)).status == 200
    status, told = await killed_by(lab.cluster.kubeconfig, space.system)
    assert status == 4, told
    there = f"NOT COVERED: namespace {shop.namespace}: Lease switchgear.checkout, run of "
    assert there in told
    assert (await shop.weights())["checkout-canary"] > 0
    status, told = await killed_by(lab.cluster.kubeconfig_for("oncall"), shop.namespace)
    assert status == 0, told
    # The route may have been restored by now, and knows no canary any more.
    assert (await shop.weights()).get("checkout-canary", 0) == 0
    await records.ended(lab.api, shop.namespace, "killed")
    assert await shop.ready() == {"v2": 2}
    await released(shop)


async def released(shop: App) -> None:
    """By whoever has the token, at the door of the pod that leads."""
    lease = await shop.send("GET", shop.path("leases", "switchgear.checkout"))
    name = lease.json["spec"]["holderIdentity"].rpartition("_")[0]
    (pod,) = [pod for pod in await shop.every("pods") if pod["metadata"]["name"] == name]
    async with plain(f"http://{pod['status']['podIP']}:8340") as http:
        reason = {"reason": "it was a drill"}
        assert (await http.post("/v1/release", json=reason)).status_code == 401
        known = {"Authorization": f"Bearer {TOKEN}"}
        said = await http.post("/v1/release", json=reason, headers=known)
    assert said.status_code == 200, said.text


def _led_by(leaders: Leaders, hash_: str) -> Callable[[], Any]:
    async def look() -> bool:
        return leaders.seen[-1][0].startswith(f"checkout-{hash_}-")

    return look


async def test_a_bad_version_is_rolled_back_by_the_pods_that_stay(
    lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    del space
    shop = app()
    reverts: Right = ("apps", "replicasets", "get", "")
    async with started(lab, shop, {"on-failure": "revert"}, calls=True) as leaders:
        stable = await stable_hash(shop)
        load = await lab.load(shop, rate=100.0)
        await shop.deploy("v2", {"ERROR_RATE": "0.5"})
        await records.ended(lab.api, shop.namespace, "rolled-back", within=300.0)
        assert load.failures == {}
        assert await shop.ready() == {"v1": 2}
        assert reverts not in unused(lab, shop)
    judge(leaders, stable)


@pytest.mark.deep
async def test_a_roll_is_taken_back_by_pods_that_go_themselves(
    lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """When it has rolled only pods of the new version are left to lead, and each of them has to go.

    So the one that leads hands on to one of those that come back, and whoever it is goes on where
    the one before has stopped.
    """
    del space
    shop = app()
    async with started(lab, shop, {"promotion": "roll", "bake": "10m"}, DRAIN) as leaders:
        load = await lab.load(shop, rate=100.0)
        await shop.deploy("v2", DRAIN)
        await records.reached(lab.api, shop.namespace, "Baking", within=240.0)
        assert "v1" not in await shop.ready()
        stop = {"metadata": {"annotations": {PREFIX + "abort": "true"}}}
        assert (await shop.patch("deployments", stop)).status == 200
        await records.ended(lab.api, shop.namespace, "aborted", within=240.0)
        assert await shop.ready() == {"v1": 2}
        assert load.failures == {}
        assert ("", "pods", "delete", "") not in unused(lab, shop)
    assert leaders.dead == set(), leaders.seen
