# SPDX-License-Identifier: Apache-2.0
"""How much is asked for one window of the past beside requests, and what is left out of it."""

import asyncio
from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from controller.adapters.prometheus.past import Archive
from controller.adapters.prometheus.providers import choose
from controller.adapters.prometheus.ranges import MOST_POINTS
from controller.app.backtest import measuring
from controller.app.backtest.measuring import MOST_GROUPS, MOST_VALUES, TOO_MANY, Beside
from controller.core.backtest.rehearsal import Plan, planned
from controller.core.backtest.stretch import Stretch
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey
from controller.core.evidence.tally import UNREPORTED, Tally
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.observation import View
from controller.core.policy import promql
from controller.core.policy.model import PRESETS, Preset, Promotion, Traffic, UserCheck
from controller.core.values import TargetRef
from tests.support.realtime import app_serving

AT = 1_764_000_000.0
BY_POD = PodsKey("shop", "checkout", "")
DRAWN = "bcdfghjklmnpqrstvwxz"


def checks(*texts: str) -> tuple[UserCheck, ...]:
    found = [promql.read(f"c{number}", text) for number, text in enumerate(texts)]
    return tuple(one for one in found if isinstance(one, UserCheck))


MANY = checks(*(f"max(waiting_{name}) < 5" for name in "abcd"))


def stretch(pods: int, intervals: int = 60) -> Stretch:
    row = [Tally(requests=100)] * intervals
    rows = {f"checkout-5d9c7b6f48-x2x{DRAWN[pod]}4": row for pod in range(pods)}
    return Stretch(
        at=AT, gap=15.0, rows=rows, others=[UNREPORTED] * intervals,
        sums=dict.fromkeys(rows, 100 * intervals), whole=Tally(requests=100 * intervals * pods),
    )  # fmt: skip


def plan() -> Plan:
    situation = Situation(
        now=0.0, view=View(deployment=None), policy=PRESETS[Preset.CAUTIOUS], scrape_seconds=15.0
    )
    run = Run(
        name="r", target=TargetRef("shop", "checkout"), uid="u", annotations=(), stable_hash="h",
        stable_digest="", digest="", traffic=Traffic.GATEWAY, promotion=Promotion.SHIFT,
    )  # fmt: skip
    return planned(situation, replace(run, replicas=20))


async def looked(
    key: TrackKey,
    pods: int,
    asked: tuple[UserCheck, ...],
    sent: list[str],
    *,
    value: str = "1",
    intervals: int = 60,
) -> Beside:
    """By a store whose every check has that value at the begin, and that knows no gauges."""

    async def ranged(request: Request) -> JSONResponse:
        sent.append(request.query_params["query"])
        row = {"metric": {}, "values": [[float(request.query_params["start"]), value]]}
        return JSONResponse({"data": {"result": [row]}})

    async def query(_request: Request) -> JSONResponse:
        return JSONResponse({"data": {"result": []}})

    routes = [Route("/api/v1/query_range", ranged), Route("/api/v1/query", query)]
    async with app_serving(Starlette(routes=routes)) as url:
        archive = Archive(url, choose(["application"]))
        where = stretch(pods, intervals)
        found = await measuring.look(archive, key, plan(), where, asked, given_up={})
        archive.close()
    return found


@pytest.mark.parametrize(("asked", "fewer"), [(MANY[:1], False), (MANY, True)])
async def test_queries_are_bounded_by_the_groups_that_play(
    asked: tuple[UserCheck, ...], fewer: bool
) -> None:
    sent: list[str] = []
    found = await looked(BY_POD, 20, asked, sent)
    assert found.fewer is fewer
    assert (len(found.firsts) == MOST_GROUPS) is not fewer
    assert len(found.firsts) > 1
    assert len(sent) == len(set(sent)) <= MOST_VALUES
    assert set(found.measured.checks) == {check.title for check in asked}
    # Another group of the same size would have been too many.
    assert not fewer or len(sent) + len(sent) / len(found.firsts) > MOST_VALUES


async def test_without_pods_everything_is_left_out_and_told() -> None:
    sent: list[str] = []
    service = await looked(ServiceKey("shop", "checkout"), 20, MANY[:1], sent)
    assert service.left == dict.fromkeys(["check c0", "saturation"], measuring.NOT_BY_POD)
    single = await looked(BY_POD, 1, MANY[:1], sent)
    assert single.left == dict.fromkeys(["check c0", "saturation"], measuring.ALONE)
    assert sent == []


async def test_checks_are_left_out_where_even_one_group_would_ask_too_much() -> None:
    sent: list[str] = []
    # The range of each query takes many parts, so that there is room for some of the checks.
    found = await looked(BY_POD, 4, MANY, sent, intervals=12 * MOST_POINTS)
    assert len(sent) <= MOST_VALUES
    assert len(found.firsts) == 1
    played = len(found.measured.checks)
    assert 0 < played < len(MANY)
    assert [*found.measured.checks] == [check.title for check in MANY[:played]]
    for check in MANY[played:]:
        assert found.left[check.title] == TOO_MANY
    # Another check would have been too many.
    assert len(sent) + len(sent) / played > MOST_VALUES


async def test_a_check_without_a_value_is_played_and_what_a_gateway_counts_is_left_out() -> None:
    sent: list[str] = []
    asked = checks("sum(rate(traefik_service_requests_total[1m])) < 5", "max(waiting) < 5")
    found = await looked(BY_POD, 6, asked, sent, value="NaN")
    assert set(found.left) == {"check c0", "saturation"}
    assert "a gateway counts traefik_service_requests_total" in found.left["check c0"]
    assert not any("traefik" in text for text in sent)
    assert set(found.measured.checks) == {"check c1"}
    assert found.silent == {"check c1": "no value"}


async def test_what_takes_the_store_too_long_is_told_and_not_asked_again() -> None:
    sent: list[str] = []
    over = asyncio.Event()

    async def silent(request: Request) -> JSONResponse:
        sent.append(request.query_params["query"])
        await over.wait()
        return JSONResponse({"data": {"result": []}})

    routes = [Route("/api/v1/query_range", silent), Route("/api/v1/query", silent)]
    given_up: dict[str, str] = {}
    async with app_serving(Starlette(routes=routes)) as url:
        archive = Archive(url, choose(["application"]), patience_seconds=0.2)
        for _window in range(2):
            found = await measuring.look(
                archive, BY_POD, plan(), stretch(6), MANY[:1], given_up=given_up
            )
            assert found.left == given_up
            assert found.measured.checks == {}
        over.set()
        archive.close()
    assert set(given_up) == {"check c0", "saturation"}
    assert all("in time, and was not asked again" in why for why in given_up.values())
    assert len(sent) == 2
