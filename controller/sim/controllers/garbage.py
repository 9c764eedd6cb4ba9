# SPDX-License-Identifier: Apache-2.0
"""The garbage collector: what happens to dependents when their owner goes.

Background: the owner is gone at once and its dependents follow.  Foreground: the owner waits for
the dependents that block it.  Orphan: the owner waits until nobody refers to it any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from controller.sim.apiserver import deletion
from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.resources import RESOURCES
from controller.sim.apiserver.store import Event, EventType, clone
from controller.sim.controllers.base import Cluster, Controller
from controller.sim.controllers.objects import deleting, key_of

Item = tuple[str, str, str]
"""Resource key, namespace and name."""


class GarbageCollector(Controller[Item]):
    """Follows ownerReferences over all kinds."""

    latency: ClassVar[tuple[float, float]] = (0.05, 0.2)

    def __init__(self, cluster: Cluster) -> None:
        """Begin with what the store holds."""
        self._alive: set[str] = set()
        self._dependents: dict[str, dict[Item, None]] = {}
        super().__init__(cluster)
        for served in RESOURCES:
            for obj in self.store.scan(served):
                self._alive.add(obj["metadata"]["uid"])
                for uid in _owners(obj):
                    self._dependents.setdefault(uid, {})[(served.key, *key_of(obj))] = None

    def observe(self, event: Event) -> None:
        """Keep the graph, and look at whatever lost an owner or is itself going."""
        item = (event.resource.key, *key_of(event.obj))
        uid = event.obj["metadata"]["uid"]
        now = set() if event.type is EventType.DELETED else _owners(event.obj)
        before = set() if event.previous is None else _owners(event.previous)
        for owner in before - now:
            self._forget(owner, item)
        for owner in now - before:
            self._dependents.setdefault(owner, {})[item] = None
            if owner not in self._alive:
                self.enqueue(item)
        if event.type is EventType.DELETED:
            self._alive.discard(uid)
            for dependent in self._dependents.get(uid, ()):
                self.enqueue(dependent)
            for owner in sorted(before):
                self._wake_waiting(event.obj, owner)
        else:
            self._alive.add(uid)
            if deleting(event.obj) and _waiting(event.obj):
                self.enqueue(item)

    def _forget(self, owner: str, item: Item) -> None:
        items = self._dependents.get(owner)
        if items is not None:
            items.pop(item, None)
            if not items:
                del self._dependents[owner]

    def _wake_waiting(self, gone: JsonObject, owner: str) -> None:
        for ref in gone["metadata"].get("ownerReferences") or ():
            if ref["uid"] != owner:
                continue
            for served in RESOURCES:
                if served.kind == ref["kind"] and served.api_version == ref["apiVersion"]:
                    space = key_of(gone)[0] if served.namespaced else ""
                    self.enqueue((served.key, space, ref["name"]))

    def sync(self, key: Item) -> None:
        """Delete, release or let go of one object, as its owners and finalizers say."""
        obj = self.store.get(*key)
        if obj is None:
            return
        waiting = _waiting(obj) if deleting(obj) else ""
        if waiting == deletion.ORPHAN:
            self._orphan_dependents(key, obj)
        elif waiting == deletion.FOREGROUND:
            self._delete_dependents(key, obj)
        elif not deleting(obj):
            self._judge(key, obj)

    def _judge(self, key: Item, obj: JsonObject) -> None:
        refs = obj["metadata"].get("ownerReferences") or []
        solid = [ref for ref in refs if ref["uid"] in self._alive]
        if not refs or len(solid) == len(refs):
            return
        if solid:
            _set_refs(obj, solid)
            self.store.update(key[0], obj)
            return
        self.store.delete(*key, uid=obj["metadata"]["uid"], propagation=_inherited(obj))

    def _orphan_dependents(self, key: Item, obj: JsonObject) -> None:
        for item, dependent in self._of(obj):
            refs = dependent["metadata"]["ownerReferences"]
            _set_refs(dependent, [ref for ref in refs if ref["uid"] != obj["metadata"]["uid"]])
            self.store.update(item[0], dependent)
        self._drop_finalizer(key, obj, deletion.ORPHAN)

    def _delete_dependents(self, key: Item, obj: JsonObject) -> None:
        uid = obj["metadata"]["uid"]
        blocked = False
        for item, dependent in self._of(obj):
            refs = dependent["metadata"]["ownerReferences"]
            blocked |= any(ref["uid"] == uid and ref.get("blockOwnerDeletion") for ref in refs)
            others = [ref for ref in refs if ref["uid"] in self._alive and ref["uid"] != uid]
            if deleting(dependent):
                continue
            if others:
                _set_refs(dependent, others)
                self.store.update(item[0], dependent)
                continue
            policy = "Foreground" if self._dependents.get(dependent["metadata"]["uid"]) else None
            self.store.delete(*item, uid=dependent["metadata"]["uid"], propagation=policy)
        if not blocked:
            self._drop_finalizer(key, obj, deletion.FOREGROUND)

    def _of(self, owner: JsonObject) -> Iterator[tuple[Item, JsonObject]]:
        for item in list(self._dependents.get(owner["metadata"]["uid"], ())):
            found = self.store.peek(*item)
            if found is not None:
                yield item, clone(found)

    def _drop_finalizer(self, key: Item, obj: JsonObject, name: str) -> None:
        kept = [item for item in obj["metadata"].get("finalizers") or () if item != name]
        obj["metadata"]["finalizers"] = kept
        if not kept:
            del obj["metadata"]["finalizers"]
        self.store.update(key[0], obj)


def _owners(obj: JsonObject) -> set[str]:
    return {ref["uid"] for ref in obj["metadata"].get("ownerReferences") or ()}


def _set_refs(obj: JsonObject, refs: list[JsonObject]) -> None:
    obj["metadata"]["ownerReferences"] = refs
    if not refs:
        del obj["metadata"]["ownerReferences"]


def _waiting(obj: JsonObject) -> str:
    """The finalizer of ours that holds an object back, orphaning first, or an empty string."""
    held = obj["metadata"].get("finalizers") or ()
    return next((name for name in (deletion.ORPHAN, deletion.FOREGROUND) if name in held), "")


def _inherited(obj: JsonObject) -> str:
    return {deletion.ORPHAN: "Orphan", deletion.FOREGROUND: "Foreground"}.get(
        _waiting(obj), "Background"
    )
