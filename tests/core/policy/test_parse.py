# SPDX-License-Identifier: Apache-2.0
"""The parser is total, tells all faults at once, and never lets a misspelt guard through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.policy.keys import NOT_OFFERED, POLICY_KEYS, REQUEST_KEYS, STATUS_KEYS
from controller.core.policy.model import (
    PRESETS,
    AfterTrip,
    Bake,
    LatencyLimit,
    OnFailure,
    Policy,
    Preset,
    Problem,
    RouteName,
    Step,
)
from controller.core.policy.parse import MAX_PROBLEMS, is_target, parse, policy_of
from controller.core.policy.promql import MAX_CHECKS
from controller.core.values import PREFIX, RouteKind


def read(**annotations: str) -> Policy | tuple[Problem, ...]:
    """Parse annotations given without prefix and with underscores."""
    return parse({PREFIX + key.replace("_", "-"): text for key, text in annotations.items()})


def policy(**annotations: str) -> Policy:
    result = read(policy="standard", **annotations)
    assert isinstance(result, Policy), result
    return result


def problems(**annotations: str) -> tuple[Problem, ...]:
    result = read(**annotations)
    assert not isinstance(result, Policy)
    assert result
    return result


def only_problem(**annotations: str) -> Problem:
    (problem,) = problems(policy="standard", **annotations)
    return problem


@pytest.mark.parametrize("preset", Preset)
def test_the_preset_alone_is_a_whole_policy(preset: Preset) -> None:
    assert read(policy=preset.value) == PRESETS[preset]


@pytest.mark.parametrize("preset", Preset)
def test_every_preset_starts_at_most_at_five_percent_and_rises(preset: Preset) -> None:
    weights = [step.weight_bp for step in PRESETS[preset].steps]
    assert 0 < weights[0] <= 500
    assert weights == sorted(set(weights))
    assert PRESETS[preset].bake.weight_bp == 9500
    assert weights[-1] < PRESETS[preset].bake.weight_bp


def test_every_override_reaches_its_field() -> None:
    result = policy(
        steps="1@30s, 12.5%@1h30m",
        max_weight="20",
        bake="10m",
        route="checkout,GRPCRoute/api",
        service="web",
        metrics="traefik",
        error_rate="0.5%",
        latency="p99<500ms,p50<0.1s",
        min_requests="7",
        deadline="1h",
        metrics_deadline="90s",
        breaker="25%",
        after_trip="next-revision",
        on_failure="revert",
        paused="true",
    )
    assert result.steps == (
        Step(weight_bp=100, dwell_seconds=30),
        Step(weight_bp=1250, dwell_seconds=5400),
    )
    assert (result.max_weight_bp, result.bake.seconds) == (2000, 600)
    assert result.routes == (
        RouteName(name="checkout"),
        RouteName(name="api", kind=RouteKind.GRPC),
    )
    assert (result.service, result.metrics, result.error_rate) == ("web", "traefik", 0.005)
    assert result.latency == (
        LatencyLimit(quantile=0.99, seconds=0.5),
        LatencyLimit(quantile=0.5, seconds=0.1),
    )
    assert (result.min_requests, result.deadline_seconds) == (7, 3600)
    assert (result.metrics_deadline_seconds, result.breaker_share) == (90, 0.25)
    assert result.after_trip is AfterTrip.NEXT_REVISION
    assert result.on_failure is OnFailure.REVERT
    assert result.paused


def test_a_ladder_of_ones_own_is_not_cut_by_the_cap_of_the_preset() -> None:
    assert policy(steps="10@1m,75@1m").max_weight_bp == 7500
    assert policy(steps="10@1m,75@1m", max_weight="30").max_weight_bp == 3000
    assert policy(steps="10@1m").max_weight_bp == 1000


def test_metrics_are_named_as_their_owners_spell_them() -> None:
    written = "s0-prometheus, pubsub.googleapis.com|subscription|num_undelivered_messages"
    assert policy(total_load=written).total_load == tuple(written.split(", "))
    assert policy().total_load == ()


def test_observe_cannot_be_talked_into_touching_traffic() -> None:
    watched = read(policy="observe", steps="10@1m")
    assert isinstance(watched, Policy)
    assert watched.max_weight_bp == 0
    (problem,) = problems(policy="observe", max_weight="5")
    assert problem.code == "Contradiction"


@pytest.mark.parametrize(
    ("key", "text", "word"),
    [
        ("policy", "standart", "standard"),
        ("steps", "", "empty"),
        ("steps", "5", "duration"),
        ("steps", "5@2", "duration"),
        ("steps", "5@2m,,25@5m", "comma"),
        ("steps", "25@5m,5@2m", "above"),
        ("steps", "5@2m,5@2m", "above"),
        ("steps", "0@2m", "above 0"),
        ("steps", "0.001@2m", "finer"),
        ("steps", "5@2m,100@1m", "stable"),
        ("steps", "-5@2m", "percentage"),
        ("steps", "\u0665@2m", "percentage"),
        ("steps", ",".join(f"{n}@1m" for n in range(1, 40)), "too many"),
        ("max-weight", "101", "100 %"),
        ("bake", "0s", "no time"),
        ("bake", "8d", "week"),
        ("bake", "1e9s", "duration"),
        ("error-rate", "1", "sign"),
        ("error-rate", "100%", "between"),
        ("latency", "p99>500ms", "p99<500ms"),
        ("latency", "p0<500ms", "p99<500ms"),
        ("latency", "p99<500ms,p99<1s", "twice"),
        ("min-requests", "0", "whole number"),
        ("min-requests", "1.5", "whole number"),
        ("paused", "yes", "true nor false"),
        ("service", "Web Shop", "not a name"),
        ("metrics", "kong", "write one of auto, application, application-histogram, cilium"),
        ("metrics", "Traefik 3", "not a name"),
        ("route", "Ingress/web", "HTTPRoute"),
        ("route", "HTTPRoute/", "not a name"),
        ("after-trip", "never", "latch"),
        ("total-load", "s0-prometheus,", "comma"),
        ("total-load", " ", "empty"),
        ("deadline", "9" * 5000 + "s", "characters"),
        ("warm-up", "11m", "at most 10m"),
        ("warm-up", "0s", "no time at all"),
    ],
)
def test_a_bad_value_names_its_key_and_the_way_out(key: str, text: str, word: str) -> None:
    found = parse({PREFIX + "policy": "standard", PREFIX + key: text})
    assert not isinstance(found, Policy)
    (problem,) = found
    assert problem.key == key
    assert problem.code in {"ValueInvalid", "ValueTooLong"}
    assert word in str(problem)


def test_a_fourth_limit_of_latency_is_refused_and_what_else_is_wrong_is_told_with_it() -> None:
    three = "p50<50ms,p95<200ms,p99<500ms"
    assert len(policy(latency=three).latency) == 3
    found = parse({PREFIX + "policy": "standard", PREFIX + "latency": f"{three},p99.9<2s"})
    assert not isinstance(found, Policy)
    (problem,) = found
    assert (problem.key, problem.code) == ("latency", "LatencyLimitsTooMany")
    assert "there are 4 limits of latency, and 3 can be judged" in problem.message
    assert "keep at most 3" in problem.hint
    found = parse({PREFIX + "latency": f"{three},p99.9>2s"})
    assert not isinstance(found, Policy)
    assert {one.code for one in found} == {"LatencyLimitsTooMany", "ValueInvalid", "PolicyMissing"}


@pytest.mark.parametrize("key", sorted(POLICY_KEYS))
def test_an_empty_value_is_a_problem_of_every_key(key: str) -> None:
    found = parse({PREFIX + "policy": "standard", PREFIX + key: ""})
    assert not isinstance(found, Policy)
    assert {problem.key for problem in found} == {key}


def test_all_problems_are_told_at_once() -> None:
    found = problems(steps="x", max_weigth="5", bake="soon", notify="mail", traffic="pods")
    assert {(p.key, p.code) for p in found} == {
        ("bake", "ValueInvalid"),
        ("max-weigth", "KeyUnknown"),
        ("notify", "NotSupported"),
        ("policy", "PolicyMissing"),
        ("steps", "ValueInvalid"),
        ("traffic", "ValueInvalid"),
    }


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("max-weigth", "max-weight"),
        ("maxweight", "max-weight"),
        ("error_rate", "error-rate"),
        ("Step", "steps"),
        ("latencies", "latency"),
        ("checks.orders", "check.orders"),
        ("chekc.orders", "check.orders"),
    ],
)
def test_an_unknown_key_gets_the_suggestion_it_deserves(written: str, meant: str) -> None:
    problem = only_problem(**{written.replace("-", "_"): "1"}) if "_" not in written else None
    if problem is None:
        found = parse({PREFIX + "policy": "standard", PREFIX + written: "1"})
        assert not isinstance(found, Policy)
        (problem,) = found
    assert problem.code == "KeyUnknown"
    assert problem.hint == f"did you mean {PREFIX}{meant}?"


def test_a_key_like_no_other_gets_no_guess() -> None:
    assert only_problem(zzzzzzzz="1").hint == "remove it"


@pytest.mark.parametrize("key", sorted(NOT_OFFERED))
def test_what_is_not_offered_is_refused_in_words(key: str) -> None:
    found = parse({PREFIX + "policy": "standard", PREFIX + key: "x"})
    assert not isinstance(found, Policy)
    (problem,) = found
    assert problem.code == "NotSupported"
    assert "not supported in this version" in problem.message
    assert problem.hint


def test_checks_are_read_beside_the_rest() -> None:
    """In the order of their names, whatever else is written."""
    query = "sum(rate(b_failed_total[1m])) / sum(rate(b_total[1m])) < 0.05"
    notes = {"policy": "fast", "check.b": query, "steps": "5@1m", "check.a": "sum(queue) <= 100"}
    found = parse({PREFIX + key: text for key, text in notes.items()})
    assert isinstance(found, Policy)
    assert [check.name for check in found.checks] == ["a", "b"]
    assert found.checks[1].text == query
    assert found.checks[1].holds(0.04)
    assert not found.checks[1].holds(0.05)
    assert found.steps[0].weight_bp == 500


def test_a_bad_check_is_a_bad_policy() -> None:
    """With everything that is wrong with it beside what else is wrong."""
    notes = {"policy": "fast", "steps": "x", "check.a": 'queue{pod="p"} < 1', "check.B": "sum(q)<1"}
    found = parse({PREFIX + key: text for key, text in notes.items()})
    assert not isinstance(found, Policy)
    assert {(p.key, p.code) for p in found} == {
        ("check.B", "CheckNameInvalid"),
        ("check.a", "CheckLabelTaken"),
        ("check.a", "CheckManySeries"),
        ("steps", "ValueInvalid"),
    }


def test_more_checks_than_are_asked() -> None:
    notes = {f"{PREFIX}check.c{n}": "sum(queue) < 1" for n in range(MAX_CHECKS + 1)}
    found = parse({PREFIX + "policy": "fast", **notes})
    assert not isinstance(found, Policy)
    assert [(p.code, p.hint) for p in found] == [("ChecksTooMany", f"keep at most {MAX_CHECKS}")]
    del notes[f"{PREFIX}check.c0"]
    assert isinstance(parse({PREFIX + "policy": "fast", **notes}), Policy)


def test_a_shift_without_a_route_is_a_contradiction() -> None:
    problem = only_problem(traffic="replicas", promotion="shift")
    assert (problem.key, problem.code) == ("promotion", "Contradiction")
    assert "promotion: roll" in problem.hint


@pytest.mark.parametrize("key", sorted(STATUS_KEYS | REQUEST_KEYS))
def test_our_own_marks_are_no_mistake(key: str) -> None:
    assert parse({PREFIX + "policy": "fast", PREFIX + key: "{}"}) == PRESETS[Preset.FAST]


def test_foreign_annotations_are_none_of_our_business() -> None:
    others = {"kubectl.kubernetes.io/restartedAt": "now", "example.dev/steps": "1@1"}
    assert parse({PREFIX + "policy": "fast", **others}) == PRESETS[Preset.FAST]
    assert not is_target(others)
    assert is_target({PREFIX + "policy": "nonsense"})


_KEYS = st.one_of(
    st.sampled_from(sorted(POLICY_KEYS) + sorted(NOT_OFFERED) + ["check.a", "check.b", ""]),
    st.text(max_size=80),
)
_TEXTS = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="0123456789@,.%smhdp<>-/ ", max_size=60),
    st.lists(st.sampled_from(["sum", "(", "rate", "x", "[1m]", ")", "{", "}", "<", "5"])).map(
        "".join
    ),
    st.from_regex(r"(\d{1,3}(\.\d{1,3})?%?@\d{1,4}(s|m|h|d),?){1,25}", fullmatch=True),
)


@given(st.dictionaries(st.one_of(_KEYS.map(lambda key: PREFIX + key), st.text()), _TEXTS))
def test_no_text_makes_the_parser_raise(annotations: dict[str, str]) -> None:
    result = parse(annotations)
    if isinstance(result, Policy):
        weights = [step.weight_bp for step in result.steps]
        assert weights
        assert weights == sorted(set(weights))
        assert all(0 < weight < result.bake.weight_bp for weight in weights)
        assert all(step.dwell_seconds > 0 for step in result.steps)
        assert 0 <= result.max_weight_bp <= 10_000
    else:
        assert 0 < len(result) <= MAX_PROBLEMS + 1
        assert all(problem.message and len(str(problem)) < 500 for problem in result)


@given(
    st.lists(st.integers(1, 9499), min_size=1, max_size=20, unique=True).map(sorted),
    st.integers(1, 604_800),
)
def test_every_ladder_that_can_be_written_is_read_exactly(weights: list[int], dwell: int) -> None:
    result = policy(steps=",".join(f"{weight / 100:.2f}@{dwell}s" for weight in weights))
    assert result.steps == tuple(Step(weight_bp=w, dwell_seconds=dwell) for w in weights)


def test_very_much_text_is_refused_at_once() -> None:
    """Work is bounded by the limit on what is read, so a mebibyte costs no more than a page."""
    mebibyte = "5@2m," * 210_000
    assert only_problem(steps=mebibyte).code == "ValueTooLong"
    many = {f"{PREFIX}{'x' * 40}{n}": "" for n in range(20_000)}
    found = parse({PREFIX + "policy": "standard", **many})
    assert not isinstance(found, Policy)
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1].message.startswith(str(20_000 - MAX_PROBLEMS))


def test_a_gateways_counters_cannot_judge_where_there_is_no_gateway() -> None:
    told = {PREFIX + "policy": "standard", PREFIX + "traffic": "replicas"}
    found = parse({**told, PREFIX + "metrics": "traefik"})
    assert not isinstance(found, Policy)
    (problem,) = (one for one in found if one.key == "metrics")
    assert problem.code == "Contradiction"
    assert problem.hint.startswith("write application, application-histogram, auto, ")
    assert problem.hint.endswith(" or opentelemetry")
    fitting = parse({**told, PREFIX + "metrics": "opentelemetry"})
    assert isinstance(fitting, Policy) or all(one.key != "metrics" for one in fitting)


def test_the_ladder_that_climbs_by_its_budget() -> None:
    found = policy(steps="auto")
    assert [step.weight_bp for step in found.steps] == [100, 1000, 5000]
    assert (found.budget, found.min_requests, found.max_weight_bp) == (100.0, 1, 5000)
    asked = policy(steps=" auto ", budget="20", min_requests="300", max_weight="10")
    assert (asked.budget, asked.min_requests, asked.max_weight_bp) == (20, 300, 1000)
    assert (found.bake.weight_bp, found.bake.seconds) == (8000, 300)
    assert policy(steps="auto", bake="1m").bake == Bake(weight_bp=8000, seconds=60)
    assert policy(steps="5@2m").budget is None


@pytest.mark.parametrize(
    ("annotations", "key"),
    [
        ({"budget": "20"}, "budget"),
        ({"budget": "20", "steps": "5@2m"}, "budget"),
        ({"steps": "auto", "traffic": "replicas"}, "steps"),
    ],
)
def test_what_does_not_go_with_it(annotations: dict[str, str], key: str) -> None:
    problem = only_problem(**annotations)
    assert (problem.key, problem.code) == (key, "Contradiction")
    assert problem.hint


def test_a_policy_is_remembered_unless_it_is_large() -> None:
    """Whoever may annotate a Deployment must not fill the memory."""
    told = {"policy": "fast", "deadline": "17m"}
    assert policy_of({**told, "status": "one"}) is policy_of({**told, "status": "two"})
    large = {**told, "note": "x" * 20_000}
    assert policy_of(large) == policy_of(large)
    assert policy_of(large) is not policy_of(large)
