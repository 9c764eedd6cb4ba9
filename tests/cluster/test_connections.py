# SPDX-License-Identifier: Apache-2.0
"""The shipped NetworkPolicy, held against the connections that the shipped controller has.

Nothing on the lab enforces one. So what the kernel shows of the controller's pods is judged by what
the policy says. An address of the lab means nothing to a policy: `_meaning` says in one place what
stands there in a cluster. Names are resolved by a server of the test's own.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import pytest
import yaml

from tests.cluster import names, sockets
from tests.cluster.conftest import Lab
from tests.cluster.installed import SYSTEM, installed
from tests.cluster.lab import records
from tests.cluster.lab.application import App, until
from tests.cluster.lab.worker import Cluster
from tests.cluster.pipelines import helm
from tests.cluster.replicas import available, leader, log, pods
from tests.manifests.reach import Flow, Party, chosen, narrowed, passes
from tests.manifests.rendered import MANIFESTS, Json, kustomized, of_kind
from tests.support.realtime import plain

pytestmark = pytest.mark.timeout(600)

POLICY: Final = {"policy": "fast", "steps": "50@10m"}
"""The step outlasts the test, so that the kill finds something to stop."""

PROMETHEUS: Final = "prometheus.monitoring.svc"
"""What is shipped, with one part more: `installed` puts an address in place of what is shipped."""

READY_SECONDS: Final = 90.0
"""Each name that a replica asks for waits until the test has seen who asks."""

PORT: Final = 8340
TOKEN: Final = "t0ken"
LOOK_SECONDS: Final = 0.1
"""Every connection but those that ask for names is kept for seconds; who asks for one waits until
the test has seen who it is."""

NODE: Final = Party(address="10.77.0.11")
ANYBODY: Final = Party(address="192.0.2.7")
"""A person at a machine outside of the cluster."""

LABELS: Final = {
    "app.kubernetes.io/name": "switchgear",
    "app.kubernetes.io/component": "controller",
}
REPLICA: Final = Party(namespace=SYSTEM, labels=LABELS)
MONITOR: Final = Party(namespace="monitoring", labels={"app.kubernetes.io/name": "prometheus"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One connection of a pod of ours: whoever calls, or what is called."""

    way: str
    other: str
    port: int
    protocol: str = "TCP"


def _meaning(seen: Seen) -> list[Flow]:
    """What the connection is in a cluster: each way in which a network plugin may see it."""

    def flow(other: Party, port: int = seen.port) -> Flow:
        return Flow(way=seen.way, other=other, port=port, protocol=seen.protocol)

    match seen.other:
        case "10.96.0.1" if seen.port == 6443:
            # The Service, which is at 443 in a cluster, and the server behind it, which is on a
            # node. Some plugins see the one, some the other.
            return [flow(Party(address="10.96.0.1"), 443), flow(NODE, 6443)]
        case names.ADDRESS if seen.port == names.PORT:
            # The pods behind the Service, or NodeLocal DNSCache.
            return [flow(Party(namespace="kube-system")), flow(Party(address="169.254.20.10"))]
        case "prometheus":
            return [flow(MONITOR)]
        case "replica":
            return [flow(REPLICA)]
        case "kubelet":
            return [flow(NODE)]
        case "somebody":
            return [flow(ANYBODY)]
        case _:
            raise AssertionError(f"nobody said what this is in a cluster: {seen}")


@dataclass(slots=True, kw_only=True)
class Watch:
    """Whatever the controller's pods were seen to have."""

    cluster: Cluster
    seen: set[Seen] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    """Names that were asked for."""
    doors: set[sockets.Address] = field(default_factory=set)
    """Where the pods listen, or have listened: a connection may outlive the door."""
    pods: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """At everything once."""
        ours = sockets.of_pods("SWITCHGEAR_POD_NAME")
        self.pods.update(ours.values())
        ends = sockets.table()
        owned = sockets.owners(ours)
        self.doors |= {end.local for end in ends if end.listens and end.inode in owned}
        callers = self._callers(ends, ours)
        for end in ends:
            if end.inode not in owned or end.listens:
                continue
            if end.local in self.doors:
                caller = callers.get((end.remote, end.local), "somebody")
                self.seen.add(Seen(way="ingress", other=caller, port=end.local[1]))
            elif end.protocol == "TCP":
                self.seen.add(self._called(end))

    def told(self, protocol: str, name: str, port: int) -> None:
        """Somebody asks for a name, and waits for the answer."""
        ours = sockets.of_pods("SWITCHGEAR_POD_NAME")
        if sockets.at_port(sockets.table(), protocol, port) & sockets.owners(ours).keys():
            self.asked.add(name)
            found = Seen(way="egress", other=names.ADDRESS, port=names.PORT, protocol=protocol)
            self.seen.add(found)

    def _callers(
        self, ends: Iterable[sockets.End], ours: Iterable[int]
    ) -> dict[tuple[sockets.Address, sockets.Address], str]:
        """Who is at the other end, by that end's two addresses, of those who are known."""
        known = {self.cluster.pids[part]: part for part in ("kubelet", "prometheus")}
        known |= dict.fromkeys(ours, "replica") | {os.getpid(): "somebody"}
        owned = sockets.owners(known)
        return {
            (end.local, end.remote): known[owned[end.inode]] for end in ends if end.inode in owned
        }

    def _called(self, end: sockets.End) -> Seen:
        address, port = end.remote
        if end.remote in self.doors:
            address = "replica"
        elif f"http://{address}:{port}" == self.cluster.prometheus_url:
            address = "prometheus"
        return Seen(way="egress", other=address, port=port)


@contextlib.asynccontextmanager
async def watched(cluster: Cluster) -> AsyncIterator[Watch]:
    """The connections of the controller's pods while the block lasts, with names for them."""
    watch = Watch(cluster=cluster)
    async with names.serving({PROMETHEUS: "127.0.0.1"}, watch.told):
        task = asyncio.ensure_future(watch.run())
        try:
            yield watch
            assert not task.done(), task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _overlay(item: Json) -> None:
    """Names are resolved, and Prometheus scrapes by annotations, as without its operator."""
    if item["kind"] != "Deployment":
        return
    template = item["spec"]["template"]
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)}
    template["metadata"]["annotations"] = scraped
    spec = template["spec"]
    (container,) = spec["containers"]
    (prometheus,) = (env for env in container["env"] if env["name"] == "SWITCHGEAR_PROMETHEUS")
    prometheus["value"] = f"http://{PROMETHEUS}:9090"
    mount = {"name": "names", "mountPath": "/etc/resolv.conf", "subPath": "resolv.conf"}
    container["volumeMounts"].append(mount)
    spec["volumes"].append({"name": "names", "configMap": {"name": "names"}})


def _address(cluster: Cluster, *, leads: bool) -> str:
    """Where the doors of the replica are that leads, or of the other one."""
    first = leader(cluster)
    (found,) = (
        pod["status"]["podIP"]
        for pod in pods(cluster)
        if "deletionTimestamp" not in pod["metadata"]
        and (pod["metadata"]["name"] == first) is leads
    )
    return f"http://{found}:{PORT}"


async def _two(cluster: Cluster, *, not_led_by: str = "") -> None:
    """Two replicas are available, and one leads."""

    async def led() -> bool:
        return leader(cluster) not in {"", not_led_by}

    await until(led, READY_SECONDS, lambda: log(cluster))
    await available(cluster, within=READY_SECONDS)


def _policies(cluster: Cluster) -> dict[str, Json]:
    """As both ways of installing render it."""
    chart = helm(cluster, "template", "switchgear", MANIFESTS / "chart", f"--namespace={SYSTEM}")
    rendered = {
        "kustomize": kustomized("overlays/central"),
        "chart": tuple(item for item in yaml.safe_load_all(chart) if item),
    }
    found = {}
    for name, objects in rendered.items():
        (found[name],) = of_kind(objects, "NetworkPolicy")
    return found


async def _through_a_run(lab: Lab, watch: Watch, shop: App) -> None:
    """A canary, an act handed to the leader, a kill, and the end of the leader."""
    cluster = lab.cluster

    def told() -> str:
        return log(cluster)

    await _two(cluster)
    await shop.start(replicas=2, annotations=POLICY)
    await shop.adopted(told)
    await lab.load(shop, rate=50.0)
    await shop.deploy("v2")
    await records.reached(lab.api, SYSTEM, "Judging", log=told)
    stands_by = _address(cluster, leads=False)
    handed_on = Seen(way="egress", other="replica", port=PORT)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with plain(stands_by, seconds=60.0) as http:
        http.headers.update(headers)

        async def seen() -> bool:
            """There is nothing to retry: the leader says so."""
            answer = await http.post(f"/v1/targets/{shop.namespace}/{shop.name}/retry")
            assert answer.status_code in {202, 409, 503}, answer.text
            return handed_on in watch.seen

        await until(seen, 30.0, lambda: f"{watch.seen}")
        answer = await http.post("/v1/kill?wait=30")
        assert answer.json()["in_force"], answer.text
    await records.ended(lab.api, SYSTEM, "killed", told)
    before = leader(cluster)
    await asyncio.to_thread(cluster.kubectl, "delete", "pod", before, "-n", SYSTEM)
    await _two(cluster, not_led_by=before)


async def test_every_connection_is_let_through_and_every_rule_is_needed(
    lab: Lab, app: Callable[..., App]
) -> None:
    cluster = lab.cluster
    async with (
        watched(cluster) as watch,
        installed(cluster, "overlays/central", pods=True, overlay=_overlay),
    ):
        made = (
            ("secret", "generic", "switchgear-doors", f"--from-literal=token={TOKEN}"),
            ("configmap", "names", f"--from-literal=resolv.conf=nameserver {names.ADDRESS}\n"),
        )
        for words in made:
            await asyncio.to_thread(cluster.kubectl, "create", *words, "-n", SYSTEM)
        await _through_a_run(lab, watch, app())
        labels = [pod["metadata"]["labels"] for pod in pods(cluster)]
    assert len(watch.pods) >= 3, "two from the start, and one in place of the leader"
    assert {port for _, port in watch.doors} == {PORT}
    assert watch.asked == {PROMETHEUS}
    callers = {seen.other for seen in watch.seen if seen.way == "ingress"}
    assert callers >= {"prometheus", "replica", "somebody"}
    flows = [flow for seen in watch.seen for flow in _meaning(seen)]
    for name, policy in _policies(cluster).items():
        assert all(chosen(policy, SYSTEM, found) for found in labels), name
        assert [flow for flow in flows if not passes(policy, flow)] == [], name
        idle = [
            words for words, less in narrowed(policy) if all(passes(less, flow) for flow in flows)
        ]
        assert idle == [], name
