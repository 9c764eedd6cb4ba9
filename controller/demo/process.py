# SPDX-License-Identifier: Apache-2.0
"""Child processes: started with a log, watched, and ended by their own id and nothing wider.

Each child is a session of its own, so that Ctrl-C reaches only the demo, which then stops them in
order; and each asks the kernel to be ended with its parent, so that none outlives a demo that was
itself killed.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from controller.demo.errors import DemoError

STOP_SECONDS = 5.0
"""From SIGTERM to SIGKILL; Prometheus takes one second, the daemon gives its lease back."""

POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
_LOG_TAIL = 15


class Child:
    """One running process and its log."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
    ) -> "Child":
        """Start `command`; raises DemoError if it is not there or may not be run.

        Both streams go into `log`, except that `stdout=PIPE` keeps the first for the caller.
        Standard input is a pipe that closes when this process ends.
        """
        # Only an open(2) of a small local file: not worth a thread.
        with log.open("ab") as stream:
            try:
                process = await asyncio.create_subprocess_exec(
                    *map(str, command),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=stream if stdout is None else stdout,
                    stderr=stream,
                    env={**os.environ, **(env or {})},
                    start_new_session=True,
                    preexec_fn=_die_with_parent if sys.platform == "linux" else None,
                )
            except OSError as error:
                raise DemoError(f"{name} could not be started: {error}") from error
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.returncode is None

    def lines(self) -> AsyncIterator[bytes]:
        """Its standard output, if that is a pipe, until it ends."""
        if self.process.stdout is None:
            raise DemoError(f"the output of {self.name} goes into {self.log}")
        return aiter(self.process.stdout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL when that does not help."""
        if self.running:
            self.signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self.process.wait()
            except TimeoutError:
                self.signal(signal.SIGKILL)
                await self.process.wait()

    async def until(self, ready: Callable[[], Awaitable[bool]], seconds: float) -> None:
        """Poll `ready` until it says so; raises DemoError with the log's end if it never does."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not await ready():
            if not self.running:
                raise DemoError(f"{self.name} ended ({self.process.returncode}):\n{self.tail()}")
            if asyncio.get_running_loop().time() > deadline:
                raise DemoError(f"{self.name} was not ready after {seconds:g} s:\n{self.tail()}")
            await asyncio.sleep(POLL_SECONDS)

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line[:400]}" for line in lines[-_LOG_TAIL:]) or "  (no output)"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
