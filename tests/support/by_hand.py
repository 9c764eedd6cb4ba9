# SPDX-License-Identifier: Apache-2.0
"""A canary of the demo's application that no controller has made, for tests that steer it."""

import asyncio
from collections.abc import Mapping

from controller.demo import manifests
from controller.demo.api import Api

NAME = f"{manifests.APP}-canary"
READY_SECONDS = 30.0
_LABELS = {"app": manifests.APP, "track": "hand"}


async def canary(api: Api, env: Mapping[str, str]) -> None:
    """One pod of v2 with a Service of its own, when it is ready."""
    deployment = manifests.deployment("v2", env, {}, replicas=1)
    deployment["metadata"]["name"] = NAME
    deployment["spec"]["selector"]["matchLabels"] = _LABELS
    deployment["spec"]["template"]["metadata"]["labels"] = _LABELS
    service = manifests.service()
    service["metadata"]["name"] = NAME
    service["spec"]["selector"] = _LABELS
    await api.create(service)
    await api.create(deployment)
    await available(api, NAME)


async def pin(api: Api) -> None:
    """Keep the Service to the pods that it has."""
    pods = await api.list("Pod", manifests.NAMESPACE)
    version = pods[0]["metadata"]["labels"]["pod-template-hash"]
    change = {"spec": {"selector": {"pod-template-hash": version}}}
    await api.patch("Service", manifests.NAMESPACE, manifests.APP, change)


async def weigh(api: Api, percent: int) -> None:
    """Send so much to the canary."""
    rules = manifests.route()["spec"]["rules"]
    rules[0]["backendRefs"] = [
        {"name": manifests.APP, "port": 80, "weight": 100 - percent},
        {"name": NAME, "port": 80, "weight": percent},
    ]
    await api.patch("HTTPRoute", manifests.NAMESPACE, manifests.APP, {"spec": {"rules": rules}})


async def available(api: Api, name: str) -> None:
    """Wait until every pod of the Deployment is."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            found = await api.get("Deployment", manifests.NAMESPACE, name)
            if found.get("status", {}).get("availableReplicas") == found["spec"]["replicas"]:
                return
            await asyncio.sleep(0.05)
