# SPDX-License-Identifier: Apache-2.0
"""The real daemon process beside a simulated cluster in real time, reached over HTTP alone.

Everything but the daemon lives in this process: API server, controllers, pods, gateway, clients and
a Prometheus. So every request of the daemon is counted where it arrives, every weight is timed at
the moment of its write, and what the simulation costs is never booked to the daemon.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from controller.demo.process import Child, free_port
from controller.sim import manifests
from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.request import Request as ApiRequest
from controller.sim.apiserver.request import Response as ApiResponse
from controller.sim.apiserver.serve import kubeconfig, serving
from controller.sim.apiserver.store import Event
from controller.sim.prometheus import Prometheus
from controller.sim.world import World
from tests.support.realtime import plain

NAMESPACE: Final = "shop"
SYSTEM: Final = "switchgear"
READY_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 120.0
CALM_SECONDS: Final = 6.0
"""After the last change Events, status texts and journals are written for a few seconds more."""

POLICY: Final = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/warm-up": "1s",
    "switchgear.dev/steps": "10@20m,50@20m",
    "switchgear.dev/deadline": "2h",
}
"""A step long enough that a run stays where the bench wants to look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Counters of the daemon at one moment."""

    at: float
    requests: int
    queries: int
    cpu_seconds: float
    rss_mib: float


@dataclass(slots=True, kw_only=True)
class Rig:
    """One world and, once started, one daemon."""

    world: World
    folder: Path
    api: str
    metrics: str
    requests: int = 0
    """Requests that reached the API server; all of them are the daemon's."""
    zeroed: dict[str, float] = field(default_factory=dict)
    """When a route's canary weight was last written as 0 from more than that, by name."""
    raised: dict[str, float] = field(default_factory=dict)
    """When a canary got its first weight, by name."""
    child: Child | None = None
    url: str = ""
    names: list[str] = field(default_factory=list)

    # --- the team's side ------------------------------------------------------------------------

    async def add(self, count: int, *, rate: float) -> None:
        """So many more targets of two pods each, with a route and clients."""
        fresh = [f"app-{len(self.names) + number:03}" for number in range(count)]
        for name in fresh:
            self.world.create(manifests.deployment(NAMESPACE, name, replicas=2, annotations=POLICY))
            self.world.create(manifests.service(NAMESPACE, name))
            self.world.create(manifests.route(NAMESPACE, name))
        self.names += fresh
        await self.world.settle(within=SETTLE_SECONDS)
        for name in fresh:
            self.world.traffic.through((NAMESPACE, name), rate)

    async def begin(self, names: Sequence[str]) -> None:
        """Deploy v2 to these targets and wait until each canary has its first weight."""
        for name in names:
            self.world.set_image(NAMESPACE, name, "registry.example/app:v2")
        await self.until(lambda: all(name in self.raised for name in names))
        await asyncio.sleep(CALM_SECONDS)

    async def until(self, question: Callable[[], object], within: float = SETTLE_SECONDS) -> None:
        """Poll; raises TimeoutError with the daemon's last words."""
        assert self.child is not None
        try:
            await self.world.until(question, within=within, every=0.02)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; the daemon said:\n{self.child.tail()}") from error

    def managed(self) -> bool:
        """Whether the daemon has marked every target."""
        return all(
            "switchgear.dev/managed"
            in self.world.get("deployments", NAMESPACE, name)["metadata"]["annotations"]
            for name in self.names
        )

    # --- the daemon's side ----------------------------------------------------------------------

    async def start(self) -> None:
        """Start the daemon and wait until it says that it is ready."""
        config = self.folder / "kubeconfig"
        config.write_text(kubeconfig(self.api), encoding="utf-8")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.child = await Child.start(
            "daemon",
            (
                *(sys.executable, "-m", "controller", "run"),
                *("--kubeconfig", config),
                *("--prometheus", self.metrics),
                *("--listen", f"127.0.0.1:{port}"),
            ),
            log=self.folder / "daemon.log",
        )

        async def ready() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return (await self.ask("/readyz")).status_code == httpx.codes.OK
            return False

        await self.child.until(ready, READY_SECONDS)

    async def stop(self) -> None:
        """End the daemon."""
        if self.child is not None:
            await self.child.stop()
            self.child = None

    async def ask(self, path: str) -> httpx.Response:
        """GET at the daemon's own address."""
        async with plain(self.url) as http:
            return await http.get(path)

    def read(self) -> Reading:
        """The counters now."""
        assert self.child is not None
        return Reading(
            at=asyncio.get_running_loop().time(),
            requests=self.requests,
            queries=self.world.prometheus.queries,
            cpu_seconds=cpu_seconds(self.child.pid),
            rss_mib=rss_mib(self.child.pid),
        )

    # --- what is noted on the way ---------------------------------------------------------------

    async def count(self, _request: ApiRequest) -> ApiResponse | None:
        """A hook of the API server: one more request."""
        self.requests += 1
        return None

    def note(self, event: Event) -> None:
        """A subscriber of the store: note when a canary's weight becomes 0, or more."""
        if event.resource.plural != "httproutes":
            return
        name = event.obj["metadata"]["name"]
        canary = canary_weight(event.obj)
        if canary:
            self.raised.setdefault(name, self.world.wall.timestamp())
            self.zeroed.pop(name, None)
        elif name in self.raised:
            self.zeroed.setdefault(name, self.world.wall.timestamp())


def canary_weight(route: JsonObject) -> int:
    """The largest weight that a rule gives the canary of the route's own name; 0 without one."""
    name = f"{route['metadata']['name']}-canary"
    found = [
        int(ref.get("weight", 1))
        for rule in route["spec"]["rules"]
        for ref in rule.get("backendRefs") or ()
        if ref["name"] == name
    ]
    return max(found, default=0)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Resident memory of a process now, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS")


@contextlib.asynccontextmanager
async def rig(*, scrape_seconds: float) -> AsyncIterator[Rig]:
    """A world with its two servers; the daemon is started by whoever wants one."""
    # A daemon that was stopped leaves watches behind; asyncio would tell of each write to them.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="switchgear-bench-") as folder:
        async with (
            World(namespaces=(NAMESPACE, SYSTEM), scrape_interval=scrape_seconds) as world,
            serving(world.api) as api,
            _metrics(world.prometheus) as metrics,
        ):
            found = Rig(world=world, folder=Path(folder), api=api, metrics=metrics)
            world.api.before.append(found.count)
            end = world.store.subscribe(found.note)
            try:
                yield found
            finally:
                await found.stop()
                end()


class _Guest(uvicorn.Server):
    """uvicorn inside this process: the signals stay ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the handlers as they are."""
        yield


@contextlib.asynccontextmanager
async def _metrics(store: Prometheus) -> AsyncIterator[str]:
    """The simulated Prometheus over HTTP."""

    async def answer(request: Request) -> Response:
        status, headers, body = await store.handle(
            request.method, request.url.path, request.url.query, request.headers,
            await request.body(),
        )  # fmt: skip
        return Response(body, status_code=status, headers=headers)

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    # The protocol is named, since asyncio turns Nagle's algorithm off only then.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = _Guest(config)
        task = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
