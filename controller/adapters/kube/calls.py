# SPDX-License-Identifier: Apache-2.0
"""One request and its whole answer, with a deadline, a bound and an error of ours.

What the API server said becomes one of four classes: try again (`Unavailable`), read again
(`Conflict`, `Missing`), give up (`Refused`), give up and page (`Forbidden`). Bodies may be JSON,
plain text or the HTML of a load balancer; only the first is looked into.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from controller.adapters.kube.wire import Request, Response, Wire
from controller.core.errors import (
    Conflict,
    Forbidden,
    Missing,
    Refused,
    SwitchgearError,
    Unavailable,
)
from controller.core.values import FIELD_MANAGER
from controller.ports import trail
from controller.ports.clock import Clock

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON: Final = "application/json"

AUDIT_ID: Final = "audit-id"
"""The API server's audit log takes over what a client calls its request by this header."""

BODY_LIMIT: Final = 64 * 1024 * 1024
"""Most bytes of one answer: 500 objects of 100 kB, far above the usual 5 kB each."""

CALL_SECONDS: Final = 10.0
"""Deadline of an ordinary call: above the API server's own admission timeouts seen at rest."""

READ_TRIES: Final = 3
RETRY_TOKENS: Final = 20.0
"""Retries that may go out at once; each good answer earns a tenth of one back, so that retries
stay below a tenth of the load when the server is down for all."""

T = TypeVar("T")
Query = Sequence[tuple[str, str]]
Heard: TypeAlias = Callable[[str, str, bytes], None]
"""Method and path of a write that was accepted, and the answer to it."""


class Expired(Unavailable):
    """The resourceVersion asked for is too old (410) or not yet known: list afresh."""


class TooLarge(Unavailable):
    """The answer is beyond the bound; a smaller page may fit."""


class AlreadyExists(Conflict):
    """The name is taken (409)."""


class Status(msgspec.Struct, frozen=True, gc=False):
    """What we read of a `Status` object."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: dict[str, Any] | None = None


def parse_status(body: bytes) -> Status:
    """The Status in a body; anything else becomes its first words as the message."""
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError:
        text = body[:200].decode("utf-8", "replace").strip()
        return Status(message=" ".join(text.split()))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; the form with a date is not used by API servers."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isdigit() else None


def classify(status: int, headers: Mapping[str, str], body: bytes, what: str) -> SwitchgearError:
    """The error of ours for an answer that is no success. `what` names the request."""
    said = parse_status(body)
    text = f"{what}: {status} {said.message or said.reason or 'without a word'}"
    match status:
        case 401:
            return Forbidden(text, advice="Check the credentials of the controller")
        case 403:
            return _forbidden(said, text)
        case 404:
            return Missing(text)
        case 409:
            return AlreadyExists(text) if said.reason == "AlreadyExists" else Conflict(text)
        case 410:
            return Expired(text)
        case 422:
            return _unprocessable(said, text)
        case _ if "Too large resource version" in said.message:
            return Expired(text)
        case 400 | 405 | 406 | 413 | 415:
            return Refused(text)
        case _:
            return Unavailable(text, retry_after_seconds=retry_after(headers))


def _forbidden(said: Status, text: str) -> SwitchgearError:
    """A quota and a namespace on its way out also answer 403, but no right is missing."""
    if "exceeded quota" in said.message or "being terminated" in said.message:
        return Refused(text)
    return Forbidden(text, advice="Grant the controller the missing right")


def _unprocessable(said: Status, text: str) -> SwitchgearError:
    """A JSON patch whose `test` or path does not hold comes without a name or causes.

    A merge patch with another uid is told as an immutable field.
    """
    details = said.details or {}
    if "metadata.uid" in said.message or not (details.get("causes") or details.get("name")):
        return Conflict(text)
    return Refused(text)


async def read_all(response: Response, limit: int = BODY_LIMIT) -> bytes:
    """The whole body; raises `TooLarge` above the limit and closes the response either way."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.body:
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"an answer of more than {limit} bytes")
            chunks.append(chunk)
    finally:
        await response.aclose()
    return b"".join(chunks)


@dataclass(slots=True)
class Budget:
    """How many retries may go out now; see `RETRY_TOKENS`."""

    tokens: float = RETRY_TOKENS


class Calls:
    """Requests to one API server. Reads are tried again, writes never: they may have happened."""

    def __init__(self, wire: Wire, clock: Clock, budget: Budget | None = None) -> None:
        """Speak over `wire` and wait on `clock`; retries may share a budget with others'."""
        self.wire = wire
        self.clock = clock
        self.budget = budget or Budget()
        self._heard: list[Heard] = []

    def listen(self, heard: Heard) -> None:
        """Call `heard` with each write that was accepted, before whoever sent it goes on."""
        self._heard.append(heard)

    async def once(self, request: Request, limit: int = BODY_LIMIT) -> bytes:
        """One try: the body of a 2xx answer, or an error of ours."""
        what = f"{request.method} {request.path}"
        try:
            async with asyncio.timeout(request.timeout_seconds):
                response = await self.wire.send(request)
                body = await read_all(response, limit)
        except TimeoutError as error:
            raise Unavailable(f"{what}: no answer within {request.timeout_seconds:g} s") from error
        if 200 <= response.status < 300:
            return body
        raise classify(response.status, response.headers, body, what)

    async def read(
        self, path: str, query: Query = (), *, timeout_seconds: float = CALL_SECONDS
    ) -> bytes:
        """GET; tried again a few times, with jitter, while the shared budget lasts."""
        request = Request(
            method="GET",
            path=path,
            query=tuple(query),
            headers={"accept": JSON},
            timeout_seconds=timeout_seconds,
        )
        for attempt in range(1, READ_TRIES + 1):
            try:
                body = await self.once(request)
            except (Expired, TooLarge):
                raise
            except Unavailable as error:
                if attempt == READ_TRIES or self.budget.tokens < 1.0:
                    raise
                self.budget.tokens -= 1.0
                await self._pause(attempt, error)
            else:
                self.budget.tokens = min(RETRY_TOKENS, self.budget.tokens + 0.1)
                return body
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _pause(self, attempt: int, error: Unavailable) -> None:
        wait = 0.1 * 2**attempt * (0.5 + self.clock.jitter())
        # A server that asks for longer than a caller would wait is asked again by the next tick.
        await self.clock.sleep(min(2.0, max(wait, error.retry_after_seconds or 0.0)))

    async def get(self, path: str, query: Query = ()) -> dict[str, Any]:
        """GET an object by a quorum read (no resourceVersion), decoded."""
        return decode(await self.read(path, query), f"GET {path}")

    async def patch(self, path: str, body: object, *, kind: str = JSON_PATCH) -> dict[str, Any]:
        """PATCH as our field manager; unknown fields are refused, not dropped."""
        return await self._write("PATCH", path, body, kind)

    async def post(self, path: str, body: object) -> dict[str, Any]:
        """Create."""
        return await self._write("POST", path, body, JSON)

    async def delete(
        self, path: str, *, uid: str = "", version: str = "", orphan: bool = False
    ) -> None:
        """Delete only this uid and version, and what it owns in the background.

        With `orphan` what it owns stays, and is nobody's. Raises `Missing` if it is gone.
        """
        wanted = {"uid": uid, "resourceVersion": version}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Orphan" if orphan else "Background",
            "preconditions": {key: value for key, value in wanted.items() if value},
        }
        await self._send("DELETE", path, body, JSON, ())

    async def _write(self, method: str, path: str, body: object, kind: str) -> dict[str, Any]:
        query = (("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict"))
        return decode(await self._send(method, path, body, kind, query), f"{method} {path}")

    async def _send(
        self, method: str, path: str, body: object, kind: str, query: tuple[tuple[str, str], ...]
    ) -> bytes:
        headers = {"accept": JSON, "content-type": kind}
        call = trail.CALL.get()
        if call is not None and call.name:
            headers[AUDIT_ID] = call.name
        request = Request(
            method=method,
            path=path,
            query=query,
            headers=headers,
            body=msgspec.json.encode(body),
            timeout_seconds=CALL_SECONDS,
        )
        answer = await self.once(request)
        if call is not None:
            call.writes += 1
        for heard in self._heard:
            heard(method, path, answer)
        return answer


async def every(work: Iterable[Awaitable[object]]) -> None:
    """Do everything at once, to the end; then raise the first error, if there was one."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def decode(body: bytes, what: str) -> dict[str, Any]:
    """A JSON object; anything else under a 2xx is a proxy's page and counts as no answer."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Unavailable(f"{what}: the answer is no JSON object") from error
