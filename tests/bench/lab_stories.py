# SPDX-License-Identifier: Apache-2.0
"""On the lab: how soon a bad version loses its weight, and how soon a kill is obeyed.

Pods, gateway and clients are real. Each run has an application, a namespace and a daemon of its
own: several trips in a row would open the breaker of the fleet.
"""

import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator

import httpx

from tests.bench.figures import ARGO, FLAGGER, Line, spread
from tests.bench.lab_rig import Place, first_bad, place, start
from tests.cluster.installed import Installed
from tests.cluster.lab import traffic
from tests.cluster.lab.application import App
from tests.support.realtime import plain

RATE = 100.0
"""Requests per second through the gateway."""

WEIGHT = 10
STAYS = {"policy": "fast", "bake": "10m"}
MOST_KILLS = 10
"""Each takes longer than a breach, and what is measured hardly varies."""
OBEYED_SECONDS = 6.0
"""How long the gateway is watched after a kill; it takes half of it at most."""


@contextlib.asynccontextmanager
async def _loaded(
    gate: Installed, gateway: str, steps: str
) -> AsyncIterator[tuple[Place, App, traffic.Traffic]]:
    """An application of two pods at rest under a daemon, with clients."""
    options = (f"--provider={gateway}",)
    async with place(gate, options=options) as found:
        app = found.app("checkout", gateway)
        await app.start(replicas=2, annotations={**STAYS, "steps": steps})
        await start(found, 1)
        address = str(getattr(gate.cluster, gateway))

        async def routed() -> bool:
            async with plain(seconds=5.0) as http:
                answer = await http.get(f"http://{address}/", headers={"Host": app.host})
            return "x-version" in answer.headers

        await found.until(routed, 30.0, "the route is in force")
        async with traffic.running(
            app,
            address=address,
            pki=gate.cluster.pki,
            log=found.daemon.folder / "load.log",
            rate=RATE,
            direct_rate=1.0,
        ) as load:
            await load.until_answered(100)
            yield found, app, load


async def breach(gate: Installed) -> tuple[float, int]:
    """Half of what the new version answers is bad: visible to weight 0, and the bad answers."""
    async with _loaded(gate, "traefik", f"{WEIGHT}@20m") as (found, app, load):
        await app.deploy("v2", {"ERROR_RATE": "0.5"})

        async def zeroed() -> bool:
            return app.name in found.routes.zeroed

        await found.until(zeroed, 120.0, "weight 0", every=0.02)
        await load.until_answered(int(RATE * OBEYED_SECONDS))
        services = f".*-{app.namespace}-{app.name}-canary-.*"
        query = f'traefik_service_requests_total{{code="500",service=~"{services}"}}[5m]'
        (visible,) = (await first_bad(gate.cluster.prometheus_url, query)).values()
        return found.routes.zeroed[app.name] - visible, load.answers("v2").bad


async def kill(gate: Installed, gateway: str) -> tuple[float, float]:
    """A kill at half of the traffic: to weight 0 at the API, and to the canary's last answer."""
    async with _loaded(gate, gateway, "50@20m") as (found, app, load):
        await app.deploy("v2")

        async def flows() -> bool:
            return load.answers("v2").total > 100

        await found.until(flows, 120.0, "requests to the new version")
        pulled = time.time()
        async with plain(seconds=60.0) as http:
            answer = await http.post(f"{found.daemon.url}/v1/kill?wait=30")
        assert answer.status_code == httpx.codes.OK, answer.text
        await load.until_answered(int(RATE))
        last = load.seen.last("v2") or pulled
        return found.routes.zeroed[app.name] - pulled, last - pulled


async def measure(gate: Installed, runs: int) -> list[Line]:
    """So many breaches, and some kills on each data plane; each is told as it ends."""
    reactions: list[float] = []
    bad: list[int] = []
    for number in range(1, runs + 1):
        seconds, answers = await breach(gate)
        reactions.append(seconds)
        bad.append(answers)
        _tell(f"{number:>3}  visible to weight 0 {seconds:.2f} s, bad answers {answers}")
    load = os.getloadavg()[2]
    found = [
        *spread(
            f"breach at {WEIGHT} %, {RATE:g} requests/s: visible to weight 0",
            reactions,
            # Without history a scrape or two more than with one.
            goals=(4.2, 6.0),
            p50={ARGO: 2.8, FLAGGER: 18.3},
            load=load,
        ),
        Line(
            what="  bad answers, mean",
            value=sum(bad) / len(bad),
            peers={ARGO: 11, FLAGGER: 90},
            load=load,
        ),
    ]
    for gateway in ("traefik", "envoy"):
        api: list[float] = []
        proxy: list[float] = []
        for number in range(1, min(runs, MOST_KILLS) + 1):
            one = await kill(gate, gateway)
            api.append(one[0])
            proxy.append(one[1])
            _tell(f"{number:>3}  {gateway}: kill to weight 0 {one[0]:.3f} s, obeyed {one[1]:.2f} s")
        load = os.getloadavg()[1]
        what = f"kill under load, {gateway}: to weight 0 at the API"
        found += spread(what, api, goals=(None, 1), load=load)
        found += spread(
            f"  {gateway}: to the canary's last answer", proxy, goals=(None, 5), load=load
        )
    return found


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
