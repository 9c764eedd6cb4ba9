# SPDX-License-Identifier: Apache-2.0
"""List and watch, and go on doing so whatever the API server, a proxy or the network does.

One reflector keeps one resource (in one namespace, or in all) in its store. It begins with a paged
list, follows it with watches that resume from the last version seen, and lists again when that
version is too old. Beside the watch it lists once a minute from the API server's cache, so that an
event that got lost is made good; that costs a few requests per resource, whatever it holds.

Every failure waits: from 0.8 s doubling to 30 s, with jitter, and never less than the server asked
for. A watch that ends at once counts as a failure, since a proxy that closes every stream would
otherwise be asked thousands of times a second.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from controller.adapters.kube.ahead import Ahead, number
from controller.adapters.kube.calls import JSON, Calls, Expired, TooLarge, classify, read_all
from controller.adapters.kube.frames import Frame, Page, frames, page_of
from controller.adapters.kube.objects import Meta
from controller.adapters.kube.store import Key, Store, key_of
from controller.adapters.kube.wire import Request
from controller.core.errors import Forbidden, Missing, SwitchgearError, Unavailable

T = TypeVar("T")

FIRST_WAIT: Final = 0.8
LONGEST_WAIT: Final = 30.0
HEALTHY_SECONDS: Final = 120.0
"""A watch that lived this long forgives the failures before it."""

SHORT_WATCH: Final = 1.0
PAGE: Final = 500
ERROR_BODY: Final = 64 * 1024
"""Of a refused watch only the first words matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The reflector's times, in seconds."""

    idle: float = 75.0
    """Silence after which a stream counts as dead: bookmarks come about every 60 s."""
    resync: float = 50.0
    """Between two lists beside the watch: with its own duration a lost event is good in 60."""
    absent: float = 120.0
    """Until a kind that the server does not know is asked for again."""
    watch_least: float = 300.0
    watch_most: float = 600.0
    call: float = 20.0
    """Deadline of one page."""


@dataclass(slots=True, kw_only=True)
class Counters:
    """What happened, as plain numbers."""

    lists: int = 0
    pages: int = 0
    watches: int = 0
    events: int = 0
    bookmarks: int = 0
    expired: int = 0
    errors: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What to list and watch."""

    path: str
    """Of the collection, as `/apis/apps/v1/deployments`."""
    scope: str = ""
    """The namespace in `path`; empty: all of them."""
    selector: str = ""
    """Label selector."""
    name: str = ""
    """The one object that is watched; a Role that names objects allows no more than that."""
    optional: bool = False
    """Its kind may be missing in the cluster (a CRD)."""

    def query(self, **more: str) -> tuple[tuple[str, str], ...]:
        """The query with the selectors."""
        field = f"metadata.name={self.name}" if self.name else ""
        chosen = {"labelSelector": self.selector, "fieldSelector": field, **more}
        return tuple((key, value) for key, value in chosen.items() if value)


@dataclass(slots=True, kw_only=True)
class _Progress:
    """Where the reflector stands."""

    version: str = ""
    failures: int = 0
    contact: float = -math.inf
    page: int = PAGE
    touched: set[Key] | None = None
    """Keys that the watch told of while a list beside it was under way: the watch is newer."""
    absent: bool = False


class Reflector(Generic[T]):
    """Keeps one store in step with the API server."""

    def __init__(
        self, calls: Calls, source: Source, store: Store[T], settings: Settings | None = None
    ) -> None:
        """Nothing is asked before `run`."""
        self._calls = calls
        self._clock = calls.clock
        self._store = store
        self._settings = settings or Settings()
        self._at = _Progress()
        self._ahead = Ahead(self._clock)
        self._listing = asyncio.Lock()
        self.source = source
        self.counters = Counters()
        self.synced = asyncio.Event()
        """Set once the first whole list is in the store (or the kind is known to be missing)."""

    @property
    def stale_seconds(self) -> float:
        """Seconds since the API server last spoke; 0 for a kind that does not exist."""
        return 0.0 if self._at.absent else self._clock.monotonic() - self._at.contact

    async def run(self) -> None:
        """Until cancelled. Only a mistake of our own ends it otherwise."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_watching(), name=f"watch {self.source.path}")
            tasks.create_task(self._keep_listing(), name=f"resync {self.source.path}")

    async def _keep_watching(self) -> None:
        while True:
            try:
                if not self._at.version:
                    await self._list_all()
                await self._watch()
            except Expired as error:
                self.counters.expired += 1
                self._at.version = ""
                await self._wait(error)
            except Missing as error:
                await self._missing(error)
            except SwitchgearError as error:
                await self._wait(error)

    async def _keep_listing(self) -> None:
        """Beside the watch, from the server's cache. What fails waits for the next turn."""
        while True:
            await self._clock.sleep(self._settings.resync * (0.9 + 0.1 * self._clock.jitter()))
            if not self._at.version:
                continue
            try:
                async with self._listing:
                    self._at.touched = set()
                    await self._list(self._at.version)
            except SwitchgearError as error:
                self._note(error)
            finally:
                self._at.touched = None

    async def fill(self) -> None:
        """One whole list and no watch, for somebody who looks once.

        Raises what the API server said; a kind that the cluster does not have is an empty store.
        """
        try:
            await self._list_all()
        except Missing:
            if not self.source.optional:
                raise
            self._at.absent = True
            self.synced.set()

    # --- our own writes ------------------------------------------------------------------------

    def wrote(self, meta: Meta, raw: bytes) -> None:
        """Take in what the answer to a write of ours shows, unless we are that far already."""
        version, at = number(meta.resource_version), number(self._at.version)
        if version is None or at is None or version <= at:
            return
        key = (meta.namespace, meta.name)
        held = self._store.get(*key)
        if held is not None and (number(held.version) or 0) >= version:
            return  # The list beside the watch was quicker than the answer.
        if not self._ahead.wrote(key, meta.uid, version):
            self._store.offer(raw)

    def removed(self, key: Key, uid: str) -> None:
        """Take out what we deleted, if that is what we still have."""
        held = self._store.get(*key)
        if held is not None and held.uid == uid:
            self._ahead.removed(key, uid)
            self._store.drop(*key)

    # --- lists ---------------------------------------------------------------------------------

    async def _list_all(self) -> None:
        """The first list and every one after a 410: a quorum read, page by page."""
        async with self._listing:
            self._ahead.clear()
            self._at.version = await self._list("")
        self._at.absent = False
        self.synced.set()

    async def _list(self, at_least: str) -> str:
        """Put a whole list into the store; the version at which it was taken."""
        self.counters.lists += 1
        kept: set[Key] = set()
        token = version = ""
        while True:
            page = await self._page(token, at_least)
            for raw in page.items:
                self._take(raw, kept)
            version = version or page.version
            token = page.token
            if not token:
                break
        self._prune(kept | (self._at.touched or set()) | self._ahead.missing_from(version))
        return version

    def _prune(self, kept: set[Key]) -> None:
        source = self.source
        if not source.name:
            self._store.prune(source.scope, kept)
        elif (source.scope, source.name) not in kept:
            self._store.drop(source.scope, source.name)

    def _take(self, raw: msgspec.Raw, kept: set[Key]) -> None:
        """The watch has the last word on what it touched since the list began."""
        key = key_of(raw) if self._at.touched else None
        if key is None or key not in (self._at.touched or ()):
            key = key_of(raw) if self._ahead.outdates(raw) else self._store.offer(raw)
        if key is not None:
            kept.add(key)

    async def _page(self, token: str, at_least: str) -> Page:
        query = self.source.query(limit=str(self._at.page))
        if token:
            query = (*query, ("continue", token))
        elif at_least:
            # Never older than what we have: an API server that lags must not take us back.
            newer = (("resourceVersion", at_least), ("resourceVersionMatch", "NotOlderThan"))
            query = (*query, *newer)
        try:
            body = await self._calls.read(
                self.source.path, query, timeout_seconds=self._settings.call
            )
        except TooLarge:
            # Pages of half the size until one fits; the list has to begin again.
            self._at.page = max(1, self._at.page // 2)
            raise
        self.counters.pages += 1
        self._at.contact = self._clock.monotonic()
        return page_of(body)

    # --- watches -------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """One watch until its end. Raises for everything but a proper end."""
        settings = self._settings
        began = self._clock.monotonic()
        count = 0
        spread = settings.watch_most - settings.watch_least
        seconds = int(settings.watch_least + spread * self._clock.jitter())
        async with contextlib.aclosing(self._stream(seconds)) as stream:
            async for frame in stream:
                self._at.contact = self._clock.monotonic()
                self._apply(frame)
                count += 1
                if self._clock.monotonic() - began > HEALTHY_SECONDS:
                    self._at.failures = 0
        lived = self._clock.monotonic() - began
        if lived < SHORT_WATCH:
            # One that brought something starts the waiting anew, but it waits as well: a proxy
            # that closes after each event must not make us ask without end.
            self._at.failures = self._at.failures if count == 0 else 0
            raise Unavailable(f"WATCH {self.source.path}: ended after {lived:.1f} s")

    async def _stream(self, seconds: int) -> AsyncGenerator[Frame, None]:
        self.counters.watches += 1
        what = f"WATCH {self.source.path}"
        request = Request(
            method="GET",
            path=self.source.path,
            query=self.source.query(
                watch="1",
                allowWatchBookmarks="true",
                timeoutSeconds=str(seconds),
                resourceVersion=self._at.version,
            ),
            headers={"accept": JSON},
            timeout_seconds=seconds + 30.0,
        )
        try:
            async with asyncio.timeout(self._settings.call):
                response = await self._calls.wire.send(request)
                if response.status != 200:
                    body = await read_all(response, ERROR_BODY)
                    raise classify(response.status, response.headers, body, what)
        except TimeoutError as error:
            raise Unavailable(f"{what}: no answer") from error
        try:
            async for frame in frames(response.body, self._settings.idle, what):
                yield frame
        finally:
            await response.aclose()

    def _apply(self, frame: Frame) -> None:
        """One event. The version moves on even if the object cannot be read."""
        if frame.type == "ERROR":
            body = msgspec.json.encode(frame.status)
            raise classify(frame.status.code or 500, {}, body, f"WATCH {self.source.path}")
        if frame.version:
            self._at.version = frame.version
        if frame.type == "BOOKMARK":
            self.counters.bookmarks += 1
            self._ahead.reached(frame.version)
            return
        self.counters.events += 1
        deleted = frame.type == "DELETED"
        outdated = self._ahead.outdates(frame.object, deleted=deleted)
        self._ahead.reached(frame.version)
        if outdated:
            return
        take = self._store.remove if deleted else self._store.offer
        key = take(frame.object)
        if key is not None and self._at.touched is not None:
            self._at.touched.add(key)

    # --- failures ------------------------------------------------------------------------------

    def _note(self, error: SwitchgearError) -> None:
        self.counters.errors += 1
        self.counters.last_error = str(error)

    async def _missing(self, error: Missing) -> None:
        """A kind that the cluster does not have is an empty store, asked for again now and then."""
        if not self.source.optional:
            await self._wait(error)
            return
        self._note(error)
        self._prune(set())
        self._at.version = ""
        self._at.absent = True
        self.synced.set()
        await self._clock.sleep(self._settings.absent * (1.0 + self._clock.jitter()))

    async def _wait(self, error: SwitchgearError) -> None:
        """Before the next try; the first list after a 410 hardly waits."""
        self._note(error)
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._at.failures, 10))
        if isinstance(error, Expired) and self._at.failures == 0:
            wait = FIRST_WAIT / 8
        if isinstance(error, Forbidden):
            wait = LONGEST_WAIT
        self._at.failures += 1
        floor = error.retry_after_seconds if isinstance(error, Unavailable) else None
        # A server may ask for more patience than a minute; more would leave the cache too old.
        await self._clock.sleep(max(min(floor or 0.0, 60.0), wait * (1.0 + self._clock.jitter())))
