# SPDX-License-Identifier: Apache-2.0
"""The epoch as an annotation on each object that a raise writes: what fences an earlier leader.

A leader's clock cannot fence: a process that is stopped between its last look and its write sends
the write when it wakes. So the write itself carries the condition that its leader still holds the
object, and the API server decides.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from controller.adapters.kube import paths
from controller.adapters.kube.calls import JSON_PATCH, Calls
from controller.adapters.kube.objects import is_ours, ours_only
from controller.adapters.routers import gateway_api
from controller.core.errors import Missing
from controller.core.values import EPOCH, RouteKind, RouteRef, canary_name
from controller.ports.cluster import Claim, ObjectRef

PATH: Final = "/metadata/annotations/" + EPOCH.replace("/", "~1")
MOST_DIGITS: Final = 18
"""More than any number of starts has; Python itself refuses to read numbers of 4,301 digits."""


class Fenced(Calls):
    """Calls whose every write holds only while the object carries this epoch."""

    def __init__(self, calls: Calls, epoch: int) -> None:
        """Speak over the wire and with the retry budget of `calls`."""
        super().__init__(calls.wire, calls.clock, calls.budget)
        self._epoch = epoch

    async def patch(self, path: str, body: object, *, kind: str = JSON_PATCH) -> dict[str, Any]:
        """A JSON patch behind a `test` of the epoch; raises `Conflict` if it is another one."""
        if kind != JSON_PATCH or not isinstance(body, list):
            message = f"a write toward risk on {path} is no JSON patch, so it cannot be fenced"
            raise TypeError(message)
        fence = {"op": "test", "path": PATH, "value": str(self._epoch)}
        return await super().patch(path, [fence, *body])


def _path(ref: ObjectRef) -> str:
    if ref.kind in {kind.value for kind in RouteKind}:
        return paths.route(RouteRef(ref.kind, ref.namespace, ref.name))
    if ref.kind == "Service":
        return paths.core(ref.namespace, "services", ref.name)
    return paths.apps(ref.namespace, "deployments", ref.name)


async def read(calls: Calls, refs: Sequence[ObjectRef]) -> list[Claim]:
    """Who holds each object, by quorum reads; what we have no part in is left out."""
    found = await asyncio.gather(*(_read(calls, ref) for ref in refs))
    return [claim for claim in found if claim is not None]


async def _read(calls: Calls, ref: ObjectRef) -> Claim | None:
    try:
        live = await calls.get(_path(ref))
    except Missing:
        return None
    if not _touched(live):
        return None
    meta = live["metadata"]
    annotations = meta.get("annotations")
    text = (annotations or {}).get(EPOCH, "")
    plain = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return Claim(
        ref=ref,
        version=meta["resourceVersion"],
        epoch=int(text) if plain else None,
        bare=annotations is None,
    )


def _touched(live: dict[str, Any]) -> bool:
    """Whether we have a part in the object: nothing else is any business of ours."""
    noted = ours_only(live["metadata"].get("annotations"))
    if is_ours(live["metadata"].get("labels")) or noted.keys() & {"original", "managed"}:
        return True
    suffix = canary_name("")
    return any(entry.service.endswith(suffix) for entry in gateway_api.backends(live))


async def write(calls: Calls, claim: Claim, epoch: int) -> None:
    """Put our epoch on one object, as it was read. Raises `Conflict` if it moved."""
    value: object = str(epoch)
    change = {"op": "add", "path": PATH, "value": value}
    if claim.bare:
        change = {"op": "add", "path": "/metadata/annotations", "value": {EPOCH: value}}
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": claim.version}
    await calls.patch(_path(claim.ref), [test, change])
