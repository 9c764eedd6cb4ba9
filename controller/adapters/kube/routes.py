# SPDX-License-Identifier: Apache-2.0
"""HTTPRoutes and GRPCRoutes, as the caches hold them and as the core sees them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from controller.adapters.kube.objects import Held, Meta, held, ours_only
from controller.adapters.routers import gateway_api
from controller.core.observation import Backend, Route
from controller.core.values import RouteRef, canary_name

GROUP: Final = "gateway.networking.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One backendRef: where it points, fully said."""

    namespace: str
    service: str
    """Name of the Service; empty for another kind of backend."""
    weight: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSeen:
    """A route with all its rules."""

    ref: RouteRef
    uid: str
    version: str
    generation: int
    rules: tuple[tuple[Seen, ...], ...]
    accepted: bool | None
    message: str = ""
    mesh: tuple[str, ...] = ()
    """Services that the route is attached to as a mesh route."""
    controllers: tuple[str, ...] = ()
    """Who has answered for its parents."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    original: tuple[Backend, ...] = ()
    """The backends in our note."""

    def reduced(self, services: Collection[str], namespace: str) -> Route | None:
        """The route with only the rules that name one of `services`; None if none does.

        A rule in which only the canary twin is left counts as well: somebody has to take it out.
        """
        wanted = {*services, *(canary_name(name) for name in services)}
        backends = tuple(
            Backend(rule=number, index=index, service=seen.service, weight=seen.weight)
            for number, rule in enumerate(self.rules)
            if any(seen.service in wanted and seen.namespace == namespace for seen in rule)
            for index, seen in enumerate(rule)
        )
        if not backends:
            return None
        return Route(
            ref=self.ref,
            uid=self.uid,
            version=self.version,
            generation=self.generation,
            backends=backends,
            accepted=self.accepted,
            message=self.message,
            controllers=self.controllers,
            annotations=self.annotations,
            original=self.original,
        )


class _Ref(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: str = ""
    namespace: str | None = None
    kind: str | None = None
    group: str | None = None
    section_name: str | None = None
    port: int | None = None
    weight: int | None = None


class _Rule(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    backend_refs: tuple[_Ref, ...] | None = None


class _Spec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    rules: tuple[_Rule, ...] | None = None
    parent_refs: tuple[_Ref, ...] | None = None


class _Condition(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    type: str = ""
    status: str = ""
    message: str = ""
    observed_generation: int | None = None


class _Parent(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    parent_ref: _Ref = _Ref()
    controller_name: str = ""
    conditions: tuple[_Condition, ...] | None = None


class _Status(msgspec.Struct, frozen=True, gc=False):
    parents: tuple[_Parent, ...] | None = None


class _Route(msgspec.Struct, frozen=True, gc=False):
    metadata: Meta
    kind: str = ""
    spec: _Spec = _Spec()
    status: _Status = _Status()


_ROUTE: Final = msgspec.json.Decoder(_Route)


def parse_http_route(raw: bytes | msgspec.Raw, _old: Held[RouteSeen] | None) -> Held[RouteSeen]:
    """A HTTPRoute. Raises msgspec.MsgspecError if it is not one."""
    return _parse(raw, "HTTPRoute")


def parse_grpc_route(raw: bytes | msgspec.Raw, _old: Held[RouteSeen] | None) -> Held[RouteSeen]:
    """A GRPCRoute. Raises msgspec.MsgspecError if it is not one."""
    return _parse(raw, "GRPCRoute")


def _parse(raw: bytes | msgspec.Raw, kind: str) -> Held[RouteSeen]:
    item = _ROUTE.decode(raw)
    meta = item.metadata
    accepted, message = _accepted(item)
    notes = ours_only(meta.annotations)
    value = RouteSeen(
        ref=RouteRef(kind, meta.namespace, meta.name),
        uid=meta.uid,
        version=meta.resource_version,
        generation=meta.generation,
        rules=tuple(
            tuple(_seen(ref, meta.namespace) for ref in rule.backend_refs or ())
            for rule in item.spec.rules or ()
        ),
        accepted=accepted,
        message=message,
        mesh=tuple(ref.name for ref in item.spec.parent_refs or () if ref.kind == "Service"),
        controllers=tuple(sorted({parent.controller_name for parent in item.status.parents or ()})),
        annotations=notes,
        original=gateway_api.original(notes.get("original", "")),
    )
    return held(meta, value)


def _seen(ref: _Ref, namespace: str) -> Seen:
    service = ref.name if (ref.kind or "Service") == "Service" and not ref.group else ""
    return Seen(namespace=ref.namespace or namespace, service=service, weight=ref.weight)


def _same(one: _Ref, other: _Ref, namespace: str) -> bool:
    return (one.kind or "Gateway", one.namespace or namespace, one.name) == (
        other.kind or "Gateway",
        other.namespace or namespace,
        other.name,
    ) and (one.section_name, one.port) == (other.section_name, other.port)


def _accepted(route: _Route) -> tuple[bool | None, str]:
    """Whether every parent has taken this generation; the first refusal is told in its words."""
    silent = ""
    for ref in route.spec.parent_refs or ():
        answers = [
            _answer(parent, route.metadata.generation)
            for parent in route.status.parents or ()
            if _same(parent.parent_ref, ref, route.metadata.namespace)
        ]
        refusal = next((message for taken, message in answers if taken is False), None)
        if refusal is not None:
            return False, refusal
        if not any(taken for taken, _ in answers):
            silent = silent or f"{ref.kind or 'Gateway'} {ref.name} has not answered yet"
    return (None, silent) if silent else (True, "")


def _answer(parent: _Parent, generation: int) -> tuple[bool | None, str]:
    conditions = {condition.type: condition for condition in parent.conditions or ()}
    accepted = conditions.get("Accepted")
    if accepted is None:
        return None, ""
    for condition in (accepted, conditions.get("ResolvedRefs")):
        if condition is None:
            continue
        if (condition.observed_generation or generation) < generation:
            return None, ""
        if condition.status != "True":
            return False, f"{parent.parent_ref.name}: {condition.type}: {condition.message}"
    return True, ""
