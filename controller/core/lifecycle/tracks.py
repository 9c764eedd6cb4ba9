# SPDX-License-Identifier: Apache-2.0
"""Which counters a run is judged by: those of its canary against those of its stable version.

Where a route splits the requests, the gateway counts them by Service, and the two Services are the
tracks. Where both versions stand behind one Service, or the Deployment rolls under traffic, only
what the pods count themselves tells the versions apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.table import SERVED, Phase
from controller.core.policy import keys
from controller.core.policy.model import Traffic
from controller.core.values import canary_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """The keys of both tracks; no key is in both. Empty: there is nothing to follow."""

    canary: tuple[TrackKey, ...] = ()
    stable: tuple[TrackKey, ...] = ()

    @property
    def newborn(self) -> bool:
        """Whether all pods of the canary track were born in the run, as far as pods are known."""
        return any(isinstance(key, PodsKey) for key in self.canary)


def tracks_of(run: Run) -> Tracks:
    """The tracks of a run as it stands; they grow when the Deployment's new hash is known."""
    services = tuple(dict.fromkeys(lane.service for lane in run.lanes))
    if run.traffic is Traffic.GATEWAY and not services:
        return Tracks()
    return Tracks(canary=_canary(run, services), stable=stable_of(run, services))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """The pods of both tracks, whoever counts their requests."""

    canary: tuple[PodsKey, ...]
    stable: tuple[PodsKey, ...]


def pods_of(run: Run) -> Pods:
    """Whose pods to measure, whatever provider counts the requests.

    The Deployment's own new pods are left out while they are being started: in a roll there is
    always one that has just begun, and that one would speak for all of them.
    """
    twin, *rolled = _canary_pods(run, "")
    stand = rolled if run.phase is Phase.BAKING else ()
    return Pods(canary=(twin, *stand), stable=(_stable_pods(run, ""),))


def stable_of(run: Run, services: Sequence[str]) -> tuple[TrackKey, ...]:
    """Keys of the stable version, which has counters before the run has lanes.

    Args:
        run: The run.
        services: Names of the Services that lead to the Deployment's pods.
    """
    space, provider = run.target.namespace, named(run)
    if by_pods(run):
        return (_stable_pods(run, provider),)
    return tuple(ServiceKey(space, name, provider) for name in services)


def checked_by(run: Run) -> Tracks:
    """Everything that names the tracks of a run, whichever of it judges: what user checks read.

    A gateway's own metrics are told apart by Service and all others by pod, and one query may read
    both. Where the Deployment's own pods change under traffic all Services lead to the new version,
    as far as a gateway can tell, and what it counts there is held against the limit alone.
    """
    space, name = run.target.namespace, named(run)
    by_service = name if name in keys.SERVICE_PROVIDERS else ""
    by_pod = name if name in keys.POD_PROVIDERS else ""
    stable: list[TrackKey] = [_stable_pods(run, by_pod)]
    canary: list[TrackKey] = [*_canary_pods(run, by_pod)]
    for service in dict.fromkeys(lane.service for lane in run.lanes):
        (canary if run.phase in SERVED else stable).append(ServiceKey(space, service, by_service))
        canary.append(ServiceKey(space, canary_name(service), by_service))
    return Tracks(canary=tuple(canary), stable=tuple(stable))


def by_pods(run: Run) -> bool:
    """Whether the pods' own counters judge: there is no other choice, or a policy that says so."""
    return run.traffic is Traffic.REPLICAS or named(run) in keys.POD_PROVIDERS


def _canary(run: Run, services: Sequence[str]) -> tuple[TrackKey, ...]:
    space, provider = run.target.namespace, named(run)
    if not by_pods(run):
        return tuple(ServiceKey(space, canary_name(name), provider) for name in services)
    return _canary_pods(run, provider)


def _stable_pods(run: Run, provider: str) -> PodsKey:
    return PodsKey(run.target.namespace, run.target.name, run.stable_hash, provider)


def _canary_pods(run: Run, provider: str) -> tuple[PodsKey, ...]:
    """Those of the twin, and the Deployment's own new ones as soon as their hash is known."""
    space, own = run.target.namespace, run.target.name
    twin = PodsKey(space, run.target.canary, "", provider)
    return (twin, PodsKey(space, own, run.new_hash, provider)) if run.new_hash else (twin,)


def named(run: Run) -> str:
    """The provider that a run's policy names, empty if the choice is the daemon's.

    A gateway's counters cannot judge a run without a gateway, so that there its name is passed
    over: the pods' own are asked for.
    """
    name = dict(run.annotations).get("metrics", "").strip()
    usable = keys.POD_PROVIDERS if run.traffic is Traffic.REPLICAS else keys.METRICS_PROVIDERS
    return name if name in usable else ""
