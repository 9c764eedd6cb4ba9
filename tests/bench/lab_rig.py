# SPDX-License-Identifier: Apache-2.0
"""The lab of tests/cluster as a place to measure: real API server, gateways and Prometheus.

The daemon is the shipped service account there, under the shipped policies and with the shipped
seats. The API server's audit log tells its requests from everybody else's.
"""

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from controller.sim.apiserver.errors import JsonObject
from tests.bench.rig import canary_weight
from tests.cluster.installed import SYSTEM, Installed, installed
from tests.cluster.lab import worker
from tests.cluster.lab.api import Api
from tests.cluster.lab.application import App
from tests.support.api import OverHttp, Port, real_client
from tests.support.realtime import Daemon, plain

DAEMON: Final = ("--drain-seconds=1", "--log-level=warning")
ADOPT_SECONDS: Final = 600.0
"""A thousand targets are touched one after another, on a machine that others use too."""


@dataclass(slots=True, kw_only=True)
class Routes:
    """When each route's canary got its first weight and lost it again, as a watch tells it."""

    raised: dict[str, float] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    """Of each canary now, in basis points."""
    zeroed: dict[str, float] = field(default_factory=dict)

    async def follow(self, api: Api, namespace: str) -> None:
        """Until cancelled; the time of a change is that of its arrival here."""
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"
        while True:
            with contextlib.suppress(OSError, aiohttp.ClientError):
                async for kind, route in api.follow(path):
                    if kind in {"ADDED", "MODIFIED"}:
                        self.note(route)
            await asyncio.sleep(0.1)

    def note(self, route: JsonObject) -> None:
        """Take one state of a route."""
        name, weight = route["metadata"]["name"], canary_weight(route)
        self.weights[name] = weight
        if weight:
            self.raised.setdefault(name, time.time())
            self.zeroed.pop(name, None)
        elif name in self.raised:
            self.zeroed.setdefault(name, time.time())


@dataclass(slots=True, kw_only=True)
class Place:
    """A namespace for applications, and one daemon, which is all that is in its own namespace."""

    gate: Installed
    api: Api
    port: Port
    namespace: str
    daemon: Daemon
    routes: Routes

    def app(self, name: str, gateway: str = "traefik") -> App:
        """An application here."""
        return App(port=self.port, namespace=self.namespace, name=name, gateway=gateway)

    async def until(
        self, look: Callable[[], Awaitable[bool]], within: float, what: str, every: float = 0.1
    ) -> None:
        """Poll; raises TimeoutError with the daemon's last words."""
        end = time.monotonic() + within
        while not await look():
            if time.monotonic() > end:
                raise TimeoutError(f"not so within {within:g} s: {what}\n{self.daemon.log()}")
            await asyncio.sleep(every)

    async def managed(self, count: int) -> bool:
        """Whether the daemon has marked so many Deployments."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        found = (await self.api.call("GET", path)).body["items"]
        marks = [item["metadata"].get("annotations") or {} for item in found]
        return sum("switchgear.dev/managed" in mark for mark in marks) >= count


async def start(place: Place, targets: int) -> None:
    """Start the daemon and wait until it has marked so many targets."""
    await place.daemon.start()
    await place.daemon.answers("/readyz", within=60.0)
    await place.until(lambda: place.managed(targets), ADOPT_SECONDS, f"{targets} targets managed")


@contextlib.contextmanager
def laboratory() -> Iterator[worker.Cluster]:
    """A lab in a network of its own, which this process enters for good.

    Raises tests.cluster.lab.toolchain.Unavailable where it cannot be had.
    """
    with (
        tempfile.TemporaryDirectory(prefix="switchgear-bench-") as folder,
        worker.cluster(Path(folder) / "lab") as found,
    ):
        yield found


def shipped(cluster: worker.Cluster) -> contextlib.AbstractAsyncContextManager[Installed]:
    """The shipped account, its rights and seats, and the admission policies, on a lab."""
    return installed(cluster, "base", "admission")


@contextlib.asynccontextmanager
async def place(
    gate: Installed, *, prometheus: str = "", options: tuple[str, ...] = ()
) -> AsyncIterator[Place]:
    """A fresh place; its daemon is not started yet. Everything goes with the block."""
    cluster, name = gate.cluster, f"b-{secrets.token_hex(3)}"
    folder = cluster.folder / name
    folder.mkdir()
    cluster.kubectl("create", "namespace", name)
    gate.forget()
    daemon = Daemon(
        folder=folder,
        kubeconfig=gate.controller,
        prometheus=prometheus or cluster.prometheus_url,
        options=(
            *DAEMON,
            *options,
            f"--namespace={name}",
            f"--controller-namespace={SYSTEM}",
        ),
    )
    routes, api = Routes(), Api(cluster.pki)
    # In a group: a watch that fails ends the whole, which would wait in vain for what it tells.
    async with real_client(cluster.kubeconfig) as client, asyncio.TaskGroup() as group:
        watch = group.create_task(routes.follow(api, name))
        try:
            yield Place(
                gate=gate,
                api=api,
                port=OverHttp(client),
                namespace=name,
                daemon=daemon,
                routes=routes,
            )
        finally:
            watch.cancel()
            await daemon.close()
            await api.call("DELETE", f"/api/v1/namespaces/{name}")
            await api.close()


async def first_bad(prometheus: str, query: str) -> dict[str, float]:
    """The time of the first scrape in which each series was above 0, by its Service label."""
    async with plain(seconds=30.0) as http:
        answer = await http.get(f"{prometheus}/api/v1/query", params={"query": query})
    found: dict[str, float] = {}
    for series in answer.raise_for_status().json()["data"]["result"]:
        times = [float(at) for at, value in series["values"] if float(value) > 0]
        if times:
            found[series["metric"]["service"]] = min(times)
    return found
