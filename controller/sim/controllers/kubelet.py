# SPDX-License-Identifier: Apache-2.0
"""Scheduler and kubelet in one: pods are bound, started, watched, restarted and stopped.

What runs is behind :class:`~controller.sim.controllers.pod_runtime.PodRuntime`; here is only what
the cluster sees of it.  A deleted pod is ready for as long as its process answers, as with the real
kubelet, which goes on probing it; then the process ends, then the object goes.  Endpoints leave by
the mark of the deletion alone, before the process does, if they are quick enough.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, assert_never

from controller.sim.apiserver.errors import ApiError, JsonObject
from controller.sim.apiserver.store import WHOLE, Event, EventType
from controller.sim.controllers.base import Cluster
from controller.sim.controllers.objects import condition, deleting, key_of
from controller.sim.controllers.pod_runtime import Exited, PodRuntime, Readiness, StartError

NODE = "sim"

# The kubelet's own figures: the first restart is immediate, then 10 s, doubling up to 5 min.
BACKOFF_FIRST = 10.0
BACKOFF_CEILING = 300.0

# Scheduling and container start-up before the process exists.
BIND_SECONDS = (0.01, 0.04)

# A pod that has not become ready by then is not expected to; only `Kubelet.busy` depends on it.
START_PATIENCE = 30.0

_CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)


class Kubelet:
    """Runs every pod of the cluster on one node."""

    def __init__(self, cluster: Cluster, runtime: PodRuntime) -> None:
        """Follow the store of ``cluster``; pods that exist already are started as well."""
        self.cluster = cluster
        self.store = cluster.store
        self.runtime = runtime
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._deaths: dict[str, asyncio.Task[None]] = {}
        self._starting: dict[str, float] = {}
        self._end = self.store.subscribe(self.observe)

    @property
    def busy(self) -> bool:
        """Whether a pod is on its way to be ready or to be gone."""
        patience = self.cluster.loop.time() - START_PATIENCE
        return bool(self._deaths) or any(begun > patience for begun in self._starting.values())

    def observe(self, event: Event) -> None:
        """Start new pods, stop deleted ones, forget those that are gone."""
        if event.resource.key != "pods":
            return
        uid = event.obj["metadata"]["uid"]
        if event.type is EventType.DELETED:
            # Forced deletions leave the process behind; a real kubelet kills it as well.
            self._cancel_life(uid)
            if uid not in self._deaths:
                self._deaths[uid] = self._task(self._bury(event.obj), f"bury {uid}")
        elif deleting(event.obj):
            if uid not in self._deaths:
                self._cancel_life(uid)
                self._deaths[uid] = self._task(self._kill(event.obj), f"stop {uid}")
        elif uid not in self._lives:
            self._starting[uid] = self.cluster.loop.time()
            self._lives[uid] = self._task(self._live(event.obj), f"run {uid}")

    async def stop(self) -> None:
        """End all pods' tasks and stop what runs, without touching the objects."""
        self._end()
        tasks = [*self._lives.values(), *self._deaths.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pod in list(self.store.scan("pods")):
            with suppress(Exception):
                await self.runtime.stop(pod, 0.0)

    # --- one pod ----------------------------------------------------------------------------------

    def _task(self, work: Any, name: str) -> asyncio.Task[None]:
        return self.cluster.loop.create_task(self._guard(work), name=name)

    async def _guard(self, work: Any) -> None:
        try:
            await work
        except ApiError as error:
            # The pod was deleted under our hands; its DELETED event has dealt with the rest.
            if error.status not in {404, 409}:
                self.cluster.blame(error)
        except Exception as error:  # noqa: BLE001 - a mistake must reach the test, not the loop's log
            self.cluster.blame(error)

    def _cancel_life(self, uid: str) -> None:
        self._starting.pop(uid, None)
        life = self._lives.pop(uid, None)
        if life is not None:
            life.cancel()

    async def _live(self, pod: JsonObject) -> None:
        uid = pod["metadata"]["uid"]
        if not self.runtime.schedulable(pod):
            self._starting.pop(uid, None)
            self._write(pod, _unschedulable(self._now()))
            return
        await asyncio.sleep(self.cluster.rng.uniform(*BIND_SECONDS))
        self._bind(pod)
        restarts, backoff = 0, 0.0
        last: Exited | None = None
        while True:
            try:
                address = await self.runtime.start(pod)
            except StartError as failure:
                self._starting.pop(uid, None)
                backoff = min(BACKOFF_CEILING, max(BACKOFF_FIRST, backoff * 2))
                await self._wait_for_image(pod, failure, backoff)
                continue
            last = await self._watch(pod, address, restarts, last)
            self._starting.pop(uid, None)
            restarts += 1
            if backoff:
                self._write(pod, self._status(pod, address, restarts - 1, last, waiting=backoff))
            await asyncio.sleep(backoff)
            backoff = min(BACKOFF_CEILING, max(BACKOFF_FIRST, backoff * 2))

    async def _watch(
        self, pod: JsonObject, address: str, restarts: int, last: Exited | None
    ) -> Exited:
        """Report a running container until it exits."""
        uid = pod["metadata"]["uid"]
        self._write(pod, self._status(pod, address, restarts, last))
        if restarts:
            self._starting.pop(uid, None)
        async for state in self.runtime.states(pod):
            match state:
                case Readiness(ready=ready):
                    self._starting.pop(uid, None)
                    self._write(pod, self._status(pod, address, restarts, last, ready=ready))
                case Exited():
                    self._write(pod, self._status(pod, address, restarts, last, ended=state))
                    return state
                case _:
                    assert_never(state)
        raise RuntimeError("a container's states ended without an exit")

    async def _wait_for_image(self, pod: JsonObject, failure: StartError, backoff: float) -> None:
        waiting = {"reason": failure.reason, "message": failure.message}
        self._write(pod, self._image_status(pod, waiting))
        await asyncio.sleep(1.0)
        image = pod["spec"]["containers"][0].get("image", "")
        text = f'Back-off pulling image "{image}": {failure.reason}: {failure.message}'
        self._write(pod, self._image_status(pod, {"reason": "ImagePullBackOff", "message": text}))
        await asyncio.sleep(backoff)

    async def _kill(self, pod: JsonObject) -> None:
        uid = pod["metadata"]["uid"]
        try:
            grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            await self.runtime.stop(pod, grace)
            with suppress(ApiError):
                self._make_unready(pod)
                self.store.delete("pods", *key_of(pod), uid=uid, grace=0, propagation=None)
        finally:
            self._deaths.pop(uid, None)

    async def _bury(self, pod: JsonObject) -> None:
        try:
            await self.runtime.stop(pod, 0.0)
        finally:
            self._deaths.pop(pod["metadata"]["uid"], None)

    # --- what the cluster sees --------------------------------------------------------------------

    def _now(self) -> str:
        return self.cluster.wall.rfc3339()

    def _bind(self, pod: JsonObject) -> None:
        fresh = self._fresh(pod)
        fresh["spec"]["nodeName"] = NODE
        self.store.update("pods", fresh, WHOLE)

    def _fresh(self, pod: JsonObject) -> JsonObject:
        found = self.store.get("pods", *key_of(pod))
        if found is None or found["metadata"]["uid"] != pod["metadata"]["uid"]:
            raise ApiError(404, "NotFound", f"pod {key_of(pod)} is gone")
        return found

    def _write(self, pod: JsonObject, status: JsonObject) -> None:
        """Publish a status; conditions that did not flip keep their transition times."""
        fresh = self._fresh(pod)
        for item in status.get("conditions", ()):
            before = condition(fresh, item["type"])
            if before is not None and before["status"] == item["status"]:
                item["lastTransitionTime"] = before["lastTransitionTime"]
        fresh["status"] = {**(fresh.get("status") or {}), **status}
        self.store.update("pods", fresh, "status")

    def _make_unready(self, pod: JsonObject) -> None:
        fresh = self._fresh(pod)
        if not (fresh.get("status") or {}).get("conditions"):
            return
        containers = [{**c, "ready": False} for c in fresh["status"].get("containerStatuses") or ()]
        conditions = _conditions(self._now(), ready=False)
        self._write(pod, {"conditions": conditions, "containerStatuses": containers})

    def _status(
        self,
        pod: JsonObject,
        address: str,
        restarts: int,
        last: Exited | None,
        *,
        ready: bool = False,
        ended: Exited | None = None,
        waiting: float = 0.0,
    ) -> JsonObject:
        now = self._now()
        state: JsonObject = {"running": {"startedAt": now}}
        if ended is not None:
            state = {"terminated": _terminated(ended, now)}
        elif waiting:
            name = pod["spec"]["containers"][0]["name"]
            text = (
                f"back-off {int(waiting)}s restarting failed container={name} pod={key_of(pod)[1]}"
            )
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": text}}
        running = ended is None and not waiting
        history = {"terminated": _terminated(last, now)} if last is not None else {}
        return {
            "phase": "Running",
            "hostIP": "10.77.0.1",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": (pod.get("status") or {}).get("startTime") or now,
            "conditions": _conditions(now, ready=ready),
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container.get("image", ""),
                    "imageID": "",
                    "ready": ready,
                    "started": running,
                    "restartCount": restarts,
                    "state": state,
                    "lastState": history,
                }
                for container in pod["spec"]["containers"]
            ],
        }

    def _image_status(self, pod: JsonObject, waiting: JsonObject) -> JsonObject:
        return {
            "phase": "Pending",
            "hostIP": "10.77.0.1",
            "conditions": _conditions(self._now(), ready=False),
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container.get("image", ""),
                    "imageID": "",
                    "ready": False,
                    "started": False,
                    "restartCount": 0,
                    "state": {"waiting": waiting},
                    "lastState": {},
                }
                for container in pod["spec"]["containers"]
            ],
        }


def _conditions(now: str, *, ready: bool) -> list[JsonObject]:
    found: list[JsonObject] = []
    for kind in _CONDITIONS:
        about_containers = kind in {"Ready", "ContainersReady"}
        item: JsonObject = {"type": kind, "status": "True", "lastProbeTime": None}
        if about_containers and not ready:
            item |= {"status": "False", "reason": "ContainersNotReady"}
            item["message"] = "containers with unready status"
        item["lastTransitionTime"] = now
        found.append(item)
    return found


def _unschedulable(now: str) -> JsonObject:
    return {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": now,
                "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient cpu.",
            }
        ],
    }


def _terminated(exit_: Exited, now: str) -> JsonObject:
    return {"exitCode": exit_.code, "reason": exit_.reason, "startedAt": now, "finishedAt": now}
