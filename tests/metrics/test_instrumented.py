# SPDX-License-Identifier: Apache-2.0
"""Applications that OpenTelemetry's SDK instruments, scraped by a real Prometheus from each pod.

Our own client counts to the last request what it has sent to stable and to the canary.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest

from controller.core.evidence.series import PodsKey
from controller.core.evidence.tally import INFINITE
from controller.demo.process import Child
from tests.metrics import scraped

CANARY = PodsKey("shop", "checkout-canary", "")
STABLE = PodsKey("shop", "checkout", "6d4f7b9c8")
CANARY_POD = "checkout-canary-7c9d8f6b5-z4z4z"
STABLE_POD = "checkout-6d4f7b9c8-x2x2x"

APPLICATION = Path(__file__).with_name("instrumented.py")
STARTED_SECONDS = 20.0

SETTINGS = {
    # The names of the conventions since they are stable.
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    "OTEL_PYTHON_STARLETTE_EXCLUDED_URLS": "healthz",
}

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, INFINITE)
"""What the conventions advise for http.server.request.duration."""


@contextlib.asynccontextmanager
async def pod(name: str, folder: Path) -> AsyncIterator[tuple[str, str]]:
    """The application; yields its address and that of its metrics."""
    log = folder / f"{name}.log"
    command = (sys.executable, APPLICATION)
    child = await Child.start(name, command, log=log, env=SETTINGS, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(STARTED_SECONDS):
            line = await anext(child.lines(), b"")
        assert line, child.tail()
        ports = json.loads(line)
        yield f"http://127.0.0.1:{ports['answers']}", f"127.0.0.1:{ports['metrics']}"
    finally:
        await child.stop()


SENT_TO_CANARY = {"/status/200": 20, "/status/404": 3, "/status/503": 4, "/crash": 5, "/slow": 6,
                  "/torn": 1, "/healthz": 7, "/nowhere": 2}  # fmt: skip
SENT_TO_STABLE = {"/status/200": 50, "/status/500": 2, "/crash": 1, "/slow": 3, "/healthz": 9}


async def send(url: str, times: Mapping[str, int]) -> None:
    """All at once, over a few connections."""

    async def ask(http: httpx.AsyncClient, path: str) -> None:
        if path == "/torn":
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(path)
        else:
            answer = await http.get(path)
            assert answer.is_server_error == (path in {"/crash", "/status/500", "/status/503"})

    # A connection that was kept may be closed by a crash while it is taken again.
    few = httpx.Limits(max_connections=10, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, trust_env=False, limits=few, timeout=10.0) as http:
        await asyncio.gather(*(ask(http, path) for path, n in times.items() for _ in range(n)))


@pytest.mark.slow
async def test_every_request_to_instrumented_pods_is_counted(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as down:
        canary_url, canary = await down.enter_async_context(pod(CANARY_POD, tmp_path))
        stable_url, stable = await down.enter_async_context(pod(STABLE_POD, tmp_path))
        targets = {
            canary: {"namespace": "shop", "pod": CANARY_POD},
            stable: {"namespace": "shop", "pod": STABLE_POD},
        }
        client = await down.enter_async_context(
            scraped.scraping(tmp_path, targets, ["opentelemetry"])
        )
        counts = scraped.Counts(client, CANARY, STABLE, newborn=True)
        await send(stable_url, {"/status/200": 5})
        # The exporter has no series before the first answer.
        await counts.begin(canary=None, stable=5)
        await asyncio.gather(send(canary_url, SENT_TO_CANARY), send(stable_url, SENT_TO_STABLE))
        await counts.reach(canary=41, stable=56)
    # A crash has neither a status nor the name of an error. An answer that broke off has a good
    # status: that is the caveat of the file.
    assert (counts.canary.requests, counts.canary.errors) == (41, 9)
    assert (counts.stable.requests, counts.stable.errors) == (56, 3)
    for tally, slow in ((counts.canary, 6), (counts.stable, 3)):
        assert tuple(bound for bound, _ in tally.buckets) == BOUNDS
        assert tally.timed == tally.requests
        assert (tally.slower_than(2.5), tally.slower_than(10.0)) == (slow, 0)
