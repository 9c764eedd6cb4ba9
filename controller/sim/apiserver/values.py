# SPDX-License-Identifier: Apache-2.0
"""The small values that store and watchers share: events, copies, moments."""

from __future__ import annotations

import marshal
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar, cast

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.resources import Resource

T = TypeVar("T")


class EventType(StrEnum):
    """What happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One write. `obj` and `previous` are shared with the store and must not be changed."""

    type: EventType
    resource: Resource
    obj: JsonObject
    previous: JsonObject | None
    version: int

    @property
    def namespace(self) -> str:
        """Return the namespace of the object, empty for a cluster-wide one."""
        return str(self.obj["metadata"].get("namespace", ""))


class Strategy(Protocol):
    """What a kind adds to a write: defaults, and refusals of what is not valid."""

    def prepare(
        self, resource: Resource, new: JsonObject, old: JsonObject | None, subresource: str
    ) -> None:
        """Complete `new` in place; raise ApiError where it is not valid."""


class NoStrategy:
    """Everything is stored as it is written."""

    def prepare(
        self, resource: Resource, new: JsonObject, old: JsonObject | None, subresource: str
    ) -> None:
        """Accept everything as it is."""


def clone(value: T) -> T:
    """Return a deep copy of a JSON value (ten times as fast as copy.deepcopy).

    Of version 2 of the format, which knows no references: what stood in two places is two copies.
    """
    plain: Any = value
    return cast("T", marshal.loads(marshal.dumps(plain, 2)))  # noqa: S302  # Of our own making.


def rfc3339(moment: datetime) -> str:
    """Return a moment as Kubernetes writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
