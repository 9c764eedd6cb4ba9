# SPDX-License-Identifier: Apache-2.0
"""`checks test` on a whole cluster with its Prometheus, before a run and in one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.sim.world import World
from tests.cli.practice import Practice, practice, quiet_world
from tests.cli.room import typed
from tests.engine.house import POLICY
from tests.support.realtime import configured

ORDERS = "sum(rate(orders_failed_total[1m])) / sum(rate(orders_total[1m])) < 0.05"
ERRORS = 'sum(rate(traefik_service_requests_total{code=~"5.."}[1m])) <= 1'
NOTES = {
    **POLICY,
    "switchgear.dev/latency": "p99<5s",
    "switchgear.dev/check.orders": ORDERS,
    "switchgear.dev/check.gateway": ERRORS,
}


def told(found: Practice, *words: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """The checks by name."""
    result = found.checks("-o", "json", *words)
    assert result.exit_code == code, result.output
    report = json.loads(result.stdout)
    assert report["ok"] is (code == 0)
    return {check["name"]: check for check in report["checks"]}


def tracks(check: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {track["track"]: track for track in check["tracks"]}


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Practice]:
    """40 requests/s to stable, with two checks beside the default ones; no canary."""
    world = quiet_world(rate=40.0, annotations=NOTES)
    world.prometheus.computed.say("orders_failed_total", "checkout", 0.02)
    world.prometheus.computed.say("traefik_service_requests_total", "checkout", 0.5)
    with practice(world, tmp_path) as found:
        yield found


def test_before_a_run_every_check_is_asked_of_stable(before: Practice) -> None:
    found = told(before)
    assert list(found) == ["errors", "latency p99", "check.gateway", "check.orders"]
    for check in found.values():
        (stable,) = check["tracks"]
        assert (stable["track"], stable["says"]) == ("stable", "holds")
        assert stable["requests"] > 1000
        assert stable["queries"]
    assert found["check.orders"]["readers"] == ["pods"]
    assert found["check.gateway"]["readers"] == ["traefik"]
    orders = tracks(found["check.orders"])["stable"]
    assert orders["value"] == 0.02
    assert orders["requests"] == pytest.approx(2400, rel=0.1)
    (query,) = orders["queries"]
    assert query.count('namespace=~"shop",pod=~"(?:checkout-') == 2
    assert "shop-checkout)-(?:http|grpc)" in tracks(found["check.gateway"])["stable"]["queries"][0]


def test_people_see_query_value_and_verdict(before: Practice) -> None:
    before.room.world.prometheus.computed.say("orders_failed_total", "checkout", 0.07)
    result = before.checks()
    assert result.exit_code == 1
    for words in (
        "no canary runs, so only stable was asked",
        "errors (traefik): at most 5 % failed",
        "latency p99 (traefik): at most 1 % slower than 5 s",
        f"check.orders (pods): {ORDERS}",
        "stable  does not hold  0.07, with 2",
        "sum(rate(orders_failed_total{namespace=",
        "not every check holds",
    ):
        assert words in result.stdout, result.stdout


def test_no_data_says_which_metric_has_none(before: Practice) -> None:
    before.room.world.prometheus.computed.say("orders_failed_total", "checkout", None)
    orders = tracks(told(before, code=1)["check.orders"])["stable"]
    assert (orders["says"], orders["value"]) == ("none", None)
    assert "orders_failed_total has no series of this track (none at all)" in orders["why"]
    assert "orders_total has no series of this track" in orders["why"]


@pytest.mark.slow
def test_in_a_run_the_canary_is_asked_as_well(tmp_path: Path) -> None:
    """And what holds of stable need not hold of it."""

    def roll(world: World) -> None:
        world.set_image("shop", "checkout", "registry.example/app:v2")

    world = quiet_world(roll, seconds=25, rate=40.0, annotations=NOTES)
    world.prometheus.computed.say("orders_failed_total", "checkout", 0.02)
    world.prometheus.computed.say("orders_failed_total", "checkout-canary", 0.2)
    with practice(world, tmp_path) as found:
        orders = tracks(told(found, code=1)["check.orders"])
        assert (orders["stable"]["says"], orders["canary"]["says"]) == ("holds", "fails")
        assert orders["canary"]["value"] == 0.2
        assert 0 < orders["canary"]["requests"] < orders["stable"]["requests"]


def test_a_check_that_cannot_be_read_is_told_beside_the_others(tmp_path: Path) -> None:
    notes = {**NOTES, "switchgear.dev/check.orders": 'orders_total{pod="a"} < 1'}
    with practice(quiet_world(rate=40.0, annotations=notes), tmp_path) as found:
        checks = told(found, code=1)
        codes = {problem["code"] for problem in checks["check.orders"]["problems"]}
        assert codes == {"CheckLabelTaken", "CheckManySeries"}
        assert "check.gateway" in checks
        assert "PROBLEM 'orders_total' is matched by pod" in found.checks().stdout


def test_wrong_usage_and_missing_things(before: Practice, tmp_path: Path) -> None:
    assert before.room.type("checks", "test", "shop/checkout").exit_code == 2
    assert before.checks("--provider", "nonsense").exit_code == 2
    assert before.checks(target="nobody").exit_code == 1
    dead = before.room.type("checks", "test", "shop/checkout", "--prometheus", "http://127.0.0.1:9")
    assert dead.exit_code == 3
    assert "Prometheus gave no answer" in dead.stderr
    away = {"SWITCHGEAR_KUBECONFIG": str(configured(tmp_path / "away", "http://127.0.0.1:9"))}
    asked = ("checks", "test", "shop/checkout", "--prometheus", before.prometheus)
    assert typed(*asked, **away).exit_code == 3


def test_what_can_run_out_is_told_with_what_is_usual(tmp_path: Path) -> None:
    def exposed(world: World) -> None:
        world.prometheus.subqueries = True

    how: dict[str, Any] = {"annotations": NOTES, "env": {"OPEN_FILES": "512"}, "rate": 40.0}
    world = quiet_world(exposed, seconds=900.0, **how)
    with practice(world, tmp_path) as found:
        check = told(found, code=1)["saturation: open files"]
        assert "0.5 at most" in check["text"]
        stable = tracks(check)["stable"]
        assert (stable["says"], stable["value"]) == ("holds", 0.5)
        assert "process_open_fds" in stable["queries"][0]
