# SPDX-License-Identifier: Apache-2.0
"""`doctor` on a whole cluster with its Prometheus, before anything was ever rolled out."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from controller.adapters.kube.rights import asked
from controller.app.doctor import outlook
from controller.core.checkup import Level
from controller.core.evidence.calibration import Calibration, unknown
from controller.sim import clock
from controller.sim.apiserver.errors import ApiError
from controller.sim.apiserver.request import Request, Response, error_response
from controller.sim.world import World
from tests.cli.practice import Practice, facts, findings, practice, quiet_world
from tests.cli.room import typed
from tests.engine.house import POLICY, house
from tests.support.realtime import ROOT, configured

BY_PODS: Final = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/steps": "50@60s",
    "switchgear.dev/bake": "20s",
}


def test_a_stable_version_that_would_be_rolled_back_itself_is_warned_of() -> None:
    known = Calibration(phi=4.0, cap_scrapes=10, known=True, words="phi = 4; 9 of 60")
    assert outlook.learnt(known).level is Level.OK
    doubted = outlook.learnt(replace(known, doubt="stable too is rolled back, in 9 of 60 replays"))
    assert doubted.level is Level.WARNING
    assert "9 of 60" in doubted.message
    assert "stable too is rolled back, in 9 of 60 replays: a healthy version may" in doubted.advice
    assert outlook.learnt(unknown("no history")).level is Level.WARNING


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Practice]:
    """40 requests/s through a route, and nothing wrong."""
    with practice(quiet_world(rate=40.0), tmp_path_factory.mktemp("sound")) as found:
        yield found


def test_a_sound_target_is_said_to_work(sound: Practice) -> None:
    """Exit 0, and everything that a person would ask."""
    result = sound.type()
    assert result.exit_code == 0, result.output
    for words in (
        "fast: 5 % 20 s, 25 % 20 s, 95 % 20 s (the last is the bake)",
        "nothing would hold a run; found Service checkout, HTTPRoute shop/checkout",
        "provider traefik",
        "stable (Service shop/checkout): 2400 requests/min",
        "canary (Service shop/checkout-canary): no series, which is right before a run",
        "scraped every 1 s",
        "assuming phi = 3 and k = 3",
        "Prometheus answers; its clock and this machine's are ",
        "step 1: 5 % of 40 requests/s for 20 s, 2 requests/s to the canary: takes 25 s at least",
        "; finds 50 % errors in about 9 s, 5 % errors in about ",
        "; the least that it finds in about 25 s is ",
        "a run would work: 0 problems, 1 warning",
    ):
        assert words in result.stdout, result.stdout


def test_the_json_has_the_same_facts(sound: Practice) -> None:
    told = sound.told()
    known = facts(told)
    assert known["provider"] == "traefik"
    assert known["scrape_seconds"] == 1
    assert known["requests_per_minute"] == pytest.approx(2400, rel=0.05)
    assert known["bounds_seconds"] == [0.1, 0.3, 1.2, 5.0]
    steps = [finding["facts"] for finding in findings(told, "steps")]
    assert [step["name"] for step in steps] == ["step 1", "step 2", "bake"]
    assert [step["weight_bp"] for step in steps] == [500, 2500, 9500]
    assert steps[0]["seconds_at_least"] == pytest.approx(25, abs=0.5)
    assert 0.01 < steps[1]["smallest_error_share"] < steps[0]["smallest_error_share"] < 1
    assert [one["error_share"] for one in steps[0]["found_after_seconds"]] == [0.5, 0.05, 0.01]


def test_how_long_gauges_of_young_pods_are_waited_for_is_said(tmp_path: Path) -> None:
    def exposed(world: World) -> None:
        world.prometheus.subqueries = True

    how: dict[str, Any] = {"env": {"THROTTLED_SECONDS": "0"}, "rate": 400.0}
    with practice(quiet_world(exposed, seconds=900.0, **how), tmp_path) as found:
        told = found.told()
        *steps, bake = findings(told, "steps")
        assert bake["facts"]["seconds_at_least"] == pytest.approx(45, abs=0.5)
        assert "it waits for what runs out to be measured for half a minute" in bake["message"]
        assert bake["facts"]["seconds_while_young"] == 60 + 180 + 15
        assert ", and up to 4.25 min where young pods use far more than stable's" in bake["message"]
        assert [one["facts"]["seconds_while_young"] for one in steps] == [None, None]


def test_nothing_is_written(sound: Practice) -> None:
    """But for the questions who may do what, which leave nothing."""
    seen: list[tuple[str, str]] = []

    async def note(request: Request) -> Response | None:
        seen.append((request.method, request.path))
        return None

    before = sound.room.world.api.before
    before.append(note)
    try:
        sound.told()
    finally:
        before.remove(note)
    assert {path.rsplit("/", 1)[1] for method, path in seen if method != "GET"} == {
        "subjectaccessreviews"
    }


def test_the_wrong_provider_is_named_and_so_is_the_right_one(sound: Practice) -> None:
    """And the rest is told of the right one."""
    told = sound.told("--provider", "envoy", code=1)
    (problem,) = findings(told, level="problem")
    assert problem["message"].startswith("provider envoy has no series of Service shop/checkout")
    assert "switchgear.dev/metrics: traefik" in problem["advice"]
    assert facts(told)["requests_per_minute"] > 2000
    assert len(findings(told, "steps")) == 3


def test_without_prometheus_the_rest_is_told(sound: Practice) -> None:
    result = sound.room.type("doctor", "shop/checkout")
    assert result.exit_code == 0, result.output
    assert "Prometheus was not asked" in result.stdout
    dead = sound.room.type("doctor", "shop/checkout", "--prometheus-url", "http://127.0.0.1:9")
    assert dead.exit_code == 1
    assert "Prometheus gave no answer: metrics store cannot be reached" in dead.stdout
    assert "nothing would hold a run" in dead.stdout


def test_wrong_usage_and_missing_things(sound: Practice, tmp_path: Path) -> None:
    assert sound.room.type("doctor", "shop/checkout", "--prometheus", "x").exit_code == 2
    assert sound.type("--provider", "nonsense").exit_code == 2
    missing = sound.type(target="shop/nobody")
    assert missing.exit_code == 1
    assert "there is no Deployment shop/nobody" in missing.stderr
    config = configured(tmp_path, "http://127.0.0.1:9")
    away = typed("doctor", "shop/checkout", SWITCHGEAR_KUBECONFIG=str(config))
    assert away.exit_code == 3


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    """Of the policy, of the cluster and of the metrics, each with what to do."""

    def spoil(world: World) -> None:
        notes = {"switchgear.dev/steps": "nonsense", "switchgear.dev/max-wait": "5"}
        world.annotate("shop", "checkout", notes)
        world.edit("deployments", "shop", "checkout", _recreated)
        world.delete("httproutes", "shop", "checkout")

    with practice(quiet_world(spoil, rate=40.0), tmp_path) as found:
        told = found.told("--policy", "cautious", code=1)
        policy = {finding["facts"]["key"] for finding in findings(told, "policy", "problem")}
        assert policy == {"steps", "max-wait"}
        codes = {finding["facts"]["code"] for finding in findings(told, "checks", "problem")}
        assert codes == {"StrategyNotRolling", "StepUnreachable"}
        assert findings(told, "metrics", "problem")
        assert all(finding["advice"] for finding in findings(told, "metrics", "problem"))


def _recreated(deployment: dict[str, Any]) -> None:
    deployment["spec"]["strategy"] = {"type": "Recreate"}


def test_a_deployment_that_will_be_annotated(tmp_path: Path) -> None:
    """Examined by the policy that is meant, and how to annotate it is said."""

    async def story() -> World:
        async with house(rate=100.0, start=False, annotations={}) as found:
            await asyncio.sleep(100)
            return found.world

    with practice(clock.run(story()), tmp_path) as found:
        told = found.told("--policy", "standard")
        (hint,) = findings(told, "policy", "warning")
        assert hint["advice"] == (
            "kubectl annotate -n shop deployment/checkout switchgear.dev/policy=standard"
        )
        steps = [finding["facts"] for finding in findings(told, "steps")]
        assert [step["dwell_seconds"] for step in steps] == [120, 300, 300, 300]


def test_no_requests_no_run(tmp_path: Path) -> None:
    """Stable has series from before, and nobody calls any more."""

    async def story() -> World:
        async with house(rate=40.0) as found:
            await asyncio.sleep(30)
            found.world.traffic.through(("shop", "checkout"), 0.0)
            await asyncio.sleep(330)
            await found.stop()
            return found.world

    with practice(clock.run(story()), tmp_path) as found:
        told = found.told(code=1)
        (problem,) = findings(told, "steps")
        assert problem["message"].startswith("stable gets no requests")


def test_little_traffic_ends_a_run_at_its_deadline(tmp_path: Path) -> None:
    """The step that would not pass says so, and what it lacks."""
    notes = {**POLICY, "switchgear.dev/deadline": "2m"}
    with practice(quiet_world(rate=1.0, annotations=notes), tmp_path) as found:
        told = found.told(code=1)
        first = findings(told, "steps")[0]
        assert first["level"] == "problem"
        assert "not passed within its deadline of 2 min" in first["message"]
        assert "of 50 requests" in first["message"]


def test_old_samples_are_no_samples(tmp_path: Path) -> None:
    with practice(quiet_world(rate=40.0), tmp_path, old=120.0) as found:
        (problem,) = findings(found.told(code=1), level="problem")
        assert "too old to judge by" in problem["message"]


def test_latency_limits_and_their_buckets(tmp_path: Path) -> None:
    """One that a bucket stands for, one that the next bucket stands for badly, one beyond all."""
    limits = {**POLICY, "switchgear.dev/latency": "p99<300ms,p95<400ms,p50<9s"}
    with practice(quiet_world(rate=40.0, annotations=limits), tmp_path) as found:
        told = [
            (finding["level"], finding["facts"]["bucket_seconds"])
            for finding in findings(found.told(code=1), "metrics")
            if "bucket_seconds" in finding["facts"]
        ]
        assert told == [("ok", 0.3), ("warning", 1.2), ("problem", None)]


@pytest.mark.slow
def test_pods_without_their_labels(tmp_path: Path) -> None:
    """Where pods judge, their series must say whose they are."""

    def peeled(world: World) -> World:
        for series in world.prometheus._series.values():
            series.labels.pop("pod", None)
        return world

    def world() -> World:
        return quiet_world(rate=40.0, route=False, annotations=BY_PODS)

    with practice(world(), tmp_path / "good") as found:
        told = found.told()
        assert facts(told)["provider"] == "application"
        assert [finding["facts"]["name"] for finding in findings(told, "steps")] == ["step 1"]
    with practice(peeled(world()), tmp_path / "bad") as found:
        problems = findings(found.told(code=1), "metrics", "problem")
        assert "without the label 'pod'" in problems[0]["message"]
        assert "PodMonitor" in problems[0]["advice"]


def test_counts_that_fall_are_told_before_a_run_holds_for_them(tmp_path: Path) -> None:
    """Of two processes behind each pod's port every other scrape meets the younger one."""
    world = quiet_world(rate=40.0, route=False, annotations=BY_PODS)
    with practice(world, tmp_path / "good") as found:
        assert "became fewer" not in str(found.told())
    for labels, series in world.prometheus._series.items():
        if dict(labels)["__name__"] == "http_requests_total":
            series.values[::2] = [value * 0.9 for value in series.values[::2]]
    with practice(world, tmp_path / "bad") as found:
        (problem,) = findings(found.told(code=1), "metrics", "problem")
        assert "answers that pods of stable had counted became fewer at " in problem["message"]
        assert "several processes behind one scrape target" in problem["message"]
        assert problem["advice"]


def test_a_pod_of_stable_that_is_not_scraped_stands_in_the_way(tmp_path: Path) -> None:
    """Where pods judge; what a gateway counts has all of them."""
    for route in (False, True):
        world = quiet_world(rate=40.0, replicas=4, route=route, annotations=BY_PODS)
        with practice(world, tmp_path / str(route)) as found:
            name = str(world.pods(version="v1")[0]["metadata"]["name"])
            world.prometheus.faults.hide = name
            told = found.told(code=0 if route else 1)
            problems = [one["message"] for one in findings(told, "metrics", "problem")]
            words = "1 of 4 pods of stable is not scraped: its answers are not counted"
            assert problems == ([] if route else [words])


def _refuse(found: Practice, *parts: str) -> None:
    """Let the API server forbid what has one of these texts in its path."""

    async def refuse(request: Request) -> Response | None:
        if any(request.path.endswith(part) for part in parts):
            return error_response(ApiError(403, "Forbidden", "not yours"))
        return None

    found.room.world.api.before.append(refuse)


def test_what_the_person_may_not_see_is_said(tmp_path: Path) -> None:
    """Less is checked then, and nothing is called a fault that was only out of sight."""
    with practice(quiet_world(rate=40.0), tmp_path) as found:
        _refuse(found, "/v1/httproutes", "/horizontalpodautoscalers", "/subjectaccessreviews")
        rights = findings(found.told(), "rights")
        assert [finding["level"] for finding in rights] == ["warning", "warning", "ok"]
        assert "may not list httproutes in all namespaces" in rights[0]["message"]
        assert "horizontalpodautoscalers" in rights[1]["message"]
        assert "may not ask what" in rights[2]["message"]
        _refuse(found, "/configmaps", "/services")
        told = found.told(code=1)
        assert findings(told, "checks", "problem") == []
        assert "may not list services in shop" in str(findings(told, "rights", "problem"))
        assert "kill latch and earlier runs were not looked at" in str(findings(told, "rights"))


def test_what_the_controller_may_not_do_is_said(tmp_path: Path) -> None:
    with practice(quiet_world(rate=40.0), tmp_path) as found:
        access = found.room.world.api.access
        users = []

        def only(user: str, _groups: tuple[str, ...], what: dict[str, Any]) -> bool:
            users.append((user, what["namespace"]))
            return (what["verb"], what["resource"]) != ("patch", "httproutes")

        access.allowed = only
        (problem,) = findings(found.told(code=1), "rights")
        assert problem["facts"]["missing"] == ["patch httproutes"]
        assert set(users) == {("system:serviceaccount:switchgear:switchgear", "shop")}
        access.allowed = lambda *_: False
        (warning,) = findings(found.told(), "rights")
        assert "may do nothing in shop" in warning["message"]


def test_the_rights_that_are_asked_for_are_those_of_the_role() -> None:
    roles = yaml.safe_load_all((ROOT / "manifests" / "base" / "rbac.yaml").read_text())
    rules = next(role["rules"] for role in roles if role["kind"] == "ClusterRole")
    granted = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert set(asked()) == granted
