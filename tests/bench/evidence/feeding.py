# SPDX-License-Identifier: Apache-2.0
"""What it costs to read a scrape of a run, from the store's answer to what the judge takes in.

Many runs behind one Traefik, each of two Services: two codes and a histogram of five bounds for
each, four scrapes of every series, one of them new. That is what a look asks for. The adapter is
the daemon's own, and only the network is left out.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import httpx

from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.providers import choose
from controller.core.evidence.series import ServiceKey
from controller.core.lifecycle.tracks import Tracks
from controller.core.values import TargetRef
from controller.engine.follower import Follower

RUNS: Final = 100
LOOKS: Final = 30
"""The quickest counts, since whatever else the machine does only adds to it."""

SCRAPE_SECONDS: Final = 5.0
WINDOW: Final = 4 * SCRAPE_SECONDS
BEGIN: Final = 1_790_000_000.123
RATES: Final = {"": 90.0, "-canary": 10.0}
"""Requests per second of a Service."""

CODES: Final = {"200": 0.99, "500": 0.01}
BOUNDS: Final = {"0.1": 0.5, "0.3": 0.9, "1.2": 0.99, "5": 1.0, "+Inf": 1.0}


def microseconds() -> float:
    """Of CPU, for each run and look that finds a scrape."""
    return asyncio.run(_quickest()) / RUNS * 1e6


async def _quickest() -> float:
    names = [f"shop-{number}" for number in range(RUNS)]
    followers = [
        Follower(
            target=TargetRef("shop", name),
            tracks=Tracks(
                canary=(ServiceKey("shop", f"{name}-canary"),), stable=(ServiceKey("shop", name),)
            ),
            tail=None,
        )
        for name in names
    ]
    keys = {key for follower in followers for key in follower.keys}
    bodies: dict[bool, bytes] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        (query,) = parse_qs(request.content.decode())["query"]
        return httpx.Response(200, content=bodies["_bucket" in query])

    store = Prometheus(
        "http://store",
        choose(["traefik"]),
        now=lambda: BEGIN,
        transport=httpx.MockTransport(answer),
    )
    taken = []
    for look in range(LOOKS):
        at = BEGIN + SCRAPE_SECONDS * look
        for timed in (False, True):
            bodies[timed] = _body(names, at, timed=timed)
        began = time.process_time()
        batch = await store.samples(WINDOW, keys)
        for follower in followers:
            follower.take(batch, WINDOW)
        taken.append(time.process_time() - began)
        found = [follower.intervals.pop() for follower in followers if follower.intervals]
        # The first look only says where the counting begins.
        assert len(found) == (RUNS if look else 0)
    await store.close()
    return min(taken[1:])


def _body(names: Sequence[str], at: float, *, timed: bool) -> bytes:
    series = [
        one
        for name in names
        for suffix, rate in RATES.items()
        for one in _series(f"{name}{suffix}", rate, at, timed=timed)
    ]
    data = {"resultType": "matrix", "result": series}
    return json.dumps({"status": "success", "data": data}).encode()


def _series(service: str, rate: float, at: float, *, timed: bool) -> Iterator[dict[str, Any]]:
    metric = {
        "__name__": "traefik_service_requests_total",
        "instance": "10.0.0.1:8080",
        "job": "traefik",
        "namespace": "edge",
        "pod": "traefik-0",
        "method": "GET",
        "protocol": "http",
        "service": f"shop-{service}-http-80@kubernetesgateway",
    }
    if timed:
        metric["__name__"] = "traefik_service_request_duration_seconds_bucket"
        rows = [({"code": "200", "le": bound}, part) for bound, part in BOUNDS.items()]
    else:
        rows = [({"code": code}, part) for code, part in CODES.items()]
    times = [at - SCRAPE_SECONDS * back for back in (3, 2, 1, 0)]
    for labels, part in rows:
        values = [[time, str(int(part * rate * (time - BEGIN + 1000)))] for time in times]
        yield {"metric": {**metric, **labels}, "values": values}
