# SPDX-License-Identifier: Apache-2.0
"""A kubelet for tests, for all nodes at once: `python -m tests.cluster.lab.kubelet PKI FOLDER`.

Pods are processes of this machine, each with an address of its own inside the lab's network. It
ends when its standard input does, and everything that it started ends with it.
"""

import asyncio
import itertools
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from tests.cluster.lab.api import Api, Object
from tests.cluster.lab.kubelet import discovery, nodes
from tests.cluster.lab.kubelet.pod import Pod

AGAIN_SECONDS = 0.2
DISCOVERY_SECONDS = 0.2
"""Prometheus is told of pods at most this often."""

FIRST_ADDRESS, LAST_ADDRESS = 1 << 8, 0xFEFF
"""Within 10.77.0.0/16; the first 256 are for nodes and the lab itself."""

Take = Callable[[str, Object], Awaitable[None]]

log = logging.getLogger(__name__)


class Kubelet:
    """All pods and nodes."""

    def __init__(self, api: Api, folder: Path) -> None:
        self._api = api
        self._folder = folder
        self._numbers = itertools.cycle(range(FIRST_ADDRESS, LAST_ADDRESS))
        self._nodes: dict[str, Object] = {}
        self._moved = asyncio.Event()
        self._moved.set()
        self.pods: dict[str, Pod] = {}

    async def run(self) -> None:
        """Follow nodes and pods until cancelled."""
        await nodes.register(self._api)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow("/api/v1/nodes", self._node))
            group.create_task(self._follow("/api/v1/pods", self._pod))
            group.create_task(self._tell_prometheus())

    async def _tell_prometheus(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            discovery.write(self._folder / "targets.json", [p.seen for p in self.pods.values()])
            await asyncio.sleep(DISCOVERY_SECONDS)

    async def _follow(self, path: str, take: Take) -> None:
        while True:
            try:
                async for kind, found in self._api.follow(path):
                    await take(kind, found)
            except (OSError, aiohttp.ClientError) as error:
                log.warning("%s: %s", path, error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _node(self, kind: str, found: Object) -> None:
        if kind == "SYNCED":
            self._nodes = {node["metadata"]["name"]: node for node in found["items"]}
        elif kind == "DELETED":
            self._nodes.pop(found["metadata"]["name"], None)
        else:
            self._nodes[found["metadata"]["name"]] = found

    async def _pod(self, kind: str, found: Object) -> None:
        if kind == "SYNCED":
            there = {pod["metadata"]["uid"] for pod in found["items"]}
            for uid in self.pods.keys() - there:
                await self.pods.pop(uid).vanish()
            return
        self._moved.set()
        uid = found["metadata"]["uid"]
        pod = self.pods.get(uid)
        if kind == "DELETED":
            if pod is not None:
                del self.pods[uid]
                await pod.vanish()
            return
        if pod is None:
            pod = self.pods[uid] = self._new(found)
            pod.begin()
        pod.see(found)

    def _new(self, found: Object) -> Pod:
        meta = found["metadata"]
        name = re.sub(r"[^a-z0-9.-]", "_", f"{meta['namespace']}_{meta['name']}_{meta['uid'][:8]}")
        used = {pod.address for pod in self.pods.values()}
        while (address := _address(next(self._numbers))) in used:
            pass
        return Pod(self._api, found, address=address, folder=self._folder / name, place=self._place)

    def _place(self, pod: Object) -> str | None:
        placed = [p.seen for p in self.pods.values() if p.seen["spec"].get("nodeName")]
        return nodes.choose(pod, self._nodes.values(), placed)


def _address(number: int) -> str:
    return f"10.77.{number >> 8}.{number & 0xFF}"


async def main(pki: Path, folder: Path) -> None:
    """Run until standard input ends."""
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), lambda: os.read(0, 64) or os._exit(0))
    api = Api(pki)
    try:
        await Kubelet(api, folder).run()
    finally:
        await api.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
