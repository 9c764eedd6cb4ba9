# SPDX-License-Identifier: Apache-2.0
"""The doors of a controller that runs in a simulated world, and a caller before them.

Everything behind the doors is real: engine, adapters, and the simulated API server at their end.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from controller.engine.health import Health
from controller.http.access import Access
from controller.http.doors import Doors
from controller.http.standby import Standby
from controller.ports.peer import Peer
from controller.sim.apiserver.errors import ApiError
from controller.sim.apiserver.request import Request, Response, error_response
from tests.engine.house import House, house

V1, V2, V3 = (f"registry.example/app:v{number}" for number in (1, 2, 3))


@dataclass(slots=True, kw_only=True)
class Front:
    """A house with its doors."""

    house: House
    http: httpx.AsyncClient

    async def kill(self, body: object = None, *, wait: float = 60.0) -> httpx.Response:
        """Use the kill switch; bytes go out as they are."""
        content = body if isinstance(body, bytes) else None
        told = None if isinstance(body, bytes) else body
        path = f"/v1/kill?wait={wait}"
        if told is not None:
            return await self.http.post(path, json=told)
        return await self.http.post(path, content=content)

    async def act(self, verb: str, target: str = "shop/checkout", **body: Any) -> httpx.Response:
        """One verb on one target."""
        return await self.http.post(f"/v1/targets/{target}/{verb}", json=body)

    def latched(self) -> set[str]:
        """The scopes that are stopped, as the cluster has them."""
        found = self.house.world.store.get("configmaps", "switchgear", "switchgear-kill")
        return set((found or {}).get("data") or {})

    def share(self, name: str = "checkout") -> int:
        """The weight that the route asks for the canary."""
        return self.house.world.weights(name).get(f"{name}-canary", 0)

    def spoil(self, fits: Callable[[Request], bool], status: int = 503) -> Callable[[], None]:
        """Let the API server refuse what fits; the returned call ends that."""

        async def refuse(request: Request) -> Response | None:
            if fits(request):
                return error_response(ApiError(status, "Refused", "not today"))
            return None

        hooks = self.house.world.api.before
        hooks.append(refuse)
        return lambda: hooks.remove(refuse)


def doors(
    found: House, token_file: Path | None = None, peer: Peer | None = None
) -> httpx.AsyncClient:
    """A caller before the doors of a house whose controller was started."""
    engine = found.engine
    assert engine is not None
    cluster: Any = engine.cluster
    documents: Any = engine.documents
    front = Doors(
        access=Access(token_file),
        desk=engine.desk,
        killer=engine.killer,
        requests=engine.requests,
        health=Health(
            synced=lambda: cluster.synced and documents.synced,
            stale_seconds=lambda: cluster.cache.stale_seconds,
            requests=lambda: 7,
        ),
        meters=engine.meters,
        latches=documents.latches_seen,
        clock=engine.clock,
        standby=Standby(
            leader=found.leader,
            peer=peer,
            desk=engine.desk,
            records=engine.records,
            cluster=engine.cluster,
        ),
    )
    transport = httpx.ASGITransport(front.app(), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://switchgear", timeout=None)


@contextlib.asynccontextmanager
async def fronted(
    *, token_file: Path | None = None, phase: str = "", **how: Any
) -> AsyncIterator[Front]:
    """A house with doors; with `phase` a new version has come that far."""
    async with house(**how) as found, doors(found, token_file) as http:
        if phase:
            found.world.set_image("shop", "checkout", V2)
            await found.reaches(phase)
        yield Front(house=found, http=http)


def writes(path: str) -> Callable[[Request], bool]:
    """Whether a request writes something whose path holds this text."""
    return lambda request: request.method != "GET" and path in request.path
