# SPDX-License-Identifier: Apache-2.0
"""What runs inside a pod: the seam behind the kubelet, and a runtime that only pretends.

The kubelet reports states; what causes them is a :class:`PodRuntime`.  The pretending one reads its
behaviour from the environment variables of the first container, so that a test says with an
ordinary Deployment what its version will do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from controller.sim.apiserver.errors import JsonObject
from controller.sim.counters import PodName


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The readiness probe changed its mind."""

    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """The container ended by itself."""

    code: int
    reason: str


PodState = Readiness | Exited


class StartError(Exception):
    """A container could not be started; ``reason`` is what its waiting state shows."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason (``ErrImagePull``) and a sentence for people."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class PodRuntime(Protocol):
    """Starts, watches and stops what a pod stands for."""

    def schedulable(self, pod: JsonObject) -> bool:
        """Tell whether a node has room for ``pod``; otherwise it stays Pending."""
        ...

    async def start(self, pod: JsonObject) -> str:
        """Start the container and return the pod's IPv4 address.

        Called again for each restart.  Raises :class:`StartError`.
        """
        ...

    def states(self, pod: JsonObject) -> AsyncIterator[PodState]:
        """Yield what happens to the started container; it ends after :class:`Exited`."""
        ...

    async def stop(self, pod: JsonObject, grace: float) -> None:
        """Stop the container within ``grace`` seconds and return when it is gone."""
        ...


def environment(pod: JsonObject) -> dict[str, str]:
    """The literal environment variables of the first container of a pod (or pod template)."""
    container = pod["spec"]["containers"][0]
    return {item["name"]: str(item.get("value", "")) for item in container.get("env") or ()}


@dataclass(slots=True, kw_only=True)
class Server:
    """One pretended application process."""

    pod: PodName
    version: str
    error_rate: float
    latency_ms: float
    open_files: int | None = None
    throttled_seconds: float | None = None
    """So long after its start it wants more CPU than it may have; None: it has no limit."""
    started: float = 0.0
    alive: bool = True


class VirtualRuntime:
    """Pods without processes.

    Environment: ``READY_SECONDS`` (1.0) until ready, ``NEVER_READY=1``, ``UNREADY_AFTER`` seconds,
    ``CRASH=1`` and ``OOM=1`` (after ``CRASH_SECONDS``, 0.2), ``IMAGE_PULL_ERROR=1``, ``PENDING=1``,
    ``STOP_SECONDS`` (0.5) from deletion to death, still serving; ``ERROR_RATE`` (0..1),
    ``LATENCY_MS`` (20), ``OPEN_FILES`` (of 1,024, exposed only if given), ``THROTTLED_SECONDS``
    after its start for want of CPU (likewise), ``VERSION`` (otherwise the tag of the image).
    """

    def __init__(self, *, ready_seconds: float = 1.0, stop_seconds: float = 0.5) -> None:
        """Nothing runs yet; the arguments are for pods that do not say otherwise."""
        self._ready_seconds = ready_seconds
        self._stop_seconds = stop_seconds
        self.servers: dict[str, Server] = {}
        self.before_change: list[Callable[[], None]] = []
        """Called before a server appears, dies or changes its behaviour."""
        self._addresses: dict[str, str] = {}
        self._next = 10
        self._lives = 0

    def schedulable(self, pod: JsonObject) -> bool:
        """Everything but a pod that asks to stay Pending."""
        return environment(pod).get("PENDING") != "1"

    async def start(self, pod: JsonObject) -> str:
        """Begin to serve at an address of the pod's own, kept over restarts."""
        env = environment(pod)
        if env.get("IMAGE_PULL_ERROR") == "1":
            image = pod["spec"]["containers"][0].get("image", "")
            raise StartError("ErrImagePull", f'failed to pull image "{image}": not found')
        address = self._address(pod)
        self._announce()
        self._lives += 1
        meta = pod["metadata"]
        self.servers[address] = Server(
            pod=PodName(
                namespace=meta["namespace"], name=meta["name"], address=address, life=self._lives
            ),
            version=version_of(pod),
            error_rate=float(env.get("ERROR_RATE", "0")),
            latency_ms=float(env.get("LATENCY_MS", "20")),
            open_files=int(env["OPEN_FILES"]) if "OPEN_FILES" in env else None,
            throttled_seconds=(
                float(env["THROTTLED_SECONDS"]) if "THROTTLED_SECONDS" in env else None
            ),
            started=asyncio.get_running_loop().time(),
        )
        return address

    async def states(self, pod: JsonObject) -> AsyncIterator[PodState]:
        """Become ready, lose readiness or crash as the environment says."""
        env = environment(pod)
        crash = "Error" if env.get("CRASH") == "1" else "OOMKilled" if env.get("OOM") == "1" else ""
        plan: list[tuple[float, PodState]] = []
        if env.get("NEVER_READY") != "1":
            plan.append(
                (float(env.get("READY_SECONDS", self._ready_seconds)), Readiness(ready=True))
            )
        if "UNREADY_AFTER" in env:
            plan.append((float(env["UNREADY_AFTER"]), Readiness(ready=False)))
        if crash:
            code = 137 if crash == "OOMKilled" else 1
            after = float(env.get("CRASH_SECONDS", "0.2"))
            plan = [item for item in plan if item[0] < after]
            plan.append((after, Exited(code=code, reason=crash)))
        elapsed = 0.0
        for at, state in sorted(plan, key=lambda item: item[0]):
            await asyncio.sleep(at - elapsed)
            elapsed = at
            if isinstance(state, Exited):
                self._silence(pod)
            yield state
        if not crash:
            await asyncio.get_running_loop().create_future()

    async def stop(self, pod: JsonObject, grace: float) -> None:
        """Serve on until death, as an application that does not drain."""
        seconds = float(environment(pod).get("STOP_SECONDS", self._stop_seconds))
        await asyncio.sleep(min(grace, seconds))
        self._silence(pod)
        self.servers.pop(self._addresses.pop(pod["metadata"]["uid"], ""), None)

    def behave(
        self,
        version: str,
        *,
        error_rate: float | None = None,
        latency_ms: float | None = None,
        at: Collection[str] | None = None,
    ) -> None:
        """Change what the running servers of a version do (at some addresses, or everywhere).

        Later ones follow their environment.
        """
        self._announce()
        for address, server in self.servers.items():
            if server.version == version and (at is None or address in at):
                server.error_rate = server.error_rate if error_rate is None else error_rate
                server.latency_ms = server.latency_ms if latency_ms is None else latency_ms

    def _silence(self, pod: JsonObject) -> None:
        server = self.servers.get(self._addresses.get(pod["metadata"]["uid"], ""))
        if server is not None and server.alive:
            self._announce()
            server.alive = False

    def _announce(self) -> None:
        for tell in self.before_change:
            tell()

    def _address(self, pod: JsonObject) -> str:
        uid = pod["metadata"]["uid"]
        if uid not in self._addresses:
            self._addresses[uid] = f"10.77.{self._next >> 8 & 255}.{self._next & 255}"
            self._next += 1
        return self._addresses[uid]


def version_of(pod: JsonObject) -> str:
    """The version that a pod (or pod template) stands for: ``VERSION``, or its image tag."""
    named = environment(pod).get("VERSION")
    if named:
        return named
    image = str(pod["spec"]["containers"][0].get("image", ""))
    return image.rsplit("/", 1)[-1].partition(":")[2] or "latest"
