# SPDX-License-Identifier: Apache-2.0
"""Native histograms: as the API tells them, and as a real Prometheus has scraped them."""

import math
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.native import BOTH, BOUNDS, WIDE
from controller.adapters.prometheus.providers import choose
from controller.core.evidence.series import PodsKey, TrackSeries
from tests.metrics import scraped

NAME = "http_server_request_duration_seconds"
STABLE = PodsKey("shop", "checkout", "6d4f7b9c8")
NOBODY = PodsKey("shop", "checkout-canary", "")
POD = "checkout-6d4f7b9c8-x2x2x"
AT = 1764000000.0

Counts = dict[int, int]
"""Answers by the index of their bucket: index i of scale s ends at 2^(i / 2^s) seconds."""


def histogram(counts: Counts, scale: int) -> dict[str, Any]:
    """As the API has it."""
    factor = 2.0 ** (1 / 2**scale)
    return {
        "count": str(sum(counts.values())),
        "sum": "1",
        "buckets": [
            [0, f"{factor ** (i - 1):.17g}", f"{factor**i:.17g}", str(n)]
            for i, n in sorted(counts.items())
        ],
    }


def row(
    samples: Iterable[dict[str, Any] | str], name: str = NAME, code: str = "200"
) -> dict[str, Any]:
    named = {"__name__": name, "namespace": "shop", "pod": POD, "http_response_status_code": code}
    found = [[AT + n, one] for n, one in enumerate(samples)]
    if name == NAME:
        return {"metric": named, "histograms": found}
    return {"metric": named, "values": found}


async def read(rows: list[dict[str, Any]]) -> tuple[TrackSeries, tuple[str, ...]]:
    """What the adapter makes of these rows, whatever it is asked."""
    data = {"status": "success", "data": {"resultType": "matrix", "result": rows}}
    store = Prometheus(
        "http://metrics.test", choose(["opentelemetry"]), now=lambda: AT,
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json=data)),
    )  # fmt: skip
    batch = await store.samples(10, [STABLE])
    await store.close()
    return batch.series[STABLE], batch.warnings


def newest(series: TrackSeries) -> dict[float, float]:
    """The newest cumulative count at each bound."""
    return {bound: one.samples[-1].value for bound, one in series.buckets}


async def test_answers_and_times_come_from_the_one_histogram() -> None:
    # Buckets of scale 1 end at powers of the square root of 2: -2 at half a second, 0 at one.
    first, second = {-8: 10, -2: 5}, {-8: 20, -2: 9, 3: 1}
    series, warnings = await read(
        [row([histogram(first, 1), histogram(second, 1)]), row([histogram({-8: 3}, 1)], code="503")]
    )
    assert warnings == ()
    assert [one.samples[-1].value for one in series.requests] == [30, 3]
    assert [one.samples[-1].value for one in series.errors] == [3]
    (good, bad) = (
        {b: s for b, s in series.buckets if dict(s.labels)["http_response_status_code"] == c}
        for c in ("200", "503")
    )
    assert len(good) == len(bad) == len(BOUNDS) + 1
    counts = {bound: one.samples[-1].value for bound, one in good.items()}
    assert counts[2.0**-4.5] == 0
    assert counts[2.0**-4] == 20
    assert counts[0.5] == 29
    assert counts[math.sqrt(8)] == counts[math.inf] == 30


@pytest.mark.parametrize("scale", [1, 3, 8])
async def test_wider_buckets_in_mid_run_are_no_restart_of_a_counter(scale: int) -> None:
    """A client with too many buckets merges neighbours; what is below a bound stays the same."""
    fine = dict.fromkeys(range(-(2 ** (scale + 1)) + 1, 2 ** (scale + 1)), 1)
    coarse: Counts = {}
    for index, count in fine.items():
        coarse[math.ceil(index / 2)] = coarse.get(math.ceil(index / 2), 0) + count
    before, _ = await read([row([histogram(fine, scale)] * 2)])
    after, warnings = await read([row([histogram(fine, scale), histogram(coarse, scale - 1)])])
    assert warnings == ()
    shared = newest(before).keys() & newest(after).keys()
    assert len(shared) == len(BOUNDS[:: 2 if scale == 1 else 1]) + 1
    assert {b: newest(before)[b] for b in shared} == {b: newest(after)[b] for b in shared}


@pytest.mark.parametrize(
    "odd",
    [
        {"count": "9", "buckets": [[0, "0.25", "1", "9"]]},
        {"count": "9", "buckets": [[0, "0.1", "0.15", "9"]]},
    ],
    ids=["too wide", "bounds of its own"],
)
async def test_times_that_cannot_be_told_are_left_out_with_a_word(odd: dict[str, Any]) -> None:
    series, warnings = await read([row([odd, odd])])
    assert series.buckets == ()
    assert WIDE in warnings
    assert [one.samples[-1].value for one in series.requests] == [9]


async def test_what_is_told_in_both_forms_counts_once() -> None:
    classic = row(["10", "30"], name=f"{NAME}_count")
    series, warnings = await read([classic, row([histogram({-2: 10}, 1), histogram({-2: 30}, 1)])])
    assert BOTH in warnings
    assert len(series.requests) == 1


async def test_only_those_who_know_native_histograms_are_asked_for_them() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.content.decode())
        data = {"status": "success", "data": {"resultType": "matrix", "result": []}}
        return httpx.Response(200, json=data)

    for name in ("opentelemetry", "application", "grpc"):
        store = Prometheus(
            "http://metrics.test", choose([name]), now=lambda: AT,
            transport=httpx.MockTransport(answer),
        )  # fmt: skip
        await store.samples(10, [STABLE])
        await store.close()
    native = ["__name__" in text for text in asked]
    assert native == [True, True, False, True, False, False]


def varint(number: int) -> bytes:
    """A whole number as protobuf writes it."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def field(number: int, value: float | bytes | str) -> bytes:
    """A field of a message: whole number, double, or bytes with their length before them."""
    if isinstance(value, str):
        return field(number, value.encode())
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 1) + struct.pack("<d", value)


def zigzag(number: int) -> int:
    """A signed number as protobuf's sint types have it."""
    return number << 1 if number >= 0 else (-number << 1) - 1


def exposition(counts: Counts, scale: int) -> bytes:
    """One MetricFamily with a native histogram (io.prometheus.client, metrics.proto)."""
    first, last = min(counts), max(counts)
    dense = [counts.get(index, 0) for index in range(first, last + 1)]
    deltas = [late - early for early, late in zip([0, *dense], dense, strict=False)]
    labels = {"namespace": "shop", "pod": POD, "http_response_status_code": "200"}
    body = field(1, sum(dense)) + field(2, 1.0) + field(5, zigzag(scale)) + field(6, 1e-9)
    body += field(12, field(1, zigzag(first)) + field(2, len(dense)))
    body += field(13, b"".join(varint(zigzag(delta)) for delta in deltas))
    pairs = b"".join(field(1, field(1, name) + field(2, text)) for name, text in labels.items())
    family = field(1, NAME) + field(3, 4) + field(4, pairs + field(7, body))
    return varint(len(family)) + family


FORM = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)
"""The one form of a scrape that has native histograms."""


@pytest.mark.slow
async def test_what_a_real_prometheus_has_scraped_is_counted_to_the_last_answer(
    tmp_path: Path,
) -> None:
    said = exposition({-16: 100, -9: 20}, 3)
    feature = "--enable-feature=native-histograms"
    async with (
        scraped.exposed(lambda: said, FORM) as target,
        scraped.scraping(tmp_path, {target: {}}, ["opentelemetry"], feature) as client,
    ):
        counts = scraped.Counts(client, NOBODY, STABLE)
        await counts.begin(canary=None, stable=120)
        # 30 more between 2^-1 and 2^(3/8), in buckets twice as wide as before.
        said = exposition({-8: 100, -4: 20, 0: 10, 1: 20}, 2)
        await counts.reach(canary=0, stable=30)
    assert (counts.stable.requests, counts.stable.timed) == (30, 30)
    grown = dict(counts.stable.buckets)
    wanted = {0.25: 0, 1.0: 10, math.sqrt(2): 30, math.inf: 30}
    assert {bound: grown[bound] for bound in wanted} == wanted
