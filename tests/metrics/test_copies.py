# SPDX-License-Identifier: Apache-2.0
"""Each answer counts once: of scrape targets that several scrape, of whom one goes and returns, and
of applications that count by labels which elsewhere say who scraped.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.core.evidence import past
from controller.core.evidence.samples import Cursor, difference
from controller.core.evidence.series import PodsKey, TrackSeries
from controller.core.evidence.tally import Interval
from tests.metrics import scraped
from tests.metrics.test_client import AT, COUNTER, HISTOGRAM, STABLE, client, matrix, query, row

PODS = PodsKey("shop", "checkout", "5d9c7b6f48")
POD = {
    "namespace": "shop", "pod": "checkout-5d9c7b6f48-bb2d4", "instance": "10.0.0.1:8080",
    "job": "checkout",
}  # fmt: skip

Labels = Mapping[str, str]
Values = Sequence[tuple[float, float]]
Rows = Iterable[tuple[Labels, Values]]
"""Labels beside those of the pod, and samples: seconds from the begin, and the value."""


@pytest.mark.parametrize(
    "copies",
    [
        ({"prometheus_replica": "a"}, {"prometheus_replica": "b"}),
        ({"replica": "0", "prometheus": "x"}, {"replica": "1", "prometheus": "y"}),
        ({"job": "pods"}, {"job": "services"}),
    ],
)
async def test_a_copy_that_goes_and_returns_brings_nothing_that_was_counted(
    copies: tuple[dict[str, str], dict[str, str]],
) -> None:
    """Both replicas of the store scrape; from the third look on one is down, and then it is back.

    200 requests a second, of which two fail, each counted once.
    """
    there = [(0, 1), (0, 1), (1,), (1,), (0, 1), (0, 1)]
    cursor, found = Cursor(), list[Interval]()
    for look, present in enumerate(there):

        def handler(
            request: httpx.Request, look: int = look, present: tuple[int, ...] = present
        ) -> httpx.Response:
            if query(request).startswith(HISTOGRAM):
                return matrix([])
            rows = []
            for copy in present:
                for code, each in (("200", 99), ("500", 1)):
                    made = row(COUNTER, "checkout", [], code=code, **copies[copy])
                    # One is scraped half a second after the other.
                    times = [2 * look + step + copy / 2 for step in (0, 1)]
                    made["values"] = [[AT + at, str(5000 + each * 2 * at)] for at in times]
                    rows.append(made)
            return matrix(rows)

        batch = await client(handler).samples(10, [STABLE])
        told = difference(cursor, None, batch.series[STABLE])
        cursor = told.cursor
        found += told.intervals
        assert not told.problems
    seconds = sum(one.seconds for one in found)
    assert sum(one.stable.requests for one in found) == 200 * seconds
    assert sum(one.stable.errors for one in found) == 2 * seconds
    assert seconds >= 10


async def looked(rows: Rows, bucket: str = "", *, history: float = 0.0) -> TrackSeries:
    """What a look, or a history of so many seconds, has of the pods where the store has these
    rows: counters, or a histogram's `bucket` beside one of a single row.
    """

    def handler(request: httpx.Request) -> httpx.Response:
        timed = "_bucket" in query(request)
        if timed and not bucket:
            return matrix([])
        found: list[dict[str, Any]] = [
            {
                "metric": {**POD, **({"le": bucket} if timed else {}), **labels},
                "values": [[AT + at, f"{value:g}"] for at, value in values],
            }
            for labels, values in rows
        ]
        return matrix(found)

    store = client(handler)
    batch = await (store.history(PODS, history) if history else store.samples(60, [PODS]))
    await store.close()
    return batch.series[PODS]


async def counted(looks: Iterable[Rows]) -> tuple[int, int]:
    """Requests and errors of all looks, one after the other."""
    cursor, found = Cursor(), list[Interval]()
    for rows in looks:
        told = difference(cursor, None, await looked(rows))
        cursor = told.cursor
        found += told.intervals
    return sum(one.stable.requests for one in found), sum(one.stable.errors for one in found)


OWN = [
    ({"endpoint": "/cart"}, {"endpoint": "/pay"}),
    ({"service": "cart"}, {"service": "pay"}),
    # As the operator's relabelling would have them, where the application's labels win.
    (
        {"container": "app", "endpoint": "cart", "service": "checkout"},
        {"container": "app", "endpoint": "pay", "service": "checkout"},
    ),
]


@pytest.mark.parametrize(("cart", "pay"), OWN)
async def test_labels_of_the_applications_own_hide_no_error(cart: Labels, pay: Labels) -> None:
    """`/cart` has answered for days when the first request for `/pay` fails, and all of them do."""
    ok = [({**cart, "status": "200"}, [(at, 5000 + 90 * at) for at in range(4)])]
    bad = [({**pay, "status": "500"}, [(at, 10 * (at - 1)) for at in range(2, 4)])]
    fine = [({**pay, "status": "200"}, [(3, 7)])]
    later = [
        ({**cart, "status": "200"}, [(at, 5000 + 90 * at) for at in range(3, 6)]),
        ({**pay, "status": "200"}, [(at, 7 * (at - 2)) for at in range(3, 6)]),
        ({**pay, "status": "500"}, [(at, 10 * (at - 1)) for at in range(3, 6)]),
        ({**cart, "status": "500"}, [(5, 1)]),
    ]
    first = [({**cart, "status": "200"}, [(0, 5000)])]
    assert await counted([first, ok + bad + fine, later]) == (450 + 40 + 21 + 1, 41)


async def test_a_histogram_by_such_a_label_is_that_of_all_answers() -> None:
    rows = [
        ({"endpoint": name, "status": "200"}, [(at, per * at) for at in range(4)])
        for name, per in (("/cart", 10), ("/pay", 3))
    ]
    series = await looked(rows, "0.1")
    ((bound, bucket),) = series.buckets
    assert (bound, [value for _, value in bucket.samples]) == (0.1, [0, 13, 26, 39])


async def test_two_services_with_one_job_are_two_ways_to_one_counter() -> None:
    """Each scrapes at a time of its own, both see both endpoints, and one is away for a while."""
    first, second = "checkout", "checkout-stable"
    ways = {first: 0.0, second: 0.4}
    there: list[Iterable[str]] = [ways, ways, [second], [second], ways, ways]
    looks = [
        [
            (
                {"service": way, "endpoint": path, "code": code},
                [(at, 5000 + per * 2 * at) for at in (2 * n + ways[way], 2 * n + 1 + ways[way])],
            )
            for path, code, per in (("/a", "200", 40), ("/b", "200", 9), ("/b", "500", 1))
            for way in present
        ]
        for n, present in enumerate(there)
    ]
    # 100 a second, from the first look's last scrape to the last of all.
    assert await counted(looks) == (1000, 20)


async def test_a_part_of_a_scrape_is_no_restart() -> None:
    """A store that is written to over a network shows `/pay` one look later than the rest."""
    first = [
        ({"endpoint": path, "code": "500"}, [(0, 4000), (1, 4010)]) for path in ("/cart", "/pay")
    ]
    (cart, seen), pay = first
    part = [(cart, [*seen, (2, 4020)]), pay]
    whole = [(labels, [*values, (2, 4020), (3, 4030)]) for labels, values in first]
    assert await counted([first, part, whole]) == (40, 40)


async def test_a_restart_takes_every_row_with_it() -> None:
    before = [({"endpoint": path, "code": "200"}, [(0, 4000), (1, 4010)]) for path in ("/a", "/b")]
    # `/b` is not asked for again.
    after = [(before[0][0], [*before[0][1], (2, 5), (3, 9)]), before[1]]
    gone = [(before[0][0], [(2, 5), (3, 9), (4, 12)])]
    assert await counted([before, after, gone]) == (12, 0)


HISTORY = range(0, 3600, 15)


async def test_a_past_by_such_a_label_is_that_of_all_answers() -> None:
    """Thinned samples are all stamped alike, and it is by their values that they are told apart."""
    rows = [
        ({"endpoint": "/cart", "code": "200"}, [(at, 700 + 4 * at) for at in HISTORY]),
        ({"endpoint": "/pay", "code": "200"}, [(at, 90 + 2 * at) for at in HISTORY]),
        ({"endpoint": "/cart", "code": "500"}, [(at, at // 300) for at in HISTORY if at >= 300]),
        ({"endpoint": "/pay", "code": "500"}, [(at, at // 60) for at in HISTORY if at >= 60]),
    ]
    known = past.read(await looked(rows, history=3600))
    seconds = HISTORY[-1]
    assert known.total == (6 * seconds + 11 + 59, 11 + 59)


async def test_a_burst_in_the_newest_past_of_one_is_no_copy_of_the_calm_of_the_other() -> None:
    """Both count from the start, and neither has moved for most of the time."""
    rows = [
        ({"endpoint": "/cart", "code": "500"}, [(at, 1) for at in HISTORY]),
        (
            {"endpoint": "/pay", "code": "500"},
            [(at, 1 + max(0, 10 * (at - 3400))) for at in HISTORY],
        ),
        ({"endpoint": "/cart", "code": "200"}, [(at, 4 * at) for at in HISTORY]),
    ]
    bursts = 10 * (HISTORY[-1] - 3400)
    known = past.read(await looked(rows, history=3600))
    assert known.total == (4 * HISTORY[-1] + bursts, bursts)


@pytest.mark.parametrize("late", [3, 14, 29])
async def test_a_past_of_two_records_counts_once(late: int) -> None:
    """Two Services are scraped every 30 s, one `late` seconds after the other; one was away."""

    def seen(by: int, per: float) -> Values:
        times = ((at, (at + by) // 30 * 30 - by) for at in HISTORY)
        return [(at, round(9000 + per * max(scraped, 0))) for at, scraped in times]

    rows = [
        ({"service": name, "endpoint": path, "code": "200"}, seen(by, per)[begin:])
        for path, per in (("/cart", 4.0), ("/pay", 2.5))
        for name, by, begin in (("0", 0, 0), ("1", late, 60))
    ]
    requests, _ = past.read(await looked(rows, history=3600)).total
    assert requests == pytest.approx(6.5 * HISTORY[-1], rel=0.02)


SAID = """\
http_requests_total{endpoint="/cart",code="200"} 30
http_requests_total{endpoint="/pay",code="200"} 5
http_requests_total{endpoint="/pay",code="500"} 12
"""


@pytest.mark.slow
async def test_a_real_prometheus_stamps_them_so(tmp_path: Path) -> None:
    """A pod behind two Services with one job, which counts by labels of its own."""
    async with scraped.exposed(lambda: SAID) as address:
        port = address.rpartition(":")[2]
        # Two addresses, since each is one target in this configuration.
        ways = {
            f"{host}:{port}": {**POD, "service": way}
            for host, way in (("127.0.0.1", "checkout"), ("localhost", "checkout-stable"))
        }
        async with scraped.scraping(tmp_path, ways, ["application"]) as store:
            deadline = time.monotonic() + scraped.SEEN_SECONDS
            while True:
                raw = await store.samples(10, [PODS])
                series = raw.series.get(PODS)
                if series and raw.warnings and len(series.requests[0].samples) > 2:
                    break
                assert time.monotonic() < deadline, raw
                await asyncio.sleep(scraped.POLL_SECONDS)
            thinned = await store.history(PODS, 60)
    for batch in (raw, thinned):
        assert batch.warnings == ("the same target is scraped twice; one copy is counted",)
        found = batch.series[PODS].requests
        assert [one.samples[-1].value for one in found] == [35, 12]
