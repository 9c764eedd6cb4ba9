# SPDX-License-Identifier: Apache-2.0
"""The stopwatch: it looks from outside, at the API server, at Prometheus and at what clients saw.

Only one figure needs the daemon's word: when its verdict stood. Everything runs on one machine and
so on one wall clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from controller.demo import manifests
from controller.demo.api import Api, Object
from controller.demo.counts import Seen, share

LAG_SECONDS = 2.2
"""From a weight in the API server to all requests obeying it: Traefik's throttle of 2 s, and
the time of an answer."""

WHOLE_BP = 10_000
_WINDOW = "3m"


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

    async def follow(self, api: Api) -> None:
        """Note every change until cancelled."""
        async for at, _, route in api.watch("HTTPRoute", manifests.NAMESPACE):
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


async def canary_samples(prometheus: str, metric: str) -> list[Series]:
    """Raw samples of the canary's series of a Traefik metric; raises httpx.HTTPError."""
    service = f"{manifests.NAMESPACE}-{manifests.APP}-canary-"
    query = f'{metric}{{service=~".*{service}.*"}}[{_WINDOW}]'
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
        response = await http.get(f"{prometheus}/api/v1/query", params={"query": query})
        response.raise_for_status()
        result: list[dict[str, Any]] = response.json()["data"]["result"]
    return [
        (series["metric"], [(float(at), float(value)) for at, value in series["values"]])
        for series in result
    ]


async def first_bad(prometheus: str, *, slow_seconds: float | None = None) -> float | None:
    """Time of the first scrape that shows a bad answer of the canary.

    Bad is 5xx; with `slow_seconds` an answer above that bucket bound is bad as well.
    """
    requests = await canary_samples(prometheus, "traefik_service_requests_total")
    times = [
        at
        for labels, samples in requests
        if labels.get("code", "").startswith("5")
        for at, value in samples
        if value > 0
    ]
    if slow_seconds is not None:
        name = "traefik_service_request_duration_seconds"
        times += first_above(
            await canary_samples(prometheus, f"{name}_count"),
            await canary_samples(prometheus, f"{name}_bucket"),
            bound=slow_seconds,
        )
    return min(times, default=None)


def first_above(
    counts: Iterable[Series], buckets: Iterable[Series], *, bound: float
) -> list[float]:
    """Scrape times at which more answers are counted than lie within `bound`."""
    total: dict[float, float] = {}
    within: dict[float, float] = {}
    for _, samples in counts:
        for at, value in samples:
            total[at] = total.get(at, 0.0) + value
    for labels, samples in buckets:
        if float(labels["le"]) == bound:
            for at, value in samples:
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
