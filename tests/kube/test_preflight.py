# SPDX-License-Identifier: Apache-2.0
"""What is asked before a run, judged by what stands in the shop."""

import pytest

from controller.sim import clock
from tests.kube.scene import TARGET, scene


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
