# SPDX-License-Identifier: Apache-2.0
"""A Gateway API implementation: it says that it accepted a route, and obeys it some time later.

Two habits of real gateways decide how a canary controller must be written, and both are here.  The
route's status is written within milliseconds, so that its resourceVersion moves by itself under
everybody's writes.  And the status runs ahead: weights are in force only when the data plane has
been programmed, up to 1.3 s later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.store import Event, clone
from controller.sim.controllers.base import Cluster, Controller
from controller.sim.controllers.endpoints import ready_addresses
from controller.sim.controllers.objects import key_of

CONTROLLER_NAME = "traefik.io/gateway-controller"
KINDS = {"httproutes": "HTTPRoute", "grpcroutes": "GRPCRoute"}

# Measured between the acceptance of a weight by Traefik 3.7 and its first effect.
PROGRAM_LAG = (0.05, 1.3)

RouteKey = tuple[str, str, str]
"""Plural of the kind, namespace and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One backendRef as the data plane knows it: the Service and its endpoints at that time."""

    namespace: str
    name: str
    weight: int
    index: int
    port: int
    exists: bool
    granted: bool
    """A Service of another namespace wants a ReferenceGrant; without it is as one that is not."""
    addresses: tuple[str, ...]


Rules = tuple[tuple[Backend, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Programmed:
    """One state of the data plane and when it came into force (loop time)."""

    at: float
    routes: dict[RouteKey, Rules]


class Gateway(Controller[RouteKey]):
    """Accepts routes and programs a data plane that :class:`~controller.sim.traffic.Traffic` uses.

    ``program_lag`` may be changed at any time.  ``refused`` maps routes to a reason for which they
    are not accepted.
    """

    latency: ClassVar[tuple[float, float]] = (0.005, 0.060)

    def __init__(self, cluster: Cluster, program_lag: tuple[float, float] = PROGRAM_LAG) -> None:
        """Begin with an empty data plane."""
        self.program_lag = program_lag
        self.refused: dict[RouteKey, str] = {}
        self.history: list[Programmed] = []
        self.on_programmed: list[Callable[[Programmed], None]] = []
        self._pending = False
        super().__init__(cluster)

    @property
    def programming(self) -> bool:
        """Whether a change is on its way to the data plane."""
        return self._pending

    @property
    def current(self) -> dict[RouteKey, Rules]:
        """The routes in force."""
        return self.history[-1].routes if self.history else {}

    def weights(self, key: RouteKey, rule: int = 0) -> dict[str, int]:
        """The weights in force of one rule, by name of the Service."""
        rules = self.current.get(key, ())
        found = rules[rule] if rule < len(rules) else ()
        return {backend.name: backend.weight for backend in found}

    def observe(self, event: Event) -> None:
        """Routes get a status and move the data plane; Gateways and Services do as well."""
        plural = event.resource.plural
        if plural in KINDS:
            key = (plural, *key_of(event.obj))
            self.enqueue(key)
            if event.type == "DELETED" or _moved(event.previous, event.obj):
                self._program_later()
        elif plural == "endpointslices":
            self._program_later()
        elif plural == "referencegrants" or (
            plural in {"gateways", "services"} and event.type != "MODIFIED"
        ):
            self._program_later()
            for key in self._all():
                self.enqueue(key)

    def _all(self) -> Iterator[RouteKey]:
        for plural in KINDS:
            for route in self.store.scan(plural):
                yield (plural, *key_of(route))

    # --- status -----------------------------------------------------------------------------------

    def sync(self, key: RouteKey) -> None:
        """Write the status of one route, by PUT with the version just read."""
        route = self.store.get(*key)
        if route is None:
            return
        before = (route.get("status") or {}).get("parents") or []
        others = [item for item in before if item.get("controllerName") != CONTROLLER_NAME]
        mine = [item for item in before if item.get("controllerName") == CONTROLLER_NAME]
        refs = (route.get("spec") or {}).get("parentRefs") or []
        fresh = [self._parent(key, route, ref, mine) for ref in refs if self._ours(ref, key[1])]
        if fresh != mine:
            route["status"] = {**(route.get("status") or {}), "parents": [*others, *fresh]}
            self.store.update(key[0], route, "status")

    def _ours(self, ref: JsonObject, namespace: str) -> bool:
        space = ref.get("namespace", namespace)
        is_gateway = ref.get("kind", "Gateway") == "Gateway"
        return is_gateway and self.store.peek("gateways", space, ref["name"]) is not None

    def _parent(
        self, key: RouteKey, route: JsonObject, ref: JsonObject, before: list[JsonObject]
    ) -> JsonObject:
        refusal = self.refused.get(key)
        bad = self._unresolved(route)
        generation = route["metadata"].get("generation", 1)
        old = next((item for item in before if item["parentRef"] == ref), {})
        conditions = [
            ("Accepted", refusal is None, refusal or "Accepted", ""),
            ("ResolvedRefs", bad is None, *_told(bad)),
        ]
        return {
            "parentRef": clone(ref),
            "controllerName": CONTROLLER_NAME,
            "conditions": [
                self._condition(old, generation, kind, ok=ok, reason=reason, message=message)
                for kind, ok, reason, message in conditions
            ],
        }

    def _condition(
        self, old: JsonObject, generation: int, kind: str, *, ok: bool, reason: str, message: str
    ) -> JsonObject:
        value = "True" if ok else "False"
        before = next((c for c in old.get("conditions") or () if c["type"] == kind), None)
        since = self.cluster.wall.rfc3339()
        if before is not None and before["status"] == value:
            since = before["lastTransitionTime"]
        return {
            "type": kind,
            "status": value,
            "observedGeneration": generation,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }

    def _unresolved(self, route: JsonObject) -> Backend | None:
        """The first backend of a route that does not exist, or that it may not lead to."""
        backends = (backend for rule in self._rules(route) for backend in rule)
        return next((one for one in backends if not (one.exists and one.granted)), None)

    # --- data plane -------------------------------------------------------------------------------

    def _program_later(self) -> None:
        """Take one snapshot of all routes a little later; changes until then go with it."""
        if not self._pending and self._suspended is None:
            self._pending = True
            lag = self.cluster.rng.uniform(*self.program_lag)
            self.cluster.loop.call_later(lag, self._program)

    def resume(self) -> None:
        """Come back and read everything."""
        super().resume()
        self._program_later()

    def _program(self) -> None:
        self._pending = False
        if self._suspended is not None:
            return
        routes = {
            key: self._rules(route)
            for key in self._all()
            if (route := self.store.peek(*key)) is not None and _accepted(route)
        }
        if routes == self.current:
            return
        state = Programmed(at=self.cluster.loop.time(), routes=routes)
        self.history.append(state)
        for tell in self.on_programmed:
            tell(state)

    def _rules(self, route: JsonObject) -> Rules:
        return tuple(
            tuple(
                self._backend(route, ref, index)
                for index, ref in enumerate(rule.get("backendRefs") or ())
            )
            for rule in (route.get("spec") or {}).get("rules") or ()
        )

    def _backend(self, route: JsonObject, ref: JsonObject, index: int) -> Backend:
        own = key_of(route)[0]
        namespace = ref.get("namespace", own)
        granted = namespace == own or any(
            _lets(grant["spec"], route, ref["name"])
            for grant in self.store.scan("referencegrants", namespace)
        )
        return Backend(
            namespace=namespace,
            name=ref["name"],
            weight=int(ref.get("weight", 1)),
            index=index,
            port=int(ref.get("port") or 0),
            exists=self.store.peek("services", namespace, ref["name"]) is not None,
            granted=granted,
            addresses=ready_addresses(self.store, (namespace, ref["name"])),
        )


def _told(bad: Backend | None) -> tuple[str, str]:
    """Reason and message of the condition that says whether all backends can be had."""
    if bad is None:
        return "ResolvedRefs", ""
    where = f"Cannot load HTTPBackendRef {bad.namespace}/{bad.name}"
    if bad.granted:
        return "BackendNotFound", f"{where}: service not found"
    return "RefNotPermitted", f"{where}: no ReferenceGrant permits it"


def _lets(grant: JsonObject, route: JsonObject, service: str) -> bool:
    """Whether a grant's spec lets a route lead to a Service beside it."""
    kind, space = route["kind"], route["metadata"]["namespace"]
    return any(item["kind"] == kind and item["namespace"] == space for item in grant["from"]) and (
        any(
            item["kind"] == "Service" and item.get("name", service) == service
            for item in grant["to"]
        )
    )


def _moved(before: JsonObject | None, after: JsonObject) -> bool:
    """Tell whether the data plane has anything to learn from a write."""
    if before is None:
        return True
    return before.get("spec") != after.get("spec") or _accepted(before) != _accepted(after)


def _accepted(route: JsonObject) -> bool:
    return any(
        condition["type"] == "Accepted" and condition["status"] == "True"
        for parent in (route.get("status") or {}).get("parents") or ()
        if parent.get("controllerName") == CONTROLLER_NAME
        for condition in parent["conditions"]
    )
