# SPDX-License-Identifier: Apache-2.0
"""A simulated world in real time over real HTTP, and the daemon as a process of its own.

The processes here are ended by their own handle, and the folder of each holds the daemon's log.
"""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route

from controller.sim.apiserver.serve import kubeconfig, serving
from controller.sim.prometheus import Prometheus
from controller.sim.world import World

ROOT = Path(__file__).resolve().parents[2]
END_SECONDS = 10.0
"""A daemon that is asked to end and has not by then is a failure, and is killed."""

RUN = (
    "--settle-seconds=0.6",
    "--drain-seconds=0.2",
    "--ready-seconds=20",
    "--roll-seconds=30",
)
"""What is quick here: the simulated gateway lags 0.3 s at most, and pods start in 0.2 s."""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def plain(
    url: str = "", seconds: float = 10.0, *, verify: ssl.SSLContext | bool = False
) -> httpx.AsyncClient:
    """A client that takes nothing from the environment (proxies, netrc), by default without TLS.

    Most are made to look at a door once, and again: none reads the system's certificates for that,
    which takes 40 ms of a processor.
    """
    return httpx.AsyncClient(base_url=url, timeout=seconds, trust_env=False, verify=verify)


async def until(question: Callable[[], object], within: float, what: str = "") -> None:
    """Poll with a deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while not question():
        assert loop.time() < end, f"not so within {within:g} s: {what}"
        await asyncio.sleep(0.05)


class _Server(uvicorn.Server):
    """uvicorn as a guest: no signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield


@contextlib.asynccontextmanager
async def prometheus_serving(
    store: Prometheus, port: int = 0, *, clock: Callable[[], float] | None = None
) -> AsyncIterator[str]:
    """The simulated Prometheus over HTTP; yields its address.

    What each answer says of the time is by this clock, in seconds since the epoch, or by the
    machine's.
    """

    async def endpoint(http: HttpRequest) -> HttpResponse:
        status, headers, answer = await store.handle(
            http.method, http.url.path, http.url.query, dict(http.headers), await http.body()
        )
        if clock is not None:
            headers = {**headers, "date": formatdate(clock(), usegmt=True)}
        return HttpResponse(answer, status_code=status, headers=headers)

    app = Starlette(routes=[Route("/{path:path}", endpoint, methods=["GET", "POST"])])
    async with app_serving(app, port, dated=clock is None) as url:
        yield url


@contextlib.asynccontextmanager
async def app_serving(app: Starlette, port: int = 0, *, dated: bool = True) -> AsyncIterator[str]:
    """Any application over HTTP on loopback; yields its address.

    One that is not dated tells the time of its answers itself.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1,
        date_header=dated,
    )  # fmt: skip
    server = _Server(config)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await until(lambda: server.started or task.done(), 5.0)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


@dataclass(slots=True, kw_only=True)
class Daemon:
    """`switchgear run` as a process, started as often as a test wants."""

    folder: Path
    kubeconfig: Path
    prometheus: str
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    options: tuple[str, ...] = RUN
    """What it is told besides."""
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Address of its doors."""
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Start it; it is not ready yet."""
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "controller", "run",
                f"--kubeconfig={self.kubeconfig}",
                f"--prometheus={self.prometheus}",
                f"--listen={self.host}:{self.port}",
                *self.options,
                cwd=ROOT,
                env=dict(os.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )  # fmt: skip

    async def answers(self, path: str, status: int = 200, within: float = 20.0) -> str:
        """Poll one of its doors until it answers with this status; returns the body."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        async with plain(seconds=2.0) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await http.get(f"{self.url}{path}")
                    if answer.status_code == status:
                        return answer.text
                assert loop.time() < end, f"{path} has not answered {status}: {self.log()}"
                assert self.process is not None
                assert self.process.returncode is None, self.log()
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is written any more."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    async def ended(self, within: float = END_SECONDS) -> int:
        """Wait for its end; returns the exit status."""
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), within)

    async def terminate(self, within: float = END_SECONDS) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.ended(within)

    def log(self) -> str:
        """The end of its log."""
        return (self.folder / "daemon.log").read_text()[-3000:]

    async def close(self) -> None:
        """Whatever happened, it does not outlive the test."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@contextlib.asynccontextmanager
async def real_world(*, pod_metrics: bool = False) -> AsyncIterator[World]:
    """A world in real time with quick pods, which may count answers, and a quick gateway."""
    async with World(
        seed=1,
        namespaces=("shop", "switchgear"),
        scrape_interval=0.5,
        program_lag=(0.05, 0.3),
        pod_metrics=pod_metrics,
    ) as world:
        world.virtual._ready_seconds = 0.2
        world.virtual._stop_seconds = 0.2
        yield world


def configured(folder: Path, url: str) -> Path:
    """A kubeconfig for a server in a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "kubeconfig"
    config.write_text(kubeconfig(url))
    return config


@contextlib.asynccontextmanager
async def served(world: World, folder: Path) -> AsyncIterator[Daemon]:
    """The world over HTTP, and a daemon that could be started on it."""
    async with serving(world.api) as url, prometheus_serving(world.prometheus) as metrics:
        daemon = Daemon(folder=folder, kubeconfig=configured(folder, url), prometheus=metrics)
        try:
            yield daemon
        finally:
            await daemon.close()
