# SPDX-License-Identifier: Apache-2.0
"""What a reflector fills: objects by namespace and name, and a callback for each real change.

A change is told as (before, after); one of the two is None for an object that came or went. The
same name with another uid is told as both, in this order: gone, come.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from controller.adapters.kube.objects import Held, Peek

T = TypeVar("T")
Key: TypeAlias = tuple[str, str]
Raw: TypeAlias = bytes | msgspec.Raw
Parse: TypeAlias = Callable[[Raw, Held[T] | None], Held[T]]
Changed: TypeAlias = Callable[[Held[T] | None, Held[T] | None], None]

_PEEK: Final = msgspec.json.Decoder(Peek)


def key_of(raw: Raw) -> Key | None:
    """Namespace and name of an object, or None if it does not say them."""
    try:
        meta = _PEEK.decode(raw).metadata
    except msgspec.MsgspecError:
        return None
    return meta.namespace, meta.name


class Store(Generic[T]):
    """The objects of one resource, from one or more reflectors (one per namespace)."""

    def __init__(self, parse: Parse[T]) -> None:
        """`parse` makes a value out of one object's JSON."""
        self._parse = parse
        self._objects: dict[str, dict[str, Held[T]]] = {}
        self._listeners: list[Changed[T]] = []
        self.skipped = 0
        """Objects that could not be decoded; they are left as they were."""

    def listen(self, changed: Changed[T]) -> None:
        """Call `changed` after every change, in the reader's task: it must be quick."""
        self._listeners.append(changed)

    def get(self, namespace: str, name: str) -> Held[T] | None:
        """One object, or None."""
        return self._objects.get(namespace, {}).get(name)

    def within(self, namespace: str) -> Mapping[str, Held[T]]:
        """The objects of one namespace by name."""
        return self._objects.get(namespace, {})

    def __iter__(self) -> Iterator[Held[T]]:
        """All objects."""
        for space in self._objects.values():
            yield from space.values()

    def __len__(self) -> int:
        return sum(len(space) for space in self._objects.values())

    def offer(self, raw: Raw) -> Key | None:
        """Take one object in; its key, or None if it cannot even be told which one it is."""
        try:
            meta = _PEEK.decode(raw).metadata
        except msgspec.MsgspecError:
            self.skipped += 1
            return None
        key = (meta.namespace, meta.name)
        old = self.get(*key)
        if old is not None and (old.uid, old.version) == (meta.uid, meta.resource_version):
            return key
        try:
            new = self._parse(raw, old)
        except msgspec.MsgspecError:
            self.skipped += 1
            return key
        self._objects.setdefault(key[0], {})[key[1]] = new
        if old is not None and old.uid != new.uid:
            self._tell(old, None)
            old = None
        self._tell(old, new)
        return key

    def remove(self, raw: Raw) -> Key | None:
        """Take one object out, told by its last form."""
        key = key_of(raw)
        if key is None:
            self.skipped += 1
        else:
            self.drop(*key)
        return key

    def drop(self, namespace: str, name: str) -> None:
        """Take one object out by name."""
        old = self._objects.get(namespace, {}).pop(name, None)
        if old is not None:
            self._tell(old, None)

    def prune(self, scope: str, kept: set[Key]) -> None:
        """Take out what a whole list did not show. `scope` is its namespace; empty means all."""
        spaces: Sequence[str] = [scope] if scope else list(self._objects)
        for namespace in spaces:
            for name in list(self._objects.get(namespace, {})):
                if (namespace, name) not in kept:
                    self.drop(namespace, name)

    def _tell(self, before: Held[T] | None, after: Held[T] | None) -> None:
        for changed in self._listeners:
            changed(before, after)
