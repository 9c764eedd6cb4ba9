# SPDX-License-Identifier: Apache-2.0
"""Resource quotas for the number of pods: refused at creation, counted in the status."""

from __future__ import annotations

from typing import ClassVar

from controller.sim.apiserver.errors import JsonObject, forbidden
from controller.sim.apiserver.resources import Resource
from controller.sim.apiserver.store import Event, Store, Strategy
from controller.sim.controllers.base import Controller, Name
from controller.sim.controllers.objects import key_of

_NAMES = ("pods", "count/pods")


class QuotaStrategy:
    """Another strategy, and after it the quotas of the namespace."""

    def __init__(self, inner: Strategy, store: Store) -> None:
        """``store`` is where the quotas and the pods are."""
        self._inner = inner
        self._store = store

    def prepare(
        self, resource: Resource, new: JsonObject, old: JsonObject | None, subresource: str
    ) -> None:
        """Complete and check ``new``; raise ApiError 403 for a pod beyond its quota."""
        self._inner.prepare(resource, new, old, subresource)
        if resource.key != "pods" or old is not None:
            return
        namespace, name = key_of(new)
        for quota in self._store.scan("resourcequotas", namespace):
            used = pods_used(self._store, namespace)
            for resource_name, hard in _limits(quota).items():
                if used + 1 > hard:
                    why = (
                        f"exceeded quota: {key_of(quota)[1]}, requested: {resource_name}=1, "
                        f"used: {resource_name}={used}, limited: {resource_name}={hard}"
                    )
                    raise forbidden("pods", "", name, why)


def pods_used(store: Store, namespace: str) -> int:
    """The pods that count against a quota: all that have not finished."""
    return sum(
        1
        for pod in store.scan("pods", namespace)
        if (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}
    )


def _limits(quota: JsonObject) -> dict[str, int]:
    hard = (quota.get("spec") or {}).get("hard") or {}
    return {name: int(hard[name]) for name in _NAMES if str(hard.get(name, "")).isdigit()}


class QuotaController(Controller[Name]):
    """Writes into each ResourceQuota how much of it is used."""

    latency: ClassVar[tuple[float, float]] = (0.02, 0.1)

    def observe(self, event: Event) -> None:
        """A quota, or a pod that came or went."""
        if event.resource.key == "resourcequotas":
            self.enqueue(key_of(event.obj))
        elif event.resource.key == "pods" and event.type != "MODIFIED":
            for quota in self.store.scan("resourcequotas", event.namespace):
                self.enqueue(key_of(quota))

    def sync(self, key: Name) -> None:
        """Publish hard limits and use."""
        quota = self.store.get("resourcequotas", *key)
        if quota is None:
            return
        used = str(pods_used(self.store, key[0]))
        status = {
            "hard": dict((quota.get("spec") or {}).get("hard") or {}),
            "used": dict.fromkeys(_limits(quota), used),
        }
        if quota.get("status") != status:
            quota["status"] = status
            self.store.update("resourcequotas", quota, "status")
