# SPDX-License-Identifier: Apache-2.0
"""The words of the house: names, weights and digests that every other room speaks in."""

import dataclasses
import enum
import functools
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

PREFIX: Final = "switchgear.dev/"
"""Prefix of every annotation and label that is ours."""

TRACK_LABEL: Final = PREFIX + "track"
CANARY_TRACK: Final = "canary"
HASH_LABEL: Final = "pod-template-hash"
"""The label by which the Deployment controller tells the pods of one template from another's."""

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "switchgear"

FIELD_MANAGER: Final = "switchgear"
"""As whom we write: who reads `managedFields` sees which fields are ours."""

HELD_BY_ADMISSION: Final = "template"
HELD_FOR_OWNER: Final = "user-paused"
"""What the admission policy writes into `hold` with every new template: that it paused the
Deployment itself, or that the owner had paused it. Any other text there is the controller's."""

EPOCH: Final = PREFIX + "epoch"
"""Annotation on what a raise writes: the leader's epoch, which each such write tests."""

OVERRIDE: Final = PREFIX + "override"
"""Annotation by which a person with the verb says why a write of theirs goes past the gate."""

TARGET_NAMESPACE: Final = PREFIX + "target-namespace"
TARGET_NAME: Final = PREFIX + "target-name"
"""Labels of a run document; a name too long for a label is known from the state alone."""

WHOLE_BP: Final = 10_000
"""One whole in basis points: every request."""


@dataclass(frozen=True, slots=True, order=True)
class TargetRef:
    """One annotated Deployment, by name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """`namespace/name`, as people type it."""
        return f"{self.namespace}/{self.name}"

    @property
    def canary(self) -> str:
        """Name of the canary Deployment that belongs to this target."""
        return canary_name(self.name)


def canary_name(name: str) -> str:
    """Name of our own twin (Deployment or Service) of the user's object called `name`."""
    return f"{name}-canary"


_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def is_name(text: str) -> bool:
    """Whether Kubernetes could give a Deployment this name."""
    return len(text) <= 253 and _NAME.fullmatch(text) is not None


def is_namespace(text: str) -> bool:
    """Whether Kubernetes could give a namespace this name."""
    return len(text) <= 63 and "." not in text and is_name(text)


class RouteKind(enum.Enum):
    """The kinds of route whose rules we can weigh; the value is the Kubernetes kind."""

    HTTP = "HTTPRoute"
    GRPC = "GRPCRoute"


@dataclass(frozen=True, slots=True, order=True)
class RouteRef:
    """One route, by kind and name, in the target's namespace or in another."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """`HTTPRoute namespace/name`."""
        return f"{self.kind} {self.namespace}/{self.name}"


def percent(weight_bp: int) -> str:
    """A weight in basis points as a person reads it: 500 is `5 %`, 1250 is `12.5 %`."""
    return f"{weight_bp / 100:g} %"


T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Same(Generic[T]):
    """Itself and nothing that is merely alike: what a cache goes by that follows from a value which
    cannot be hashed, and is the same one for as long as it does not change.
    """

    value: T

    def __eq__(self, other: object) -> bool:
        """Whether it is about the very same object."""
        return isinstance(other, Same) and other.value is self.value

    def __hash__(self) -> int:
        """Of the object's identity, which nobody else gets while a cache keeps it."""
        return id(self.value)


class HashedOnce:
    """A frozen dataclass without slots that caches go by: its hash, of all fields like equality, is
    found once. Whoever mixes it in says `__hash__ = HashedOnce.__hash__`.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __hash__(self) -> int:
        """Of all fields."""
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in dataclasses.fields(self)))
