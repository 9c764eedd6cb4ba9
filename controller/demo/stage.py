# SPDX-License-Identifier: Apache-2.0
"""Everything up, in order, and down again in the opposite order whatever happens in between."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from controller.demo import manifests, parts
from controller.demo.api import Api
from controller.demo.binaries import Binaries
from controller.demo.counts import Seen, decode
from controller.demo.errors import DemoError
from controller.demo.process import Child
from controller.sim.apiserver.serve import kubeconfig

SERVING_SECONDS = 20.0
"""From creating the objects to the first answer through the gateway; usually one or two."""

POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A cluster with a gateway, metrics and clients, ready for a rollout."""

    folder: Path
    """Logs, data and the kubeconfig."""
    kubeconfig: Path
    api: Api
    edge: parts.Edge
    prometheus: str
    """URL of Prometheus."""
    daemon: str | None
    """URL of the daemon; None if the stage was asked for without it."""
    pids: Mapping[str, int]
    seen: Seen
    """What clients have seen so far; it grows by itself."""


@contextlib.asynccontextmanager
async def stage(
    binaries: Binaries,
    folder: Path,
    *,
    annotations: Mapping[str, str],
    rate: float,
    with_daemon: bool = True,
    past: Callable[[Path], Awaitable[None]] | None = None,
) -> AsyncIterator[Stage]:
    """Bring everything up with version v1 serving; raises DemoError when a part does not come.

    `past` may write blocks into the folder of Prometheus' data before it starts.
    """
    async with contextlib.AsyncExitStack() as down:
        cluster = await parts.cluster(folder)
        down.push_async_callback(cluster.child.stop)
        api = Api(cluster.url)
        down.push_async_callback(api.close)
        config = folder / "kubeconfig"
        config.write_text(kubeconfig(cluster.url), encoding="utf-8")
        await _team(api, annotations)
        edge = await parts.traefik(binaries.traefik, cluster.url, folder)
        down.push_async_callback(edge.child.stop)
        await api.create(manifests.gateway(edge.port))
        await api.create(manifests.route())
        if past is not None:
            await past(folder / parts.DATA)
        metrics = await parts.prometheus(binaries.prometheus, edge.metrics, folder)
        down.push_async_callback(metrics.child.stop)
        await _serving(f"http://{edge.address}/")
        load = await parts.load(edge, cluster.url, rate, folder)
        down.push_async_callback(load.stop)
        seen = Seen()
        reader = asyncio.ensure_future(_collect(load, seen))
        down.callback(reader.cancel)
        children = {"cluster": cluster.child, "traefik": edge.child, "prometheus": metrics.child}
        url = None
        if with_daemon:
            part = await parts.daemon(config, metrics.url, folder)
            down.push_async_callback(part.child.stop)
            children["daemon"], url = part.child, part.url
        yield Stage(
            folder=folder,
            kubeconfig=config,
            api=api,
            edge=edge,
            prometheus=metrics.url,
            daemon=url,
            pids={name: child.pid for name, child in children.items()},
            seen=seen,
        )


async def _team(api: Api, annotations: Mapping[str, str]) -> None:
    """Create what the team has in git, as one `kubectl apply` would."""
    for manifest in (
        manifests.namespace(manifests.NAMESPACE),
        manifests.namespace(manifests.SYSTEM),
        manifests.gateway_class(),
        manifests.service(),
        manifests.deployment("v1", {}, annotations),
    ):
        await api.create(manifest)


async def _serving(url: str) -> None:
    """Wait until the application answers through the gateway."""
    deadline = asyncio.get_running_loop().time() + SERVING_SECONDS
    async with httpx.AsyncClient(timeout=1.0, trust_env=False) as http:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await http.get(url)).status_code == httpx.codes.OK:
                    return
            if asyncio.get_running_loop().time() > deadline:
                raise DemoError(f"no answer from the application at {url}")
            await asyncio.sleep(POLL_SECONDS)


async def _collect(load: Child, seen: Seen) -> None:
    async for line in load.lines():
        seen.add(decode(line))
