# SPDX-License-Identifier: Apache-2.0
"""What is asked before a run, judged by what stands in the shop."""

import json
from typing import Any

import pytest

from controller.adapters.clock import LoopClock
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.cluster import KubeCluster
from controller.adapters.kube.wire import Request, Response
from controller.sim import clock
from controller.sim.apiserver.server import ApiServer
from tests.kube.scene import TARGET, scene
from tests.support.simwire import SimWire, once


def test_it_finds_what_stands_in_the_way() -> None:
    async def story() -> None:
        async with scene() as (world, cluster, _):
            clear = await cluster.preflight(TARGET)
            assert (clear.unweighable, clear.uncovered, clear.autoscaler_max) == ((), (), None)
            world.create(
                {
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "Ingress",
                    "metadata": {"name": "old", "namespace": "shop"},
                    "spec": {
                        "defaultBackend": {"service": {"name": "checkout", "port": {"number": 80}}}
                    },
                }
            )
            world.create(autoscaler(MEMORY, most=7))
            found = await cluster.preflight(TARGET)
            assert found.unweighable == ("Ingress shop/old",)
            assert found.autoscaler_max == 7

    clock.run(story(), limit=900)


MEMORY = {
    "type": "Resource",
    "resource": {
        "name": "memory",
        "target": {"type": "Utilization", "averageUtilization": 70},
    },
}
CPU = {**MEMORY, "resource": {**MEMORY["resource"], "name": "cpu"}}  # type: ignore[dict-item]
OF_SERVICE = {
    "type": "Object",
    "object": {
        "metric": {"name": "requests_per_second"},
        "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "checkout"},
        "target": {"type": "Value", "value": "100"},
    },
}


def external(name: str) -> dict[str, object]:
    """As KEDA makes it of a trigger: its query cannot be seen."""
    target = {"type": "AverageValue", "averageValue": "100"}
    return {"type": "External", "external": {"metric": {"name": name}, "target": target}}


def autoscaler(*metrics: object, least: int | None = None, most: int = 7) -> dict[str, object]:
    """Of `shop/checkout`."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": "checkout",
            },
            **({} if least is None else {"minReplicas": least}),
            "maxReplicas": most,
            "metrics": list(metrics),
        },
    }


@pytest.mark.parametrize(
    ("made", "runs_away", "starves"),
    [
        (autoscaler(CPU), False, False),
        (autoscaler(CPU, MEMORY), True, False),
        (autoscaler(OF_SERVICE, CPU), False, True),
        (autoscaler(OF_SERVICE, MEMORY), True, True),
        (autoscaler(MEMORY, most=1), False, False),
        (autoscaler(OF_SERVICE, MEMORY, least=7), False, False),
        (autoscaler(MEMORY, least=6), True, False),
    ],
)
def test_it_tells_what_an_autoscaler_does_beside_a_canary(
    *, made: dict[str, object], runs_away: bool, starves: bool
) -> None:
    """One that cannot move does nothing, whatever it measures."""

    async def story() -> None:
        async with scene() as (world, cluster, _):
            world.create(made)
            found = await cluster.preflight(TARGET)
            assert ("memory" in found.autoscaler_runs_away) is runs_away
            assert ("maxReplicas of 7" in found.autoscaler_runs_away) is runs_away
            assert ("Service 'checkout'" in found.autoscaler_starves) is starves
            assert bool(found.autoscaler_runs_away) is runs_away
            assert bool(found.autoscaler_starves) is starves

    clock.run(story(), limit=900)


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (
            autoscaler(external("s1-cron"), CPU, external("s0-prometheus")),
            ("s0-prometheus", "s1-cron"),
        ),
        (autoscaler(external("s0-prometheus"), least=7), ()),
        (autoscaler(CPU), ()),
    ],
)
def test_it_names_the_metrics_whose_load_nobody_can_see(
    made: dict[str, object], names: tuple[str, ...]
) -> None:
    """Those of an autoscaler that can move."""

    async def story() -> None:
        async with scene() as (world, cluster, _):
            world.create(made)
            found = await cluster.preflight(TARGET)
            assert found.autoscaler_external == names
            assert (found.autoscaler_runs_away, found.autoscaler_starves) == ("", "")

    clock.run(story(), limit=900)


ISTIO = "/apis/networking.istio.io"
GATEWAY = "/apis/gateway.networking.k8s.io"


class WithCrds(SimWire):
    """An API server that also serves these collections, each in one version."""

    def __init__(
        self,
        api: ApiServer,
        lists: dict[str, list[dict[str, Any]] | None],
        without: tuple[str, ...] = (),
    ) -> None:
        """A collection that is None may not be read; those named last it does not have."""
        super().__init__(api)
        self.lists = lists
        self.without = without

    async def send(self, request: Request) -> Response:
        """What the simulated one has not is answered from the lists."""
        self.sent.append(request)
        if request.path in self.without:
            return _answer(404, {"kind": "Status", "code": 404})
        if request.path not in self.lists:
            return await super().send(request)
        items = self.lists[request.path]
        if items is None:
            return _answer(403, {"kind": "Status", "code": 403})
        return _answer(200, {"items": items})


def _answer(status: int, body: dict[str, Any]) -> Response:
    headers = {"content-type": "application/json"}
    return Response(status=status, headers=headers, body=once(json.dumps(body).encode()))


def led(own: str, within: str, **destination: str) -> dict[str, Any]:
    """A VirtualService or TLSRoute that names one Service."""
    return {
        "metadata": {"name": own, "namespace": within},
        "spec": {"http": [{"route": [{"destination": destination}]}]},
    }


SHORT = led("own", "shop", host="checkout")
FULL = led("far", "edge", host="checkout.shop.svc.cluster.local")
NAMESAKE = led("namesake", "edge", host="checkout")
ELSEWHERE = led("elsewhere", "shop", host="checkout.edge.svc")
BESIDE = led("beside", "edge", name="checkout", namespace="shop")


@pytest.mark.parametrize(
    ("lists", "found"),
    [
        ({f"{ISTIO}/v1/virtualservices": [SHORT]}, ("VirtualService shop/own",)),
        ({f"{ISTIO}/v1beta1/virtualservices": [SHORT]}, ("VirtualService shop/own",)),
        ({f"{ISTIO}/v1alpha3/virtualservices": [SHORT]}, ("VirtualService shop/own",)),
        (
            {f"{ISTIO}/v1/virtualservices": [FULL, NAMESAKE, ELSEWHERE]},
            ("VirtualService edge/far",),
        ),
        (
            {
                f"{ISTIO}/v1/virtualservices": None,
                f"{ISTIO}/v1/namespaces/shop/virtualservices": [SHORT],
            },
            ("VirtualService shop/own",),
        ),
        ({f"{GATEWAY}/v1alpha2/tcproutes": [BESIDE, NAMESAKE]}, ("TCPRoute edge/beside",)),
        (
            {f"{GATEWAY}/v1/tlsroutes": None, f"{GATEWAY}/v1/namespaces/shop/tlsroutes": None},
            (),
        ),
    ],
)
def test_it_finds_other_paths_in_every_version_and_namespace(
    lists: dict[str, list[dict[str, Any]] | None], found: tuple[str, ...]
) -> None:
    """As far as it may look: a right in one namespace alone shows that namespace."""

    async def story() -> None:
        async with scene() as (world, cluster, _):
            wire = WithCrds(world.api, lists)
            asked = KubeCluster(Calls(wire, LoopClock()), cache=cluster.cache)
            assert (await asked.preflight(TARGET)).unweighable == found

    clock.run(story(), limit=900)


def test_told_namespaces_are_all_that_it_looks_at() -> None:
    """Where the account has rights in them alone, nothing is asked that it may not."""

    async def story() -> None:
        async with scene() as (world, cluster, _):
            far = f"{ISTIO}/v1/namespaces/edge/virtualservices"
            wire = WithCrds(world.api, {far: [FULL], f"{ISTIO}/v1/virtualservices": [SHORT]})
            calls = Calls(wire, LoopClock())
            asked = KubeCluster(calls, ("shop", "edge"), cache=cluster.cache)
            assert (await asked.preflight(TARGET)).unweighable == ("VirtualService edge/far",)
            collections = [r.path for r in wire.sent if "/namespaces/" not in r.path]
            assert collections == []

    clock.run(story(), limit=900)


def test_a_policy_of_an_older_version_counts_as_well() -> None:
    """A BackendTLSPolicy that the canary's Service would escape."""

    async def story() -> None:
        async with scene() as (world, cluster, _):
            policy = {
                "metadata": {"name": "tls", "namespace": "shop"},
                "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "checkout"}]},
            }
            old = f"{GATEWAY}/v1alpha3/namespaces/shop/backendtlspolicies"
            new = old.replace("v1alpha3", "v1")
            wire = WithCrds(world.api, {old: [policy]}, without=(new,))
            asked = KubeCluster(Calls(wire, LoopClock()), cache=cluster.cache)
            assert (await asked.preflight(TARGET)).uncovered == ("BackendTLSPolicy shop/tls",)

    clock.run(story(), limit=900)


def test_it_reads_on_beyond_the_first_page() -> None:
    """The Ingress that counts is the last of more than fit into one answer."""

    async def story() -> None:
        async with scene() as (world, cluster, _):
            for number in range(501):
                service = "checkout" if number == 500 else "else"
                backend = {"service": {"name": service, "port": {"number": 80}}}
                world.create(
                    {
                        "apiVersion": "networking.k8s.io/v1",
                        "kind": "Ingress",
                        "metadata": {"name": f"i{number:03}", "namespace": "shop"},
                        "spec": {"defaultBackend": backend},
                    }
                )
            assert (await cluster.preflight(TARGET)).unweighable == ("Ingress shop/i500",)

    clock.run(story(), limit=900)
