# SPDX-License-Identifier: Apache-2.0
"""What stands behind the demo's pods: one operating-system process each, on an address of its own.

Linux takes the whole of 127.0.0.0/8 as its own, so that pods get addresses without root. Each demo
claims a /24 of 127.77.0.0/16 for itself, by a socket that it keeps bound.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from controller.demo import workload
from controller.demo.errors import DemoError
from controller.sim.apiserver.errors import JsonObject
from controller.sim.controllers.pod_runtime import (
    Exited,
    PodState,
    Readiness,
    StartError,
    environment,
    version_of,
)

MAX_PODS = 250
"""Addresses of one /24; a story needs twelve pods at once and starts some thirty in all."""

START_SECONDS = 20.0
"""From starting a pod's process to its `ready`; a loaded machine takes two."""


class Network:
    """A /24 of loopback addresses that belongs to this demo as long as it lives."""

    def __init__(self, port: int = 8080) -> None:
        """Claim the first one that is free; raises DemoError if there is none."""
        self._next = 0
        for third in range(256):
            claim = socket.socket()
            try:
                claim.bind((f"127.77.{third}.254", port))
            except OSError as error:
                claim.close()
                reason = error
            else:
                self._claim, self._prefix = claim, f"127.77.{third}"
                return
        raise DemoError(
            f"no address below 127.77.0.0/16 can be used ({reason}). The demo gives each pod one "
            "of them, which Linux allows without any setting; other systems do not."
        )

    def take(self) -> str:
        """The next address; after the last one the first comes again."""
        self._next = self._next % MAX_PODS + 1
        return f"{self._prefix}.{self._next}"

    def release(self) -> None:
        """Let others have it."""
        self._claim.close()


class ProcessRuntime:
    """Pods as processes: implements the simulated kubelet's `PodRuntime`."""

    def __init__(self, network: Network, logs: Path) -> None:
        """Pods get their addresses from `network`; what they say goes to files in `logs`."""
        self._network = network
        self._logs = logs
        self._addresses: dict[str, str] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    def schedulable(self, pod: JsonObject) -> bool:
        """There is room unless the pod asks to stay Pending."""
        return environment(pod).get("PENDING") != "1"

    async def start(self, pod: JsonObject) -> str:
        """Start the pod's process; its address stays the same over restarts."""
        env = environment(pod)
        if env.get("IMAGE_PULL_ERROR") == "1":
            raise StartError("ErrImagePull", "the environment asks for it")
        uid = pod["metadata"]["uid"]
        address = self._addresses.setdefault(uid, self._network.take())
        await self._end(uid)
        name = pod["metadata"]["name"]
        log = os.open(self._logs / f"pod-{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            self._processes[uid] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", workload.__file__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={"VERSION": version_of(pod), **env, "POD_NAME": name, "POD_IP": address},
            )
        except OSError as error:
            raise StartError("RunContainerError", str(error)) from error
        finally:
            os.close(log)
        return address

    async def states(self, pod: JsonObject) -> AsyncIterator[PodState]:
        """Ready when the process says so; then whatever becomes of it."""
        process = self._processes[pod["metadata"]["uid"]]
        assert process.stdout is not None  # noqa: S101 - it was started with a pipe
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if line == b"ready\n":
            yield Readiness(ready=True)
        yield Exited(code=await process.wait() & 0xFF, reason="Error")

    async def stop(self, pod: JsonObject, grace: float) -> None:
        """SIGTERM at once, which ends the process at once, with all that is open."""
        del grace  # It never needs any.
        uid = pod["metadata"]["uid"]
        await self._end(uid)
        self._processes.pop(uid, None)
        self._addresses.pop(uid, None)

    async def _end(self, uid: str) -> None:
        process = self._processes.get(uid)
        if process is not None and process.returncode is None:
            process.terminate()
            await process.wait()
