# SPDX-License-Identifier: Apache-2.0
"""The doors themselves: kill and its release, runs and targets, health and metrics.

Everything toward safety answers with as little as an empty body; everything toward risk names its
target and is recorded with who asked. Errors are problem+json with a stable code and what to do.
"""

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from controller.core import errors
from controller.core.lifecycle.situation import Verb
from controller.core.observation import Latches
from controller.core.values import TargetRef, is_name, is_namespace
from controller.engine.desk import Card, Desk
from controller.engine.halt import Killer
from controller.engine.health import Health
from controller.engine.meters import Meters
from controller.engine.requests import Requests
from controller.http.access import Access
from controller.http.runs import Runs
from controller.http.standby import Standby
from controller.ports.clock import Clock

MOST_BODY: Final = 65_536
"""Bytes of a request body; every body here is a few words."""

KILL_WAIT_SECONDS: Final = 5.0
"""How long a kill waits for weight 0 to be in force before it answers 202."""

MOST_WAIT_SECONDS: Final = 60.0

MOST_REASON: Final = 1000
"""Characters of a reason that are kept."""


class TooLarge(errors.Refused):
    """A body beyond the limit."""


class Unreadable(errors.Refused):
    """A body that does not say clearly what is meant."""


STATUS: Final = {
    TooLarge: (413, "TooLarge"),
    Unreadable: (400, "Unreadable"),
    errors.Forbidden: (403, "Forbidden"),
    errors.Refused: (409, "Refused"),
    errors.Missing: (404, "NotFound"),
    errors.Conflict: (409, "Conflict"),
    errors.Unavailable: (503, "Unavailable"),
}

Handler = Callable[[Request], Awaitable[Response]]


def problem(status: int, code: str, detail: str) -> Response:
    """An error as RFC 9457 has it, with a stable code."""
    body = {"type": "about:blank", "title": code, "code": code, "status": status, "detail": detail}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


async def _no_door(_request: Request, error: Exception) -> Response:
    """No such path, or not by this method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "NoSuchDoor", 405: "WrongMethod"}.get(status, "Refused")
    return problem(status, code, f"{error.detail if isinstance(error, HTTPException) else ''}")


async def _fault(_request: Request, error: Exception) -> Response:
    """A mistake of ours; the server logs it with its traceback, the caller learns its kind."""
    return problem(500, "Internal", f"the controller made a mistake: {type(error).__name__}")


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request; an empty body is an empty object. Raises Refused."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MOST_BODY:
            message = f"the body is larger than {MOST_BODY} bytes"
            raise TooLarge(message)
    if not raw.strip():
        return {}
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        message = "the body is not a JSON object"
        raise Unreadable(message, advice="Send nothing, or an object")
    return told


class Doors:
    """Handlers over the engine."""

    def __init__(
        self,
        *,
        access: Access,
        desk: Desk,
        killer: Killer,
        requests: Requests,
        health: Health,
        meters: Meters,
        latches: Callable[[], Latches],
        clock: Clock,
        standby: Standby,
    ) -> None:
        """Everything that a door leads to; `latches` tells what was last seen engaged."""
        self._standby = standby
        self._access = access
        self._desk = desk
        self._killer = killer
        self._requests = requests
        self._health = health
        self._meters = meters
        self._latches = latches
        self._clock = clock
        self._runs = Runs(desk)

    def app(self) -> Starlette:
        """The application with all routes."""
        guarded: list[tuple[str, str, Handler]] = [
            ("POST", "/v1/kill", self.kill),
            ("POST", "/v1/release", self.release),
            ("GET", "/v1/runs", self.runs),
            ("GET", "/v1/runs/{name}", self.run),
            ("GET", "/v1/targets", self.targets),
            ("POST", "/v1/targets/{namespace}/{name}/{verb}", self.act),
        ]
        open_to_all: list[tuple[str, Handler]] = [
            ("/livez", self.livez),
            ("/readyz", self.readyz),
            ("/metrics", self.metrics),
        ]
        return Starlette(
            routes=[
                *(Route(path, self._guarded(door), methods=[how]) for how, path, door in guarded),
                *(Route(path, door, methods=["GET"]) for path, door in open_to_all),
            ],
            exception_handlers={HTTPException: _no_door, Exception: _fault},
        )

    def _guarded(self, door: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            if not self._access.allowed(request):
                detail = "send the token of --token-file as `Authorization: Bearer`"
                return problem(401, "Unauthenticated", detail)
            try:
                return await door(request)
            except errors.SwitchgearError as error:
                for kind, (status, code) in STATUS.items():
                    if isinstance(error, kind):
                        return problem(status, code, error.diagnostics())
                return problem(500, "Internal", error.diagnostics())

        return checked

    async def kill(self, request: Request) -> Response:
        """Stop everything, or the namespace or target that the body names."""
        try:
            told = await body_of(request)
        except errors.Refused:
            told = {}  # A kill is never refused for its spelling: unreadable means everything.
        scope = scope_of(told)
        halt = await self._killer.kill(
            scope,
            actor=self._access.actor(request),
            reason=_reason(told),
            wait_seconds=_wait(request),
        )
        return JSONResponse(
            {
                "scope": halt.scope,
                "latched": halt.latched,
                "in_force": halt.in_force,
                "pending": list(halt.pending),
                "problems": list(halt.problems),
                "next": "" if halt.in_force else "ask again, or run `switchgear kill`",
            },
            status_code=200 if halt.in_force else 202,
        )

    async def release(self, request: Request) -> Response:
        """Lift the kill latch of a scope."""
        told = await body_of(request)
        if self._standby.stands_by:
            return await self._standby.passed_on(request, json.dumps(told).encode())
        scope = named_scope(told)
        actor = self._access.actor(request)
        try:
            await self._requests.release_fleet(scope, actor=actor, reason=_reason(told))
        except errors.Missing as error:
            engaged = ", ".join(self._latches().kills)
            advice = f"Engaged: {engaged}; name one of them" if engaged else "Nothing is engaged"
            raise errors.Missing(error.message, advice=advice) from error
        # The watch may not have brought the release yet, so that the scope itself is left out.
        others = [other for other in self._latches().kills if other != scope]
        return JSONResponse({"scope": scope, "released": True, "still_engaged": others})

    async def runs(self, _request: Request) -> Response:
        """Every run that is known: under way, held and ended."""
        if self._standby.stands_by:
            return JSONResponse({"runs": await self._standby.runs()})
        return JSONResponse({"runs": self._runs.all()})

    async def run(self, request: Request) -> Response:
        """One run with its journal."""
        name = request.path_params["name"]
        if self._standby.stands_by:
            facts = await self._standby.run(name)
        else:
            facts = self._runs.one(name)
        if facts is None:
            return problem(404, "NotFound", f"no run {name!r}; `switchgear get` lists them")
        return JSONResponse(facts)

    async def targets(self, _request: Request) -> Response:
        """Every target with what is to be said of it."""
        if self._standby.stands_by:
            return await self._standby.targets()
        return JSONResponse({"targets": [_target(card) for card in self._desk.cards()]})

    async def act(self, request: Request) -> Response:
        """One verb on one target."""
        told = await body_of(request)
        params = request.path_params
        try:
            verb = Verb(params["verb"])
        except ValueError:
            verbs = ", ".join(item.value for item in Verb)
            return problem(404, "UnknownVerb", f"{params['verb']!r} is none of {verbs}")
        if not (is_namespace(params["namespace"]) and is_name(params["name"])):
            return problem(404, "NotFound", "no object of Kubernetes can have that name")
        if self._standby.stands_by:
            return await self._standby.passed_on(request, json.dumps(told).encode())
        words = await self._requests.submit(
            TargetRef(params["namespace"], params["name"]),
            verb,
            actor=self._access.actor(request),
            reason=_reason(told),
        )
        return JSONResponse({"accepted": True, "words": words}, status_code=202)

    async def livez(self, _request: Request) -> Response:
        """Whether the loop turns."""
        return Response("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """Whether the caches are filled and not old."""
        problems = self._health.problems()
        text = "ok\n" if not problems else "".join(f"{words}\n" for words in problems)
        return Response(text, status_code=503 if problems else 200)

    async def metrics(self, _request: Request) -> Response:
        """Our own metrics."""
        self._meters.running(len(self._desk.running()), self._health.requests())
        slowest = self._desk.slowest(self._clock.monotonic())
        self._meters.waiting(len(self._latches().kills), slowest)
        return Response(self._meters.text(), media_type="text/plain; version=0.0.4")


def scope_of(told: dict[str, Any]) -> str:
    """The kill scope that a body names; anything that it does not name clearly is everything."""
    return _scope(told) or "all"


def named_scope(told: dict[str, Any]) -> str:
    """The scope that a body names, for what moves toward risk.

    No name is everything, but a name that cannot be read is nothing. Raises Unreadable.
    """
    if told.get("namespace") is None and told.get("name") is None:
        return "all"
    found = _scope(told)
    if not found:
        message = "`namespace` (and `name`) do not name a namespace or a target"
        raise Unreadable(message, advice="Leave both out to mean everything")
    return found


def _scope(told: dict[str, Any]) -> str:
    namespace, name = told.get("namespace"), told.get("name")
    if isinstance(namespace, str) and is_namespace(namespace):
        if isinstance(name, str) and is_name(name):
            return f"target.{namespace}.{name}"
        if name is None:
            return f"namespace.{namespace}"
    return ""


def _reason(told: dict[str, Any]) -> str:
    """What the caller says, as text that any encoding can carry: JSON may hold half a character."""
    text = str(told.get("reason") or "")[:MOST_REASON]
    return text.encode("utf-8", "replace").decode()


def _wait(request: Request) -> float:
    try:
        wait = float(request.query_params.get("wait", KILL_WAIT_SECONDS))
    except ValueError:
        return KILL_WAIT_SECONDS
    return min(max(wait, 0.0), MOST_WAIT_SECONDS) if math.isfinite(wait) else KILL_WAIT_SECONDS


def _target(card: Card) -> dict[str, Any]:
    return {
        "namespace": card.target.namespace,
        "name": card.target.name,
        "phase": card.memory.phase.value if card.memory else "AtRest",
        "run": card.memory.run.name if card.memory else None,
        "weight_bp": card.memory.run.weight_bp if card.memory else 0,
        "why": card.why,
        "breaker_open": any(run.tripped and not run.released for run in card.others)
        or bool(card.memory and card.memory.run.tripped and not card.memory.run.released),
    }
