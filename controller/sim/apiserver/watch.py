# SPDX-License-Identifier: Apache-2.0
"""Watches: frames of what happened, as an endless body.

A watch is subscribed before its response is returned, so nothing is lost between a list and the
first read. Each has a bounded buffer; one that does not keep up is ended, as the real server ends
it, and its client resumes or lists again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import msgspec

from controller.sim.apiserver.errors import ApiError, Cause, JsonObject, invalid
from controller.sim.apiserver.request import Request, Response
from controller.sim.apiserver.resources import Resource
from controller.sim.apiserver.selectors import Predicate
from controller.sim.apiserver.store import Event, EventType, Store, clone

Render = Callable[[JsonObject], JsonObject]

BUFFER = 10_000
"""Frames that a watch may lag behind: far more than one burst of a test, still bounded."""

BOOKMARK_SECONDS = 60.0
LAST_SECONDS = 2.0
"""So long before its end a watch tells how far it has come, if anything happened since it began."""

DEFAULT_SECONDS = 1800.0
"""How long a watch lives that asked for nothing; the real server draws 30 to 60 minutes."""

FRESHNESS_SECONDS = 3.0
"""How long the server waits for a version that it has not seen yet."""

_END_ANNOTATION = {"k8s.io/initial-events-end": "true"}


def too_large(version: int, current: int) -> ApiError:
    """Return the 504 for a version that the server has not reached."""
    text = f"Timeout: Too large resource version: {version}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return ApiError(504, "Timeout", text, {"causes": [cause], "retryAfterSeconds": 1})


def _refused(field: str, why: str) -> ApiError:
    cause = Cause(reason="FieldValueForbidden", message=f"Forbidden: {why}", field=field)
    return invalid("ListOptions", "meta.k8s.io", "", [cause])


def check_options(request: Request, *, watching: bool) -> None:
    """Refuse combinations of list parameters that make no sense. Raises ApiError 422."""
    match_kind = request.param("resourceVersionMatch")
    initial = request.param("sendInitialEvents")
    field = "resourceVersionMatch"
    if watching and initial and match_kind != "NotOlderThan":
        raise _refused(
            field, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )
    if watching and match_kind and not initial:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        raise _refused(field, why)
    if not watching and initial:
        raise _refused("sendInitialEvents", "sendInitialEvents is forbidden for list")
    if not watching and match_kind and not request.param("resourceVersion"):
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise _refused(field, why)


@dataclass(slots=True, kw_only=True)
class Watch:
    """One open watch."""

    resource: Resource
    namespace: str
    matches: Predicate | None
    render: Render
    bookmarks: bool
    deadline: float
    frames: deque[bytes]
    buffer: int
    wake: asyncio.Event
    since: int = 0
    """The server's version when it began."""
    closed: bool = False

    def offer(self, event: Event) -> None:
        """Take what concerns this watch of one event."""
        if self.namespace and event.namespace != self.namespace:
            return
        frame = self._frame(event)
        if frame is None or self.closed:
            return
        if len(self.frames) >= self.buffer:
            self.close()
            return
        self.frames.append(frame)
        self.wake.set()

    def _frame(self, event: Event) -> bytes | None:
        kind, obj = event.type, event.obj
        if self.matches is not None:
            now = kind is not EventType.DELETED and self.matches(obj)
            before = event.previous is not None and self.matches(event.previous)
            if not now and not before:
                return None
            if now and not before:
                kind = EventType.ADDED
            elif not now and kind is not EventType.DELETED and event.previous is not None:
                # To this watch the object is gone; it is told the last form that it knew.
                kind, obj = EventType.DELETED, clone(event.previous)
                obj["metadata"]["resourceVersion"] = str(event.version)
        return self.encode(kind, obj)

    def encode(self, kind: str, obj: JsonObject) -> bytes:
        """Return one frame."""
        return msgspec.json.encode({"type": str(kind), "object": self.render(obj)}) + b"\n"

    def bookmark(self, version: int, annotations: JsonObject | None = None) -> bytes:
        """Return the frame that says how far the watch has come."""
        meta: JsonObject = {"resourceVersion": str(version)}
        if annotations:
            meta["annotations"] = annotations
        obj = {"kind": self.resource.kind, "apiVersion": self.resource.api_version}
        return (
            msgspec.json.encode({"type": "BOOKMARK", "object": {**obj, "metadata": meta}}) + b"\n"
        )

    def close(self) -> None:
        """End the watch after what is buffered."""
        self.closed = True
        self.wake.set()


class WatchHub:
    """All open watches; one subscription at the store serves them."""

    def __init__(self, store: Store, buffer: int = BUFFER) -> None:
        self._store = store
        self._buffer = buffer
        self._open: dict[str, list[Watch]] = {}
        self._unsubscribe = store.subscribe(self._deliver)

    def _deliver(self, event: Event) -> None:
        for watch in self._open.get(event.resource.key, ()):
            watch.offer(event)

    def __len__(self) -> int:
        return sum(len(watches) for watches in self._open.values())

    def close(self) -> None:
        """End all watches; later ones end at once."""
        self._unsubscribe()
        for watches in self._open.values():
            for watch in watches:
                watch.close()

    def open(
        self,
        request: Request,
        served: Resource,
        namespace: str,
        matches: Predicate | None,
        render: Render,
    ) -> Response:
        """Return the response of a watch. Raises ApiError 422 and 500 for bad parameters."""
        check_options(request, watching=True)
        seconds = float(request.number("timeoutSeconds")) or DEFAULT_SECONDS
        loop = asyncio.get_running_loop()
        watch = Watch(
            resource=served,
            namespace=namespace,
            matches=matches,
            render=render,
            bookmarks=request.flag("allowWatchBookmarks"),
            deadline=loop.time() + seconds,
            frames=deque(),
            buffer=self._buffer,
            wake=asyncio.Event(),
        )
        version = _version(request.param("resourceVersion"))
        body = self._start(watch, version, request.param("sendInitialEvents"))
        headers = {"Content-Type": "application/json"}
        return Response(status=200, headers=headers, body=body)

    def _start(self, watch: Watch, version: int, initial: str) -> AsyncIterator[bytes]:
        store = self._store
        watch.since = store.version
        listing = initial in ("true", "1") or (not initial and version == 0)
        if initial and version > store.version:
            return self._stale(version)
        if listing:
            for obj in store.scan(watch.resource, watch.namespace or None):
                if watch.matches is None or watch.matches(obj):
                    watch.frames.append(watch.encode(EventType.ADDED, obj))
            if initial and watch.bookmarks:
                watch.frames.append(watch.bookmark(store.version, dict(_END_ANNOTATION)))
        elif version:
            try:
                for event in store.events_since(watch.resource, version):
                    watch.offer(event)
            except ApiError as error:
                return _single(_error_frame(error))
        self._open.setdefault(watch.resource.key, []).append(watch)
        return self._frames(watch)

    async def _stale(self, version: int) -> AsyncIterator[bytes]:
        await asyncio.sleep(FRESHNESS_SECONDS)
        error = too_large(version, self._store.version)
        yield _error_frame(error)

    async def _frames(self, watch: Watch) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        next_bookmark = _bookmark_after(watch, loop.time())
        try:
            while True:
                while watch.frames:
                    yield watch.frames.popleft()
                now = loop.time()
                if watch.closed or now >= watch.deadline:
                    return
                if watch.bookmarks and now >= next_bookmark:
                    next_bookmark = _bookmark_after(watch, now)
                    if self._store.version > watch.since or next_bookmark < watch.deadline:
                        yield watch.bookmark(self._store.version)
                    continue
                until = min(watch.deadline, next_bookmark) if watch.bookmarks else watch.deadline
                await _wait(watch.wake, until - now)
        finally:
            self._forget(watch)

    def _forget(self, watch: Watch) -> None:
        watches = self._open.get(watch.resource.key, [])
        if watch in watches:
            watches.remove(watch)


def _bookmark_after(watch: Watch, now: float) -> float:
    """When the next bookmark is due: a minute from now, or shortly before the end."""
    last = watch.deadline - LAST_SECONDS
    return min(now + BOOKMARK_SECONDS, last) if last > now else now + BOOKMARK_SECONDS


async def _wait(wake: asyncio.Event, seconds: float) -> None:
    timer = asyncio.get_running_loop().call_later(max(seconds, 0.0), wake.set)
    try:
        await wake.wait()
    finally:
        timer.cancel()
        wake.clear()


async def _single(frame: bytes) -> AsyncIterator[bytes]:
    yield frame


def _error_frame(error: ApiError) -> bytes:
    return msgspec.json.encode({"type": "ERROR", "object": error.render()}) + b"\n"


def _version(text: str) -> int:
    if not text:
        return 0
    if not text.isdigit():
        reason = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}"'
        raise ApiError(500, "", f"{reason}: invalid syntax")
    return int(text)
