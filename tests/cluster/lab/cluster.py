# SPDX-License-Identifier: Apache-2.0
"""Starts a whole lab in the network in which this process is, and ends it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from controller.demo.process import Child
from tests.cluster.lab import addresses, certificates, manifests, parts, store
from tests.cluster.lab.api import Api, Object
from tests.cluster.lab.build import Programs

TOKEN_SECONDS = 7 * 24 * 3600


@dataclass(slots=True, kw_only=True)
class Running:
    """A lab that runs."""

    api: Api
    programs: Programs
    folder: Path
    stack: contextlib.AsyncExitStack
    about: Object = field(default_factory=dict)
    """Where its parts are reached."""

    def keep(self, child: Child) -> Child:
        """End a part with the lab."""
        self.stack.push_async_callback(child.stop)
        self.about.setdefault("pids", {})[child.name] = child.pid
        return child

    async def traefik(self) -> None:
        """Start Traefik, and wait until it has taken its Gateway."""
        await self._gateway("traefik", "traefik.io/gateway-controller", addresses.TRAEFIK_PORT)
        token = await self._token("traefik")
        self.keep(await parts.traefik(self.programs, self.folder, token))
        await _accepted(self.api, "traefik")

    async def envoy(self) -> str:
        """Start Contour and Envoy, unless they run; returns the address of the proxy."""
        if "envoy" not in self.about["pids"]:
            await self._gateway(
                "envoy", "projectcontour.io/gateway-controller", addresses.ENVOY_LISTENER
            )
            token = await self._token("contour")
            kubeconfig = certificates.kubeconfig(self.folder / "pki", "contour", token=token)
            self.keep(await parts.contour(self.programs, self.folder, kubeconfig))
            self.keep(await parts.envoy(self.programs, self.folder))
            await _accepted(self.api, "envoy")
        return addresses.ENVOY

    async def measurements(self) -> None:
        """Start Prometheus, and what autoscalers ask."""
        self.keep(await parts.prometheus(self.programs, self.folder))
        for where, found in manifests.measures():
            await self.api.make(where, found)
        self.keep(await parts.measures(self.folder))

    async def _gateway(self, name: str, controller: str, port: int) -> None:
        await _made(self.api, *manifests.gateway_class(name, controller))
        await _made(self.api, *manifests.gateway(name, port))

    async def _token(self, account: str) -> str:
        path = f"/api/v1/namespaces/{manifests.SYSTEM}/serviceaccounts/{account}/token"
        spec = {"expirationSeconds": TOKEN_SECONDS}
        return str((await self.api.make(path, {"spec": spec}))["status"]["token"])


@contextlib.asynccontextmanager
async def up(programs: Programs, folder: Path, emulates: str = "") -> AsyncIterator[Running]:
    """A lab whose files are in `folder`, of Kubernetes as it is or as an older minor version was.

    Raises DemoError with the last words of a part that did not become ready.
    """
    begun = time.monotonic()
    await asyncio.to_thread(certificates.make, programs.controlplane, folder / "pki")
    async with contextlib.AsyncExitStack() as stack:
        api = Api(folder / "pki")
        stack.push_async_callback(api.close)
        lab = Running(api=api, programs=programs, folder=folder, stack=stack)
        lab.keep(await parts.etcd(programs, folder))
        server = lab.keep(await parts.api_server(programs, folder, emulates))
        await parts.serves(server, api)
        lab.keep(await parts.controllers(programs, folder, emulates))
        lab.keep(await parts.kubelet(folder))
        await _objects(api, programs)
        await asyncio.gather(lab.traefik(), lab.measurements())
        await _forget(api)
        lab.about |= {
            "folder": str(folder),
            "seconds": round(time.monotonic() - begun, 1),
            "kubeconfig": str(folder / "pki" / "admin.kubeconfig"),
            "controlplane": str(programs.controlplane),
            "kubectl_program": str(programs.kubectl),
            "prometheus_url": f"http://{addresses.PROMETHEUS}",
            "traefik": addresses.TRAEFIK,
        }
        yield lab


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


async def _forget(api: Api) -> None:
    """Let the first versions be gone, as they are in any older cluster."""
    found = (await api.call("GET", "/api/v1/namespaces")).body
    await store.forget(str(found["metadata"]["resourceVersion"]))


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
