# SPDX-License-Identifier: Apache-2.0
"""How many queries are in flight at once, and who waits for whom."""

import asyncio

import httpx

from controller.adapters.prometheus.client import MOST_ASIDE, MOST_IN_FLIGHT
from controller.core.evidence.series import PodsKey
from tests.metrics.test_client import STABLE, client, good, query


async def test_no_more_queries_in_flight_than_the_store_can_take() -> None:
    now, most = 0, 0
    gate = asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == MOST_IN_FLIGHT:
            gate.set()
        await gate.wait()
        now -= 1
        return good(request)

    store = client(handler)
    await asyncio.gather(*(store.samples(10, [STABLE]) for _ in range(40)))
    assert most == MOST_IN_FLIGHT
    assert store.queries == 80


async def test_counts_are_answered_while_checks_of_teams_are_waited_for() -> None:
    gate = asyncio.Event()
    asked = 0

    async def handler(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        if "orders" not in query(request):
            return good(request)
        asked += 1
        await gate.wait()
        data = {"resultType": "vector", "result": []}
        return httpx.Response(200, json={"status": "success", "data": data})

    store = client(handler)
    pods = PodsKey("shop", "checkout", "5d9c7b6f48")
    text = "sum(rate(orders_total[1m]))"
    slow = [asyncio.ensure_future(store.value(text, [pods])) for _ in range(200)]
    async with asyncio.timeout(2.0):
        assert (await store.samples(10, [STABLE])).series
    assert asked == MOST_ASIDE
    gate.set()
    await asyncio.gather(*slow)
