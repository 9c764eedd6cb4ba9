# SPDX-License-Identifier: Apache-2.0
"""Windows of the past by a store that answers some of them, and what becomes of the others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from controller.adapters.prometheus.past import Archive
from controller.adapters.prometheus.providers import choose
from controller.app.backtest.gathering import Gathered, gather
from controller.app.backtest.measuring import MOST_VALUES
from controller.core.backtest.rehearsal import End
from controller.core.errors import MetricsUnavailable, Refused
from controller.core.evidence.series import PodsKey
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.observation import View
from controller.core.policy import promql
from controller.core.policy.model import PRESETS, Preset, Promotion, Traffic, UserCheck
from controller.core.values import TargetRef
from tests.support.realtime import app_serving

AT = 1_764_000_000.0
SECONDS = 900.0
GAP = 15.0
KEY = PodsKey("shop", "checkout", "")
PODS = ("checkout-5d9c7b6f48-x2x4z", "checkout-5d9c7b6f48-x2x4w")
GOOD, EMPTY, BAD = AT, AT + 3600, AT + 7200
"""When windows begin that are answered, that the store knows nothing of, and that it refuses."""
LATER = 60.0
"""So much later there is time left for every window."""


async def query(request: Request) -> JSONResponse:
    """Raw samples of the counter of answers, and nothing of anything else."""
    text, at = request.query_params["query"], float(request.query_params["time"])
    if "ms]" not in text or not text.startswith("http_requests_total") or at == EMPTY + SECONDS:
        return JSONResponse({"data": {"result": []}})
    if at == BAD + SECONDS:
        return JSONResponse({"error": "out of order"}, status_code=422)
    times = [at - number * GAP for number in range(70, -1, -1)]
    values = [[time, str(10 * number)] for number, time in enumerate(times)]
    rows = [
        {"metric": {"namespace": "shop", "pod": pod, "code": "200"}, "values": values}
        for pod in PODS
    ]
    return JSONResponse({"data": {"result": rows}})


async def coarse(request: Request) -> JSONResponse:
    """No raw samples, and thinned ones of what was scraped half as often."""
    text, at = request.query_params["query"], float(request.query_params["time"])
    if "ms]" in text:
        told = "query processing would load too many samples into memory in query execution"
        return JSONResponse({"error": told}, status_code=422)
    if not text.startswith("http_requests_total"):
        return JSONResponse({"data": {"result": []}})
    # Of a subquery the times are multiples of its step.
    last = at - at % GAP
    values = [[last - back * GAP, str(100 * ((99 - back) // 2))] for back in range(99, -1, -1)]
    rows = [{"metric": {"namespace": "shop", "pod": pod, "code": "200"}, "values": values}
            for pod in PODS]  # fmt: skip
    return JSONResponse({"data": {"result": rows}})


async def ranged(_request: Request) -> JSONResponse:
    return JSONResponse({"data": {"result": []}})


async def gathered(
    begins: Sequence[float],
    *,
    seconds: float = LATER,
    checks: Sequence[UserCheck] = (),
    answer: Callable[[Request], Awaitable[JSONResponse]] = query,
) -> Gathered:
    """What these windows come to, with so much time left."""
    policy = replace(PRESETS[Preset.FAST], checks=tuple(checks))
    situation = Situation(now=0.0, view=View(deployment=None), policy=policy, scrape_seconds=GAP)
    run = Run(
        name="r", target=TargetRef("shop", "checkout"), uid="u", annotations=(), stable_hash="h",
        stable_digest="", digest="", traffic=Traffic.GATEWAY, promotion=Promotion.SHIFT,
    )  # fmt: skip
    windows = [(begin, SECONDS) for begin in begins]
    until = asyncio.get_running_loop().time() + seconds
    routes = [Route("/api/v1/query", answer), Route("/api/v1/query_range", ranged)]
    async with app_serving(Starlette(routes=routes)) as url:
        archive = Archive(url, choose(["application"]))
        try:
            return await gather(archive, (situation, run), KEY, windows, until=until)
        finally:
            archive.close()


async def test_a_window_without_an_answer_is_left_out_and_told() -> None:
    found = await gathered([GOOD, EMPTY, BAD])
    assert [one.at for one in found.stretches] == [GOOD]
    assert len(found.healthy) == len(PODS)
    gaps, refused = found.missed()
    assert gaps == "1 window was left out for gaps in the counts"
    assert refused.startswith("1 window was left out: metrics store answered: HTTP Status Code 422")


async def test_samples_that_were_thinned_are_played_as_far_apart_as_they_were_scraped() -> None:
    """Else each second scrape of the rehearsal would be empty."""
    (stretch,) = (await gathered([GOOD + 7], answer=coarse)).stretches
    assert stretch.gap == 2 * GAP
    assert {one.requests for row in stretch.rows.values() for one in row} == {100}


async def test_where_no_window_is_answered_it_is_said_why() -> None:
    with pytest.raises(MetricsUnavailable, match="HTTP Status Code 422"):
        await gathered([EMPTY, BAD])
    with pytest.raises(Refused, match="had scrapes from its begin to its end"):
        await gathered([EMPTY])


async def test_when_the_time_is_over_no_more_is_asked() -> None:
    with pytest.raises(Refused, match="it took more than 30 min"):
        await gathered([GOOD, GOOD + SECONDS], seconds=0.0)


async def test_where_fewer_groups_play_it_is_said_how_many_and_what_their_runs_are() -> None:
    # Two queries for each check and each of the two pods.
    texts = (f"max(waiting_{number}) < 5" for number in range(MOST_VALUES // 4 + 1))
    read = [promql.read(f"c{number}", text) for number, text in enumerate(texts)]
    checks = [one for one in read if isinstance(one, UserCheck)]
    found = await gathered([GOOD], checks=checks)
    (told,) = found.missed()
    assert told == (
        "in 1 of 1 windows only one group of pods played the canary, so that the checks took no "
        f"more than {MOST_VALUES} queries in each; runs in all: 1 instead of 2"
    )
    # None has a value: all are played, and the run waits for them.
    assert set(found.played) == {check.title for check in checks}
    assert set(found.silent) == {(check.title, "no value") for check in checks}
    (run,) = found.healthy
    assert run.end is not End.PROMOTED
