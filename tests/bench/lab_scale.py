# SPDX-License-Identifier: Apache-2.0
"""On the lab: what the daemon costs as targets and runs grow, and many bad or killed at once.

Deployments, Services and routes are real objects of a real API server, and the pods of those that
get a run are real to it; no process stands behind them, because a hundred applications with clients
would measure this machine and not the daemon. What their gateway would count is written by a script
which follows the routes' weights at once, and is scraped by a real Prometheus.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from controller.core.values import WHOLE_BP
from controller.demo.process import Child
from tests.bench.figures import ARGO, FLAGGER, Line, per_minute, ratio, spread
from tests.bench.lab_rig import Place, Routes, first_bad, place, start
from tests.bench.rig import cpu_seconds, rss_mib
from tests.cluster.installed import Installed
from tests.cluster.lab import build, parts
from tests.cluster.lab.application import deployment, route, service
from tests.manifests.rendered import CONTROLLER
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
RAISED_SECONDS = 300.0
"""For the first weights of a hundred canaries, begun at once."""


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
            weight_bp = self.routes.weights.get(name, 0)
            canary = due * weight_bp / WHOLE_BP
            twin = f"{name}-canary"
            wrong = self._errors(canary) if self.bad else 0
            self._add(name, 200, due - canary)
            if weight_bp or (twin, 200) in self.counts:
                self._add(twin, 500, wrong)
                self._add(twin, 200, canary - wrong)
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
    """At Prometheus."""
    per_look: float | None
    """Queries of one look, which is for all runs; None where nothing was looked at."""
    cpu_seconds: float
    rss_mib: float
    load: float
    """The machine's, in the last minute of it."""


@dataclass(slots=True, kw_only=True)
class Stage:
    """A place with scripted counters and a Prometheus of its own."""

    place: Place
    counters: Counters
    prometheus: str
    calm: float
    """Seconds from a run's first weight until it costs what it will."""

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

        await self.place.until(raised, RAISED_SECONDS, f"{len(names)} canaries have their weight")
        await asyncio.sleep(self.calm)

    async def cost(self, seconds: float) -> Cost:
        """Of the next seconds."""
        process = self.place.daemon.process
        assert process is not None
        began, since = time.monotonic(), datetime.now(UTC)
        queries, looks = await self._queries(), await self._looks()
        busy = cpu_seconds(process.pid)
        await asyncio.sleep(seconds)
        took, until = time.monotonic() - began, datetime.now(UTC)
        busy = cpu_seconds(process.pid) - busy
        queries, looks = await self._queries() - queries, await self._looks() - looks

        def of_then(event: dict[str, Any]) -> bool:
            came = datetime.fromisoformat(event["requestReceivedTimestamp"])
            return since <= came < until and event["stage"] != "ResponseStarted"

        asked = await asyncio.to_thread(self.place.gate.cluster.audited, of_then, user=CONTROLLER)
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
            queries=per_minute(0, queries, took),
            per_look=ratio(queries, looks),
            cpu_seconds=per_minute(0, busy, took),
            rss_mib=rss_mib(process.pid),
            load=os.getloadavg()[0],
        )

    async def _queries(self) -> float:
        """That Prometheus has answered."""
        series = r'prometheus_http_requests_total\{.*handler="/api/v1/query".*\}'
        return await _counted(self.prometheus, series)

    async def _looks(self) -> float:
        """That the daemon has begun."""
        return await _counted(self.place.daemon.url, "switchgear_metrics_looks_total")

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

    async def kill(self, names: Sequence[str]) -> tuple[list[float], float]:
        """Stop everything: sent to weight 0 of each, and to the answer that it is in force."""
        pulled = time.time()
        async with plain(self.place.daemon.url, seconds=90.0) as http:
            answer = await http.post("/v1/kill?wait=60")
        answered = time.time() - pulled
        assert answer.status_code == httpx.codes.OK, answer.text
        zeroed_at = self.place.routes.zeroed

        async def told() -> bool:
            return all(name in zeroed_at for name in names)

        await self.place.until(told, STOP_SECONDS, "the watch has told of weight 0 everywhere")
        return [zeroed_at[name] - pulled for name in names], answered


async def _counted(url: str, series: str) -> float:
    """The sum of the counters that a door shows whose names match."""
    async with plain(url) as http:
        text = (await http.get("/metrics")).text
    return sum(map(float, re.findall(rf"^{series} (\S+)$", text, re.MULTILINE)))


@contextlib.asynccontextmanager
async def stage(gate: Installed, scrape: float, calm: float = CALM_SECONDS) -> AsyncIterator[Stage]:
    """A place whose counters are scraped so often; its daemon is not started yet."""
    prometheus = f"http://127.0.0.1:{free_port()}"
    async with place(gate, prometheus=prometheus) as found:
        counters = Counters(namespace=found.namespace, routes=found.routes)

        async def answer(_: Request) -> Response:
            return PlainTextResponse(counters.text())

        app = Starlette(routes=[Route("/metrics", answer)])
        async with app_serving(app) as url:
            child = await _prometheus(found.daemon.folder, prometheus, url, scrape)
            try:
                yield Stage(place=found, counters=counters, prometheus=prometheus, calm=calm)
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


async def measure(gate: Installed, size: Size) -> list[Line]:
    """At rest, with a few runs, with more, those breached at once, and as many killed at once."""
    return [*await _costs(gate, size), *await _killed(gate, size)]


async def _costs(gate: Installed, size: Size) -> list[Line]:
    names = [f"app-{number:04}" for number in range(size.targets)]
    going = names[: size.runs]
    async with stage(gate, size.scrape) as found:
        await found.add(going, replicas=1)
        await found.add(names[size.runs :], replicas=0)
        began = time.monotonic()
        await start(found.place, size.targets)
        adopted = time.monotonic() - began
        busy = os.getloadavg()[0]
        await asyncio.sleep(CALM_SECONDS)
        rest = await found.cost(size.window)
        await found.begin(going[:FEW_RUNS])
        few = await found.cost(size.window)
        await found.begin(going[FEW_RUNS:])
        many = await found.cost(size.window)
        breached = await found.breach(going)
    n, r = size.targets, size.runs
    return [
        Line(what=f"start until all {n} targets are touched", value=adopted, unit="s", load=busy),
        Line(what=f"RSS with {n} targets at rest", value=rest.rss_mib, unit="MiB", load=rest.load),
        Line(what=f"API requests/min, {n} targets at rest", value=rest.requests, load=rest.load),
        Line(what="  of these about one target", value=rest.about_one, goal=0, load=rest.load),
        Line(what=f"CPU s/min, {n} targets at rest", value=rest.cpu_seconds, unit="s",
             load=rest.load),
        Line(what=f"Prometheus queries/min, {n} targets at rest", value=rest.queries, goal=0,
             load=rest.load),
        Line(what=f"Prometheus queries/look, {FEW_RUNS} runs", value=few.per_look, load=few.load),
        Line(what=f"Prometheus queries/look, {r} runs", value=many.per_look, goal=few.per_look,
             load=many.load, note="flat: one look is for all runs"),
        Line(what=f"Prometheus queries/min, {r} runs, {size.scrape:g} s scrape",
             value=many.queries, load=many.load),
        Line(what=f"  ratio {r} to {FEW_RUNS} runs", value=ratio(many.queries, few.queries),
             load=many.load, note="1: none per run; less: a look takes longer"),
        Line(what=f"API requests/min, {r} runs", value=many.requests, load=many.load),
        Line(what=f"RSS with {n} targets and {r} runs", value=many.rss_mib, unit="MiB", goal=200,
             load=many.load),
        Line(what=f"CPU s/min, {n} targets and {r} runs", value=many.cpu_seconds, unit="s",
             goal=15, load=many.load),
        *spread(f"{r} bad at once: visible to weight 0", breached, goals=(None, 4.0),
                p50={ARGO: 79, FLAGGER: 15.6}, p99={ARGO: 108, FLAGGER: 19.7},
                load=os.getloadavg()[0],
                note=f"of {r}, the others lost their weight before; no history; peers with 100"),
    ]  # fmt: skip


async def _killed(gate: Installed, size: Size) -> list[Line]:
    """Nothing but those with a run: a kill looks at no others."""
    names = [f"app-{number:04}" for number in range(size.runs)]
    async with stage(gate, size.scrape) as found:
        await found.add(names, replicas=1)
        await start(found.place, size.runs)
        await found.begin(names)
        zeroed, answered = await found.kill(names)
    load, what = os.getloadavg()[0], f"{size.runs} runs killed at once: sent to weight 0 at the API"
    return [
        *spread(what, zeroed, goals=(None, 1.0), load=load),
        Line(what="  answered 200, in force", value=answered, unit="s", load=load),
    ]
