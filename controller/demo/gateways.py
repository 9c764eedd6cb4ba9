# SPDX-License-Identifier: Apache-2.0
"""Which Gateway of a cluster the demo can use, and how requests reach it.

Everything here is a decision about objects that have been read already.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.demo import signals
from controller.demo.api import Object
from controller.demo.errors import DemoError
from controller.demo.signals import KNOWN, Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A listener of a Gateway, and whose counters tell what goes through it."""

    namespace: str
    gateway: str
    listener: str
    port: int
    domain: str
    """Every host below it is let in; empty: every host at all."""
    address: str
    """`host:port` by the Gateway's status; empty if that says nothing."""
    signals: Signals

    @property
    def parent(self) -> dict[str, str]:
        """The `parentRef` of a route."""
        return {
            "namespace": self.namespace,
            "name": self.gateway,
            "sectionName": self.listener,
        }

    def host(self, namespace: str) -> str:
        """A name for an application in this namespace, which no other application has."""
        return f"{namespace}.{self.domain or 'example'}"


def choose(named: str | None, gateways: Sequence[Object], classes: Sequence[Object]) -> Door:
    """The Gateway that was named as NAMESPACE/NAME, else the only one that can be used.

    Raises DemoError with the reason for each that cannot be used.
    """
    if named is not None:
        found = next((item for item in gateways if _name(item) == named), None)
        if found is None:
            raise DemoError(f"there is no Gateway {named}; there are: {_names(gateways)}")
        return door(found, classes)
    doors: list[Door] = []
    reasons: list[str] = []
    for item in gateways:
        try:
            doors.append(door(item, classes))
        except DemoError as error:
            reasons.append(str(error))
    if len(doors) == 1:
        return doors[0]
    if doors:
        names = ", ".join(f"{found.namespace}/{found.gateway}" for found in doors)
        raise DemoError(f"several Gateways can be used; choose one with --gateway: {names}")
    raise DemoError("\n".join(["there is no Gateway that the demo can use", *reasons]))


def door(gateway: Object, classes: Iterable[Object]) -> Door:
    """How the demo's route and requests get through a Gateway; raises DemoError if they cannot."""
    name = _name(gateway)
    spec = gateway["spec"]
    controller = next(
        (
            item["spec"]["controllerName"]
            for item in classes
            if item["metadata"]["name"] == spec["gatewayClassName"]
        ),
        "",
    )
    known = signals.of(controller)
    if known is None:
        can = ", ".join(name for signals in KNOWN for name in signals.controllers)
        raise DemoError(
            f"Gateway {name} is run by {controller or 'nobody'}, whose counters the demo does not "
            f"know; it knows those of {can}"
        )
    if not _says(gateway, "Accepted"):
        raise DemoError(f"Gateway {name} has not been accepted by {controller}")
    listener = next((item for item in spec["listeners"] if _open(item)), None)
    if listener is None:
        raise DemoError(
            f"Gateway {name} has no listener for the demo: it must speak HTTP, let in routes of "
            "all namespaces (allowedRoutes.namespaces.from: All), and have no hostname or one "
            "that begins with *."
        )
    addresses = gateway.get("status", {}).get("addresses") or ()
    values = [item["value"] for item in addresses if item.get("value")]
    return Door(
        namespace=gateway["metadata"]["namespace"],
        gateway=gateway["metadata"]["name"],
        listener=listener["name"],
        port=listener["port"],
        domain=listener.get("hostname", "").removeprefix("*."),
        address=f"{values[0]}:{listener['port']}" if values else "",
        signals=known,
    )


def _open(listener: Object) -> bool:
    """Whether a route of another namespace, with a host of its own, is let in."""
    host = listener.get("hostname", "")
    # On a host that others use, the demo would take the requests that no other route matches.
    own = not host or host.startswith("*.")
    allowed = (listener.get("allowedRoutes") or {}).get("namespaces") or {}
    kinds = (listener.get("allowedRoutes") or {}).get("kinds") or ()
    fits = not kinds or any(kind["kind"] == "HTTPRoute" for kind in kinds)
    return own and fits and listener["protocol"] == "HTTP" and allowed.get("from") == "All"


def _says(found: Object, kind: str) -> bool:
    conditions = found.get("status", {}).get("conditions") or ()
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def _name(found: Object) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"


def _names(found: Iterable[Object]) -> str:
    return ", ".join(map(_name, found)) or "none"
