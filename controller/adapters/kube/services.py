# SPDX-License-Identifier: Apache-2.0
"""Effects on Services: the pin (one key of ours in the selector) and the canary twin.

The selector as the user wrote it is noted in an annotation the first time we touch it, and who it
was pinned for, so that the way back needs neither our memory nor the Deployment.
"""

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from controller.adapters.kube import paths, twins
from controller.adapters.kube.calls import MERGE_PATCH, Calls, every
from controller.adapters.kube.objects import canonical, noted_selector, pairs, parse_service
from controller.adapters.kube.workloads import create_twin
from controller.core.errors import Conflict, Missing, Unavailable
from controller.core.observation import Pairs, Service, pinned, unpinned
from controller.core.values import EPOCH, HASH_LABEL, OVERRIDE, PREFIX, TRACK_LABEL, TargetRef

Json: TypeAlias = dict[str, Any]

ORIGINAL: Final = PREFIX + "original"
PINNED_FOR: Final = PREFIX + "target"
STABLE: Final = PREFIX + "stable"
"""The hash that it was first pinned to. The admission policy lets anybody lead the Service back
there: `switchgear kill` does so with a person's own rights."""
OURS: Final = frozenset({ORIGINAL, PINNED_FOR, STABLE, EPOCH, OVERRIDE})
"""Annotations that go with the pin."""


class PinnedServices:
    """Services of targets."""

    def __init__(self, calls: Calls) -> None:
        """Speak over `calls`."""
        self._calls = calls

    async def _live(self, target: TargetRef, name: str, uid: str) -> Json:
        found = await self._calls.get(paths.core(target.namespace, "services", name))
        if uid and found["metadata"]["uid"] != uid:
            raise Conflict(f"Service {target.namespace}/{name} was deleted and created again")
        return found

    async def read(self, namespace: str, names: Collection[str]) -> list[Service]:
        """Quorum reads, in parallel; Services that are gone are left out."""
        found = await asyncio.gather(*(self._read(namespace, name) for name in names))
        return [service for service in found if service is not None]

    async def _read(self, namespace: str, name: str) -> Service | None:
        path = paths.core(namespace, "services", name)
        try:
            return parse_service(await self._calls.read(path), None).value
        except Missing:
            return None
        except msgspec.MsgspecError as error:
            raise Unavailable(f"Service {namespace}/{name} cannot be read") from error

    async def pin(
        self, target: TargetRef, name: str, uid: str, original: Pairs, pin: tuple[str, str]
    ) -> str:
        """Narrow the selector to the pods with this label; what else is in it stays."""
        live = await self._live(target, name, uid)
        own = _own(live, original)
        wanted = dict(pinned(own, *pin))
        annotations = live["metadata"].get("annotations") or {}
        notes = {ORIGINAL: canonical(dict(own)).decode(), PINNED_FOR: target.name}
        if STABLE not in annotations and pin[0] == HASH_LABEL:
            notes[STABLE] = pin[1]
        said = f"Service {target.namespace}/{name} selects {pin[0]}={pin[1]}"
        if live["spec"].get("selector") == wanted and notes.items() <= annotations.items():
            return said
        await self._write(live, wanted, {**annotations, **notes})
        return said

    async def confine(self, target: TargetRef, names: Sequence[str], hash_: str) -> str:
        """Let Services select the pods of one hash alone, whatever else has moved.

        A merge patch of our own keys: it needs no look at what is there. All are tried; the first
        failure is raised afterwards. A Service that is gone leads nobody anywhere.
        """
        body = {"spec": {"selector": {HASH_LABEL: hash_, TRACK_LABEL: None}}}

        async def one(name: str) -> None:
            with contextlib.suppress(Missing):
                path = paths.core(target.namespace, "services", name)
                await self._calls.patch(path, body, kind=MERGE_PATCH)

        await every(one(name) for name in names)
        return f"Services {', '.join(names)} of {target.namespace} select {HASH_LABEL}={hash_}"

    async def admit(self, target: TargetRef, services: Sequence[tuple[str, str]]) -> str:
        """Take our pin out of the selectors; our notes stay.

        Raises `Conflict` if a selector moves meanwhile, or a Service is another one by now.
        """
        for name, uid in services:
            live = await self._live(target, name, uid)
            own = dict(_own(live, ()))
            if live["spec"].get("selector") != own:
                await self._write(live, own, live["metadata"].get("annotations") or {})
        names = ", ".join(name for name, _ in services)
        return f"Services {names} of {target.namespace} select every pod of {target.name}"

    async def unpin(self, target: TargetRef, name: str, uid: str, original: Pairs) -> str:
        """Take our key out and our notes off; a Service that is gone needs neither."""
        said = f"Service {target.namespace}/{name} has its own selector"
        try:
            live = await self._live(target, name, uid)
        except Missing:
            return f"Service {target.namespace}/{name} is gone"
        annotations = live["metadata"].get("annotations") or {}
        left = {key: value for key, value in annotations.items() if key not in OURS}
        own = dict(_own(live, original))
        if live["spec"].get("selector") == own and left == annotations:
            return said
        await self._write(live, own, left)
        return said

    async def _write(
        self, live: Json, selector: dict[str, str], annotations: dict[str, str]
    ) -> None:
        """Replace selector and annotations, if nothing has moved since they were read.

        What they say may come again: a write that was under way when its leader lost the lead
        would find in a later run what it had found in an earlier one. The version does not.
        """
        meta = live["metadata"]
        patch: list[Json] = [
            {"op": "test", "path": f"/metadata/{key}", "value": meta[key]}
            for key in ("uid", "resourceVersion")
        ]
        patch.extend(_change("/spec/selector", live["spec"].get("selector"), selector))
        patch.extend(_change("/metadata/annotations", meta.get("annotations"), annotations))
        await self._calls.patch(paths.core(meta["namespace"], "services", meta["name"]), patch)

    async def create_canary(self, target: TargetRef, owner_uid: str, name: str) -> str:
        """Create the twin, which selects the canary track."""
        live = await self._live(target, name, "")
        body = twins.canary_service(live, target, owner_uid, dict(_own(live, ())))
        await create_twin(self._calls, paths.core(target.namespace, "services"), body, owner_uid)
        return f"created Service {target.namespace}/{body['metadata']['name']}"


def _own(live: Json, known: Pairs) -> Pairs:
    """The live selector as it is without us: our note, or else `known`, says of our keys alone.

    A selector that somebody emptied says nothing; then what is known stands in for it.
    """
    annotations = live["metadata"].get("annotations") or {}
    noted = noted_selector(annotations.get(ORIGINAL, ""))
    before = known if noted is None else noted
    return unpinned(pairs(live["spec"].get("selector")), before) or before


def _change(path: str, before: dict[str, str] | None, after: dict[str, str]) -> list[Json]:
    """Replace a map that must still be `before`; an empty one is taken out altogether."""
    if (before or {}) == after:
        return []
    if before is None:
        return [{"op": "add", "path": path, "value": after}]
    test = {"op": "test", "path": path, "value": before}
    if not after:
        return [test, {"op": "remove", "path": path}]
    return [test, {"op": "replace", "path": path, "value": after}]
