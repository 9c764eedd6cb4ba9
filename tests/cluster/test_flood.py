# SPDX-License-Identifier: Apache-2.0
"""An API server that sheds load still serves the controller: it has seats of its own."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from tests.cluster.conftest import Lab
from tests.cluster.installed import SYSTEM, Installed, installed
from tests.cluster.lab.application import App
from tests.cluster.lab.worker import Cluster
from tests.contract.port import OverHttp, real_client

pytestmark = pytest.mark.timeout(600)

Object = dict[str, Any]
CROWD = 300
"""Calls of the flood that are open at once: far more than its level has seats."""

FLOOD: list[Object] = [
    # What kube-apiserver does under load with thousands of seats is done here with one.
    {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "flood"},
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
        "metadata": {"name": "flood"},
        "spec": {
            "priorityLevelConfiguration": {"name": "flood"},
            # Behind ours: without a schema of its own the controller would be in here as well.
            "matchingPrecedence": 800,
            "rules": [
                {
                    "subjects": [
                        {"kind": "Group", "group": {"name": "system:serviceaccounts"}},
                    ],
                    "resourceRules": [
                        {
                            "apiGroups": ["*"],
                            "resources": ["*"],
                            "verbs": ["*"],
                            "namespaces": ["*"],
                            "clusterScope": True,
                        }
                    ],
                }
            ],
        },
    },
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seated(cluster: Cluster) -> AsyncIterator[Installed]:
    """Roles and seats, and a crowd of service accounts that shares one seat."""
    async with installed(cluster, "base") as found:
        text = yaml.safe_dump_all(FLOOD)
        await asyncio.to_thread(cluster.kubectl, "apply", "-f", "-", stdin=text)
        try:
            yield found
        finally:
            await asyncio.to_thread(cluster.kubectl, "delete", "-f", "-", stdin=text)


@contextlib.contextmanager
def _flooded(port: OverHttp, path: str, seen: Counter[int]) -> Iterator[None]:
    async def one() -> None:
        while True:
            answer = await port.request("GET", path, {}, {}, b"")
            seen[answer.status] += 1

    tasks = [asyncio.ensure_future(one()) for _ in range(CROWD)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def test_weight_0_is_written_while_others_are_turned_away(
    seated: Installed, lab: Lab, app: Callable[..., App]
) -> None:
    """Every write of the controller's account is served; hundreds of the crowd's are not."""
    shop = app()
    await shop.start(replicas=1)
    cluster = lab.cluster
    cluster.kubectl("-n", shop.namespace, "create", "serviceaccount", "crowd")
    cluster.kubectl(
        *("-n", shop.namespace, "create", "rolebinding", "crowd", "--clusterrole=view"),
        f"--serviceaccount={shop.namespace}:crowd",
    )
    crowd = cluster.kubeconfig_for_service_account(shop.namespace, "crowd")
    seen: Counter[int] = Counter()
    own: Counter[int] = Counter()
    path = "/apis/gateway.networking.k8s.io/v1/namespaces"
    patch = [{"op": "add", "path": "/spec/rules/0/backendRefs/0/weight", "value": 1}]
    async with real_client(crowd) as many, real_client(seated.controller) as ours:
        port = OverHttp(ours)
        with _flooded(OverHttp(many), f"/api/v1/namespaces/{shop.namespace}/pods", seen):
            while seen[429] < CROWD:
                assert set(seen) <= {200, 429}
                await asyncio.sleep(0.05)
            before = seen[429]
            for number in range(40):
                patch[0]["value"] = number % 7
                answer = await port.request(
                    "PATCH",
                    f"{path}/{shop.namespace}/httproutes/{shop.name}",
                    {},
                    {"Content-Type": "application/json-patch+json"},
                    json.dumps(patch).encode(),
                )
                own[answer.status] += 1
                read = await port.request(
                    "GET", f"/api/v1/namespaces/{SYSTEM}/configmaps", {}, {}, b""
                )
                own[read.status] += 1
            assert seen[429] > before, "the flood went on all the while"
    assert own == {200: 80}
