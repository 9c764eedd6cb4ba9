# SPDX-License-Identifier: Apache-2.0
"""The Job controller, as far as holding a Job back goes: suspended, resumed, suspended again.

Containers of the simulation do not end by themselves, so no Job is ever complete.
"""

from __future__ import annotations

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.store import Event, clone
from controller.sim.controllers.base import Controller, Name
from controller.sim.controllers.objects import (
    condition,
    controller_of,
    controller_ref,
    deleting,
    key_of,
    pod_active,
    pod_ready,
)
from controller.sim.controllers.ownership import claim

SUSPENDED = "Suspended"


class JobController(Controller[Name]):
    """Keeps as many pods of every Job as may run side by side; none while it is suspended."""

    def observe(self, event: Event) -> None:
        """A Job, or a pod of one."""
        if event.resource.key == "jobs.batch":
            self.enqueue(key_of(event.obj))
        elif event.resource.key == "pods":
            ref = controller_of(event.obj)
            if ref is not None and ref["kind"] == "Job":
                self.enqueue((event.namespace, ref["name"]))

    def sync(self, key: Name) -> None:
        """Create or delete pods, then publish the counts."""
        job = self.store.get("jobs", *key)
        if job is None or deleting(job):
            return
        pods = claim(self.store, "pods", job, self.store.scan("pods", key[0]))
        alive = [pod for pod in pods if pod_active(pod)]
        suspended = bool(job["spec"].get("suspend"))
        wanted = 0 if suspended else _at_once(job["spec"])
        for pod in alive[wanted:]:
            self.store.delete("pods", *key_of(pod), uid=pod["metadata"]["uid"])
        # A pod that is going has its turn first: two of them are never at work for one.
        going = len(pods) - len(alive)
        more = max(wanted - len(alive) - going, 0)
        alive.extend(self._create(job) for _ in range(more))
        self._publish(job, alive[:wanted], going + len(alive[wanted:]), suspended=suspended)

    def _create(self, job: JsonObject) -> JsonObject:
        namespace, name = key_of(job)
        template = job["spec"]["template"]
        metadata = clone(template.get("metadata") or {})
        metadata["generateName"] = f"{name}-"
        metadata["ownerReferences"] = [controller_ref(job)]
        return self.store.create(
            "pods", namespace, {"metadata": metadata, "spec": template["spec"]}
        )

    def _publish(
        self, job: JsonObject, alive: list[JsonObject], going: int, *, suspended: bool
    ) -> None:
        before = job.get("status") or {}
        status: JsonObject = {"ready": sum(1 for pod in alive if pod_ready(pod))}
        status |= {"terminating": going, "uncountedTerminatedPods": {}}
        if alive:
            status["active"] = len(alive)
        stood = condition(job, SUSPENDED)
        was = stood is not None and stood["status"] == "True"
        if not suspended:
            resumed = was or "startTime" not in before
            now = self.cluster.wall.rfc3339()
            status["startTime"] = now if resumed else before["startTime"]
        if suspended != was:
            stood = self._said(suspended=suspended)
        if stood is not None:
            status["conditions"] = [stood]
        if status != before:
            job["status"] = status
            self.store.update("jobs", job, "status")

    def _said(self, *, suspended: bool) -> JsonObject:
        now = self.cluster.wall.rfc3339()
        return {
            "type": SUSPENDED,
            "status": "True" if suspended else "False",
            "lastProbeTime": now,
            "lastTransitionTime": now,
            "reason": "JobSuspended" if suspended else "JobResumed",
            "message": "Job suspended" if suspended else "Job resumed",
        }


def _at_once(spec: JsonObject) -> int:
    """How many pods may run side by side; never more than have to complete."""
    most = int(spec.get("parallelism", 1))
    completions = spec.get("completions")
    return most if completions is None else min(most, int(completions))
