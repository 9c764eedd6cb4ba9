# SPDX-License-Identifier: Apache-2.0
"""`ports.documents.Documents` as ConfigMaps in the controller's own namespace.

Every replacement carries the resourceVersion: without one the API server overwrites a ConfigMap
silently. The kill latch is the exception on the safe side: engaging it is a merge patch without
any precondition, so that no other writer can make it fail.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from controller.adapters.kube import latch, paths
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.objects import Held
from controller.adapters.kube.pods import ConfigMap, parse_config_map
from controller.adapters.kube.reflector import Reflector, Settings, Source
from controller.adapters.kube.store import Store
from controller.core.errors import Conflict, Missing, Unavailable
from controller.core.observation import Latches
from controller.core.values import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    PREFIX,
    TARGET_NAME,
    TARGET_NAMESPACE,
    TargetRef,
)
from controller.ports.documents import Document

Json: TypeAlias = dict[str, Any]

RUN: Final = PREFIX + "run"
LABEL_LIMIT: Final = 63
"""Most characters of a label's value."""

CLUSTER: Final = "switchgear-cluster"
PAGE: Final = 100
"""Run documents per page: each may have a megabyte."""

TRIES: Final = 6
"""Of a write that others compete for; leaders and people, never more than a few at once."""

FLEET: Final = "fleet-breaker"

EPOCH_DIGITS: Final = 18
"""More than any number of starts has; Python itself refuses to read numbers of 4,301 digits."""


def label_value(text: str) -> str:
    """The text itself, or its first part and a hash when a label cannot hold it."""
    if len(text) <= LABEL_LIMIT:
        return text
    return f"{text[:46].rstrip('-._')}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class KubeDocuments:
    """Run documents, the kill latch and the cluster document."""

    def __init__(self, calls: Calls, namespace: str, only: TargetRef | None = None) -> None:
        """Keep everything in `namespace`; `only` is the one target of a sidecar.

        Sidecars of several targets share a namespace: each has its own runs and its own epoch, and
        all obey the one kill latch.
        """
        self._calls = calls
        self._namespace = namespace
        self._only = only
        self._cluster = CLUSTER if only is None else f"{CLUSTER}.{only.name}"
        self._seen: Store[ConfigMap] = Store(parse_config_map)
        self._seen.listen(self._told)
        self._listeners: list[Callable[[], None]] = []
        self._reflectors: list[Reflector[ConfigMap]] = []

    async def run(self, settings: Settings | None = None) -> None:
        """Watch the kill latch and the cluster document until cancelled."""
        path, scope = paths.core(self._namespace, "configmaps"), self._namespace
        sources = [Source(path=path, scope=scope, selector=f"!{RUN}")]
        if self._only is not None:
            # What a Role can name, and no more of other people's ConfigMaps than that.
            names = (latch.NAME, self._cluster)
            sources = [Source(path=path, scope=scope, name=name) for name in names]
        self._reflectors = [
            Reflector(self._calls, source, self._seen, settings) for source in sources
        ]
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run(), name=f"reflector {reflector.source.path}")

    @property
    def synced(self) -> bool:
        """Whether the first list is in."""
        return bool(self._reflectors) and all(item.synced.is_set() for item in self._reflectors)

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Call `changed` when the kill latch or the cluster document moved."""
        self._listeners.append(changed)

    def _told(self, before: Held[ConfigMap] | None, after: Held[ConfigMap] | None) -> None:
        some = after or before
        if some is not None and some.name in {latch.NAME, self._cluster}:
            for changed in self._listeners:
                changed()

    def _path(self, name: str = "") -> str:
        return paths.core(self._namespace, "configmaps", name)

    async def _read(self, name: str) -> Json | None:
        try:
            return await self._calls.get(self._path(name))
        except Missing:
            return None

    # --- run documents -------------------------------------------------------------------------

    async def runs(self) -> Sequence[Document]:
        """Every run document, by a fresh list."""
        found: list[Document] = []
        token = ""
        while True:
            query = [("labelSelector", self._selector())]
            query.append(("limit", str(PAGE)))
            if token:
                query.append(("continue", token))
            page = await self._calls.get(self._path(), query)
            found.extend(_document(item) for item in page.get("items") or ())
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return sorted(found, key=lambda document: document.name)

    def _selector(self) -> str:
        """Of the run documents that are ours to read."""
        selector = f"{RUN},{MANAGED_BY_LABEL}={MANAGED_BY}"
        if self._only is None:
            return selector
        namespace, name = label_value(self._only.namespace), label_value(self._only.name)
        return f"{selector},{TARGET_NAMESPACE}={namespace},{TARGET_NAME}={name}"

    async def read(self, name: str) -> Document:
        """One run document, by a quorum read."""
        return _document(await self._calls.get(self._path(name)))

    async def create(self, name: str, texts: Mapping[str, str], target: TargetRef) -> Document:
        """Create a run document; `Conflict` if the name is taken."""
        body = _config_map(
            name,
            self._namespace,
            texts,
            labels={
                RUN: label_value(name),
                TARGET_NAMESPACE: label_value(target.namespace),
                TARGET_NAME: label_value(target.name),
            },
            annotations={TARGET_NAMESPACE: target.namespace, TARGET_NAME: target.name},
        )
        return _document(await self._calls.post(self._path(), body))

    async def replace(self, document: Document, texts: Mapping[str, str]) -> Document:
        """Compare-and-set on the document's version; `Conflict` if it moved."""
        # A JSON patch and not a PUT, so that labels and annotations of others stay; `replace` of
        # the whole data, so that no text of an older write is left.
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": document.version},
            {"op": "add", "path": "/data", "value": dict(texts)},
        ]
        return _document(await self._calls.patch(self._path(document.name), patch))

    async def delete(self, document: Document) -> None:
        """Delete a finished run's document; already gone is no error."""
        try:
            await self._calls.delete(self._path(document.name), version=document.version)
        except Missing:
            return

    # --- latches -------------------------------------------------------------------------------

    async def latches(self) -> Latches:
        """Kill scopes and epoch by quorum reads, the kill latch last."""
        cluster = await self._read(self._cluster)
        kill = await self._read(latch.NAME)
        data = {} if cluster is None else cluster.get("data") or {}
        return _latches(None if kill is None else kill.get("data") or {}, data, epoch=_epoch(data))

    def latches_seen(self) -> Latches:
        """The same from the watch: for stopping early, never for raising.

        An epoch that cannot be read is 0 here, which permits nothing, so that kills still count.
        """
        kill = self._seen.get(self._namespace, latch.NAME)
        cluster = self._seen.get(self._namespace, self._cluster)
        data = (cluster.value.data if cluster else None) or {}
        return _latches(kill.value.data if kill else None, data, epoch=_number(data) or 0)

    async def engage(self, scope: str, *, actor: str, reason: str) -> None:
        """Persist the kill latch for a scope; already engaged is no error."""
        entry = latch.entry(at=self._calls.clock.stamp(), actor=actor, reason=reason)
        await latch.engage(self._calls, self._namespace, scope, entry)

    async def release(self, scope: str) -> None:
        """Remove a scope from the kill latch; the document goes with the last one."""
        await latch.release(self._calls, self._namespace, scope)

    # --- the cluster document ------------------------------------------------------------------

    async def claim_epoch(self) -> int:
        """Raise the epoch by one, by compare-and-set, and return it."""

        def raised(data: dict[str, str]) -> dict[str, str]:
            return {**data, "epoch": str(_epoch(data) + 1)}

        return _epoch(await self._change_cluster(raised))

    async def open_fleet_breaker(self, why: str) -> None:
        """Latch the fleet breaker; already open is no error and keeps the first reason."""
        at = self._calls.clock.stamp()
        text = json.dumps({"at": at, "why": why})

        def opened(data: dict[str, str]) -> dict[str, str]:
            return data if data.get(FLEET) else {**data, FLEET: text}

        await self._change_cluster(opened)

    async def close_fleet_breaker(self) -> None:
        """Close the fleet breaker: a person's act."""

        def closed(data: dict[str, str]) -> dict[str, str]:
            return {key: value for key, value in data.items() if key != FLEET}

        await self._change_cluster(closed)

    async def _change_cluster(
        self, change: Callable[[dict[str, str]], dict[str, str]]
    ) -> dict[str, str]:
        """Read, change, write against the version read; again when somebody came between."""
        last: Conflict | None = None
        for _ in range(TRIES):
            live = await self._read(self._cluster)
            data: dict[str, str] = dict((live or {}).get("data") or {})
            wanted = change(data)
            if live is not None and wanted == data:
                return data
            try:
                if live is None:
                    body = _config_map(
                        self._cluster, self._namespace, wanted, labels={}, annotations={}
                    )
                    await self._calls.post(self._path(), body)
                else:
                    version = live["metadata"]["resourceVersion"]
                    patch = [
                        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
                        {"op": "add", "path": "/data", "value": wanted},
                    ]
                    await self._calls.patch(self._path(self._cluster), patch)
            except Conflict as error:
                last = error
            else:
                return wanted
        raise Conflict("the cluster document kept moving") from last


def _config_map(
    name: str,
    namespace: str,
    texts: Mapping[str, str],
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, **labels},
            "annotations": dict(annotations),
        },
        "data": dict(texts),
    }


def _document(item: Json) -> Document:
    meta = item["metadata"]
    return Document(
        name=meta["name"],
        version=meta["resourceVersion"],
        texts=item.get("data") or {},
        labels=meta.get("labels") or {},
    )


def _number(data: Mapping[str, str]) -> int | None:
    """The epoch, 0 before the first; None if it cannot be read."""
    text = data.get("epoch", "0")
    # `isdigit` alone also takes what `int` does not, like a superscript 2.
    plain = text.isascii() and text.isdigit() and len(text) <= EPOCH_DIGITS
    return int(text) if plain else None


def _epoch(data: Mapping[str, str]) -> int:
    """The epoch; one that cannot be read must not start again from 0."""
    number = _number(data)
    if number is None:
        raise Unavailable(
            f"the epoch in ConfigMap {CLUSTER} is {data.get('epoch', '')[:80]!r}",
            advice="Write a number there that is larger than any epoch in the journal",
        )
    return number


def _latches(kill: Mapping[str, str] | None, cluster: Mapping[str, str], *, epoch: int) -> Latches:
    fleet = cluster.get(FLEET, "")
    try:
        fleet = str(json.loads(fleet)["why"]) if fleet else ""
    except (ValueError, KeyError, TypeError):
        # Open is open, whoever wrote it and however.
        fleet = fleet or "opened by hand"
    return Latches(kills=latch.scopes(kill), epoch=epoch, fleet_open=fleet)
