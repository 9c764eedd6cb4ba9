# SPDX-License-Identifier: Apache-2.0
"""The ReplicaSet controller: as many active pods as asked for, and an honest count of them.

When pods must go, those that serve least go first: unscheduled before scheduled, pending before
running, unready before ready, cheaper by annotation, then the younger ones.
"""

from __future__ import annotations

from controller.sim.apiserver.errors import ApiError, JsonObject
from controller.sim.apiserver.store import Event, clone
from controller.sim.clock import parse_rfc3339
from controller.sim.controllers.base import Controller, Name
from controller.sim.controllers.objects import (
    condition,
    controller_of,
    controller_ref,
    deleting,
    key_of,
    labels,
    notes_of,
    pod_active,
    pod_available_at,
    pod_ready,
    selects,
    spec_replicas,
)
from controller.sim.controllers.ownership import claim

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

# The real controller's limit on creations and deletions in one pass.
BURST = 500

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}
Pods = list[JsonObject]


class ReplicaSetController(Controller[Name]):
    """Keeps the number of pods of every ReplicaSet."""

    def observe(self, event: Event) -> None:
        """A ReplicaSet, or a pod that is, was or could become one of its own."""
        match event.resource.key:
            case "replicasets.apps":
                self.enqueue(key_of(event.obj))
            case "pods":
                self._owner_of(event)
            case _:
                pass

    def _owner_of(self, event: Event) -> None:
        refs = [controller_of(event.obj)]
        if event.previous is not None:
            refs.append(controller_of(event.previous))
        for ref in refs:
            if ref is not None and ref["kind"] == "ReplicaSet":
                self.enqueue((event.namespace, ref["name"]))
        if refs[0] is None and event.type != "DELETED":
            for rs in self.store.scan("replicasets", event.namespace):
                if selects(rs["spec"].get("selector"), labels(event.obj)):
                    self.enqueue(key_of(rs))

    def sync(self, key: Name) -> None:
        """Create or delete pods, then publish the counts."""
        rs = self.store.get("replicasets", *key)
        if rs is None:
            return
        pods = claim(self.store, "pods", rs, self.store.scan("pods", key[0]))
        alive = [pod for pod in pods if pod_active(pod)]
        failure: ApiError | None = None
        if not deleting(rs):
            failure = self._manage(rs, alive)
        leaving = sum(1 for pod in pods if deleting(pod))
        self._publish(rs, alive, leaving, failure)
        if failure is not None:
            raise failure

    def _manage(self, rs: JsonObject, alive: Pods) -> ApiError | None:
        """Move the number of pods; ``alive`` is changed to what the counts should see."""
        surplus = len(alive) - spec_replicas(rs)
        if surplus < 0:
            return self._create(rs, min(-surplus, BURST))
        if surplus > 0:
            for pod in sorted(alive, key=_value)[: min(surplus, BURST)]:
                self.store.delete("pods", *key_of(pod), uid=pod["metadata"]["uid"])
        return None

    def _create(self, rs: JsonObject, count: int) -> ApiError | None:
        namespace, name = key_of(rs)
        template = rs["spec"]["template"]
        metadata = clone(template.get("metadata") or {})
        metadata.pop("creationTimestamp", None)
        metadata["generateName"] = f"{name}-"
        metadata["ownerReferences"] = [controller_ref(rs)]
        body = {"metadata": metadata, "spec": template["spec"]}
        for _ in range(count):
            try:
                self.store.create("pods", namespace, body)
            except ApiError as error:
                if error.reason == "NotFound" or deleting(rs):
                    return None
                return error
        return None

    def _publish(self, rs: JsonObject, alive: Pods, leaving: int, failure: ApiError | None) -> None:
        now = self.cluster.wall.timestamp()
        min_ready = int(rs["spec"].get("minReadySeconds") or 0)
        wanted_labels = (rs["spec"]["template"].get("metadata") or {}).get("labels") or {}
        due = [pod_available_at(pod, min_ready) for pod in alive]
        counts = {
            "fullyLabeledReplicas": sum(
                1 for pod in alive if wanted_labels.items() <= labels(pod).items()
            ),
            "readyReplicas": sum(1 for pod in alive if pod_ready(pod)),
            "availableReplicas": sum(1 for at in due if at is not None and at <= now),
        }
        status: JsonObject = {"replicas": len(alive)}
        status |= {name: count for name, count in counts.items() if count}
        # A pointer in the real type: it is written even when it is zero.
        status["terminatingReplicas"] = leaving
        status["observedGeneration"] = rs["metadata"]["generation"]
        conditions = self._conditions(rs, failure)
        if conditions:
            status["conditions"] = conditions
        if status != (rs.get("status") or {}):
            rs["status"] = status
            self.store.update("replicasets", rs, "status")
        waiting = [at - now for at in due if at is not None and at > now]
        if waiting:
            self.enqueue(key_of(rs), min(waiting))

    def _conditions(self, rs: JsonObject, failure: ApiError | None) -> list[JsonObject]:
        before = (rs.get("status") or {}).get("conditions") or []
        others = [item for item in before if item["type"] != "ReplicaFailure"]
        if failure is None:
            return others
        standing = condition(rs, "ReplicaFailure")
        if standing is not None:
            return list(before)
        fresh = {
            "type": "ReplicaFailure",
            "status": "True",
            "lastTransitionTime": self.cluster.wall.rfc3339(),
            "reason": "FailedCreate",
            "message": failure.message,
        }
        return [*others, fresh]


def _value(pod: JsonObject) -> tuple[int, int, int, int, float, int, str, str]:
    """A sort key under which the pod that is missed least comes first."""
    status = pod.get("status") or {}
    ready = condition(pod, "Ready")
    since = ready["lastTransitionTime"] if ready is not None and ready["status"] == "True" else None
    cost = notes_of(pod).get(DELETION_COST, "0")
    restarts = max(
        (c.get("restartCount", 0) for c in status.get("containerStatuses") or ()), default=0
    )
    born = pod["metadata"]["creationTimestamp"]
    return (
        1 if pod["spec"].get("nodeName") else 0,
        _PHASES.get(status.get("phase", "Pending"), 0),
        1 if since is not None else 0,
        int(cost) if cost.lstrip("-").isdigit() else 0,
        -parse_rfc3339(since) if since is not None else 0.0,
        -restarts,
        _reversed(born),
        pod["metadata"]["name"],
    )


def _reversed(stamp: str) -> str:
    """A timestamp that sorts the other way round, so that the youngest comes first."""
    return "".join(chr(0x7F - ord(letter)) for letter in stamp)
