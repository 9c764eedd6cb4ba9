# SPDX-License-Identifier: Apache-2.0
"""The client against a store that answers well, badly, late, too much and not at all.

The rows are as a real Prometheus 2.42 returned them for a real Traefik 3.7.15.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.providers import choose
from controller.core.errors import MetricsUnavailable
from controller.core.evidence.samples import Cursor, difference
from controller.core.evidence.series import PodsKey, ServiceKey
from controller.sim import promql

STABLE = ServiceKey("shop", "checkout")
CANARY = ServiceKey("shop", "checkout-canary")
COUNTER = "traefik_service_requests_total"
HISTOGRAM = "traefik_service_request_duration_seconds_bucket"
AT = 1764000000.0

Handler = Callable[[httpx.Request], Any]


def value(service: str, index: int) -> str:
    return (
        "httproute-shop-checkout-gw-infra-web-ep-web-0-e880a95417256ee7cb2b"
        f"-svc-shop-{service}-{index}@kubernetesgateway"
    )


def row(metric: str, service: str, values: list[str], **labels: str) -> dict[str, Any]:
    named = {
        "__name__": metric, "instance": "gw-1", "job": "traefik", "method": "GET",
        "protocol": "http", "code": "200",
        "service": value(service, int(service.endswith("canary"))),
    }  # fmt: skip
    samples = [[AT + number, text] for number, text in enumerate(values)]
    return {"metric": {**named, **labels}, "values": samples}


def matrix(rows: list[dict[str, Any]], **more: Any) -> httpx.Response:
    answer = {"status": "success", "data": {"resultType": "matrix", "result": rows}, **more}
    return httpx.Response(200, json=answer)


def query(request: httpx.Request) -> str:
    return parse_qs(request.content.decode())["query"][0]


def client(handler: Handler, **more: Any) -> Prometheus:
    return Prometheus(
        "http://metrics.test/prefix/", choose(["traefik", "application"]), now=lambda: AT + 3,
        transport=httpx.MockTransport(handler), **more,
    )  # fmt: skip


def good(request: httpx.Request) -> httpx.Response:
    if query(request).startswith(COUNTER):
        return matrix(
            [
                row(COUNTER, "checkout", ["100", "190", "280"]),
                row(COUNTER, "checkout-canary", ["5", "10", "15"]),
                row(COUNTER, "checkout-canary", ["1", "6", "11"], code="500"),
            ]
        )
    return matrix(
        [
            row(HISTOGRAM, "checkout", ["90", "170", "250"], le="0.1"),
            row(HISTOGRAM, "checkout", ["100", "190", "280"], le="+Inf"),
        ]
    )


async def test_samples_become_counts() -> None:
    scrapes = 1

    def handler(request: httpx.Request) -> httpx.Response:
        answer = good(request).json()
        for found in answer["data"]["result"]:
            found["values"] = found["values"][:scrapes]
        return httpx.Response(200, json=answer)

    store = client(handler)
    batch = await store.samples(10, [STABLE, CANARY])
    cursor = difference(Cursor(), batch.series[CANARY], batch.series[STABLE]).cursor
    scrapes = 3
    batch = await store.samples(10, [STABLE, CANARY])
    found = difference(cursor, batch.series[CANARY], batch.series[STABLE])
    assert [(i.canary.requests, i.canary.errors) for i in found.intervals] == [(10, 5)] * 2
    assert [i.stable.buckets for i in found.intervals] == [((0.1, 80), (math.inf, 90))] * 2
    assert batch.evaluated_at == AT + 3
    await store.close()


async def test_one_query_per_metric_however_many_services() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(query(request))
        assert request.method == "POST"
        assert request.url.path == "/prefix/api/v1/query"
        return good(request)

    store = client(handler)
    crowd = [ServiceKey("shop", f"service-{number}") for number in range(300)]
    batch = await store.samples(15, [STABLE, CANARY, *crowd])
    assert len(asked) == store.queries == 2
    assert set(batch.series) == {STABLE, CANARY}
    assert all(text.endswith('"}[15000ms]') for text in asked)
    asked.clear()
    few = await store.samples(15, [STABLE])
    assert set(few.series) == {STABLE}
    assert "shop-checkout)" in asked[0]
    assert (await store.samples(15, [])).series == {}
    assert len(asked) == 2


async def test_each_provider_is_asked_for_its_own_keys_in_the_same_look() -> None:
    asked: list[str] = []
    pods = PodsKey("shop", "checkout", "5d9c7b6f48")
    name = "checkout-5d9c7b6f48-x2x4z"

    def handler(request: httpx.Request) -> httpx.Response:
        text = query(request)
        asked.append(text)
        if text.startswith("http_requests_total"):
            labels = {"namespace": "shop", "pod": name, "status": "503"}
            counter = {"__name__": "http_requests_total", **labels}
            return matrix([{"metric": counter, "values": [[AT, "7"]]}])
        return matrix([]) if "http_request_duration" in text else good(request)

    batch = await client(handler).samples(10, [STABLE, CANARY, pods])
    assert sorted(text.partition("{")[0] for text in asked) == [
        "",
        "http_requests_total",
        HISTOGRAM,
        COUNTER,
    ]
    assert set(batch.series) == {STABLE, CANARY, pods}
    assert len(batch.series[pods].errors) == 1
    assert batch.series[pods].pod_label == "pod"
    asked.clear()
    await client(handler).history(pods, 3600)
    assert [text.partition("{")[0] for text in asked] == ["http_requests_total"]


async def test_a_key_that_no_chosen_provider_knows_gets_no_data_and_is_named() -> None:
    store = Prometheus(
        "http://metrics.test", choose(["traefik"]), now=lambda: AT + 3,
        transport=httpx.MockTransport(good),
    )  # fmt: skip
    batch = await store.samples(10, [STABLE, PodsKey("shop", "checkout", "5d9c7b6f48")])
    assert set(batch.series) == {STABLE}
    assert batch.warnings == (
        "no provider is chosen that knows pods of shop/checkout-5d9c7b6f48; no data",
    )
    assert store.queries == 2
    alone = await store.samples(10, [PodsKey("shop", "checkout", "")])
    assert (alone.series, store.queries) == ({}, 2)


async def test_history_is_thinned_out_at_the_store() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(query(request))
        return good(request)

    batch = await client(handler).history(STABLE, 21600)
    assert asked[0].startswith(COUNTER + "{service=~")
    assert asked[0].endswith("[21600s:15s]")
    assert len(asked) == 1
    assert batch.series[STABLE].buckets == ()


async def test_no_series_is_no_error() -> None:
    batch = await client(lambda _: matrix([])).samples(10, [STABLE])
    assert batch.series == {}


async def test_the_stores_own_clock_is_used_where_it_tells_the_time() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        answer = matrix([row(COUNTER, "checkout", ["1"])])
        answer.headers["date"] = "Mon, 24 Nov 2025 16:00:30 GMT"
        return answer

    batch = await client(handler).samples(10, [STABLE])
    assert batch.evaluated_at == AT + 30


async def test_odd_values_are_passed_on_and_do_not_count() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if query(request).startswith(HISTOGRAM):
            return matrix([row(HISTOGRAM, "checkout", ["1"], le="x"),
                           row(HISTOGRAM, "checkout", ["1"], le="NaN")])  # fmt: skip
        return matrix([row(COUNTER, "checkout", ["100", "NaN", "+Inf", "rubbish", "140"])])

    batch = await client(handler).samples(10, [STABLE])
    assert batch.warnings == ("a bucket without a bound was left out",)
    series = batch.series[STABLE]
    begun = difference(Cursor(), None, series)
    assert begun.cursor.at == AT + 4
    assert any("NaN" in problem for problem in begun.problems)


async def test_streams_count_and_are_not_timed() -> None:
    """A websocket that was open for an hour is no slow answer."""
    rows = [
        row(metric, "checkout", ["10"], protocol=protocol, **labels)
        for metric, labels in ((COUNTER, {}), (HISTOGRAM, {"le": "+Inf"}))
        for protocol in ("http", "grpc", "grpc-web", "websocket", "sse")
    ]

    def handler(request: httpx.Request) -> httpx.Response:
        wanted = promql.parse(query(request))
        return matrix([one for one in rows if wanted.matches(one["metric"])])

    batch = await client(handler).samples(10, [STABLE])
    found = batch.series[STABLE]
    assert len(found.requests) == 5
    timed = sorted(dict(series.labels)["protocol"] for _, series in found.buckets)
    assert timed == ["grpc", "grpc-web", "http"]


async def test_a_target_that_is_scraped_twice_counts_once() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if query(request).startswith(HISTOGRAM):
            return matrix([])
        return matrix(
            [
                row(COUNTER, "checkout", ["100"], job="pods"),
                row(COUNTER, "checkout", ["100"], job="services"),
                row(COUNTER, "checkout", ["50"], instance="gw-2"),
            ]
        )

    batch = await client(handler).samples(10, [STABLE])
    assert len(batch.series[STABLE].requests) == 2
    assert any("scraped twice" in warning for warning in batch.warnings)


async def test_answers_without_a_status_are_no_answers() -> None:
    """Counted as good ones they would hide every failure; their histogram is left out as well."""

    def handler(request: httpx.Request) -> httpx.Response:
        answer = good(request).json()
        for found in answer["data"]["result"]:
            if not found["metric"]["service"].endswith("canary-1@kubernetesgateway"):
                found["metric"].pop("code")
        return httpx.Response(200, json=answer)

    batch = await client(handler).samples(10, [STABLE, CANARY])
    assert set(batch.series) == {CANARY}
    assert "answers of Service shop/checkout without a status were left out" in batch.warnings


async def test_warnings_reach_the_caller_once() -> None:
    batch = await client(
        lambda _: matrix([row(COUNTER, "checkout", [])], warnings=["a replica is missing"])
    ).samples(10, [STABLE, ServiceKey("a", "b-c"), ServiceKey("a-b", "c")])
    assert batch.warnings == (
        "a/b-c and a-b/c read the same in this provider's metrics; no data",
        "a replica is missing",
    )
    assert batch.series == {}


def answers(status: int, body: bytes) -> Handler:
    return lambda _: httpx.Response(status, content=body)


ERROR = b'{"status":"error","errorType":"bad_data","error":"parse error"}'
SCALAR = b'{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}'
CROOKED = b'{"status":"success","data":{"resultType":"matrix","result":[{"values":7}]}}'


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (answers(400, ERROR), "400, bad_data: parse error"),
        (answers(422, ERROR), "422"),
        (answers(200, ERROR), "bad_data"),
        (answers(500, b"<html>oops</html>"), "500, no answer of Prometheus"),
        (answers(503, b'{"status":"error","errorType":"timeout","error":""}'), "timeout"),
        (answers(404, b"not here"), "404"),
        (answers(401, b""), "401"),
        (answers(302, b""), "302"),
        (answers(200, b""), "200, no answer of Prometheus"),
        (answers(200, b"\xff\xfe"), "no answer of Prometheus"),
        (answers(200, SCALAR), "'scalar'"),
        (answers(200, CROOKED), "not of the documented form"),
        (answers(200, b'{"status":"success"}'), "matrix"),
        (answers(503, b'{"status":"success","data":{"resultType":"matrix","result":[]}}'), "503"),
    ],
)
async def test_what_is_no_proper_answer_is_unavailable(handler: Handler, said: str) -> None:
    with pytest.raises(MetricsUnavailable, match=said) as caught:
        await client(handler).samples(10, [STABLE])
    assert caught.value.diagnostics()


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("reset"),
        httpx.ReadError("cut"),
    ],
)
async def test_a_store_that_is_not_there_is_unavailable(fault: Exception) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise fault

    with pytest.raises(MetricsUnavailable):
        await client(handler).samples(10, [STABLE])


async def test_half_a_look_is_no_look() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return good(request) if query(request).startswith(COUNTER) else httpx.Response(500)

    with pytest.raises(MetricsUnavailable, match="500"):
        await client(handler).samples(10, [STABLE])


async def test_a_store_that_never_answers_is_given_up_on() -> None:
    async def handler(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        return matrix([])

    with pytest.raises(MetricsUnavailable, match=r"within 0\.05 s"):
        await client(handler, deadline_seconds=0.05).samples(10, [STABLE])


async def test_a_failed_look_leaves_no_cancellation_behind() -> None:
    prometheus = client(lambda _: httpx.Response(503))
    with pytest.raises(MetricsUnavailable):
        await prometheus.samples(15.0, [CANARY])
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_who_is_cancelled_as_the_deadline_ends_hears_of_it() -> None:
    """A process that was stopped and wakes up meets both at once, and must not go on asking."""
    asked = asyncio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError as error:
            raise httpx.ReadTimeout("the deadline is over", request=request) from error
        raise AssertionError("unreachable: nobody sets that future")

    task = asyncio.ensure_future(client(never).samples(15.0, [CANARY]))
    await asked.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=20.0)
    assert task.cancelled()


async def test_an_endless_answer_is_cut() -> None:
    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b" " * 1000

    with pytest.raises(MetricsUnavailable, match="more than 5000 bytes"):
        await client(lambda _: httpx.Response(200, stream=Endless()), largest_body=5000).samples(
            10, [STABLE]
        )


async def test_a_name_that_cannot_exist_is_refused_before_asking() -> None:
    store = client(good)
    with pytest.raises(MetricsUnavailable, match="cannot ask"):
        await store.samples(10, [ServiceKey("shop", "no name")])
    assert store.queries == 0
