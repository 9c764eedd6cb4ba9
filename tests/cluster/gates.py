# SPDX-License-Identifier: Apache-2.0
"""Pods that become ready when a test lets them, so that a native roll stands still where it says.

By a readiness gate, such as load balancers of clouds have: without unavailable pods a roll goes no
further than its surge beyond what is ready, however long that lasts and however slow a machine is.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Final

from tests.cluster.lab.application import PREFIX, App, Object
from tests.cluster.scenes import followed
from tests.support.dialects import STRATEGIC

GATE: Final = "gates.example/open"
"""A type of condition of pods; whose template names it among its `readinessGates` has one."""


@dataclass(slots=True, kw_only=True)
class Gates:
    """Those of all pods of a namespace."""

    app: App
    """Any one that is there."""
    limits: dict[str, int] = field(default_factory=dict)
    """So many of a Deployment's own pods with a gate may ever become ready, by its name; as many as
    there are of one that is not named. The canary's are let through always."""
    _let: dict[str, set[str]] = field(default_factory=dict)
    _pods: Collection[Object] = ()
    _asked: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def look(self, pods: Collection[Object]) -> None:
        """All pods as they are now; see `followed`."""
        self._pods = pods
        for pod in pods:
            name = pod["metadata"]["name"]
            if _shut(pod) and name not in self._asked and self._admit(pod):
                self._asked[name] = asyncio.ensure_future(self._open(name))

    def let(self, name: str, count: int) -> None:
        """So many pods of a Deployment may be ready from now on."""
        self.limits[name] = count
        self.look(self._pods)

    async def settled(self) -> None:
        """Wait until all that was asked for is done; raises AssertionError."""
        await asyncio.gather(*self._asked.values())

    def _admit(self, pod: Object) -> bool:
        """Count it among those that may become ready, if there is room; whether there was."""
        labels = pod["metadata"]["labels"]
        if PREFIX + "track" in labels:
            return True
        let = self._let.setdefault(labels["app"], set())
        name = pod["metadata"]["name"]
        if name not in let and len(let) >= self.limits.get(labels["app"], len(let) + 1):
            return False
        let.add(name)
        return True

    async def _open(self, name: str) -> None:
        """Once: a kubelet leaves the conditions of others as they are."""
        body = {"status": {"conditions": [{"type": GATE, "status": "True"}]}}
        answer = await self.app.send(
            "PATCH", f"{self.app.path('pods', name)}/status", body, STRATEGIC
        )
        assert answer.status in {200, 404}, answer.content


def _shut(pod: Object) -> bool:
    """Whether its gate is all that a pod waits for."""
    wanted = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()]
    found = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions") or ()}
    return GATE in wanted and GATE not in found and found.get("ContainersReady") == "True"


@contextlib.asynccontextmanager
async def opening(app: App) -> AsyncIterator[Gates]:
    """Open gates in the application's namespace while the block lasts."""
    gates = Gates(app=app)
    async with followed(app, gates.look):
        yield gates
        await gates.settled()
