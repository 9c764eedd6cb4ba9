# SPDX-License-Identifier: Apache-2.0
"""Starts a whole lab in the network in which this process is, and ends it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from controller.demo.process import Child
from tests.cluster.lab import addresses, certificates, manifests, parts
from tests.cluster.lab.api import Api, Object
from tests.cluster.lab.build import Programs

TOKEN_SECONDS = 7 * 24 * 3600


@contextlib.asynccontextmanager
async def up(programs: Programs, folder: Path) -> AsyncIterator[Object]:
    """A lab whose files are in `folder`; yields where its parts are reached.

    Raises DemoError with the last words of a part that did not become ready.
    """
    begun = time.monotonic()
    await asyncio.to_thread(certificates.make, programs.controlplane, folder / "pki")
    async with contextlib.AsyncExitStack() as stack:
        children: list[Child] = []

        def keep(child: Child) -> None:
            stack.push_async_callback(child.stop)
            children.append(child)

        keep(await parts.etcd(programs, folder))
        server = await parts.api_server(programs, folder)
        keep(server)
        api = Api(folder / "pki")
        stack.push_async_callback(api.close)
        await parts.serves(server, api)
        keep(await parts.controllers(programs, folder))
        keep(await parts.kubelet(folder))
        await _objects(api, programs)
        await asyncio.gather(
            _traefik(api, programs, folder, keep),
            _envoy(api, programs, folder, keep),
            _prometheus(api, programs, folder, keep),
        )
        yield {
            "folder": str(folder),
            "seconds": round(time.monotonic() - begun, 1),
            "kubeconfig": str(folder / "pki" / "admin.kubeconfig"),
            "controlplane": str(programs.controlplane),
            "kubectl_program": str(programs.kubectl),
            "prometheus_url": f"http://{addresses.PROMETHEUS}",
            "traefik": addresses.TRAEFIK,
            "envoy": addresses.ENVOY,
            "pids": {child.name: child.pid for child in children},
        }


Keep = Callable[[Child], None]


async def _traefik(api: Api, programs: Programs, folder: Path, keep: Keep) -> None:
    await _made(api, *manifests.gateway_class("traefik", "traefik.io/gateway-controller"))
    await _made(api, *manifests.gateway("traefik", int(addresses.TRAEFIK.rpartition(":")[2])))
    keep(await parts.traefik(programs, folder, await _token(api, "traefik")))
    await _accepted(api, "traefik")


async def _envoy(api: Api, programs: Programs, folder: Path, keep: Keep) -> None:
    await _made(api, *manifests.gateway_class("envoy", "projectcontour.io/gateway-controller"))
    await _made(api, *manifests.gateway("envoy", addresses.ENVOY_LISTENER))
    token = await _token(api, "contour")
    kubeconfig = certificates.kubeconfig(folder / "pki", "contour", token=token)
    keep(await parts.contour(programs, folder, kubeconfig))
    keep(await parts.envoy(programs, folder))
    await _accepted(api, "envoy")


async def _prometheus(api: Api, programs: Programs, folder: Path, keep: Keep) -> None:
    keep(await parts.prometheus(programs, folder))
    for where, found in manifests.measures():
        await api.make(where, found)
    keep(await parts.measures(folder))


async def _objects(api: Api, programs: Programs) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    text = await asyncio.to_thread(programs.crds.read_text, encoding="utf-8")
    crds = json.loads(text)
    await asyncio.gather(*(api.make(path, crd) for crd in crds))
    for where, found in manifests.accounts():
        await api.make(where, found)
    for crd in crds:
        await _established(api, f"{path}/{crd['metadata']['name']}")


async def _made(api: Api, path: str, found: Object) -> None:
    """A custom resource's path is served a moment after its kind is established."""
    async with asyncio.timeout(parts.READY_SECONDS):
        while True:
            if (await api.call("POST", path, found)).status in {201, 409}:
                return
            await asyncio.sleep(0.05)


async def _established(api: Api, path: str) -> None:
    async with asyncio.timeout(parts.READY_SECONDS):
        while True:
            found = (await api.call("GET", path)).body
            if _says(found.get("status", {}), "Established"):
                return
            await asyncio.sleep(0.05)


async def _accepted(api: Api, name: str) -> None:
    """Wait until a data plane has taken its Gateway."""
    path = f"/apis/{manifests.GATEWAY_GROUP}/v1/namespaces/{manifests.SYSTEM}/gateways/{name}"
    async with asyncio.timeout(parts.READY_SECONDS):
        while True:
            found = (await api.call("GET", path)).body
            if _says(found.get("status", {}), "Programmed"):
                return
            await asyncio.sleep(0.05)


def _says(status: Object, kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in status.get("conditions") or ())


async def _token(api: Api, account: str) -> str:
    path = f"/api/v1/namespaces/{manifests.SYSTEM}/serviceaccounts/{account}/token"
    spec = {"expirationSeconds": TOKEN_SECONDS}
    return str((await api.make(path, {"spec": spec}))["status"]["token"])
