# SPDX-License-Identifier: Apache-2.0
"""What a real Prometheus scraped of both data planes and of the pods, held against the answers."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping

import httpx
import pytest

from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.providers import choose
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey, TrackSeries
from tests.cluster.conftest import Lab, Space
from tests.cluster.lab.application import PORT, App, deployment, service, until
from tests.support.realtime import plain

pytestmark = pytest.mark.timeout(300)

STABLE_ERRORS, CANARY_ERRORS = "0.02", "0.3"


async def both_versions(shop: App) -> str:
    """Stable and a canary of its own, both behind the route; the hash of stable's pods."""
    await shop.start(replicas=3, env={"ERROR_RATE": STABLE_ERRORS})
    twin = f"{shop.name}-canary"
    env = {"ERROR_RATE": CANARY_ERRORS}
    await shop.create("deployments", deployment(twin, version="v2", replicas=2, env=env))
    await shop.create("services", service(twin))

    async def ready() -> bool:
        return (await shop.ready())["v2"] == 2

    await until(ready, 60.0, "both canary pods are ready")
    backends = [
        {"name": shop.name, "port": 80, "weight": 70},
        {"name": twin, "port": 80, "weight": 30},
    ]
    route = await shop.read("httproutes")
    route["spec"]["rules"][0]["backendRefs"] = backends
    answer = await shop.send("PUT", shop.path("httproutes", shop.name), route)
    assert answer.status == 200, answer.content
    (first,) = {
        pod["metadata"]["labels"]["pod-template-hash"]
        for pod in await shop.pods()
        if pod["metadata"]["labels"]["app"] == shop.name
    }
    return str(first)


@pytest.mark.parametrize("plane", ["traefik", "envoy"])
async def test_what_was_counted_is_what_was_answered(
    lab: Lab, space: Space, app: Callable[..., App], plane: str
) -> None:
    shop = app(gateway=plane)
    stable_hash = await both_versions(shop)
    gateway = getattr(lab.cluster, plane)

    async def split() -> bool:
        return set(await asked(f"http://{gateway}/", shop.host, 20)) >= {("v1", 200), ("v2", 200)}

    await until(split, 60.0, "the weights are in force", every=1.0)
    # What was answered until here is counted too: from now on it is differences that count.
    client = Prometheus(lab.prometheus_url, choose([plane, "application"]), now=time.time)
    services: dict[str, TrackKey] = {
        "v1": ServiceKey(space.name, "checkout"),
        "v2": ServiceKey(space.name, "checkout-canary"),
    }
    pods: dict[str, TrackKey] = {
        "v1": PodsKey(space.name, "checkout", stable_hash),
        "v2": PodsKey(space.name, "checkout-canary", ""),
    }
    keys = (*services.values(), *pods.values())
    before = await at_rest(client, keys)
    through = await asked(f"http://{gateway}/", shop.host, 1200)
    past: Counter[tuple[str, int]] = Counter()
    for pod in await shop.pods():
        past += await asked(f"http://{pod['status']['podIP']}:{PORT}/", shop.host, 30)
    after = await at_rest(client, keys)
    await client.close()

    assert set(through) | set(past) == {(v, code) for v in ("v1", "v2") for code in (200, 500)}
    for version in ("v1", "v2"):
        assert grown(before, after, services[version]) == seen(through, version)
        assert grown(before, after, pods[version]) == seen(through + past, version)
        assert after[services[version]].buckets
        assert after[pods[version]].buckets


async def asked(url: str, host: str, count: int) -> Counter[tuple[str, int]]:
    """So many requests, ten at a time; the answers by version and status."""
    found: Counter[tuple[str, int]] = Counter()
    left = iter(range(count))

    async def one_after_another(http: httpx.AsyncClient) -> None:
        for _ in left:
            answer = await http.get(url, headers={"Host": host})
            found[answer.headers.get("X-Version", "nobody"), answer.status_code] += 1

    async with plain() as http:
        await asyncio.gather(*(one_after_another(http) for _ in range(10)))
    return found


def seen(answers: Counter[tuple[str, int]], version: str) -> tuple[int, int]:
    """Requests and errors of a version."""
    bad = answers[version, 500]
    return answers[version, 200] + bad, bad


Found = Mapping[TrackKey, TrackSeries]


def sums(found: Found, key: TrackKey) -> tuple[int, int]:
    """Requests and errors as the counters of a key show them."""
    series = found.get(key, TrackSeries())
    requests = sum(one.samples[-1].value for one in series.requests)
    errors = sum(one.samples[-1].value for one in series.errors)
    return round(requests), round(errors)


def grown(before: Found, after: Found, key: TrackKey) -> tuple[int, int]:
    """By how much they have grown."""
    early, late = sums(before, key), sums(after, key)
    return late[0] - early[0], late[1] - early[1]


async def at_rest(client: Prometheus, keys: Collection[TrackKey]) -> Found:
    """The counters once the last answers are scraped: none has moved for three scrapes."""
    found: list[Found] = [{}]

    async def still() -> bool:
        found.append((await client.samples(10, keys)).series)
        before, now = found[-2:]
        return bool(before) and all(sums(before, key) == sums(now, key) for key in keys)

    await until(still, 60.0, "the counters stand still", every=3.0)
    return found[-1]
