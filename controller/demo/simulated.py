# SPDX-License-Identifier: Apache-2.0
"""The ground that the demo makes itself: a simulated API server, Traefik and Prometheus."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from controller.demo import manifests, parts
from controller.demo.api import Api
from controller.demo.binaries import Binaries
from controller.demo.ground import Ground
from controller.sim.apiserver.serve import kubeconfig


@contextlib.asynccontextmanager
async def ground(
    binaries: Binaries, folder: Path, *, past: Callable[[Path], Awaitable[None]] | None = None
) -> AsyncIterator[Ground]:
    """Start everything; raises DemoError when a part does not come.

    `past` may write blocks into the folder of Prometheus' data before it starts.
    """
    async with contextlib.AsyncExitStack() as down:
        cluster = await parts.cluster(folder)
        down.push_async_callback(cluster.child.stop)
        api = Api(cluster.url)
        down.push_async_callback(api.close)
        config = folder / "kubeconfig"
        config.write_text(kubeconfig(cluster.url), encoding="utf-8")
        for name in (manifests.NAMESPACE, manifests.SYSTEM):
            await api.create(manifests.namespace(name))
        await api.create(manifests.gateway_class())
        edge = await parts.traefik(binaries.traefik, cluster.url, folder)
        down.push_async_callback(edge.child.stop)
        await api.create(manifests.gateway(edge.port))
        if past is not None:
            await past(folder / parts.DATA)
        metrics = await parts.prometheus(binaries.prometheus, {edge.metrics: {}}, folder)
        down.push_async_callback(metrics.child.stop)
        yield Ground(
            api=api,
            team=manifests.HERE,
            address=edge.address,
            prometheus=metrics.url,
            daemon=("--kubeconfig", str(config)),
            children={
                "cluster": cluster.child,
                "traefik": edge.child,
                "prometheus": metrics.child,
            },
        )
