# SPDX-License-Identifier: Apache-2.0
"""An API server that sheds load still serves the controller, since it has seats of its own.

The level that all service accounts share is filled with requests whose bodies never end: each of
them keeps its seat, so whoever comes next is turned away with a 429, without any load on this
machine.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SYSTEM, Installed, installed
from tests.cluster.lab import records
from tests.cluster.lab.application import UNHURRIED, App, until
from tests.cluster.lab.worker import Cluster
from tests.support.api import real_client

pytestmark = [pytest.mark.timeout(300), pytest.mark.once]

Object = dict[str, Any]

CROWD = 20
"""Requests that never end; the level has three seats or so."""

POLICY = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s"}

ANYTHING: Object = {
    "apiGroups": ["*"],
    "resources": ["*"],
    "verbs": ["*"],
    "namespaces": ["*"],
    "clusterScope": True,
}
CROWDED: list[Object] = [
    # What happens to the built-in level of service accounts with hundreds of seats, with few.
    {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "crowded"},
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 1,
                "borrowingLimitPercent": 0,
                "limitResponse": {"type": "Reject"},
            },
        },
    },
    {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": "crowded"},
        "spec": {
            "priorityLevelConfiguration": {"name": "crowded"},
            # Behind ours and before the built-in one: without ours the controller is in here too.
            "matchingPrecedence": 800,
            "rules": [
                {
                    "subjects": [
                        {"kind": "Group", "group": {"name": "system:serviceaccounts:default"}},
                        {"kind": "Group", "group": {"name": f"system:serviceaccounts:{SYSTEM}"}},
                    ],
                    "resourceRules": [ANYTHING],
                }
            ],
        },
    },
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowded(cluster: Cluster) -> AsyncIterator[Installed]:
    """Roles and seats as shipped, and one crowded level for everybody else's service accounts."""
    async with installed(cluster, "base") as found:
        text = yaml.safe_dump_all(CROWDED)
        await asyncio.to_thread(cluster.kubectl, "apply", "-f", "-", stdin=text)
        try:
            yield found
        finally:
            await asyncio.to_thread(cluster.kubectl, "delete", "-f", "-", stdin=text)


async def occupy(url: httpx.URL, context: ssl.SSLContext, token: str) -> None:
    """Take a seat whenever there is one, and keep it until the API server gives up on the body."""
    head = (
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1",
        f"Host: {url.host}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        "Content-Length: 1000",
    )
    while True:
        reader, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
        try:
            writer.write("\r\n".join((*head, "", "{")).encode())
            await reader.readline()  # A 429 at once, or else nothing for a minute.
        finally:
            writer.transport.abort()
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def full(cluster: Cluster, crowd: httpx.AsyncClient) -> AsyncIterator[None]:
    """All seats of the level are taken for as long as the block lasts."""
    context = ssl.create_default_context(cafile=str(cluster.pki / "ca.crt"))
    token = crowd.headers["Authorization"].removeprefix("Bearer ")
    tasks = [asyncio.ensure_future(occupy(crowd.base_url, context, token)) for _ in range(CROWD)]
    try:
        await until(lambda: turned_away(crowd), 30.0, "every seat is taken")
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def turned_away(client: httpx.AsyncClient) -> bool:
    """Whether the API server has no seat for this client now."""
    answer = await client.get(f"/api/v1/namespaces/{SYSTEM}/configmaps")
    assert answer.status_code in {200, 429}, answer.text
    return answer.status_code == 429


async def test_a_bad_version_is_rolled_back_while_others_are_turned_away(
    crowded: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """The whole way: watches, documents, and at the breach weight 0."""
    cluster, shop = lab.cluster, app()
    daemon = lab.daemon(Space(name=space.name, system=SYSTEM), kubeconfig=crowded.controller)
    await shop.start(annotations=POLICY)
    cluster.kubectl("create", "serviceaccount", "crowd")
    edit = ("--clusterrole=admin", "--serviceaccount=default:crowd")
    cluster.kubectl("create", "clusterrolebinding", "crowd", *edit)
    account = cluster.kubeconfig_for_service_account("default", "crowd")
    try:
        async with (
            real_client(account) as crowd,
            real_client(crowded.controller) as controller,
            full(cluster, crowd),
        ):
            await daemon.start()
            await shop.adopted(daemon.log)
            load = await lab.load(shop)
            await shop.deploy("v2", {**UNHURRIED, "ERROR_RATE": "0.5"})
            await records.tripped_in(lab.api, SYSTEM, "Judging", daemon.log, most_bp=500)
            assert await turned_away(crowd)
            assert not await turned_away(controller)
            assert await shop.weights() == {shop.name: 1}
            assert load.failures == {}
            # It is our FlowSchema that does it: without it we are in the crowd.
            cluster.kubectl("delete", "flowschema", "switchgear")
            await until(lambda: turned_away(controller), 30.0, "the controller is in the crowd")
    finally:
        cluster.kubectl("delete", "clusterrolebinding", "crowd")
        cluster.kubectl("delete", "serviceaccount", "crowd")
