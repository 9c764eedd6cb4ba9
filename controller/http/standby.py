# SPDX-License-Identifier: Apache-2.0
"""What the doors of a replica do that does not lead.

Looking is answered from the run documents. What moves toward risk goes to the leader, once, with
the caller's own token, or is answered with who leads. A kill needs none of this.
"""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from controller.core import errors
from controller.core.journal import story
from controller.core.lifecycle.table import Phase
from controller.core.observation import View
from controller.core.values import TargetRef
from controller.engine.desk import Desk
from controller.engine.leader import Leader
from controller.engine.records import Record, Records
from controller.ports.cluster import Cluster
from controller.ports.peer import Peer

HOP: Final = "x-switchgear-hop"
"""Set on what was passed on: two replicas that each take the other for the leader end it here."""

PASSED: Final = ("authorization", "content-type", "x-switchgear-actor")
"""Headers that go along."""


class Standby:
    """Answers for a replica that stands by."""

    def __init__(
        self,
        *,
        leader: Leader | None,
        peer: Peer | None,
        desk: Desk,
        records: Records,
        cluster: Cluster,
    ) -> None:
        """Without a `leader` this process always acts; without a `peer` nothing is passed on."""
        self._leader = leader
        self._peer = peer
        self._desk = desk
        self._records = records
        self._cluster = cluster

    @property
    def stands_by(self) -> bool:
        """Whether another process acts, or this one has not taken every run up yet."""
        return self._leader is not None and not (self._leader.leading and self._desk.known)

    async def passed_on(self, request: Request, body: bytes) -> Response:
        """The leader's answer to a request. Raises Unavailable if there is no leader to ask."""
        seen = self._leader.seen if self._leader else None
        if self._leader is not None and self._leader.leading:
            message = "this replica has just begun to lead"
            raise errors.Unavailable(message, advice="Ask again in some seconds")
        if seen is None or not seen.holder:
            message = "no replica leads at the moment"
            raise errors.Unavailable(message, advice="Ask again in some seconds")
        if self._peer is None or not seen.address:
            message = f"{seen.holder} leads, and this replica cannot pass anything on to it"
            raise errors.Unavailable(message, advice="Ask that one; the lease names it")
        if HOP in request.headers:
            message = f"passed on by another replica, but {seen.holder} leads"
            raise errors.Unavailable(message, advice="Ask again in some seconds")
        headers = {key: value for key in PASSED if (value := request.headers.get(key)) is not None}
        path = request.url.path
        reply = await self._peer.post(seen.address, path, {**headers, HOP: "1"}, body)
        return Response(reply.body, status_code=reply.status, media_type=reply.kind)

    async def runs(self) -> list[dict[str, Any]]:
        """Every run on record."""
        found = [story.facts(item.run, item.lines) for item in await self._records.recent()]
        return sorted(found, key=lambda facts: str(facts["started_at"]))

    async def run(self, name: str) -> dict[str, Any] | None:
        """One run with its journal, or None."""
        for item in await self._records.recent():
            if item.run.name == name:
                return story.facts(item.run, item.lines, journal=True)
        return None

    async def targets(self) -> Response:
        """Every target, as its documents and its status annotation tell."""
        runs: dict[TargetRef, list[Record]] = {}
        for item in await self._records.recent():
            runs.setdefault(item.run.target, []).append(item)
        names = sorted({*self._cluster.targets(), *runs})
        told = [_target(name, runs.get(name, []), self._cluster.view(name)) for name in names]
        return JSONResponse({"targets": told})


def _target(target: TargetRef, records: list[Record], view: View) -> Mapping[str, Any]:
    runs = [item.run for item in records]
    run = next((run for run in runs if run.phase is not Phase.ENDED), None)
    annotations = view.deployment.annotations if view.deployment else {}
    return {
        "namespace": target.namespace,
        "name": target.name,
        "phase": run.phase.value if run else "AtRest",
        "run": run.name if run else None,
        "weight_bp": run.weight_bp if run else 0,
        "why": annotations.get("status", ""),
        "breaker_open": any(run.tripped and not run.released for run in runs),
    }
