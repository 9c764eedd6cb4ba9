# SPDX-License-Identifier: Apache-2.0
"""The status of a pod, put together from what its containers do."""

from collections.abc import Sequence

from tests.cluster.lab.api import Object
from tests.cluster.lab.kubelet.container import Container
from tests.cluster.lab.kubelet.times import now

UNSCHEDULABLE: Object = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/2 nodes are available: cordoned, not selected or full.",
}


def unschedulable(pod: Object) -> bool:
    """Whether a pod already says that there is no place for it."""
    return any(
        condition["type"] == "PodScheduled" and condition["status"] == "False"
        for condition in pod.get("status", {}).get("conditions") or ()
    )


def of(
    pod: Object,
    *,
    address: str,
    inits: Sequence[Container],
    sidecars: Sequence[Container],
    mains: Sequence[Container],
    initialized: bool,
    stopping: bool,
) -> Object:
    """The whole status."""
    running = initialized and not stopping
    ready = running and all(container.ready for container in (*sidecars, *mains))
    found: Object = {
        "phase": _phase(pod, inits, mains, initialized=initialized),
        "podIP": address,
        "podIPs": [{"ip": address}],
        "hostIP": "10.77.0.11",
        "startTime": pod.get("status", {}).get("startTime") or now(),
        "conditions": _conditions(pod, initialized=initialized, ready=ready),
        "containerStatuses": [container.status() for container in mains],
    }
    if inits:
        found["initContainerStatuses"] = [container.status() for container in inits]
    return found


def _phase(
    pod: Object, inits: Sequence[Container], mains: Sequence[Container], *, initialized: bool
) -> str:
    if not initialized:
        failed = any(c.ended and c.exit_code for c in inits if not c.always)
        return "Failed" if failed else "Pending"
    if all(container.ended for container in mains):
        codes = [container.exit_code for container in mains]
        return "Failed" if any(codes) else "Succeeded"
    # A pod is Pending until each of its containers was started once.
    begun = all(c.restarts or "waiting" not in c.state or c.last for c in mains)
    before = pod.get("status", {}).get("phase") == "Running"
    return "Running" if begun or before else "Pending"


def _conditions(pod: Object, *, initialized: bool, ready: bool) -> list[Object]:
    before = {c["type"]: c for c in pod.get("status", {}).get("conditions") or ()}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates", ())]
    open_gates = all(before.get(gate, {}).get("status") == "True" for gate in gates)
    values = {
        "PodScheduled": True,
        "Initialized": initialized,
        "ContainersReady": ready,
        "Ready": ready and open_gates,
    }
    # Conditions of others, such as that of an eviction, stay: the patch names none of them.
    return [
        _condition(name, "True" if value else "False", before.get(name))
        for name, value in values.items()
    ]


def _condition(kind: str, value: str, before: Object | None) -> Object:
    if before is not None and before["status"] == value:
        return {"type": kind, "status": value, "lastTransitionTime": before["lastTransitionTime"]}
    return {"type": kind, "status": value, "lastTransitionTime": now()}
