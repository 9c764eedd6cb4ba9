# SPDX-License-Identifier: Apache-2.0
"""What the daemon costs as targets and runs grow, and how many bad canaries it stops at once.

The daemon is the real process; the cluster around it is simulated and in real time. Three stages,
each with a daemon of its own: a few targets, many targets with a few and then more runs of which
all turn bad at once, and as many runs as targets that turn bad or are killed at once.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from tests.bench.figures import ARGO, FLAGGER, Line, per_minute, ratio, spread
from tests.bench.rig import Reading, Rig, rig
from tests.support.realtime import plain

SCRAPE_SECONDS: Final = 1.0
RATE: Final = 400.0
"""Requests per second and target."""

BAD_SHARE: Final = 0.5
STOP_SECONDS: Final = 60.0
ALL_SECONDS: Final = 10.0
"""Of counting with a run on every target: processor time and queries are even from the first."""

PAST: Final = "no history"
"""The simulated store has no subqueries, so the daemon assumes phi = 3: a scrape more."""

FEW_TARGETS: Final = 10
FEW_RUNS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much to measure."""

    targets: int = 100
    runs: int = 20
    window: float = 50.0
    """Seconds of each count; whole resync periods (50 s), or the lists fall in unevenly."""
    scrape: float = SCRAPE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a minute costs."""

    requests: float
    queries: float
    cpu_seconds: float
    rss_mib: float

    @classmethod
    def between(cls, before: Reading, after: Reading) -> "Cost":
        """From two readings."""
        seconds = after.at - before.at
        return cls(
            requests=per_minute(before.requests, after.requests, seconds),
            queries=per_minute(before.queries, after.queries, seconds),
            cpu_seconds=per_minute(before.cpu_seconds, after.cpu_seconds, seconds),
            rss_mib=after.rss_mib,
        )


@dataclass(slots=True, kw_only=True)
class Found:
    """Everything measured."""

    rss_start: float = 0.0
    few: Cost | None = None
    many: Cost | None = None
    adopt_seconds: float = 0.0
    adopt_requests: int = 0
    some_runs: Cost | None = None
    more_runs: Cost | None = None
    breach: list[float] = field(default_factory=list)
    breach_all: list[float] = field(default_factory=list)
    kill_all: list[float] = field(default_factory=list)
    kill_answer: float | None = None
    all_runs: Cost | None = None


async def watch(rig: Rig, seconds: float) -> Cost:
    """The cost of the next seconds."""
    before = rig.read()
    await asyncio.sleep(seconds)
    return Cost.between(before, rig.read())


async def few(size: Size, found: Found) -> None:
    """Resident memory of a daemon without targets, then the cost of a few at rest."""
    async with rig(scrape_seconds=size.scrape) as stage:
        await stage.start()
        await asyncio.sleep(2)
        found.rss_start = stage.read().rss_mib
        await stage.add(FEW_TARGETS, rate=RATE)
        await stage.until(stage.managed)
        await asyncio.sleep(5)
        found.few = await watch(stage, size.window)


async def many(size: Size, found: Found) -> None:
    """Many targets at rest, with a few runs, with more, and those breached at once."""
    async with rig(scrape_seconds=size.scrape) as stage:
        await stage.add(size.targets, rate=RATE)
        began = time.monotonic()
        await stage.start()
        await stage.until(stage.managed)
        found.adopt_seconds = time.monotonic() - began
        found.adopt_requests = stage.requests
        await asyncio.sleep(5)
        found.many = await watch(stage, size.window)
        await stage.begin(stage.names[:FEW_RUNS])
        found.some_runs = await watch(stage, size.window)
        await stage.begin(stage.names[FEW_RUNS : size.runs])
        found.more_runs = await watch(stage, size.window)
        found.breach = await breach(stage, stage.names[: size.runs])


async def all_bad(size: Size, found: Found) -> None:
    """Every target has a run; all turn bad at once."""
    async with rig(scrape_seconds=size.scrape) as stage:
        await _everything(stage, size)
        found.all_runs = await watch(stage, ALL_SECONDS)
        found.breach_all = await breach(stage, stage.names)


async def all_killed(size: Size, found: Found) -> None:
    """Every target has a run; the kill switch is pulled."""
    async with rig(scrape_seconds=size.scrape) as stage:
        await _everything(stage, size)
        pulled = stage.world.wall.timestamp()
        async with plain(stage.url, seconds=60.0) as http:
            answer = await http.post("/v1/kill?wait=30")
            assert answer.status_code == httpx.codes.OK, answer.text
        found.kill_answer = stage.world.wall.timestamp() - pulled
        found.kill_all = [stage.zeroed[name] - pulled for name in stage.names]


async def _everything(stage: Rig, size: Size) -> None:
    await stage.add(size.targets, rate=RATE)
    await stage.start()
    await stage.until(stage.managed)
    await stage.begin(stage.names)


async def breach(stage: Rig, names: Sequence[str]) -> list[float]:
    """Half of what every canary answers is bad from now on: visible to weight 0 of each."""
    stage.world.virtual.behave("v2", error_rate=BAD_SHARE)
    await stage.until(lambda: all(name in stage.zeroed for name in names), STOP_SECONDS)
    visible = await first_bad(stage)
    return [stage.zeroed[name] - visible[name] for name in names]


async def first_bad(stage: Rig) -> dict[str, float]:
    """The first scrape that shows an error of each target's canary."""
    query = {"query": 'traefik_service_requests_total{code="500"}[5m]'}
    _, _, body = await stage.world.prometheus.handle("GET", "/api/v1/query", query, {}, b"")
    found: dict[str, float] = {}
    for series in json.loads(body)["data"]["result"]:
        for name in stage.names:
            if f"-{name}-canary-" in series["metric"]["service"]:
                found[name] = min(float(at) for at, value in series["values"] if float(value) > 0)
    return found


async def measure(size: Size) -> Found:
    """All stages, one after the other."""
    found = Found()
    for stage in (few, many, all_bad, all_killed):
        await stage(size, found)
    return found


def lines(found: Found, size: Size) -> list[Line]:
    """The figures for people."""
    at_rest, busy = found.many, found.more_runs
    assert at_rest is not None and busy is not None  # noqa: PT018
    assert found.few is not None and found.some_runs is not None  # noqa: PT018
    assert found.all_runs is not None
    n, r = size.targets, size.runs
    return [
        Line(what="RSS at start, no targets", value=found.rss_start, unit="MiB", goal=80),
        Line(what=f"RSS with {n} targets at rest", value=at_rest.rss_mib, unit="MiB",
             peers={ARGO: 147, FLAGGER: 76}),
        Line(what=f"RSS with {r} runs", value=busy.rss_mib, unit="MiB",
             peers={ARGO: 161, FLAGGER: 84}),
        Line(what=f"RSS with {n} runs", value=found.all_runs.rss_mib, unit="MiB", goal=200),
        Line(what=f"start until all {n} targets are touched", value=found.adopt_seconds, unit="s",
             peers={ARGO: 19.9, FLAGGER: 10.5}),
        Line(what="  API requests for that", value=found.adopt_requests, peers={FLAGGER: 6955}),
        Line(what=f"API requests/min, {n} targets at rest", value=at_rest.requests,
             peers={ARGO: 94, FLAGGER: 6000}),
        Line(what=f"  ratio {n} to {FEW_TARGETS} targets",
             value=ratio(at_rest.requests, found.few.requests), note="1: none per target"),
        Line(what=f"Prometheus queries/min, {n} targets at rest", value=at_rest.queries, goal=0),
        Line(what=f"API requests/min, {r} runs", value=busy.requests,
             peers={ARGO: 425, FLAGGER: 6610}),
        Line(what=f"Prometheus queries/min, {r} runs, {size.scrape:g} s scrape",
             value=busy.queries, peers={ARGO: 241, FLAGGER: 110}),
        Line(what=f"  ratio {r} to {FEW_RUNS} runs",
             value=ratio(busy.queries, found.some_runs.queries),
             note="1: none per run; less: a look takes longer"),
        Line(what=f"CPU s/min, {n} targets at rest", value=at_rest.cpu_seconds,
             peers={ARGO: 0.35, FLAGGER: 3.9}),
        Line(what=f"CPU s/min, {r} runs", value=busy.cpu_seconds,
             peers={ARGO: 1.3, FLAGGER: 4.4}),
        Line(what=f"CPU s/min, {n} runs", value=found.all_runs.cpu_seconds, unit="s", goal=15),
        *spread(f"{r} bad at once: visible to weight 0", found.breach, note=PAST),
        *spread(f"{n} bad at once: visible to weight 0", found.breach_all, goals=(None, 2.0),
                p50={ARGO: 79, FLAGGER: 15.6}, p99={ARGO: 108, FLAGGER: 19.7}, note=PAST),
        *spread(f"{n} runs killed: sent to weight 0", found.kill_all, goals=(None, 1.0)),
        Line(what="  answered 200, in force", value=found.kill_answer, unit="s"),
    ]  # fmt: skip


async def main(size: Size) -> list[Line]:
    """Measure and tell."""
    return lines(await measure(size), size)
