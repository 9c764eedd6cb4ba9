# SPDX-License-Identifier: Apache-2.0
"""A real HAProxy, scraped by a real Prometheus, and our own client that counts to the last request.

The backends have the names that HAProxy Unified Gateway would give them. Where HAProxy is not on
PATH its packages are unpacked into the cache; where they cannot be had either, the test is left out
and says so, and fails in CI.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from controller.core.evidence.series import ServiceKey
from controller.demo import binaries, parts
from controller.demo.process import Child, free_port
from tests.metrics import scraped
from tests.support.realtime import plain

CANARY = ServiceKey("shop", "checkout-canary")
STABLE = ServiceKey("shop", "checkout")

PACKAGES = ("haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
"""With the libraries that few machines have already."""

CONFIG = """
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend hug_http_80
  bind 127.0.0.1:{door}
  use_backend hug_shop_checkout-canary_80__ if {{ path_beg /canary }}
  use_backend hug_bank_checkout_80__ if {{ path_beg /bank }}
  default_backend hug_shop_checkout_80__
frontend stats
  bind 127.0.0.1:{stats}
  http-request use-service prometheus-exporter if {{ path /metrics }}
backend hug_shop_checkout_80__
  server SRV_1 127.0.0.1:{app}
backend hug_shop_checkout-canary_80__
  server SRV_1 127.0.0.1:{app}
backend hug_bank_checkout_80__
  server SRV_1 127.0.0.1:{app}
"""


def haproxy() -> tuple[Path, dict[str, str]]:
    """The program, and the environment that it needs."""
    found = shutil.which("haproxy")
    if found:
        return Path(found), {}
    folder = binaries.cache() / "haproxy"
    program = folder / "usr" / "sbin" / "haproxy"
    if not os.access(program, os.X_OK):
        advice = "HAProxy is not on PATH; install the package `haproxy`"
        with scraped.needed("HAPROXY"):
            binaries.unpack(PACKAGES, folder, advice)
    libraries = sorted({str(file.parent) for file in folder.rglob("lib*.so*")})
    return program, {"LD_LIBRARY_PATH": ":".join(libraries)}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The status that the path asks for; none at all for `drop`, nor before long for `slow`."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        word = head.split()[1].rpartition("/")[2]
        if word == "slow":
            await asyncio.sleep(0.5)
        if word != "drop":
            code = 200 if word == "slow" else int(word)
            writer.write(
                f"HTTP/1.1 {code} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
            )
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """HAProxy with an application behind it; yields its address and that of its metrics."""
    program, environment = haproxy()
    application = await asyncio.start_server(_answer, "127.0.0.1", 0)
    app, door, stats = application.sockets[0].getsockname()[1], free_port(), free_port()
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(app=app, door=door, stats=stats), encoding="utf-8")
    command = (program, "-db", "-f", config)
    child = await Child.start("haproxy", command, log=folder / "haproxy.log", env=environment)
    try:
        await parts._ready(child, f"http://127.0.0.1:{stats}/metrics")
        yield f"http://127.0.0.1:{door}", f"127.0.0.1:{stats}"
    finally:
        await child.stop()
        application.close()


ASKED = {"/200": 60, "/404": 3, "/500": 4, "/drop": 1, "/canary/200": 20, "/canary/503": 5,
         "/canary/drop": 2, "/bank/200": 9}  # fmt: skip


async def _ask(url: str) -> None:
    once = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, trust_env=False, limits=once) as http:
        for path, times in ASKED.items():
            for _ in range(times):
                await http.get(path)
        # Who does not wait for the answer is no error of the version.
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/canary/slow", timeout=0.1)
    # One more of each, and the caveat of the file: what breaks off on a connection that has had an
    # answer already is closed without a word, and counted by nobody.
    async with plain(url) as http:
        for path in ("/", "/canary/"):
            await http.get(f"{path}200")
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(f"{path}drop")


@pytest.mark.slow
async def test_every_request_through_a_real_haproxy_is_counted(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path) as (url, metrics),
        scraped.scraping(tmp_path, {metrics: {}}, ["haproxy"]) as client,
    ):
        counts = scraped.Counts(client, CANARY, STABLE)
        await counts.begin(canary=0, stable=0)
        await _ask(url)
        await counts.reach(canary=29, stable=69)
    assert (counts.canary.requests, counts.canary.errors) == (29, 7)
    assert (counts.stable.requests, counts.stable.errors) == (69, 5)
