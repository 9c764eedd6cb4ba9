# SPDX-License-Identifier: Apache-2.0
"""The namespace controller: a terminating namespace is emptied and then let go."""

from __future__ import annotations

from typing import ClassVar

from controller.sim.apiserver.resources import RESOURCES
from controller.sim.apiserver.store import WHOLE, Event
from controller.sim.controllers.base import Controller
from controller.sim.controllers.objects import deleting, key_of

# How often a namespace is looked at that still holds pods in their grace period.
RECHECK_SECONDS = 0.5


class NamespaceController(Controller[tuple[str]]):
    """Deletes what lives in a namespace that is being deleted."""

    latency: ClassVar[tuple[float, float]] = (0.02, 0.1)

    def observe(self, event: Event) -> None:
        """Only the namespaces themselves matter."""
        if event.resource.key == "namespaces" and deleting(event.obj):
            self.enqueue((event.obj["metadata"]["name"],))

    def sync(self, key: tuple[str]) -> None:
        """Delete the content, and take the finalizer away when nothing is left."""
        (name,) = key
        space = self.store.get("namespaces", None, name)
        if space is None or not deleting(space):
            return
        left = False
        for served in RESOURCES:
            if not served.namespaced:
                continue
            for obj in list(self.store.scan(served, name)):
                if not deleting(obj):
                    self.store.delete(served, name, key_of(obj)[1], propagation="Background")
                left |= self.store.peek(served, name, key_of(obj)[1]) is not None
        if left:
            self.enqueue(key, RECHECK_SECONDS)
        elif (space.get("spec") or {}).get("finalizers"):
            space["spec"]["finalizers"] = []
            self.store.update("namespaces", space, WHOLE)
