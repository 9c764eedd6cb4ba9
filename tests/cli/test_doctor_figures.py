# SPDX-License-Identifier: Apache-2.0
"""The figures that `doctor` prints, held against what the store itself answers, and its clock."""

import asyncio
import itertools
import re
from pathlib import Path

import httpx
import pytest

from controller.core.evidence.reasons import percent
from controller.sim import clock
from controller.sim.world import World
from tests.cli.practice import Practice, facts, findings, practice, quiet_world
from tests.engine.house import POLICY, house

LATE_SECONDS = 15.0
"""A store that stands still grows older while the command waits for its turn on a busy machine. The
clocks of these tests differ by far more."""


def shown(found: Practice, track: str) -> tuple[str, list[str]]:
    """What a person sees of a track: the line with its value, and the queries below it."""
    lines = found.type().stdout.splitlines()
    (place,) = (n for n, line in enumerate(lines) if f"{track} (Service shop/checkout" in line)
    below = itertools.takewhile(lambda line: line.startswith(12 * " "), lines[place + 1 :])
    return lines[place], [query.strip() for query in below]


def answered(found: Practice, query: str) -> tuple[float, float]:
    """What the store says to a query as it was printed: requests per minute, and the bad share."""
    with httpx.Client(trust_env=False) as http:
        answer = http.post(f"{found.prometheus}/api/v1/query", data={"query": query}).json()
    rows = answer["data"]["result"]
    counted = [float(row["values"][-1][1]) - float(row["values"][0][1]) for row in rows]
    bad = [n for n, row in zip(counted, rows, strict=True) if row["metric"]["code"][0] == "5"]
    times = [at for row in rows for at, _ in row["values"]]
    return 60 * sum(counted) / (max(times) - min(times)), sum(bad) / sum(counted)


def test_of_a_run_under_way_both_tracks_are_shown_with_their_values(tmp_path: Path) -> None:
    """And where to ask for the checks of the team's own, which are not asked here."""
    orders = "sum(rate(orders_failed_total[1m])) / sum(rate(orders_total[1m])) < 0.05"
    notes = {**POLICY, "switchgear.dev/steps": "25@600s", "switchgear.dev/check.orders": orders}

    async def story() -> World:
        async with house(rate=40.0, annotations=notes) as found:
            found.world.set_image("shop", "checkout", "registry.example/app:v2")
            await found.reaches("Judging")
            await asyncio.sleep(60)
            await found.stop()
            return found.world

    with practice(clock.run(story()), tmp_path) as found:
        told = found.told()
        known = facts(told)
        assert known["canary_requests_per_minute"] == pytest.approx(600, rel=0.2)
        assert known["requests_per_minute"] > known["canary_requests_per_minute"]
        assert "it has series of a run under way" in str(findings(told, "metrics"))
        assert "`switchgear checks test shop/checkout` tells" in str(findings(told, "policy"))
        for track, service, rate in (
            ("stable", "shop-checkout", known["requests_per_minute"]),
            ("canary", "shop-checkout-canary", known["canary_requests_per_minute"]),
        ):
            line, queries = shown(found, track)
            requests, latency = queries
            matched = f'service=~"(?:{service})-(?:http|grpc)'
            assert requests.startswith(f"traefik_service_requests_total{{{matched}"), requests
            assert latency.startswith(f"traefik_service_request_duration_seconds_bucket{{{matched}")
            assert all(query.endswith("[300000ms]") for query in queries)
            # Whoever types the query himself sees what is said beside it.
            value, bad = answered(found, requests)
            assert rate == pytest.approx(value, rel=0.1)
            assert f": {rate:.0f} requests/min, {percent(bad)} errors" in line


@pytest.mark.parametrize(("ahead", "words"), [(90.0, "ahead of"), (-400.0, "behind")])
def test_clocks_that_differ_are_told_and_the_stores_own_time_is_gone_by(
    ahead: float, words: str, tmp_path: Path
) -> None:
    """By this machine's clock all samples would be of the future, or too old to judge by."""
    with practice(quiet_world(rate=40.0), tmp_path, ahead=ahead) as found:
        told = found.told()
        (clocks,) = (
            one for one in findings(told, "metrics") if "clock_difference_seconds" in one["facts"]
        )
        # An answer tells whole seconds, and is read when this machine gets to it.
        seconds = clocks["facts"]["clock_difference_seconds"]
        assert ahead - LATE_SECONDS <= seconds <= ahead + 1
        assert clocks["level"] == "warning"
        said = re.search(rf" (\d+) s {words} this machine's$", clocks["message"])
        assert said is not None, clocks["message"]
        assert abs(int(said[1]) - abs(seconds)) <= 1
        assert "NTP" in clocks["advice"]
        known = facts(told)
        assert -1.5 <= known["newest_sample_seconds"] < LATE_SECONDS
        assert known["requests_per_minute"] == pytest.approx(2400, rel=0.05)
