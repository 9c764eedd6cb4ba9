# SPDX-License-Identifier: Apache-2.0
"""Who belongs to whom, kept up to date by every change.

A namespace may hold a thousand targets and every pod event asks whose it is, so nothing here
walks over all objects: each question is one or a few dictionary look-ups.
"""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from controller.adapters.kube.objects import Held
from controller.adapters.kube.pods import Slice
from controller.adapters.kube.routes import RouteSeen
from controller.adapters.kube.store import Key
from controller.core.observation import Deployment, Pairs, Service
from controller.core.values import TargetRef, canary_name

K = TypeVar("K")
V = TypeVar("V")


class Multimap(Generic[K, V]):
    """Several values per key, in the order in which they came; an empty key takes no room."""

    def __init__(self) -> None:
        self._values: dict[K, dict[V, None]] = {}

    def add(self, key: K, value: V) -> None:
        """Take `value` in under `key`."""
        self._values.setdefault(key, {})[value] = None

    def discard(self, key: K, value: V) -> None:
        """Take it out, if it is there."""
        values = self._values.get(key)
        if values is not None:
            values.pop(value, None)
            if not values:
                del self._values[key]

    def get(self, key: K) -> tuple[V, ...]:
        """The values of a key."""
        return tuple(self._values.get(key, ()))

    def count(self, key: K) -> int:
        """How many values a key has."""
        return len(self._values.get(key, ()))


MARKS = ("policy", "managed", "hold")
"""Annotations that make a Deployment a target, or that we still have to take off."""


def is_target(deployment: Deployment) -> bool:
    """Whether a Deployment is the user's and carries an annotation that concerns us."""
    return not deployment.ours and any(mark in deployment.annotations for mark in MARKS)


Pair = tuple[str, str, str]
"""Namespace, label key and label value."""


class Deployments:
    """Deployments by uid and by the labels of their pods, and which of them are targets."""

    def __init__(self) -> None:
        self.targets: dict[TargetRef, None] = {}
        self._by_uid: dict[str, Key] = {}
        self._by_label: Multimap[Pair, str] = Multimap()

    def change(self, before: Held[Deployment] | None, after: Held[Deployment] | None) -> None:
        """Follow one change."""
        if before is not None:
            self._by_uid.pop(before.uid, None)
            self.targets.pop(TargetRef(before.namespace, before.name), None)
            for key, value in before.value.pod_labels:
                self._by_label.discard((before.namespace, key, value), before.name)
        if after is not None:
            self._by_uid[after.uid] = (after.namespace, after.name)
            if is_target(after.value):
                self.targets[TargetRef(after.namespace, after.name)] = None
            for key, value in after.value.pod_labels:
                self._by_label.add((after.namespace, key, value), after.name)

    def by_uid(self, uid: str) -> Key | None:
        """Namespace and name of the Deployment with this uid."""
        return self._by_uid.get(uid)

    def candidates(self, namespace: str, selector: Pairs) -> tuple[str, ...]:
        """Deployments that may match a selector: those with its rarest label."""
        if not selector:
            return ()
        rarest = min(((namespace, key, value) for key, value in selector), key=self._by_label.count)
        return self._by_label.get(rarest)


class Services:
    """Services by one label of their (own) selector."""

    def __init__(self) -> None:
        self._by_label: Multimap[Pair, str] = Multimap()

    def change(self, before: Held[Service] | None, after: Held[Service] | None) -> None:
        """Follow one change."""
        if before is not None:
            for pair in self._place(before):
                self._by_label.discard(pair, before.name)
        if after is not None:
            for pair in self._place(after):
                self._by_label.add(pair, after.name)

    @staticmethod
    def _place(service: Held[Service]) -> Iterator[Pair]:
        """Under the first label alone: whoever has all labels has this one as well."""
        for key, value in service.value.own_selector[:1]:
            yield service.namespace, key, value
        pinned_for = service.value.annotations.get("target", "")
        if pinned_for:
            yield service.namespace, "", pinned_for

    def pinned_for(self, namespace: str, target: str) -> tuple[str, ...]:
        """Services that we pinned for this Deployment, whether or not it still exists."""
        return self._by_label.get((namespace, "", target))

    def candidates(self, namespace: str, labels: Pairs) -> Iterator[str]:
        """Services that may select pods with these labels."""
        for key, value in labels:
            yield from self._by_label.get((namespace, key, value))


class Routes:
    """Routes by the Services that they lead to."""

    def __init__(self) -> None:
        self._by_service: Multimap[Key, tuple[str, str, str]] = Multimap()

    def change(self, before: Held[RouteSeen] | None, after: Held[RouteSeen] | None) -> None:
        """Follow one change."""
        for route, act in ((before, self._by_service.discard), (after, self._by_service.add)):
            if route is not None:
                ref = route.value.ref
                for service in services_of(route.value):
                    act(service, (ref.kind, ref.namespace, ref.name))

    def leading_to(self, namespace: str, services: Iterable[str]) -> list[tuple[str, str, str]]:
        """Kind, namespace and name of each route to one of the Services or its twin, sorted."""
        found: set[tuple[str, str, str]] = set()
        for name in services:
            found.update(self._by_service.get((namespace, name)))
            found.update(self._by_service.get((namespace, canary_name(name))))
        return sorted(found)


def services_of(route: RouteSeen) -> set[Key]:
    """Every Service that the route names, in a rule or as the mesh's parent."""
    named = {(seen.namespace, seen.service) for rule in route.rules for seen in rule}
    return named | {(route.ref.namespace, name) for name in route.mesh}


class Slices:
    """Ready endpoints by Service."""

    def __init__(self) -> None:
        self._by_service: dict[Key, dict[str, Slice]] = {}

    def change(self, before: Held[Slice] | None, after: Held[Slice] | None) -> None:
        """Follow one change."""
        if before is not None:
            key = (before.namespace, before.value.service)
            slices = self._by_service.get(key, {})
            slices.pop(before.name, None)
            if not slices:
                self._by_service.pop(key, None)
        if after is not None:
            key = (after.namespace, after.value.service)
            self._by_service.setdefault(key, {})[after.name] = after.value

    def ready(self, namespace: str, service: str) -> int:
        """Ready endpoints, in the address family that has most of them (dual stack has two)."""
        counts: dict[str, int] = {}
        for item in self._by_service.get((namespace, service), {}).values():
            counts[item.family] = counts.get(item.family, 0) + item.ready
        return max(counts.values(), default=0)
