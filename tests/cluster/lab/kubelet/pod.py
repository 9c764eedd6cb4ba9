# SPDX-License-Identifier: Apache-2.0
"""One pod from its binding to its last process: containers in order, status, graceful end."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.cluster.lab.api import Api, Object
from tests.cluster.lab.kubelet import environment, status
from tests.cluster.lab.kubelet.container import Container, Prepared, left
from tests.cluster.lab.kubelet.volumes import Volumes
from tests.support.dialects import STRATEGIC

PLACE_SECONDS = 0.2
"""Between two attempts to find a node."""

TEARDOWN_SECONDS = 1.0
"""From the end of the last process to that of the object: kubelets unmount volumes meanwhile."""

REFRESH_SECONDS = 10.0
"""Mounted ConfigMaps are read again this often; kubelets take a minute."""

STATUS_ATTEMPTS = 20
"""An API server that sheds load may refuse a status for a while; two seconds are enough."""

Place = Callable[[Object], str | None]

log = logging.getLogger(__name__)


class Pod:
    """A pod of ours."""

    def __init__(self, api: Api, seen: Object, *, address: str, folder: Path, place: Place) -> None:
        """`place` finds a node for a pod; `folder` is for its files."""
        self.seen = seen
        self.address = address
        self.folder = folder
        meta = seen["metadata"]
        self.name, self.namespace, self.uid = meta["name"], meta["namespace"], meta["uid"]
        self._api = api
        self._place = place
        self._path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self._changed = asyncio.Event()
        self._initialized = False
        self._refreshing = False
        self._stopping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.volumes = Volumes(api, seen, folder / "volumes", address)
        self.inits: list[Container] = []
        self.sidecars: list[Container] = []
        self.mains: list[Container] = []

    def begin(self) -> None:
        """Start everything."""
        self._spawn(self._live())

    def see(self, seen: Object) -> None:
        """Take a newer version of the object; a deletion begins the end."""
        self.seen = seen
        if seen["spec"].get("readinessGates"):
            self._changed.set()  # Somebody may have opened one.
        if "deletionTimestamp" in seen["metadata"] and self._stopping is None:
            self._stopping = self._spawn(self._stop())

    async def vanish(self) -> None:
        """The object is gone: so is everything that belongs to it."""
        for task in tuple(self._tasks):
            if task is not self._stopping:
                task.cancel()
        await asyncio.gather(*(c.stop(0.0) for c in self.containers))

    @property
    def containers(self) -> Sequence[Container]:
        """All of them."""
        return (*self.inits, *self.sidecars, *self.mains)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(_told(coroutine, self.name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _live(self) -> None:
        await self._bind()
        if self._stopping is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._containers()
        self._spawn(self._tell())
        self._changed.set()
        if not await self._initialize():
            return
        self._initialized = True
        lives = [asyncio.ensure_future(container.run()) for container in self.mains]
        try:
            await asyncio.gather(*lives)
        finally:
            for life in lives:
                life.cancel()
        if all(container.ended for container in self.mains):
            # Sidecars end with what they accompany.
            await asyncio.gather(*(sidecar.stop(2.0) for sidecar in self.sidecars))
            self._changed.set()

    async def _bind(self) -> None:
        while not self.seen["spec"].get("nodeName") and self._stopping is None:
            node = self._place(self.seen)
            if node is None:
                if not status.unschedulable(self.seen):
                    await self._patch({"conditions": [status.UNSCHEDULABLE]})
            else:
                target = {"apiVersion": "v1", "kind": "Node", "name": node}
                binding = {"metadata": {"name": self.name, "uid": self.uid}, "target": target}
                body = {"apiVersion": "v1", "kind": "Binding", **binding}
                if (await self._api.call("POST", f"{self._path}/binding", body)).fine:
                    self.seen["spec"]["nodeName"] = node
                    return
            await asyncio.sleep(PLACE_SECONDS)

    def _containers(self) -> None:
        spec = self.seen["spec"]
        policy = spec.get("restartPolicy", "Always")
        for container in spec.get("initContainers", ()):
            sidecar = container.get("restartPolicy") == "Always"
            group = self.sidecars if sidecar else self.inits
            group.append(self._container(container, always=sidecar, on_failure=policy != "Never"))
        for container in spec["containers"]:
            always, on_failure = policy == "Always", policy == "OnFailure"
            self.mains.append(self._container(container, always=always, on_failure=on_failure))

    def _container(self, spec: Object, *, always: bool, on_failure: bool) -> Container:
        async def prepare(files: bool) -> Prepared:
            mounts = self.volumes.mounts(spec) if files else []
            if mounts:
                await self._write_volumes()
            env = await environment.of(spec, self.seen, self.address, self.volumes.read)
            return {"POD_NAME": self.name, **env}, mounts

        return Container(
            spec=spec,
            address=self.address,
            always=always,
            on_failure=on_failure,
            grace=float(self.seen["spec"].get("terminationGracePeriodSeconds", 30)),
            prepare=prepare,
            log=self.folder / f"{spec['name']}.log",
            changed=self._changed.set,
        )

    async def _initialize(self) -> bool:
        """Init containers one after another; a sidecar only has to have started."""
        known = {container.spec["name"]: container for container in self.containers}
        for spec in self.seen["spec"].get("initContainers", ()):
            container = known[spec["name"]]
            if container.always:
                self._spawn(container.run())
                await container.begun.wait()
            else:
                await container.run()
                if container.exit_code:
                    return False
        return True

    async def _write_volumes(self) -> None:
        """Write them for the first container that reads them, and again every few seconds."""
        await self.volumes.write()
        if not self._refreshing:
            self._refreshing = True
            self._spawn(self._refresh())

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            with contextlib.suppress(environment.NotThere, OSError, aiohttp.ClientError):
                await self.volumes.write()

    async def _tell(self) -> None:
        """Write the status whenever it changes; what changes meanwhile is told at once with it."""
        last: Object = {}
        while True:
            await self._changed.wait()
            self._changed.clear()
            found = self._status()
            if found != last and await self._patch(found):
                last = found

    def _status(self) -> Object:
        return status.of(
            self.seen,
            address=self.address,
            inits=(*self.inits, *self.sidecars),
            sidecars=self.sidecars,
            mains=self.mains,
            initialized=self._initialized,
            stopping=self._stopping is not None,
        )

    async def _patch(self, found: Object) -> bool:
        """Whether the pod is still there; raises OSError when nothing can be written."""
        body = {"metadata": {"uid": self.uid}, "status": found}
        for _ in range(STATUS_ATTEMPTS):
            try:
                reply = await self._api.call("PATCH", f"{self._path}/status", body, mime=STRATEGIC)
            except (OSError, aiohttp.ClientError) as error:
                log.warning("status of %s: %r", self.name, error)
            else:
                if reply.fine:
                    return True
                if reply.status in {404, 409}:
                    return False
                log.warning("status of %s: %s %s", self.name, reply.status, reply.body)
            await asyncio.sleep(0.1)
        raise OSError(f"the status of {self.name} cannot be written")

    async def _stop(self) -> None:
        """Unready first, then hooks and signals, then the object itself."""
        meta = self.seen["metadata"]
        grace = float(meta.get("deletionGracePeriodSeconds", 30))
        deadline = asyncio.get_running_loop().time() + grace
        for container in self.containers:
            container.retire()
        self._changed.set()
        await asyncio.gather(*(container.pre_stop(deadline) for container in self.mains))
        await asyncio.gather(*(c.stop(left(deadline)) for c in (*self.inits, *self.mains)))
        # Sidecars go last, in the opposite order, and get whatever time is left.
        for sidecar in reversed(self.sidecars):
            await sidecar.pre_stop(deadline)
            await sidecar.stop(max(left(deadline), 1.0))
        await asyncio.sleep(TEARDOWN_SECONDS)
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self._api.call("DELETE", self._path, body)


async def _told(coroutine: Coroutine[Any, Any, None], name: str) -> None:
    """A pod whose task fails is a fault of the lab: it is logged, and the others go on."""
    try:
        await coroutine
    except Exception:
        log.exception("pod %s", name)
