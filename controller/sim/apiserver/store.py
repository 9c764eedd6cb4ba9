# SPDX-License-Identifier: Apache-2.0
"""The objects, their one resourceVersion counter and the bounded history of what happened to them.

Synchronous on purpose: a write and everything that is told about it happen without giving other
tasks a turn, which is what etcd's serialisable transactions give the real API server. Objects are
copied on the way in and out; the stored ones are never changed in place, only replaced, so the
history can share them.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from controller.sim.apiserver import deletion, errors
from controller.sim.apiserver.errors import ApiError, JsonObject
from controller.sim.apiserver.merging import SYSTEM_METADATA, WHOLE, merged, moves_generation
from controller.sim.apiserver.resources import RESOURCES, Generation, Resource, resource
from controller.sim.apiserver.values import (
    Event,
    EventType,
    NoStrategy,
    Strategy,
    clone,
    rfc3339,
)

Objects = list[JsonObject]
Events = list[Event]

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_NAMES = uuid.UUID("8c1d8e2e-7f0f-4f6c-9d0e-5a1f5f0c2b11")


class Store:
    """All objects of one simulated cluster.

    `clock` returns an aware datetime. `history` is the number of events that a watch can still be
    resumed from; the default is far above what a test writes between two looks, and small enough
    that a long simulation stays bounded. `strategy` completes and checks what is written.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        history: int = 4096,
        strategy: Strategy | None = None,
        namespaces: tuple[str, ...] = ("default", "kube-system"),
    ) -> None:
        self.clock = clock
        self.strategy: Strategy = strategy or NoStrategy()
        self.version = 0
        self.compacted = 0
        self._objects: dict[str, dict[str, dict[str, JsonObject]]] = {
            served.key: {} for served in RESOURCES
        }
        self._history: deque[Event] = deque(maxlen=history)
        self._subscribers: dict[int, Callable[[Event], None]] = {}
        self._next_subscriber = 0
        self._undelivered: deque[Event] = deque()
        self._delivering = False
        for name in namespaces:
            self.create("namespaces", None, {"metadata": {"name": name}})
        # What came before this cluster's clients is history that nobody can watch.
        self.compact()

    # --- reading -------------------------------------------------------------------------------

    def peek(self, kind: Resource | str, namespace: str | None, name: str) -> JsonObject | None:
        """Return the stored object itself, not to be changed, or None."""
        served = resource(kind)
        space = (namespace or "") if served.namespaced else ""
        return self._objects[served.key].get(space, {}).get(name)

    def get(self, kind: Resource | str, namespace: str | None, name: str) -> JsonObject | None:
        """Return a copy of one object, or None."""
        found = self.peek(kind, namespace, name)
        return None if found is None else clone(found)

    def scan(self, kind: Resource | str, namespace: str | None = None) -> Iterator[JsonObject]:
        """Yield the stored objects themselves, sorted by namespace and name, not to be changed."""
        spaces = self._objects[resource(kind).key]
        wanted = sorted(spaces) if not namespace else [namespace]
        for space in wanted:
            held = spaces.get(space, {})
            for name in sorted(held):
                yield held[name]

    def list(
        self,
        kind: Resource | str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Objects:
        """Return a sorted copy of all objects that carry all of `labels`."""
        wanted = dict(labels or {}).items()
        return [
            clone(obj)
            for obj in self.scan(kind, namespace)
            if wanted <= (obj["metadata"].get("labels") or {}).items()
        ]

    def events_since(self, kind: Resource | str, version: int) -> Events:
        """Return the events of one kind after `version`.

        Raises ApiError 410 when the history does not reach back that far.
        """
        served = resource(kind)
        if version < self.compacted:
            raise errors.expired(f"too old resource version: {version} ({self.compacted})")
        return [
            event for event in self._history if event.version > version and event.resource is served
        ]

    def compact(self) -> None:
        """Forget the history, as etcd does every five minutes: older watches get a 410."""
        self._history.clear()
        self.compacted = self.version

    # --- writing -------------------------------------------------------------------------------

    def create(
        self,
        kind: Resource | str,
        namespace: str | None,
        obj: JsonObject,
        *,
        dry_run: bool = False,
    ) -> JsonObject:
        """Store a new object and return it with what the server adds.

        Raises ApiError: 409 AlreadyExists, 404 without the namespace, 403 while that terminates,
        422 when the strategy refuses it.
        """
        served = resource(kind)
        new = clone(obj)
        meta = new.setdefault("metadata", {})
        new["apiVersion"], new["kind"] = served.api_version, served.kind
        self._place(served, namespace, meta)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = self._generated(meta["generateName"])
        for name in (*SYSTEM_METADATA, "resourceVersion"):
            meta.pop(name, None)
        meta["uid"] = str(uuid.uuid5(_NAMES, f"{served.key}/{self.version}/{meta.get('name')}"))
        meta["creationTimestamp"] = rfc3339(self.clock())
        if served.generation is not Generation.NONE:
            meta["generation"] = 1
        self.strategy.prepare(served, new, None, "")
        if self.peek(served, namespace, meta["name"]) is not None:
            raise errors.already_exists(served.plural, served.group, meta["name"])
        self._require_namespace(served, meta)
        if not dry_run:
            self._commit(EventType.ADDED, served, new, None)
        return clone(new) if not dry_run else new

    def update(
        self,
        kind: Resource | str,
        obj: JsonObject,
        subresource: str = "",
        *,
        dry_run: bool = False,
    ) -> JsonObject:
        """Replace an object and return it.

        With `metadata.resourceVersion` the write is a compare-and-set; without it the last writer
        wins. The status subresource changes only status and what the kind allows beside it; any
        other write leaves status alone. A write that changes nothing moves no version.

        Raises ApiError: 404, 409 Conflict, 422.
        """
        served = resource(kind)
        meta = obj.get("metadata") or {}
        old = self._require(served, meta.get("namespace"), str(meta.get("name", "")))
        self._check_preconditions(served, old, meta.get("uid"), meta.get("resourceVersion"))
        new = merged(served, old, clone(obj), subresource)
        self.strategy.prepare(served, new, old, subresource)
        if moves_generation(served, new, old, subresource):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        if new == old:
            return clone(old)
        if dry_run:
            return new
        if deletion.finished(new):
            return self._remove(served, new, old)
        self._commit(EventType.MODIFIED, served, new, old)
        return clone(new)

    def delete(
        self,
        kind: Resource | str,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        version: str | None = None,
        propagation: str | None = "Background",
        grace: int | None = None,
        dry_run: bool = False,
    ) -> JsonObject:
        """Delete an object, or mark it as being deleted, and return its last form.

        `propagation` is Background, Foreground or Orphan; the latter two leave a finalizer for the
        garbage collector. Pods stay for `grace` seconds (their own period by default) and are
        removed at once with 0.

        Raises ApiError: 404, 409 when `uid` or `version` is not that of the object.
        """
        served = resource(kind)
        old = self._require(served, namespace, name)
        self._check_preconditions(served, old, uid, version)
        new = clone(old)
        seconds = deletion.grace_period(served, new, grace)
        deletion.set_finalizers(new, propagation)
        deletion.mark(new, self.clock(), seconds)
        if deletion.finished(new):
            return new if dry_run else self._remove(served, new, old)
        if new == old or dry_run:
            return new
        self._commit(EventType.MODIFIED, served, new, old)
        return clone(new)

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call `callback` after each write, in order; return what ends the subscription.

        A callback may write: what it causes is delivered after the event at hand.
        """
        token = self._next_subscriber
        self._next_subscriber += 1
        self._subscribers[token] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(token, None)

        return unsubscribe

    # --- inside --------------------------------------------------------------------------------

    def _place(self, served: Resource, namespace: str | None, meta: JsonObject) -> None:
        if served.namespaced:
            meta["namespace"] = namespace or meta.get("namespace") or "default"
        else:
            meta.pop("namespace", None)

    def _generated(self, prefix: str) -> str:
        digest = uuid.uuid5(_NAMES, f"{prefix}/{self.version}").int
        letters = []
        for _ in range(5):
            digest, index = divmod(digest, len(_SUFFIX_ALPHABET))
            letters.append(_SUFFIX_ALPHABET[index])
        return prefix + "".join(letters)

    def _require(self, served: Resource, namespace: str | None, name: str) -> JsonObject:
        found = self.peek(served, namespace, name)
        if found is None:
            raise errors.not_found(served.plural, served.group, name)
        return found

    def _require_namespace(self, served: Resource, meta: JsonObject) -> None:
        if not served.namespaced:
            return
        space = self.peek("namespaces", None, meta["namespace"])
        if space is None:
            raise errors.not_found("namespaces", "", meta["namespace"])
        if space["metadata"].get("deletionTimestamp"):
            name = meta["namespace"]
            why = f"unable to create new content in namespace {name} because it is being terminated"
            raise errors.forbidden(served.plural, served.group, meta["name"], why)

    def _check_preconditions(
        self, served: Resource, old: JsonObject, uid: str | None, version: str | None
    ) -> None:
        meta = old["metadata"]
        if uid and uid != meta["uid"]:
            have = meta["uid"]
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {have}"
            raise errors.conflict(served.plural, served.group, meta["name"], why)
        if version and str(version) != meta["resourceVersion"]:
            raise errors.stale(served.plural, served.group, meta["name"])

    def _remove(self, served: Resource, new: JsonObject, old: JsonObject) -> JsonObject:
        meta = old["metadata"]
        del self._objects[served.key][meta.get("namespace", "")][meta["name"]]
        self.version += 1
        new["metadata"]["resourceVersion"] = str(self.version)
        # Watchers are told the last form that was stored, at the version of the deletion.
        last = {**old, "metadata": {**meta, "resourceVersion": str(self.version)}}
        self._record(EventType.DELETED, served, last, old)
        return new

    def _commit(
        self, kind: EventType, served: Resource, new: JsonObject, old: JsonObject | None
    ) -> None:
        self.version += 1
        meta = new["metadata"]
        meta["resourceVersion"] = str(self.version)
        self._objects[served.key].setdefault(meta.get("namespace", ""), {})[meta["name"]] = new
        self._record(kind, served, new, old)

    def _record(
        self, kind: EventType, served: Resource, obj: JsonObject, previous: JsonObject | None
    ) -> None:
        event = Event(type=kind, resource=served, obj=obj, previous=previous, version=self.version)
        if len(self._history) == self._history.maxlen:
            self.compacted = self._history[0].version
        self._history.append(event)
        self._undelivered.append(event)
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._undelivered:
                current = self._undelivered.popleft()
                for callback in list(self._subscribers.values()):
                    callback(current)
        finally:
            self._delivering = False


__all__ = ["WHOLE", "ApiError", "Event", "EventType", "Store", "Strategy", "clone", "rfc3339"]
