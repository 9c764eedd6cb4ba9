# SPDX-License-Identifier: Apache-2.0
"""A real Traefik that has its routes from the Gateway API, and our own client that counts.

The API server is the simulated one; the names of the Services are those that Traefik gives them.
"""

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from controller.core.evidence.series import ServiceKey
from controller.demo import binaries, manifests, simulated
from controller.demo.ground import Ground
from tests.metrics import scraped
from tests.support import by_hand
from tests.support.realtime import plain

CANARY = ServiceKey(manifests.NAMESPACE, by_hand.NAME)
STABLE = ServiceKey(manifests.NAMESPACE, manifests.APP)

SENT = 120
SPLIT_SECONDS = 30.0
"""From the route to an answer of each version; Traefik takes changes every two seconds."""

Answers = Counter[tuple[str, bool]]
"""By version, and whether it was an error."""


async def ask(url: str, count: int) -> Answers:
    """So many requests, twenty at a time."""
    found: Answers = Counter()
    left = iter(range(count))

    async def one_after_another(http: httpx.AsyncClient) -> None:
        for _ in left:
            answer = await http.get(url)
            found[answer.headers.get("x-version", ""), answer.is_server_error] += 1

    async with plain() as http:
        await asyncio.gather(*(one_after_another(http) for _ in range(20)))
    return found


def seen(answers: Answers, version: str) -> tuple[int, int]:
    """Requests and errors of a version."""
    return answers[version, False] + answers[version, True], answers[version, True]


async def split(ground: Ground) -> Answers:
    """Both versions behind one route; returns what was answered until each was heard of."""
    await ground.api.create(manifests.service())
    await ground.api.create(manifests.deployment("v1", {"ERROR_RATE": "0.1"}, {}, replicas=1))
    await by_hand.available(ground.api, manifests.APP)
    await by_hand.pin(ground.api)
    # Between two bounds of Traefik's own, 1.2 and 5 s.
    slow = {"SLOW_RATE": "1", "SLOW_MS": "1500"}
    await by_hand.canary(ground.api, {"ERROR_RATE": "0.4", **slow})
    await ground.api.create(manifests.route())
    await by_hand.weigh(ground.api, 20)
    found: Answers = Counter()
    async with asyncio.timeout(SPLIT_SECONDS):
        while not {who for who, _ in found} >= {"v1", "v2"}:
            await asyncio.sleep(0.1)
            found += await ask(f"http://{ground.address}/", 10)
    return found


@pytest.mark.slow
async def test_every_request_through_a_real_traefik_is_counted(tmp_path: Path) -> None:
    with scraped.needed("TRAEFIK"):
        programs = binaries.find()
    async with (
        simulated.ground(programs, tmp_path) as ground,
        scraped.reading(ground.prometheus, ["traefik"]) as client,
    ):
        before = await split(ground)
        counts = scraped.Counts(client, CANARY, STABLE)
        await counts.begin(canary=seen(before, "v2")[0], stable=seen(before, "v1")[0])
        answers = await ask(f"http://{ground.address}/", SENT)
        canary, stable = seen(answers, "v2"), seen(answers, "v1")
        assert canary[0] + stable[0] == SENT
        await counts.reach(canary=canary[0], stable=stable[0])
    assert (counts.canary.requests, counts.canary.errors) == canary
    assert (counts.stable.requests, counts.stable.errors) == stable
    # That either had no error happens once in ten thousand.
    assert min(*canary, *stable) > 0
    assert (counts.canary.timed, counts.canary.slower_than(1.2)) == (canary[0], canary[0])
    assert (counts.stable.timed, counts.stable.slower_than(5.0)) == (stable[0], 0)
    # A quick answer may be held up on a busy machine.
    assert (counts.stable.slower_than(1.2) or 0) < stable[0] / 10
