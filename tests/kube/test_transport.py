# SPDX-License-Identifier: Apache-2.0
"""The real transport on loopback: kubeconfigs, tokens, watches, and what it drags in."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from controller import __version__
from controller.adapters.clock import LoopClock
from controller.adapters.kube import transport
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.cluster import KubeCluster
from controller.adapters.kube.wire import Request
from controller.core.errors import Forbidden, Missing, Refused, Unavailable
from controller.core.values import TargetRef
from controller.sim import manifests
from controller.sim.apiserver.serve import kubeconfig, serving
from controller.sim.apiserver.server import ApiServer, AuditEntry
from controller.sim.apiserver.store import Store
from controller.sim.clock import WallClock

CONFIG = "/api/v1/namespaces/default/configmaps"


def server(token: str | None = None) -> ApiServer:
    return ApiServer(Store(WallClock().now), token=token)


def write(folder: Path, url: str, token: str = "", namespace: str = "") -> str:
    text = kubeconfig(url, token)
    if namespace:
        text = text.replace("user: sim}}]\n", f"user: sim, namespace: {namespace}}}}}]\n")
    path = folder / "config"
    path.write_text(text)
    return str(path)


async def until(question: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_kubeconfig_connects_and_says_who_we_are(tmp_path: Path) -> None:
    api = server("secret")
    seen: list[AuditEntry] = []
    api.audit = seen.append
    async with serving(api) as url:
        connection = await transport.load(kubeconfig=write(tmp_path, url, "secret", "shop"))
        try:
            calls = Calls(connection.wire, LoopClock())
            assert connection.namespace == "shop"
            assert connection.server == url
            assert (await calls.get(CONFIG))["items"] == []
            with pytest.raises(Missing):
                await calls.get(f"{CONFIG}/none")
        finally:
            await connection.wire.aclose()
    assert {entry.user_agent for entry in seen} == {f"switchgear/{__version__}"}


async def test_a_token_that_was_changed_is_read_anew_once_refused(tmp_path: Path) -> None:
    async with serving(server("new")) as url:
        connection = await transport.load(kubeconfig=write(tmp_path, url, "old"))
        try:
            calls = Calls(connection.wire, LoopClock())
            with pytest.raises(Forbidden):
                await calls.get(CONFIG)
        finally:
            await connection.wire.aclose()
        connection = await transport.load(kubeconfig=write(tmp_path, url, "old"))
        write(tmp_path, url, "new")
        try:
            calls = Calls(connection.wire, LoopClock())
            assert (await calls.get(CONFIG))["items"] == []
        finally:
            await connection.wire.aclose()


async def test_the_caches_follow_over_real_http(tmp_path: Path) -> None:
    api = server()
    made = manifests.deployment(
        "default", "checkout", annotations={"switchgear.dev/policy": "standard"}
    )
    async with serving(api) as url:
        connection = await transport.load(kubeconfig=write(tmp_path, url))
        cluster = KubeCluster(Calls(connection.wire, LoopClock()), ["default"])
        running = asyncio.create_task(cluster.run())
        try:
            await until(lambda: cluster.synced)
            api.store.create("deployments.apps", "default", made)
            await until(lambda: cluster.targets() == [TargetRef("default", "checkout")])
            api.store.delete("deployments.apps", "default", "checkout")
            await until(lambda: not cluster.targets())
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await connection.wire.aclose()


async def test_a_server_that_is_not_there_or_says_nothing_is_unavailable(tmp_path: Path) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    connection = await transport.load(kubeconfig=write(tmp_path, f"http://127.0.0.1:{port}"))
    request = Request(method="GET", path=CONFIG, timeout_seconds=0.3)
    try:
        with pytest.raises(Unavailable, match=r"0\.3 s"):
            await Calls(connection.wire, LoopClock()).once(request)
        silent.close()
        with pytest.raises(Unavailable):
            await Calls(connection.wire, LoopClock()).once(request)
    finally:
        await connection.wire.aclose()


async def test_no_usable_configuration_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        await transport.load(kubeconfig=str(tmp_path / "none"))
    assert "--kubeconfig" in caught.value.diagnostics()
    with pytest.raises(Refused):
        await transport.load(kubeconfig=write(tmp_path, "http://127.0.0.1:1"), context="other")
    with pytest.raises(Refused):
        await transport.load(in_cluster=True)


def test_the_typed_models_stay_out() -> None:
    code = (
        "import sys, controller.adapters.kube.transport, controller.adapters.kube.cluster;"
        "print(*(name for name in sys.modules if name.startswith('kubernetes.aio.client.models.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""
