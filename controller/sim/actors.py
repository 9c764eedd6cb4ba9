# SPDX-License-Identifier: Apache-2.0
"""Other writers: pipelines and GitOps tools that apply their manifest again and again.

They go through the API server like anybody, under their own names, and know nothing of a canary.
"""

from __future__ import annotations

import asyncio
import json
from enum import Enum
from typing import Any

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.resources import resource_of_kind
from controller.sim.apiserver.server import ApiServer
from controller.sim.apiserver.store import clone

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Manner(Enum):
    """How a manifest is applied."""

    THREE_WAY = "kubectl apply: what the last manifest had and this one has not is removed"
    SERVER_SIDE = "server-side apply by force: what was owned and is not named is removed"


class Applier:
    """Applies one manifest, once or every few seconds."""

    def __init__(
        self,
        api: ApiServer,
        manifest: JsonObject,
        *,
        manner: Manner = Manner.THREE_WAY,
        agent: str = "gitops/1.0",
    ) -> None:
        """``agent`` is the User-Agent, and before its slash the field manager."""
        served = resource_of_kind(manifest["apiVersion"], manifest["kind"])
        if served is None:
            raise KeyError(manifest["kind"])
        self.manifest = clone(manifest)
        self.statuses: list[int] = []
        """The status of every answer so far."""
        self._api = api
        self._manner = manner
        self._agent = agent
        self._custom = served.custom
        space = manifest["metadata"].get("namespace")
        middle = f"/namespaces/{space}" if space else ""
        self._collection = f"{served.prefix}{middle}/{served.plural}"
        self._path = f"{self._collection}/{manifest['metadata']['name']}"

    async def apply(self) -> int:
        """Apply the manifest and return the status of the answer."""
        if self._manner is Manner.SERVER_SIDE:
            status = await self._server_side()
        else:
            status = await self._three_way()
        self.statuses.append(status)
        return status

    async def keep_applying(self, every: float) -> None:
        """Apply every ``every`` seconds until cancelled; start it as a task."""
        while True:
            await self.apply()
            await asyncio.sleep(every)

    async def _server_side(self) -> int:
        query = [("fieldManager", self._agent.split("/", maxsplit=1)[0]), ("force", "true")]
        status, _ = await self._send(
            "PATCH", self._path, self.manifest, "application/apply-patch+yaml", query
        )
        return status

    async def _three_way(self) -> int:
        status, live = await self._send("GET", self._path)
        wanted = clone(self.manifest)
        text = json.dumps(self.manifest, sort_keys=True)
        wanted["metadata"].setdefault("annotations", {})[LAST_APPLIED] = text
        if status == 404:
            return (await self._send("POST", self._collection, wanted))[0]
        before = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
        last = json.loads(before) if before else {}
        patch = removals(last, self.manifest)
        _merge(patch, wanted)
        # kubectl has no schema of custom resources, so their lists are replaced whole.
        kind = "merge-patch" if self._custom else "strategic-merge-patch"
        status, _ = await self._send("PATCH", self._path, patch, f"application/{kind}+json")
        return status

    async def _send(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        kind: str = "application/json",
        query: list[tuple[str, str]] | None = None,
    ) -> tuple[int, Any]:
        headers = {"User-Agent": self._agent, "Content-Type": kind}
        content = b"" if body is None else json.dumps(body).encode()
        response = await self._api.handle(method, path, query or [], headers, content)
        answer = await response.read()
        return response.status, json.loads(answer) if answer.startswith(b"{") else None


def removals(last: JsonObject, now: JsonObject) -> JsonObject:
    """A merge patch that takes away the fields which ``last`` had and ``now`` has not."""
    found: JsonObject = {}
    for name, value in last.items():
        if name not in now:
            found[name] = None
        elif isinstance(value, dict) and isinstance(now[name], dict):
            inner = removals(value, now[name])
            if inner:
                found[name] = inner
    return found


def _merge(target: JsonObject, values: JsonObject) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = value
