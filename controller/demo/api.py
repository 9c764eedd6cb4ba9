# SPDX-License-Identifier: Apache-2.0
"""The few calls that the demo's team and its stopwatch make at the API server.

Deliberately not the product's own client: a mistake there must not hide itself from the figures.
"""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx

CALL_SECONDS = 10.0
_STRATEGIC = "application/strategic-merge-patch+json"

Object = dict[str, Any]

_PLURALS = {
    "Namespace": ("api/v1", "namespaces"),
    "Service": ("api/v1", "services"),
    "Pod": ("api/v1", "pods"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "GatewayClass": ("apis/gateway.networking.k8s.io/v1", "gatewayclasses"),
    "Gateway": ("apis/gateway.networking.k8s.io/v1", "gateways"),
    "HTTPRoute": ("apis/gateway.networking.k8s.io/v1", "httproutes"),
    "SelfSubjectAccessReview": ("apis/authorization.k8s.io/v1", "selfsubjectaccessreviews"),
}


def path(kind: str, namespace: str | None = None, name: str | None = None) -> str:
    """The path of a kind, of all objects of it in a namespace, or of one."""
    group, plural = _PLURALS[kind]
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"/{group}{within}/{plural}{f'/{name}' if name else ''}"


class Api:
    """One API server; every method raises httpx.HTTPError when it does not answer well."""

    def __init__(self, url: str, http: httpx.AsyncClient | None = None) -> None:
        """`http` brings what a server that asks who is calling wants to see."""
        self.url = url
        self._http = http or httpx.AsyncClient(base_url=url, timeout=CALL_SECONDS, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def create(self, manifest: Object) -> Object:
        """Create an object."""
        where = path(manifest["kind"], manifest["metadata"].get("namespace"))
        return _read(await self._http.post(where, json=manifest))

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        """Read an object."""
        return _read(await self._http.get(path(kind, namespace, name)))

    async def list(
        self, kind: str, namespace: str | None = None, *, label: str = ""
    ) -> list[Object]:
        """Read all objects of a kind in a namespace or everywhere, by label if one is given."""
        query = {"labelSelector": label} if label else {}
        listed = _read(await self._http.get(path(kind, namespace), params=query))
        items: list[Object] = listed["items"]
        return items

    async def delete(self, kind: str, name: str, uid: str) -> None:
        """Delete an object that has no namespace, unless another one has its name by now."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Foreground"}
        _read(await self._http.request("DELETE", path(kind, None, name), json=body))

    async def may(self, verb: str, group: str, resource: str) -> bool:
        """Whether we may do this in every namespace."""
        asked = {"verb": verb, "group": group, "resource": resource}
        review = await self.create(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "metadata": {},
                "spec": {"resourceAttributes": asked},
            }
        )
        return bool(review["status"]["allowed"])

    async def patch(self, kind: str, namespace: str | None, name: str, change: Object) -> Object:
        """Apply a strategic merge patch (a plain merge patch for custom resources)."""
        mime = _STRATEGIC if "gateway" not in _PLURALS[kind][0] else "application/merge-patch+json"
        return _read(
            await self._http.patch(
                path(kind, namespace, name),
                content=json.dumps(change),
                headers={"Content-Type": mime},
            )
        )

    async def watch(self, kind: str, namespace: str) -> AsyncIterator[tuple[float, str, Object]]:
        """Yield time of arrival, type and object of everything from now on, until cancelled."""
        listing = _read(await self._http.get(path(kind, namespace)))
        for item in listing["items"]:
            yield time.time(), "LISTED", item
        query = {"watch": "true", "resourceVersion": listing["metadata"]["resourceVersion"]}
        endless = httpx.Timeout(CALL_SECONDS, read=None)
        async with self._http.stream(
            "GET", path(kind, namespace), params=query, timeout=endless
        ) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                event = json.loads(line)
                yield time.time(), event["type"], event["object"]


def _read(response: httpx.Response) -> Object:
    if response.is_error:
        raise httpx.HTTPStatusError(
            f"{response.status_code} for {response.request.method} {response.request.url.path}: "
            f"{response.text[:300]}",
            request=response.request,
            response=response,
        )
    found: Object = response.json()
    return found
