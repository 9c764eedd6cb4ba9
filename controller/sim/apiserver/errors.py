# SPDX-License-Identifier: Apache-2.0
"""Everything that the API server can refuse, as one exception class.

An API error is data (status, reason, message, details) that ends up as a `Status` object on the
wire; in-process callers catch the same exception that a client would read from the response.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One reason among several for which an object was refused (`details.causes`)."""

    reason: str
    message: str
    field: str = ""

    def render(self) -> JsonObject:
        """Return the cause as it stands in a `Status`."""
        out: JsonObject = {"reason": self.reason, "message": self.message}
        if self.field:
            out["field"] = self.field
        return out

    def sentence(self) -> str:
        """Return the cause as it stands in the message of the whole error."""
        return f"{self.field}: {self.message}" if self.field else self.message


class ApiError(Exception):
    """A refusal: HTTP status, machine-readable reason, message and details."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        token: str = "",
    ) -> None:
        """`token` is where a list may go on all the same."""
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.token = token

    def render(self) -> JsonObject:
        """Return the `Status` object that a client reads."""
        out: JsonObject = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.token} if self.token else {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.status,
        }
        if self.details:
            out["details"] = self.details
        return out


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def _details(plural: str, group: str, name: str) -> JsonObject:
    out: JsonObject = {"name": name, "group": group, "kind": plural}
    return {key: value for key, value in out.items() if value}


def not_found(plural: str, group: str, name: str) -> ApiError:
    """Return the 404 for an object that does not exist."""
    text = f'{_qualified(plural, group)} "{name}" not found'
    return ApiError(404, "NotFound", text, _details(plural, group, name))


def no_such_path() -> ApiError:
    """Return the 404 for a path that is not served at all."""
    text = "the server could not find the requested resource"
    return ApiError(404, "NotFound", text)


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """Return the 409 for a name that is taken."""
    text = f'{_qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", text, _details(plural, group, name))


def conflict(plural: str, group: str, name: str, why: str) -> ApiError:
    """Return the 409 for a write that was based on something that is no longer so."""
    text = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", text, _details(plural, group, name))


STALE = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def stale(plural: str, group: str, name: str) -> ApiError:
    """Return the 409 for a write that carries an older resourceVersion."""
    return conflict(plural, group, name, STALE)


def invalid(kind: str, group: str, name: str, causes: Iterable[Cause]) -> ApiError:
    """Return the 422 for an object whose content is not valid, with every cause."""
    listed = list(causes)
    sentences = [cause.sentence() for cause in listed]
    text = sentences[0] if len(sentences) == 1 else "[" + ", ".join(sentences) + "]"
    details = _details(kind, group, name)
    details["causes"] = [cause.render() for cause in listed]
    subject = f"{kind}.{group}" if group else kind
    return ApiError(422, "Invalid", f'{subject} "{name}" is invalid: {text}', details)


def unprocessable(message: str) -> ApiError:
    """Return the 422 for a patch that cannot be applied (a JSON patch whose `test` fails)."""
    return ApiError(422, "Invalid", message)


def bad_request(message: str) -> ApiError:
    """Return the 400 for a request that makes no sense."""
    return ApiError(400, "BadRequest", message)


def forbidden(plural: str, group: str, name: str, why: str) -> ApiError:
    """Return the 403 for a request that is understood and refused."""
    text = f'{_qualified(plural, group)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", text, _details(plural, group, name))


def expired(message: str, token: str = "") -> ApiError:
    """Return the 410 for a resourceVersion that lies before the kept history."""
    return ApiError(410, "Expired", message, token=token)


def method_not_allowed() -> ApiError:
    """Return the 405 for a verb that the path does not have."""
    text = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", text)


def unsupported_media_type(accepted: Iterable[str]) -> ApiError:
    """Return the 415 for a body in a form that this resource does not accept."""
    text = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", text + ", ".join(accepted))
