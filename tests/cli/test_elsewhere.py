# SPDX-License-Identifier: Apache-2.0
"""A kill beside controllers whose documents are in other namespaces, as those of sidecars are."""

from pathlib import Path

import pytest

from controller.adapters.kube.cache import Only
from controller.core.values import TargetRef
from controller.sim.apiserver.errors import ApiError
from controller.sim.apiserver.request import Request, Response, error_response
from controller.sim.world import World
from tests.cli.room import Room, room, standing

SIDECAR = Only(
    target=TargetRef("shop", "checkout"),
    services=("checkout",),
    routes=(("HTTPRoute", "checkout"),),
)
THERE = "--controller-namespace=shop"


def _lease(world: World, name: str, namespace: str = "shop") -> None:
    """What a controller that competes with others leaves."""
    labels = {"app.kubernetes.io/managed-by": "switchgear"}
    world.create(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"holderIdentity": "pod_1", "leaseDurationSeconds": 10},
        }
    )


def _forbid_lists(found: Room, *collections: str) -> None:
    """Of whole clusters: rights in one namespace are not touched."""

    async def judge(request: Request) -> Response | None:
        if request.method == "GET" and request.path in collections:
            return error_response(ApiError(403, "Forbidden", "not yours"))
        return None

    found.world.api.before.append(judge)


CONFIG_MAPS = "/api/v1/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/leases"


@pytest.mark.parametrize("words", [(), ("--namespace-only", "shop"), ("shop/checkout",)])
def test_a_run_that_is_kept_elsewhere_is_not_called_killed(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    """Exit 4 with the run and the way; done there as well, nothing is left to say."""
    with room(standing("Judging", only=SIDECAR), tmp_path) as found:
        result = found.type("kill", *words)
        assert result.exit_code == 4, result.output
        assert "NOT YET IN FORCE; 0 routes" in result.stdout
        assert "NOT COVERED: namespace shop: run of shop/checkout in Judging" in result.stdout
        assert "--controller-namespace shop" in result.stdout
        assert found.share() > 0

        assert found.type("kill", *words, THERE).exit_code == 0
        assert found.share() == 0
        told = found.told("kill", *words)
        assert (told["in_force"], told["not_covered"]) == (True, [])
        assert told["searched"].startswith("namespace switchgear;")


def test_a_controller_without_a_run_begins_one_when_it_likes(tmp_path: Path) -> None:
    """Its Lease tells of it, to whoever may list Leases alone: the role for stopping may."""
    world = standing()
    _lease(world, "switchgear.checkout")
    _lease(world, "switchgear", "switchgear")
    with room(world, tmp_path) as found:
        _forbid_lists(found, CONFIG_MAPS)
        result = found.type("kill")
        assert result.exit_code == 4
        assert "NOT COVERED: namespace shop: Lease switchgear.checkout; " in result.stdout
        assert "namespace switchgear:" not in result.stdout
        assert found.type("kill", "shop/checkout").exit_code == 4
        assert found.type("kill", "shop/basket").exit_code == 0, "another target's sidecar"
        assert found.type("kill", "--namespace-only", "other").exit_code == 0
        assert found.type("kill", THERE).exit_code == 0, "the other one is stopped already"
        assert found.type("kill").exit_code == 0


def test_who_may_not_look_elsewhere_is_told_so(tmp_path: Path) -> None:
    """What he could do here is in force, and the line says what that is."""
    with room(standing("Judging", only=SIDECAR), tmp_path) as found:
        _forbid_lists(found, CONFIG_MAPS, LEASES)
        result = found.type("kill")
        assert result.exit_code == 0, result.output
        assert "searched: namespace switchgear alone" in result.stdout
        assert "switchgear kill --controller-namespace NAMESPACE" in result.stdout


@pytest.mark.slow
def test_a_run_that_has_ended_elsewhere_is_nothing_to_stop(tmp_path: Path) -> None:
    with room(standing(outcome="promoted", only=SIDECAR), tmp_path) as found:
        assert found.told("kill")["not_covered"] == []


def test_whoever_looks_for_a_run_is_told_where_it_was_looked_for(tmp_path: Path) -> None:
    with room(standing("Judging", only=SIDECAR), tmp_path) as found:
        for command in ("abort", "status", "explain"):
            result = found.type(command, "shop/checkout")
            assert result.exit_code == 1
            assert "namespace switchgear" in result.stderr
            assert "--controller-namespace" in result.stderr
        assert found.type("abort", "shop/checkout", THERE).exit_code == 0
