# SPDX-License-Identifier: Apache-2.0
"""Everything that may go wrong between a client and the API server, by plan and by seed.

The plan hangs on the API server's two hooks: before the effect a request may be answered, delayed
or lost; after it, its answer may be.  ``stop_at`` ends the caller at one exact write, on either
side of the effect, which is how every place where a daemon can die is visited once.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from controller.sim import dice
from controller.sim.apiserver import errors
from controller.sim.apiserver.request import Request, Response, error_response
from controller.sim.apiserver.server import ApiServer

MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Fault(StrEnum):
    """One way in which a request goes wrong."""

    THROTTLED = "429 with Retry-After and a plain text body"
    INTERNAL = "500 with a Status body"
    UNAVAILABLE = "503 with an HTML body"
    HANG = "no answer, ever"
    HANG_AFTER = "the effect, and then no answer, ever"
    RESET = "the connection is reset before the effect"
    NO_REPLY = "the effect, and then the connection is reset"
    TRUNCATED = "a watch ends in the middle of a frame"
    SILENT = "a watch that says nothing more, and does not end"
    GONE = "410 as the first event of a watch"
    LATE = "a watch that tells of everything some time after it happened"


_ON_WATCH = frozenset({Fault.TRUNCATED, Fault.SILENT, Fault.GONE, Fault.LATE})
_AFTER = frozenset({Fault.HANG_AFTER, Fault.NO_REPLY, Fault.TRUNCATED, Fault.SILENT, Fault.LATE})


class Point(StrEnum):
    """On which side of the effect of a request the caller is stopped."""

    BEFORE = "before"
    DURING = "during"
    """The effect happens; the caller dies waiting for the answer."""
    AFTER = "after"
    """The caller has its answer and dies at its next step."""


class Crash(BaseException):
    """The caller's process is dead; not an Exception, so that no handler survives it."""


@dataclass(slots=True, kw_only=True)
class Rule:
    """Faults for the requests that it fits.

    ``chance`` is the probability for each of them; ``count`` bounds how many it spoils.
    """

    fault: Fault
    chance: float = 1.0
    count: int | None = None
    methods: frozenset[str] = frozenset({"GET"}) | MUTATING
    path: str = ""
    """A part of the path."""
    agent: str = ""
    """A part of the User-Agent; the gateway and other actors have their own."""
    begin: float = 0.0
    end: float = float("inf")
    """Loop times between which it holds."""
    delay: float = 0.0
    """Seconds for which a watch works before it is truncated or falls silent, or by which it is
    late."""
    spoiled: int = 0

    def fits(self, request: Request, now: float) -> bool:
        """Tell whether ``request`` may be spoiled at the loop time ``now``."""
        return (
            (self.count is None or self.spoiled < self.count)
            and self.begin <= now < self.end
            and request.method in self.methods
            and self.path in request.path
            and self.agent in request.headers.get("user-agent", "")
            and (self.fault not in _ON_WATCH or request.flag("watch"))
        )


@dataclass(slots=True)
class _Stop:
    agent: str
    nth: int
    point: Point
    die: Callable[[], object] | None
    seen: int = 0
    done: bool = False
    armed: bool = False
    """The answer has been given; the caller dies at its next request."""


@dataclass(slots=True)
class Plan:
    """A fault plan on one API server; ``install`` puts it there."""

    seed: int = 0
    rules: list[Rule] = field(default_factory=list)
    spoiled: Counter[Fault] = field(default_factory=Counter)
    """How often each fault struck."""
    _rng: random.Random = field(init=False)
    _stops: list[_Stop] = field(default_factory=list)
    _marked: dict[int, Rule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The dice belong to this plan alone."""
        self._rng = dice.source(self.seed)

    def install(self, api: ApiServer) -> Plan:
        """Hang the plan on ``api`` and return it."""
        api.before.append(self._before)
        api.after.append(self._after)
        return self

    def remove(self, api: ApiServer) -> None:
        """Take the plan off again."""
        api.before.remove(self._before)
        api.after.remove(self._after)

    def add(self, fault: Fault, **how: object) -> Rule:
        """Add a rule; the keywords are those of :class:`Rule`."""
        rule = Rule(fault=fault, **how)  # type: ignore[arg-type]
        self.rules.append(rule)
        return rule

    def stop_at(
        self,
        nth: int,
        point: Point,
        *,
        agent: str = "",
        die: Callable[[], object] | None = None,
    ) -> None:
        """End the caller of the ``nth`` (from 1) mutating request of ``agent``.

        Without ``die`` a :class:`Crash` is raised into the caller, for :attr:`Point.AFTER` at its
        next request.  With it, ``die`` is called (it should cancel all that the daemon runs) and
        the request never returns, but for :attr:`Point.AFTER`, where the answer still arrives.
        """
        self._stops.append(_Stop(agent=agent, nth=nth, point=point, die=die))

    # --- hooks ------------------------------------------------------------------------------------

    async def _before(self, request: Request) -> Response | None:
        for stop in self._stops:
            if stop.armed and stop.agent in request.headers.get("user-agent", ""):
                stop.armed = False
                raise Crash(f"stopped after write {stop.nth}")
        for stop in self._due(request):
            if stop.point is Point.BEFORE:
                await self._end(stop)
        rule = self._drawn(request)
        if rule is None:
            return None
        if rule.fault in _AFTER:
            self._marked[id(request)] = rule
            return None
        return await _instead(rule.fault)

    async def _after(self, request: Request, response: Response) -> None:
        rule = self._marked.pop(id(request), None)
        if rule is not None:
            await _spoil(rule, response)
        for stop in self._stops:
            if stop.seen == stop.nth and not stop.done and self._counts(stop, request):
                await self._end(stop)

    def _counts(self, stop: _Stop, request: Request) -> bool:
        agent = request.headers.get("user-agent", "")
        return request.method in MUTATING and stop.agent in agent

    def _due(self, request: Request) -> list[_Stop]:
        due: list[_Stop] = []
        for stop in self._stops:
            if not stop.done and self._counts(stop, request):
                stop.seen += 1
                if stop.seen == stop.nth:
                    due.append(stop)
        return due

    async def _end(self, stop: _Stop) -> None:
        stop.done = True
        if stop.die is not None:
            stop.die()
            if stop.point is not Point.AFTER:
                await _for_ever()
        elif stop.point is Point.AFTER:
            stop.armed = True
        else:
            raise Crash(f"stopped {stop.point} write {stop.nth}")

    def _drawn(self, request: Request) -> Rule | None:
        now = asyncio.get_running_loop().time()
        for rule in self.rules:
            if rule.fits(request, now) and self._rng.random() < rule.chance:
                rule.spoiled += 1
                self.spoiled[rule.fault] += 1
                return rule
        return None


async def _instead(fault: Fault) -> Response:
    """The answer in place of the effect, if there is any."""
    match fault:
        case Fault.RESET:
            raise ConnectionResetError(104, "Connection reset by peer")
        case Fault.THROTTLED:
            return _plain(429, "text/plain; charset=utf-8", "Too many requests\n", wait="1")
        case Fault.INTERNAL:
            return error_response(errors.ApiError(500, "InternalError", "etcdserver: no leader"))
        case Fault.UNAVAILABLE:
            page = "<html><body><h1>503 Service Unavailable</h1></body></html>\n"
            return _plain(503, "text/html", page)
        case Fault.GONE:
            gone = errors.expired("too old resource version").render()
            frame = json.dumps({"type": "ERROR", "object": gone}) + "\n"
            return _plain(200, "application/json", frame)
        case _:
            await _for_ever()
            raise ConnectionResetError(104, "Connection reset by peer")


async def _spoil(rule: Rule, response: Response) -> None:
    """Lose the answer to an effect, or break a watch that was opened."""
    begin = asyncio.get_running_loop().time() + rule.delay
    match rule.fault:
        case Fault.HANG_AFTER:
            await _for_ever()
        case Fault.TRUNCATED:
            response.body = _truncated(response.body, begin)
        case Fault.SILENT:
            response.body = _silent(response.body, begin)
        case Fault.LATE:
            response.body = _late(response.body, rule.delay)
        case _:
            raise ConnectionResetError(104, "Connection reset by peer")


async def _for_ever() -> None:
    # An answer that never comes; the caller's deadline or cancellation ends it.  The long sleep
    # keeps virtual time from being declared a deadlock.
    await asyncio.sleep(86_400.0 * 365)


def _plain(status: int, kind: str, text: str, *, wait: str = "") -> Response:
    headers = {"Content-Type": kind}
    if wait:
        headers["Retry-After"] = wait
    return Response(status=status, headers=headers, body=_once(text.encode()))


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _truncated(body: AsyncIterator[bytes], begin: float) -> AsyncIterator[bytes]:
    async for chunk in body:
        if asyncio.get_running_loop().time() >= begin:
            yield chunk[: len(chunk) // 2]
            return
        yield chunk


async def _silent(body: AsyncIterator[bytes], begin: float) -> AsyncIterator[bytes]:
    async for chunk in body:
        if asyncio.get_running_loop().time() < begin:
            yield chunk


async def _late(body: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()

    async def listen() -> None:
        async for chunk in body:
            told.put_nowait((loop.time() + seconds, chunk))
        told.put_nowait(None)

    listening = asyncio.create_task(listen())
    try:
        while (item := await told.get()) is not None:
            due, chunk = item
            await asyncio.sleep(due - loop.time())
            yield chunk
    finally:
        listening.cancel()
