# SPDX-License-Identifier: Apache-2.0
"""One container: its process, started again and again with growing pauses, and its state."""

import asyncio
import contextlib
import ctypes
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.lab.api import Object
from tests.cluster.lab.kubelet import environment, probes, programs, sandbox
from tests.cluster.lab.kubelet.times import now

BACKOFF_SECONDS = 1.0
BACKOFF_LIMIT = 30.0
"""A tenth of what kubelets do, so that a test sees a loop in seconds."""

PULL_SECONDS = 5.0
"""Between two attempts to get an image that is not there."""

_PR_SET_PDEATHSIG = 1


Prepared = tuple[dict[str, str], list[tuple[str, str, bool]]]
"""Environment, and source, target and read-only of each mount."""


@dataclass(slots=True, kw_only=True)
class Container:
    """What is known about a container of a pod."""

    spec: Object
    address: str
    always: bool
    """Whether it is started again after any end, as sidecars are."""
    on_failure: bool
    grace: float
    """Seconds between SIGTERM and SIGKILL for one that a probe has given up, if the probe does not
    say it."""
    prepare: Callable[[bool], Awaitable[Prepared]]
    """Environment and, if it is asked for files, its mounts; raises environment.NotThere."""
    log: Path
    changed: Callable[[], None]
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last: Object = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: bool = False
    ended: bool = False
    """Whether it came to its last end."""
    stopping: bool = False
    killed: bool = False
    """Whether it was us who sent SIGKILL; otherwise it was out of memory."""
    given_up: bool = False
    """Whether a probe says that it does not live, or has not started."""
    process: asyncio.subprocess.Process | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it has started for the first time; a startup probe has then passed."""
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _probing: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def exit_code(self) -> int | None:
        """Of its last end."""
        terminated = self.state.get("terminated")
        return terminated["exitCode"] if terminated else None

    def status(self) -> Object:
        """As `containerStatuses` have it."""
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": "",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }

    async def run(self) -> None:
        """Start it as often as its policy says; ends with its last end or by `stop`."""
        pause = 0.0
        while not self.stopping:
            try:
                command, env = await self._command()
            except programs.NoSuchImage as missing:
                await self._unpullable(str(missing))
                continue
            except environment.NotThere as error:
                self._waits("CreateContainerConfigError", str(error))
                await asyncio.sleep(BACKOFF_SECONDS)
                continue
            code = await self._once(command, env)
            failed = code != 0 or self.given_up
            again = not self.stopping and (self.always or (self.on_failure and failed))
            if not again:
                self.ended = True
                self.changed()
                return
            if pause:
                self._waits("CrashLoopBackOff", f"back-off {pause:g}s restarting failed container")
                await asyncio.sleep(pause)
            pause = min(max(pause * 2, BACKOFF_SECONDS), BACKOFF_LIMIT)
            self.restarts += 1

    def retire(self) -> None:
        """Not ready any more, whatever a probe says."""
        self.stopping = True
        self.ready = False
        self._no_probes()

    async def pre_stop(self, deadline: float) -> None:
        """The hook before SIGTERM; until `deadline` on the loop's clock at most."""
        hook = (self.spec.get("lifecycle") or {}).get("preStop") or {}
        if "sleep" in hook and "running" in self.state:
            await asyncio.sleep(min(float(hook["sleep"]["seconds"]), left(deadline)))

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds, for good."""
        self.stopping = True
        await self._end(grace)

    async def _end(self, grace: float) -> None:
        self._asked.set()
        process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await process.wait()
        except TimeoutError:
            self.killed = True
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _command(self) -> tuple[list[str], dict[str, str]]:
        program = programs.program(self.spec)
        given, mounts = await self.prepare(program.files)
        env = {**programs.surroundings(), **program.env, "POD_IP": self.address, **given}
        command = [environment.expanded(part, env) for part in program.command]
        if command and mounts:
            script = (sys.executable, "-I", "-S", sandbox.__file__, json.dumps(mounts))
            command = [*script, *command]
        return command, env

    async def _once(self, command: list[str], env: dict[str, str]) -> int:
        """One life of the container; returns its exit code."""
        begun, self.killed, self.given_up = now(), False, False
        if not self.stopping:
            self._asked.clear()
        self.state = {"running": {"startedAt": begun}}
        if command:
            await self._spawn(command, env)
        self.changed()
        self._also(self._probe(env))
        try:
            code = await (self.process.wait() if self.process else self._idle(env))
        finally:
            self._no_probes()
        self.process = None
        self.ready = self.started = False
        reason = "Completed" if code == 0 else "Error"
        if code == -signal.SIGKILL and not self.killed:
            reason = "OOMKilled"  # The only one who kills without asking the kubelet.
        code = code if code >= 0 else 128 - code
        ended = {"exitCode": code, "reason": reason, "startedAt": begun, "finishedAt": now()}
        self.last = self.state = {"terminated": ended}
        self.changed()
        return code

    async def _spawn(self, command: list[str], env: dict[str, str]) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=env,
                cwd=self.log.parent,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    async def _idle(self, env: dict[str, str]) -> int:
        """What a container without a process does: nothing, until it is asked to end."""
        if env.get("CRASH") == "1":
            return 1
        await self._asked.wait()
        return 0

    def _also(self, looking: Coroutine[Any, Any, None]) -> None:
        """Probe beside what is probed already, until the end of this life."""
        task = asyncio.ensure_future(looking)
        self._probing.add(task)
        task.add_done_callback(self._probing.discard)

    def _no_probes(self) -> None:
        for task in tuple(self._probing):
            task.cancel()

    async def _probe(self, env: dict[str, str]) -> None:
        try:
            async for started, ready in probes.follow(self.spec, self.address):
                if started and not self.started and "livenessProbe" in self.spec:
                    self._also(self._watch())
                self.started = started
                if started:
                    self.begun.set()
                self.ready = ready and env.get("NEVER_READY") != "1"
                self.changed()
        except probes.Failed:
            await self._give_up(self.spec["startupProbe"])

    async def _watch(self) -> None:
        wanted = self.spec["livenessProbe"]
        await probes.until_dead(wanted, self.spec, self.address)
        await self._give_up(wanted)

    async def _give_up(self, wanted: Object) -> None:
        """End this life as a deletion would; the next one begins as the pod's policy says."""
        self.given_up = True
        deadline = asyncio.get_running_loop().time() + float(
            wanted.get("terminationGracePeriodSeconds", self.grace)
        )
        await self.pre_stop(deadline)
        await self._end(left(deadline))

    async def _unpullable(self, image: str) -> None:
        """As kubelets do: an error, then a pause that is told as well."""
        self._waits("ErrImagePull", f"{image} not found")
        await asyncio.sleep(BACKOFF_SECONDS)
        self._waits("ImagePullBackOff", f"Back-off pulling image {image}")
        await asyncio.sleep(PULL_SECONDS)

    def _waits(self, reason: str, message: str) -> None:
        self.state = {"waiting": {"reason": reason, "message": message}}
        self.changed()


def left(deadline: float) -> float:
    """Seconds until then on the loop's clock."""
    return max(deadline - asyncio.get_running_loop().time(), 0.0)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
