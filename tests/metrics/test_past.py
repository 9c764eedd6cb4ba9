# SPDX-License-Identifier: Apache-2.0
"""The store's past by the library of the extra `backtest`, against answers good and bad."""

import asyncio
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from controller.adapters.prometheus.past import CHUNK_SECONDS, Archive
from controller.adapters.prometheus.providers import choose
from controller.adapters.prometheus.ranges import MOST_POINTS
from controller.core.backtest.measured import Grid
from controller.core.errors import MetricsTimedOut, MetricsUnavailable
from controller.core.evidence.series import PodsKey
from tests.support.realtime import app_serving

KEY = PodsKey("shop", "checkout", "")
LABELS = {"namespace": "shop", "pod": "checkout-5d9c7b6f48-x2x4z", "code": "200"}
AT = 1_764_000_000.0
GAP = 60.0

Handler = Callable[[str, float], Response]


def matrix(query: str, at: float) -> Response:
    """A scrape a minute; both edges of a range belong to it, as in Prometheus 2."""
    span = re.search(r"\[(\d+)(ms|s)", query)
    assert span is not None, query
    begin = at - int(span[1]) / (1000 if span[2] == "ms" else 1)
    if not query.startswith("http_requests_total"):
        return JSONResponse({"status": "success", "data": {"resultType": "matrix", "result": []}})
    values = [
        [AT + number * GAP, str(number)]
        for number in range(-600, 1)
        if begin <= AT + number * GAP <= at
    ]
    row = {"metric": {"__name__": "http_requests_total", **LABELS}, "values": values}
    return JSONResponse({"status": "success", "data": {"resultType": "matrix", "result": [row]}})


def store(handler: Handler, asked: list[str]) -> Starlette:
    async def query(request: Request) -> Response:
        text = request.query_params["query"]
        asked.append(text)
        return handler(text, float(request.query_params["time"]))

    async def ranged(request: Request) -> Response:
        text = request.query_params["query"]
        asked.append(text)
        assert request.query_params["step"] == "15"
        return handler(text, float(request.query_params["start"]))

    return Starlette(routes=[Route("/api/v1/query", query), Route("/api/v1/query_range", ranged)])


async def test_chunks_are_put_together_and_no_sample_is_there_twice() -> None:
    asked: list[str] = []
    async with app_serving(store(matrix, asked)) as url:
        archive = Archive(url, choose(["application"]))
        batch = await archive.at(AT).samples(3 * CHUNK_SECONDS, [KEY])
        archive.close()
    (series,) = batch.series[KEY].requests
    times = [sample.at for sample in series.samples]
    assert times == [AT + number * GAP for number in range(-90, 1)]
    assert sum(text.startswith("http_requests_total") for text in asked) == 3
    # The edges of neighbouring chunks were read twice and are there once.
    assert archive.points == 93
    assert not archive.coarse


GRID = Grid(1_764_000_000, 4)
PODS = ("checkout-5d9c7b6f48-x2x4z",)
TWO = [{"metric": {"code": code}, "values": [[AT, "1"]]} for code in ("500", "503")]


@pytest.mark.parametrize(
    ("rows", "values", "said"),
    [
        ([], (None,) * 4, "no value"),
        (
            [{"metric": {}, "values": [[AT, "1"], [AT + 30, "NaN"], [AT + 45, "+Inf"]]}],
            (1.0, None, None, math.inf),
            "no value",
        ),
        (TWO, (None,) * 4, "2 series instead of one: they differ in code"),
        (
            [TWO[0], {"metric": {"code": "503"}, "values": [[AT, "1"], [AT + 15, "7"]]}],
            (None, 7.0, None, None),
            "they differ in code",
        ),
    ],
)
async def test_a_check_has_one_value_at_each_moment_or_none(
    rows: list[Any], values: tuple[float | None, ...], said: str
) -> None:
    def handler(_text: str, at: float) -> Response:
        assert at == AT
        return JSONResponse({"status": "success", "data": {"resultType": "matrix", "result": rows}})

    asked: list[str] = []
    async with app_serving(store(handler, asked)) as url:
        archive = Archive(url, choose(["application"]))
        mine, others, why = await archive.lines("max(orders)", KEY, PODS, GRID)
        archive.close()
    assert mine == others == values
    assert said in why
    assert len(asked) == 2


async def test_more_moments_than_a_store_answers_with_are_asked_for_in_parts() -> None:
    grid = Grid(1_764_000_000, MOST_POINTS + 1)
    ends = {AT: 0, grid.at(MOST_POINTS): 0}

    def handler(_text: str, at: float) -> Response:
        ends[at] += 1
        row = {"metric": {}, "values": [[at, str(ends[at])]]}
        return JSONResponse(
            {"status": "success", "data": {"resultType": "matrix", "result": [row]}}
        )

    async with app_serving(store(handler, [])) as url:
        archive = Archive(url, choose(["application"]))
        assert archive.parts(grid) == 2
        mine, others, _ = await archive.lines("max(orders)", KEY, PODS, grid)
        archive.close()
    assert (mine[0], mine[-1], others[0], others[-1]) == (1, 1, 2, 2)
    assert set(mine[1:-1]) == {None}


async def test_a_store_that_refuses_raw_samples_is_asked_for_fewer() -> None:
    def handler(text: str, at: float) -> Response:
        if "ms]" in text:
            told = "query processing would load too many samples into memory in query execution"
            return JSONResponse({"status": "error", "error": told}, status_code=422)
        return matrix(text, at)

    asked: list[str] = []
    async with app_serving(store(handler, asked)) as url:
        archive = Archive(url, choose(["application"]))
        batch = await archive.at(AT).samples(CHUNK_SECONDS, [KEY])
        assert archive.coarse
        assert batch.series[KEY].requests
        asked.clear()
        await archive.at(AT).samples(CHUNK_SECONDS, [KEY])
        archive.close()
    # Once told, it is not tried again.
    assert all(text.endswith("[1800s:15s]") for text in asked)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (PlainTextResponse("<html>log in</html>"), "gave no answer of Prometheus"),
        (JSONResponse({"status": "success"}), "gave no answer of Prometheus"),
        (
            JSONResponse({"data": {"result": [{"metric": {}, "values": 7}]}}),
            "gave no answer of Prometheus",
        ),
        (JSONResponse({"error": "parse error"}, status_code=400), "HTTP Status Code 400"),
    ],
)
async def test_what_is_no_proper_answer_is_unavailable(answer: Response, said: str) -> None:
    async with app_serving(store(lambda *_: answer, [])) as url:
        archive = Archive(url, choose(["application"]))
        with pytest.raises(MetricsUnavailable, match=said):
            await archive.at(AT).history(KEY, 3600)
        archive.close()


async def test_a_store_that_is_not_there_is_unavailable() -> None:
    archive = Archive("http://127.0.0.1:9", choose(["application"]))
    with pytest.raises(MetricsUnavailable, match="cannot be reached"):
        await archive.covered(KEY, AT - 3600, AT)
    archive.close()


async def test_nobody_else_waits_while_the_past_is_read() -> None:
    """The library sits and waits for each answer, in a thread of its own.

    The store works on the loop of whoever asks, and answers when somebody else there has had ten
    turns: where the loop waits too, no answer comes.
    """
    asked, turns, turned = 0, 0, asyncio.Condition()

    async def query(request: Request) -> Response:
        nonlocal asked
        asked += 1
        enough = turns + 10
        async with turned:
            await turned.wait_for(lambda: turns >= enough)
        return matrix(request.query_params["query"], float(request.query_params["time"]))

    async def working() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            async with turned:
                turns += 1
                turned.notify_all()

    async with app_serving(Starlette(routes=[Route("/api/v1/query", query)])) as url:
        archive = Archive(url, choose(["application"]), patience_seconds=10.0)
        work = asyncio.create_task(working())
        batch = await archive.at(AT).samples(CHUNK_SECONDS, [KEY])
        work.cancel()
        archive.close()
    assert batch.series[KEY].requests
    assert asked >= 2
    assert turns >= 10 * asked


async def test_a_query_is_sent_once_and_one_that_takes_too_long_is_told_apart() -> None:
    asked: list[str] = []
    over = asyncio.Event()

    async def query(request: Request) -> Response:
        asked.append(request.query_params["query"])
        if asked[-1] == "slow":
            await over.wait()
        return JSONResponse({"error": "overloaded"}, status_code=503)

    async with app_serving(Starlette(routes=[Route("/api/v1/query", query)])) as url:
        hasty = Archive(url, choose(["application"]), patience_seconds=0.2)
        with pytest.raises(MetricsTimedOut, match="did not answer in time"):
            await hasty.ask("slow", AT)
        over.set()
        hasty.close()
        patient = Archive(url, choose(["application"]))
        with pytest.raises(MetricsUnavailable, match="HTTP Status Code 503") as refused:
            await patient.ask("busy", AT)
        patient.close()
    assert not isinstance(refused.value, MetricsTimedOut)
    assert asked == ["slow", "busy"]
