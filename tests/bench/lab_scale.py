# SPDX-License-Identifier: Apache-2.0
"""On the lab: what the daemon costs as targets and runs grow, and many bad versions at once.

Deployments, Services and routes are real objects of a real API server, and the pods of those that
get a run are real to it; no process stands behind them, because a hundred applications with clients
would measure this machine and not the daemon. What their gateway would count is written by a script
which follows the routes' weights at once, and is scraped by a real Prometheus.
"""

import asyncio
import contextlib
import json
import random
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from controller.demo.process import Child
from tests.bench.figures import ARGO, FLAGGER, Line, per_minute, ratio, spread
from tests.bench.lab_rig import USER, Place, Routes, first_bad, place, start
from tests.bench.rig import cpu_seconds, rss_mib
from tests.cluster.lab import build, parts
from tests.cluster.lab.application import deployment, route, service
from tests.cluster.lab.worker import Cluster
from tests.support.realtime import app_serving, free_port, plain

RATE = 400.0
"""Requests per second and target, as the counters tell."""

BAD_SHARE = 0.5
FEW_RUNS = 5
CALM_SECONDS = 8.0
POLICY = {"policy": "fast", "steps": "10@20m,50@20m", "deadline": "2h"}
AT_ONCE = 16
"""Requests under way while objects are made."""

STOP_SECONDS = 120.0


@dataclass(slots=True, kw_only=True)
class Counters:
    """Traefik's counters for every target, moved on at each scrape by what the weights say."""

    namespace: str
    routes: Routes
    names: list[str] = field(default_factory=list)
    bad: bool = False
    """Whether canaries err."""
    counts: dict[tuple[str, int], float] = field(default_factory=dict)
    at: float = field(default_factory=time.monotonic)
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def text(self) -> str:
        """One scrape."""
        now = time.monotonic()
        due, self.at = RATE * (now - self.at), now
        for name in self.names:
            weight = self.routes.weights.get(name, 0)
            twin = f"{name}-canary"
            wrong = self._errors(due * weight / 100) if self.bad else 0
            self._add(name, 200, due * (100 - weight) / 100)
            if weight or (twin, 200) in self.counts:
                self._add(twin, 500, wrong)
                self._add(twin, 200, due * weight / 100 - wrong)
        lines = [
            f'traefik_service_requests_total{{code="{code}",method="GET",protocol="http",'
            f'service="{self.namespace}-{service}-http-80@kubernetesgateway"}} {int(count)}'
            for (service, code), count in self.counts.items()
        ]
        kind = "# TYPE traefik_service_requests_total counter"
        return "\n".join((kind, *lines)) + "\n"

    def _errors(self, requests: float) -> int:
        return sum(self.dice.random() < BAD_SHARE for _ in range(int(requests)))

    def _add(self, service: str, code: int, count: float) -> None:
        key = (service, code)
        self.counts[key] = self.counts.get(key, 0.0) + max(0.0, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a minute of the daemon costs."""

    requests: float
    """At the API server."""
    about_one: float
    """Those of them that name one object in the targets' namespace."""
    queries: float
    cpu_seconds: float
    rss_mib: float


@dataclass(slots=True, kw_only=True)
class Stage:
    """A place with scripted counters and a Prometheus of its own."""

    place: Place
    counters: Counters
    prometheus: str

    async def add(self, names: Sequence[str], replicas: int) -> None:
        """So many targets, each with a Service and a route."""
        limit = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._target(name, replicas, limit) for name in names))
        self.counters.names.extend(names)

    async def _target(self, name: str, replicas: int, limit: asyncio.Semaphore) -> None:
        app = self.place.app(name)
        made = deployment(name, replicas=replicas, annotations=POLICY)
        container = made["spec"]["template"]["spec"]["containers"][0]
        container["image"] = "registry.example/pause:v1"
        del container["readinessProbe"]
        async with limit:
            await app.create("deployments", made)
            await app.create("services", service(name))
            await app.create("httproutes", route(name, app.host))

    async def begin(self, names: Sequence[str]) -> None:
        """Deploy v2 to these and wait until each canary has its weight."""
        patch = {"spec": {"template": {"metadata": {"annotations": {"version": "v2"}}}}}
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with limit:
                answer = await self.place.app(name).patch("deployments", patch)
                assert answer.status == 200, answer.content

        await asyncio.gather(*(one(name) for name in names))

        async def raised() -> bool:
            return all(name in self.place.routes.raised for name in names)

        await self.place.until(raised, 600.0, f"{len(names)} canaries have their weight")
        await asyncio.sleep(CALM_SECONDS)

    async def cost(self, seconds: float) -> Cost:
        """Of the next seconds."""
        process = self.place.daemon.process
        assert process is not None
        began, since = time.monotonic(), datetime.now(UTC)
        queries, busy = await self._queries(), cpu_seconds(process.pid)
        await asyncio.sleep(seconds)
        took, until = time.monotonic() - began, datetime.now(UTC)
        after, busy = await self._queries(), cpu_seconds(process.pid) - busy

        def of_then(event: dict[str, Any]) -> bool:
            came = datetime.fromisoformat(event["requestReceivedTimestamp"])
            return since <= came < until and event["stage"] != "ResponseStarted"

        asked = await asyncio.to_thread(self.place.cluster.audited, of_then, user=USER)
        named = [
            event
            for event in asked
            if event.get("objectRef", {}).get("namespace") == self.place.namespace
            and event["objectRef"].get("name")
        ]
        return Cost(
            requests=per_minute(0, len(asked), took),
            about_one=per_minute(0, len(named), took),
            # The question itself is not one of them: it goes to another door.
            queries=per_minute(queries, after, took),
            cpu_seconds=per_minute(0, busy, took),
            rss_mib=rss_mib(process.pid),
        )

    async def _queries(self) -> float:
        async with plain() as http:
            text = (await http.get(f"{self.prometheus}/metrics")).text
        series = r'prometheus_http_requests_total\{.*handler="/api/v1/query".*\} (\S+)'
        found = re.findall(f"^{series}$", text, re.MULTILINE)
        return sum(map(float, found))

    async def breach(self, names: Sequence[str]) -> list[float]:
        """Half of what every canary answers is bad from now on: visible to weight 0 of each."""
        self.counters.bad = True

        async def zeroed() -> bool:
            return all(name in self.place.routes.zeroed for name in names)

        await self.place.until(zeroed, STOP_SECONDS, "weight 0 everywhere", every=0.5)
        query = 'traefik_service_requests_total{code="500"}[5m]'
        visible = await first_bad(self.prometheus, query)
        zeroed_at = self.place.routes.zeroed
        keys = {
            name: f"{self.place.namespace}-{name}-canary-http-80@kubernetesgateway"
            for name in names
        }
        # Where the metrics store was silent too long the weight was taken away before any error.
        return [zeroed_at[name] - visible[key] for name, key in keys.items() if key in visible]


@contextlib.asynccontextmanager
async def stage(cluster: Cluster, scrape: float) -> AsyncIterator[Stage]:
    """A place whose counters are scraped so often; its daemon is not started yet."""
    prometheus = f"http://127.0.0.1:{free_port()}"
    async with place(cluster, prometheus=prometheus) as found:
        counters = Counters(namespace=found.namespace, routes=found.routes)

        async def answer(_: Request) -> Response:
            return PlainTextResponse(counters.text())

        app = Starlette(routes=[Route("/metrics", answer)])
        async with app_serving(app) as url:
            child = await _prometheus(found.daemon.folder, prometheus, url, scrape)
            try:
                yield Stage(place=found, counters=counters, prometheus=prometheus)
            finally:
                await child.stop()


async def _prometheus(folder: Path, address: str, scraped: str, scrape: float) -> Child:
    config = {
        "global": {"scrape_interval": f"{scrape:g}s", "scrape_timeout": f"{scrape:g}s"},
        "scrape_configs": [
            {
                "job_name": "traefik",
                "static_configs": [{"targets": [scraped.removeprefix("http://")]}],
            }
        ],
    }
    file = folder / "prometheus.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    child = await Child.start(
        "prometheus",
        (
            build.programs(make=False).prometheus,
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={address.removeprefix('http://')}",
            "--log.level=warn",
        ),
        log=folder / "prometheus.log",
    )
    await parts.answers(child, f"{address}/-/ready")
    return child


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much to measure."""

    targets: int
    runs: int
    window: float
    scrape: float


async def measure(cluster: Cluster, size: Size) -> list[Line]:
    """At rest, with a few runs, with more, and those breached at once."""
    names = [f"app-{number:04}" for number in range(size.targets)]
    going = names[: size.runs]
    async with stage(cluster, size.scrape) as found:
        await found.add(going, replicas=1)
        await found.add(names[size.runs :], replicas=0)
        began = time.monotonic()
        await start(found.place, size.targets)
        adopted = time.monotonic() - began
        await asyncio.sleep(CALM_SECONDS)
        rest = await found.cost(size.window)
        await found.begin(going[:FEW_RUNS])
        few = await found.cost(size.window)
        await found.begin(going[FEW_RUNS:])
        many = await found.cost(size.window)
        breached = await found.breach(going)
    n, r = size.targets, size.runs
    return [
        Line(what=f"start until all {n} targets are touched", value=adopted, unit="s"),
        Line(what=f"RSS with {n} targets at rest", value=rest.rss_mib, unit="MiB"),
        Line(what=f"API requests/min, {n} targets at rest", value=rest.requests),
        Line(what="  of these about one target", value=rest.about_one, goal=0),
        Line(what=f"CPU s/min, {n} targets at rest", value=rest.cpu_seconds, unit="s"),
        Line(what=f"Prometheus queries/min, {n} targets at rest", value=rest.queries, goal=0),
        Line(what=f"Prometheus queries/min, {r} runs, {size.scrape:g} s scrape",
             value=many.queries),
        Line(what=f"  ratio {r} to {FEW_RUNS} runs", value=ratio(many.queries, few.queries),
             note="1: none per run; less: a look takes longer"),
        Line(what=f"API requests/min, {r} runs", value=many.requests),
        Line(what=f"RSS with {n} targets and {r} runs", value=many.rss_mib, unit="MiB", goal=200),
        Line(what=f"CPU s/min, {n} targets and {r} runs", value=many.cpu_seconds, unit="s",
             goal=15),
        *spread(f"{r} bad at once: visible to weight 0", breached, goals=(None, 4.0),
                p50={ARGO: 79, FLAGGER: 15.6}, p99={ARGO: 108, FLAGGER: 19.7},
                note=f"of {r}, the others lost their weight before; no history; peers with 100"),
    ]  # fmt: skip
