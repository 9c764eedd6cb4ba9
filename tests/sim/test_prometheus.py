# SPDX-License-Identifier: Apache-2.0
"""Answers must have the form of the real ones, in health and in every kind of sickness."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable
from typing import Any
from urllib.parse import urlencode

import pytest

from controller.sim import clock
from controller.sim.clock import WallClock
from controller.sim.counters import Labels
from controller.sim.prometheus import Prometheus, Trouble, format_value
from controller.sim.promql import QueryError, duration, parse

START = 1_767_603_600  # 2026-01-05T09:00:00Z


class Source:
    """Two counters, each one more at every scrape."""

    def __init__(self) -> None:
        self.value = 0.0
        self.tracks = ["stable", "canary"]

    def __call__(self) -> Iterable[tuple[Labels, float]]:
        self.value += 1
        return [
            ((("__name__", "requests_total"), ("code", "200"), ("service", track)), self.value)
            for track in self.tracks
        ]


def run(body: Callable[[Prometheus, Source], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        source = Source()
        prometheus = Prometheus(source, WallClock(), interval=5.0)
        prometheus.start()
        await body(prometheus, source)
        prometheus.stop()

    clock.run(main(), limit=3_600.0)


async def ask(prometheus: Prometheus, query: str, **more: str) -> tuple[int, dict[str, Any]]:
    form = {"query": query, **more}
    status, headers, body = await prometheus.handle("GET", "/api/v1/query", form, {}, b"")
    assert headers["content-type"] == "application/json"
    return status, json.loads(body)


def test_a_range_is_answered_with_raw_samples_and_scrape_times() -> None:
    async def body(prometheus: Prometheus, _source: Source) -> None:
        await asyncio.sleep(22)
        status, reply = await ask(prometheus, 'requests_total{service="canary"}[12s]')
        assert (status, reply) == (
            200,
            {
                "status": "success",
                "data": {
                    "resultType": "matrix",
                    "result": [
                        {
                            "metric": {
                                "__name__": "requests_total",
                                "code": "200",
                                "instance": "127.0.0.1:8082",
                                "job": "traefik",
                                "service": "canary",
                            },
                            "values": [[START + 15, "4"], [START + 20, "5"]],
                        }
                    ],
                },
            },
        )

    run(body)


def test_an_instant_vector_is_dated_by_the_question() -> None:
    async def body(prometheus: Prometheus, _source: Source) -> None:
        await asyncio.sleep(7.5)
        _, reply = await ask(prometheus, "requests_total")
        assert reply["data"]["resultType"] == "vector"
        assert [item["value"] for item in reply["data"]["result"]] == [[START + 7.5, "2"]] * 2
        _, past = await ask(prometheus, "requests_total", time=str(START + 1))
        assert [item["value"] for item in past["data"]["result"]] == [[START + 1, "1"]] * 2
        _, before = await ask(prometheus, "requests_total", time="2026-01-05T08:59:59Z")
        assert before["data"]["result"] == []

    run(body)


def test_post_forms_are_understood() -> None:
    async def body(prometheus: Prometheus, _source: Source) -> None:
        form = urlencode({"query": '{__name__=~"requests_.*",service!~"stable|x"}[1m]'}).encode()
        kind = {"content-type": "application/x-www-form-urlencoded"}
        status, _, content = await prometheus.handle("POST", "/api/v1/query", {}, kind, form)
        result = json.loads(content)["data"]["result"]
        assert (status, [item["metric"]["service"] for item in result]) == (200, ["canary"])

    run(body)


def test_a_series_that_ends_goes_stale() -> None:
    async def body(prometheus: Prometheus, source: Source) -> None:
        await asyncio.sleep(6)
        source.tracks.remove("canary")
        await asyncio.sleep(6)
        _, instant = await ask(prometheus, "requests_total")
        assert [item["metric"]["service"] for item in instant["data"]["result"]] == ["stable"]
        _, window = await ask(prometheus, 'requests_total{service="canary"}[1m]')
        assert [v for _, v in window["data"]["result"][0]["values"]] == ["1", "2"]

    run(body)


def test_a_target_that_is_down_is_told_by_up() -> None:
    async def body(prometheus: Prometheus, _source: Source) -> None:
        prometheus.faults.target_down = True
        await asyncio.sleep(6)
        _, up = await ask(prometheus, "up")
        assert up["data"]["result"][0]["value"][1] == "0"
        _, gone = await ask(prometheus, "requests_total")
        assert gone["data"]["result"] == []

    run(body)


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "bad_data"), (422, "execution"), (500, "internal")]
)
def test_errors_have_a_type(status: int, kind: str) -> None:
    async def body(prometheus: Prometheus, _source: Source) -> None:
        prometheus.faults.trouble = Trouble.STATUS
        prometheus.faults.status = status
        got, reply = await ask(prometheus, "requests_total")
        assert (got, reply["status"], reply["errorType"]) == (status, "error", kind)

    run(body)


def test_the_other_ways_of_being_sick() -> None:
    async def body(prometheus: Prometheus, _source: Source) -> None:
        faults, loop = prometheus.faults, asyncio.get_running_loop()
        faults.trouble, faults.status = Trouble.STATUS, 503
        got = await prometheus.handle("GET", "/api/v1/query", {"query": "up"}, {}, b"")
        assert got[0] == 503
        assert not got[2].startswith(b"{")
        faults.trouble = Trouble.DOWN
        with pytest.raises(ConnectionRefusedError):
            await ask(prometheus, "up")
        faults.trouble, faults.delay = Trouble.SLOW, 12.0
        begin = loop.time()
        await ask(prometheus, "up")
        assert loop.time() - begin == pytest.approx(12.0)
        faults.trouble = Trouble.NAN
        _, nan = await ask(prometheus, "requests_total")
        assert {item["value"][1] for item in nan["data"]["result"]} == {"NaN"}
        faults.trouble = Trouble.EMPTY
        _, empty = await ask(prometheus, "requests_total")
        assert empty == {"status": "success", "data": {"resultType": "vector", "result": []}}
        faults.trouble, faults.hide, faults.warnings = Trouble.NONE, "canary", ("slow store",)
        _, half = await ask(prometheus, "requests_total")
        assert [item["metric"]["service"] for item in half["data"]["result"]] == ["stable"]
        assert half["warnings"] == ["slow store"]

    run(body)


def test_a_frozen_store_answers_with_old_samples() -> None:
    async def body(prometheus: Prometheus, _source: Source) -> None:
        await asyncio.sleep(6)
        prometheus.faults.frozen = True
        await asyncio.sleep(60)
        _, window = await ask(prometheus, "requests_total[2m]")
        assert window["data"]["result"][0]["values"][-1][0] == START + 5
        await asyncio.sleep(300)
        _, instant = await ask(prometheus, "requests_total")
        assert instant["data"]["result"] == []

    run(body)


@pytest.mark.parametrize(
    "query",
    ["", "{}", "requests_total[5m] / 2", 'a{b="c"', 'a{b=~"("}', "a[5x]", "a offset", "a{b=c}"],
)
def test_what_is_not_a_plain_selector_is_bad_data(query: str) -> None:
    with pytest.raises(QueryError):
        parse(query)

    async def body(prometheus: Prometheus, _source: Source) -> None:
        status, reply = await ask(prometheus, query)
        assert (status, reply["errorType"]) == (400, "bad_data")

    run(body)


def test_what_is_computed_was_told_by_expression_and_track() -> None:
    """And nothing is a series less."""

    async def body(prometheus: Prometheus, _source: Source) -> None:
        prometheus.computed.say("failed_total", "shop", 0.1)
        prometheus.computed.say("failed_total", "shop-canary", lambda at: at - START)
        found = []
        for track in ("shop", "shop-canary", "other"):
            _, reply = await ask(prometheus, f'sum(rate(failed_total{{pod=~"{track}-.+"}}[1m]))')
            assert reply["data"]["resultType"] == "vector"
            found.append([row["value"][1] for row in reply["data"]["result"]])
        assert found == [["0.1"], ["0"], []]

    run(body)


def test_selectors() -> None:
    selector = parse('m{a="x\\"y", b!="z", c=~"4..|5..", d!~`\\d+`,} [1m30s] offset 5s')
    assert (selector.window, selector.offset) == (90.0, 5.0)
    good = {"__name__": "m", "a": 'x"y', "c": "503"}
    assert selector.matches(good)
    for change in ({"a": "x"}, {"b": "z"}, {"c": "5033"}, {"d": "12"}, {"__name__": "n"}):
        assert not selector.matches({**good, **change})
    assert duration("1h30m") == 5_400.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.0, "5"),
        (0.25, "0.25"),
        (1e22, "1" + "0" * 22),
        (float("inf"), "+Inf"),
        (1e-7, "0.0000001"),
    ],
)
def test_values_are_written_without_exponents(value: float, text: str) -> None:
    assert format_value(value) == text
