# SPDX-License-Identifier: Apache-2.0
"""The stopwatch: it looks from outside, at the API server, at Prometheus and at what clients saw.

Only one figure needs the daemon's word: when its verdict stood. All of it runs by one wall clock;
what Prometheus' own is ahead is taken off its samples.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from controller.demo import manifests
from controller.demo.api import Api, Object
from controller.demo.counts import Seen, share
from controller.demo.ground import Ground

LAG_SECONDS = 2.2
"""From a weight in the API server to all requests obeying it: Traefik's throttle of 2 s, and
the time of an answer."""

WHOLE_BP = 10_000
_WINDOW = "3m"

QUERY_SECONDS = 5.0


def canary_bp(route: Object) -> int:
    """The share that a route asks for the canary, in basis points, over all its rules' most."""
    shares = [0]
    for rule in route["spec"].get("rules") or ():
        weights = {ref["name"]: ref.get("weight", 1) for ref in rule.get("backendRefs") or ()}
        total = sum(weights.values())
        canary = weights.get(f"{manifests.APP}-canary", 0)
        shares.append(round(canary * WHOLE_BP / total) if total else 0)
    return max(shares)


@dataclass(slots=True, kw_only=True)
class Weights:
    """The canary's weight over time, as a watch at the API server showed it."""

    changes: list[tuple[float, int]] = field(default_factory=list)
    """Time and basis points; only changes."""

    async def follow(self, api: Api, namespace: str) -> None:
        """Note every change until cancelled."""
        async for at, _, route in api.watch("HTTPRoute", namespace):
            if route["metadata"]["name"] == manifests.APP:
                self.note(at, canary_bp(route))

    def note(self, at: float, weight_bp: int) -> None:
        """The weight is so from `at` on."""
        if not self.changes or self.changes[-1][1] != weight_bp:
            self.changes.append((at, weight_bp))

    @property
    def now_bp(self) -> int:
        """The present weight."""
        return self.changes[-1][1] if self.changes else 0

    def zero_after(self, since: float) -> float | None:
        """When the weight first fell to 0 after `since`."""
        return next((at for at, weight in self.changes if at >= since and weight == 0), None)

    def steps(self, seen: Seen, end: float) -> list[tuple[float, float]]:
        """Share asked for and share got, of each weight on the way up, the bake included.

        The hand-back after a promotion is left out: both sides are the same version then.
        """
        found: list[tuple[float, float]] = []
        ends = [at for at, _ in self.changes[1:]] + [end]
        for (at, weight), until in zip(self.changes, ends, strict=True):
            if weight >= WHOLE_BP:
                break
            got = share(seen.between(at + LAG_SECONDS, until), lambda version: version != "v1")
            if weight > 0 and got is not None:
                found.append((weight / WHOLE_BP, got))
        return found


Sample = tuple[float, float]
"""Scrape time and value."""


Series = tuple[Mapping[str, str], Sequence[Sample]]
"""Labels and samples."""


async def samples(ground: Ground, metric: str, service: str) -> list[Series]:
    """Raw samples of a Service's series at the gateway, by our clock; raises httpx.HTTPError."""
    selector = ground.signals.selector(ground.team.namespace, service)
    found = await _query(ground.prometheus, f"{metric}{{{selector}}}[{_WINDOW}]")
    ahead = ground.prometheus_ahead
    return [
        (series["metric"], [(float(at) - ahead, float(value)) for at, value in series["values"]])
        for series in found
    ]


async def _query(prometheus: str, query: str) -> Any:
    async with httpx.AsyncClient(timeout=QUERY_SECONDS, trust_env=False) as http:
        response = await http.get(f"{prometheus}/api/v1/query", params={"query": query})
        return response.raise_for_status().json()["data"]["result"]


async def clock_ahead(prometheus: str) -> float:
    """Seconds by which its clock is ahead of ours, to half a round trip; raises httpx.HTTPError."""
    before = time.time()
    there = float((await _query(prometheus, "time()"))[1])
    return there - (before + time.time()) / 2


async def scrape_seconds(ground: Ground, service: str) -> float | None:
    """Seconds between the last two samples of a Service's requests; None while there is one."""
    found = await samples(ground, ground.signals.requests, service)
    gaps = [values[-1][0] - values[-2][0] for _, values in found if len(values) > 1]
    return min(gaps, default=None)


async def first_bad(ground: Ground, *, slow: bool = False) -> float | None:
    """Time of the first scrape that shows a bad answer of the canary.

    Bad is 5xx; with `slow` an answer above the bucket bound of the signals is bad as well.
    """
    signals, service = ground.signals, f"{manifests.APP}-canary"
    requests = await samples(ground, signals.requests, service)
    times = [
        at
        for labels, values in requests
        if labels.get(signals.code, "").startswith("5")
        for at, value in values
        if value > 0
    ]
    if slow:
        times += first_above(
            await samples(ground, f"{signals.duration}_count", service),
            await samples(ground, f"{signals.duration}_bucket", service),
            bound=signals.slow_seconds / signals.unit_seconds,
        )
    return min(times, default=None)


def first_above(
    counts: Iterable[Series], buckets: Iterable[Series], *, bound: float
) -> list[float]:
    """Scrape times at which more answers are counted than lie within `bound`."""
    total: dict[float, float] = {}
    within: dict[float, float] = {}
    for _, values in counts:
        for at, value in values:
            total[at] = total.get(at, 0.0) + value
    for labels, values in buckets:
        if math.isclose(float(labels["le"]), bound):
            for at, value in values:
                within[at] = within.get(at, 0.0) + value
    return [at for at, value in total.items() if value > within.get(at, 0.0)]


def verdict_at(journal: Iterable[Mapping[str, Any]]) -> float | None:
    """When the verdict stood that sent the run back, by the daemon's own record.

    The record itself is written after weight 0 was, and so says when it was decided.
    """
    for record in journal:
        body = record.get("body") or {}
        outcome = (body.get("verdict") or {}).get("outcome")
        if record.get("kind") == "decision" and outcome == "fail" and "decided_at" in body:
            return datetime.fromisoformat(body["decided_at"]).timestamp()
    return None


def between(start: float | None, end: float | None) -> float | None:
    """Seconds from one moment to another, in milliseconds' precision; None if one is missing."""
    return None if start is None or end is None else round(end - start, 3)
