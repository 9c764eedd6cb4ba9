# SPDX-License-Identifier: Apache-2.0
"""Where this process works: in a cluster, in some namespaces, or as a sidecar of one target."""

import secrets
import socket
from dataclasses import dataclass
from typing import Final

from controller import readers
from controller.adapters.kube.cache import Only
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.lease import KubeLease
from controller.app.assembly import Engine
from controller.core.leadership import Pod
from controller.core.values import TargetRef
from controller.engine.eligible import Eligible
from controller.engine.leader import Leader, anybody
from controller.settings import Settings

LEASE: Final = "switchgear"
ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # Compared with, not listened on.


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The namespace of the documents, and the one target of a sidecar."""

    namespace: str
    target: TargetRef | None = None
    only: Only | None = None

    @property
    def lease(self) -> str:
        """Name of the lease: sidecars of several targets share a namespace."""
        return LEASE if self.target is None else f"{LEASE}.{self.target.name}"


def placed(settings: Settings) -> Place:
    """What the settings say about it."""
    if not settings.target:
        return Place(namespace=settings.controller_namespace)
    target = TargetRef(settings.namespaces[0], settings.target)
    only = Only(
        target=target,
        services=settings.services or (target.name,),
        routes=settings.routes or (("HTTPRoute", target.name),),
    )
    return Place(namespace=target.namespace, target=target, only=only)


def leading(settings: Settings, place: Place, calls: Calls, engine: Engine) -> Leader | None:
    """The competition for the lease; None where this process acts in any case."""
    if not (settings.leader_election or place.target):
        return None
    lease = KubeLease(
        calls,
        namespace=place.namespace,
        name=place.lease,
        # The end is new with every start: an earlier life of the same pod is another one.
        identity=f"{settings.pod_name or socket.gethostname()}_{secrets.token_hex(4)}",
        address=_address(settings),
        seconds=settings.lease_seconds,
    )
    barred = anybody
    if place.target is not None:
        pod = Pod(hash=settings.pod_hash, track=settings.pod_track)
        barred = Eligible(
            pod=pod, target=place.target, cluster=engine.cluster, records=engine.records
        ).barred
    leader = Leader(
        lease=lease,
        clock=engine.clock,
        term=engine.run,
        meters=engine.meters,
        seconds=settings.lease_seconds,
        barred=barred,
    )
    engine.led_by(leader)
    return leader


def _address(settings: Settings) -> str:
    host, port = settings.advertise or settings.listen
    if settings.advertise is None and (host in ANY or readers.is_loopback(host)):
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
