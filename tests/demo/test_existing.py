# SPDX-License-Identifier: Apache-2.0
"""The ground of a real cluster against the simulated API server: what is made and what is removed.

Stories on a real control plane are in `tests/cluster/test_demo.py`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.demo import existing, manifests
from controller.demo.access import Access
from controller.demo.api import Api
from controller.demo.errors import DemoError
from controller.demo.existing import Site
from controller.demo.gateways import Door
from controller.demo.signals import TRAEFIK
from controller.sim.apiserver.serve import kubeconfig, serving
from controller.sim.apiserver.server import ApiServer
from controller.sim.apiserver.store import Store
from controller.sim.world import controllers

DOOR = Door(
    namespace="infra",
    gateway="edge",
    listener="web",
    port=80,
    domain="",
    address="",
    signals=TRAEFIK,
)


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[tuple[Site, Api]]:
    """A cluster as a user knows it, and somebody who looks at it."""
    store = Store(lambda: datetime.now(UTC), namespaces=("default",))
    async with controllers(store), serving(ApiServer(store)) as url:
        file = folder / "config"
        file.write_text(kubeconfig(url), encoding="utf-8")
        access = Access(kubeconfig=str(file))
        api = Api(url)
        try:
            yield (
                Site(
                    access=access,
                    context=access.current(),
                    server=url,
                    door=DOOR,
                    address="127.0.0.1:1",
                    prometheus="http://127.0.0.1:1",
                    prometheus_ahead=0.0,
                    image="registry.example/switchgear:1",
                ),
                api,
            )
        finally:
            await api.close()


async def names(api: Api) -> set[str]:
    return {item["metadata"]["name"] for item in await api.list("Namespace")}


async def test_a_namespace_is_made_and_removed_with_what_is_in_it(tmp_path: Path) -> None:
    said: list[str] = []
    async with cluster(tmp_path) as (site, api):
        before = await names(api)
        async with existing.ground(site, said.append) as ground:
            (made,) = await names(api) - before
            assert made == ground.team.namespace == ground.system
            await ground.api.create(manifests.service(ground.team))
            assert not ground.pods_reachable
        assert await names(api) == before
    assert said == []


@pytest.mark.parametrize("error", [DemoError, asyncio.CancelledError])
async def test_it_is_removed_after_an_error_too(tmp_path: Path, error: type[BaseException]) -> None:
    async with cluster(tmp_path) as (site, api):
        before = await names(api)
        with pytest.raises(error):
            async with existing.ground(site, print):
                raise error
        assert await names(api) == before


async def test_a_namespace_that_somebody_else_made_meanwhile_stays(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (site, api):
        async with existing.ground(site, print) as ground:
            name = ground.team.namespace
            change = {"metadata": {"labels": {existing.INSTANCE: "someone-else"}}}
            await api.patch("Namespace", None, name, change)
        assert name in await names(api)


async def test_what_is_left_is_told(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as world, contextlib.AsyncExitStack() as stack:
        site, _ = await world.enter_async_context(cluster(tmp_path))
        ground = await stack.enter_async_context(existing.ground(site, print))
        # As when a laptop loses its network.
        await world.aclose()
        with pytest.raises(DemoError, match=f"kubectl delete namespace {ground.team.namespace}"):
            await stack.aclose()


def test_what_objects_complain_of_is_told() -> None:
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    pod = {"status": {"containerStatuses": [{"state": {"waiting": waiting}}]}}
    pending = {
        "status": {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"},
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
            ]
        }
    }
    refused = {
        "status": {
            "conditions": [
                {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"},
                {"type": "Available", "status": "False", "reason": "MinimumReplicas"},
            ]
        }
    }
    denied = {"type": "Accepted", "status": "False", "reason": "NotAllowedByListeners"}
    route = {"status": {"parents": [{"conditions": [denied]}]}}
    text = "\n".join(existing.reasons([pod, pending], [refused], [route, {}]))
    for expected in (
        "ErrImagePull: not found",
        "Unschedulable",
        "FailedCreate",
        "NotAllowedByListeners",
        "no gateway has looked at it",
    ):
        assert expected in text
    assert "ContainersNotReady" not in text
    assert "MinimumReplicas" not in text
