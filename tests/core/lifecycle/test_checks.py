# SPDX-License-Identifier: Apache-2.0
"""Each reason to say no before anything is touched, and that none of them touches anything."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.core.lifecycle import checks, machine
from controller.core.lifecycle.memory import Ending, Memory
from controller.core.lifecycle.situation import Situation
from controller.core.lifecycle.table import Phase
from controller.core.observation import Preflight, View
from controller.core.policy import parse, promql
from controller.core.policy.model import Policy, Promotion, Traffic, UserCheck
from controller.core.values import PREFIX, TargetRef
from tests.core.lifecycle.paper import LABELS, OLD, TARGET, Paper, begun

Change = Callable[[Situation], Situation]


def refused(paper: Paper, change: Change | None = None) -> tuple[Memory, list[str]]:
    """Tick until the run rests; the codes of what was told."""
    memory, codes = begun(paper), []
    for _ in range(20):
        situation = paper.situation(memory)
        if change is not None:
            situation = change(situation)
        decision = machine.step(situation, memory)
        codes += [notice.reason for notice in decision.notices]
        for effect in decision.effects:
            paper.apply(effect)
        memory = decision.memory
        if memory.phase is Phase.HELD:
            break
        paper.pass_time()
    return memory, codes


def seen(**changes: object) -> Change:
    """A change of what the caches show."""

    def change(situation: Situation) -> Situation:
        view: View = replace(situation.view, **changes)  # type: ignore[arg-type]
        return replace(situation, view=view)

    return change


def of_deployment(**changes: object) -> Change:
    """A change of the Deployment."""

    def change(situation: Situation) -> Situation:
        assert situation.view.deployment is not None
        deployment = replace(situation.view.deployment, **changes)  # type: ignore[arg-type]
        return replace(situation, view=replace(situation.view, deployment=deployment))

    return change


def of_service(**changes: object) -> Change:
    """A change of the Service."""

    def change(situation: Situation) -> Situation:
        service = replace(situation.view.services[0], **changes)  # type: ignore[arg-type]
        return replace(situation, view=replace(situation.view, services=(service,)))

    return change


def facts(**changes: object) -> Change:
    """A change of what the preflight answered."""

    def change(situation: Situation) -> Situation:
        return replace(situation, preflight=Preflight(**changes))  # type: ignore[arg-type]

    return change


def without_a_route(**annotations: str) -> Change:
    """No route leads to the Service, and the policy says this besides."""

    def change(situation: Situation) -> Situation:
        wanted = {"policy": "fast", **annotations}
        policy = parse.parse({PREFIX + key: text for key, text in wanted.items()})
        view = replace(situation.view, routes=())
        return replace(situation, policy=policy, view=view)

    return change


CASES = {
    "NoService": seen(services=()),
    "ServiceShared": of_service(shared_with=("cart",)),
    "NoRoute": without_a_route(promotion="shift", steps="20@10s"),
    "StepUnreachable": without_a_route(),
    "StrategyNotRolling": of_deployment(strategy="Recreate"),
    "NoHistory": of_deployment(history=0),
    "PathNotWeighable": facts(unweighable=("Ingress shop/checkout",)),
    "AutoscalerUnfit": facts(autoscaler_runs_away="the autoscaler follows memory"),
    "QuotaTooSmall": facts(pods_left=2),
    "NotCovered": facts(uncovered=("BackendTLSPolicy shop/checkout",)),
    "NotGranted": facts(ungranted=("HTTPRoute edge/x lead to the Service shop/checkout-canary",)),
}


@pytest.mark.parametrize("code", CASES)
def test_refused_with_its_reason_and_nothing_touched(code: str) -> None:
    """The change is held, stable serves, and only the pause was written."""
    paper = Paper()
    memory, codes = refused(paper, CASES[code])
    assert memory.phase is Phase.HELD
    assert memory.run.ending is Ending.REFUSED
    assert codes == [code]
    assert set(paper.writes) <= {"Pause", "FreezeReplicaSet"}
    assert paper.selector == LABELS


@pytest.mark.parametrize("way", ["promotion", "traffic"])
def test_an_autoscaler_that_runs_away_is_refused_whatever_the_way(way: str) -> None:
    """Canary pods are counted with stable's, in every way; only a route takes a Service's load."""
    situation = Paper().situation(begun(Paper()))
    run = begun(Paper()).run
    assert not isinstance(situation.policy, tuple)
    changed = {
        "promotion": replace(situation.policy, promotion=Promotion.ROLL),
        "traffic": replace(situation.policy, traffic=Traffic.REPLICAS),
    }[way]
    situation = replace(situation, policy=changed)

    def codes(**found: str) -> list[str]:
        facts_found = replace(situation, preflight=Preflight(**found))  # type: ignore[arg-type]
        refusals = checks.refusals(facts_found, run)
        return [one.code for one in refusals if one.code == "AutoscalerUnfit"]

    assert codes(autoscaler_runs_away="it follows memory") == ["AutoscalerUnfit"]
    starved = codes(autoscaler_starves="it follows one Service")
    assert starved == (["AutoscalerUnfit"] if way == "promotion" else [])
    assert codes() == []


@pytest.mark.parametrize(
    ("says", "refused_ones"),
    [
        ((), ["s0-prometheus", "s1-queue"]),
        (("s1-queue",), ["s0-prometheus"]),
        (("s0-prometheus", "s1-queue", "s2-else"), []),
    ],
)
def test_an_external_metric_is_taken_where_the_team_says_that_it_follows_both(
    says: tuple[str, ...], refused_ones: list[str]
) -> None:
    """Each is named with both ways out; without a route no share is taken from a Service."""
    run = begun(Paper()).run
    situation = Paper().situation(begun(Paper()))
    assert not isinstance(situation.policy, tuple)
    facts_found = Preflight(autoscaler_external=("s0-prometheus", "s1-queue"))

    def told(**changes: object) -> list[str]:
        policy = replace(situation.policy, total_load=says, **changes)  # type: ignore[type-var]
        seen = replace(situation, policy=policy, preflight=facts_found)
        found = checks.refusals(seen, run)
        return [one.message for one in found if one.code == "AutoscalerUnfit"]

    for ways in ({}, {"promotion": Promotion.ROLL}):
        messages = told(**ways)
        assert len(messages) == len(refused_ones)
        for name, message in zip(refused_ones, messages, strict=True):
            assert f"switchgear.dev/total-load: {name}" in message
            assert "minReplicas to maxReplicas" in message
    assert told(traffic=Traffic.REPLICAS) == []


def test_a_singleton_with_its_volume_is_refused() -> None:
    """A second pod could not mount it."""
    paper = Paper(replicas=1)
    _, codes = refused(paper, facts(once_claims=("data",)))
    assert codes == ["SingletonVolume"]


def test_a_route_that_is_not_accepted_is_refused() -> None:
    """Its gateway says why."""
    paper = Paper(accepted=False)
    _, codes = refused(paper)
    assert codes == ["RouteNotAccepted"]


def test_a_route_that_is_never_answered_is_refused_after_a_minute_and_once() -> None:
    """Its gateway is gone for good; what is held says so until there is an answer."""
    paper = Paper(accepted=None)
    memory, told = begun(paper), []
    begun_at = paper.now
    for _ in range(300):
        decision = machine.step(paper.situation(memory), memory)
        told += [(paper.now - begun_at, notice.reason) for notice in decision.notices]
        for effect in decision.effects:
            paper.apply(effect)
        memory = decision.memory
        paper.pass_time()
    ((at, code),) = told
    assert code == "RouteNotAnswered"
    assert 55 <= at <= 65
    assert memory.phase is Phase.HELD
    paper.accepted = True
    for _ in range(5):
        memory = machine.step(paper.situation(memory), memory).memory
    assert memory.phase is Phase.PREPARING


def test_a_route_that_is_answered_in_a_moment_holds_nothing() -> None:
    paper = Paper(accepted=None)
    memory = begun(paper)
    for _ in range(20):
        decision = machine.step(paper.situation(memory), memory)
        assert not decision.notices
        for effect in decision.effects:
            paper.apply(effect)
        memory = decision.memory
        paper.pass_time()
    assert memory.phase is Phase.CHECKING
    paper.accepted = True
    assert machine.step(paper.situation(memory), memory).memory.phase is Phase.PREPARING


def test_a_route_that_carries_nothing_is_not_waited_for() -> None:
    """Where the number of pods splits the requests."""
    paper = Paper(accepted=None, replicas=20, sets={OLD: 20})
    paper.annotations |= {"traffic": "replicas"}
    memory, codes = refused(paper)
    assert codes[:1] == ["RunStarted"]
    assert memory.run.traffic is Traffic.REPLICAS


def test_all_problems_of_a_bad_policy_are_told() -> None:
    """A bad policy holds the change and lists everything that is wrong."""
    paper = Paper()
    paper.annotations = {"policy": "fats", "max-wieght": "5", "steps": "much"}

    def broken(situation: Situation) -> Situation:
        texts = {PREFIX + key: text for key, text in paper.annotations.items()}
        return replace(situation, policy=parse.parse(texts))

    memory, codes = refused(paper, broken)
    assert memory.run.ending is Ending.REFUSED
    assert codes.count("InvalidPolicy") >= 3
    assert paper.paused


def test_the_checks_are_asked_again_when_the_reason_is_gone() -> None:
    """The held change begins by itself once a Service selects the pods."""
    paper = Paper()
    memory, _ = refused(paper, CASES["NoService"])
    decision = machine.step(paper.situation(memory), memory)
    assert decision.memory.phase not in {Phase.HELD, Phase.ENDED}


def test_an_open_breaker_refuses_the_next_version() -> None:
    """It stays open until a person closes it."""
    paper = Paper()
    _, codes = refused(paper, lambda situation: replace(situation, breaker="it opened"))
    assert codes == ["BreakerOpen"]


def test_a_quarantined_template_does_not_start_by_itself() -> None:
    """`retry` is the way."""
    paper = Paper()
    _, codes = refused(paper, lambda s: replace(s, quarantined=(paper.digest,)))
    assert codes == ["Quarantined"]


def routeless(**changes: object) -> Change:
    """Nothing leads to the Service, and the policy has these changes."""

    def change(situation: Situation) -> Situation:
        assert not isinstance(situation.policy, tuple)
        policy = replace(situation.policy, **changes)  # type: ignore[arg-type]
        return replace(situation, policy=policy, view=replace(situation.view, routes=()))

    return change


@pytest.mark.parametrize(("length", "too_long"), [(39, False), (40, True)])
def test_without_a_route_a_name_that_kubernetes_cuts_is_refused(
    length: int, too_long: bool
) -> None:
    """Its pods could not be told from the canary's."""
    memory = begun(Paper())
    run = replace(memory.run, target=TargetRef(TARGET.namespace, "c" * length))
    situation = Paper().situation(memory)
    codes = [found.code for found in checks.refusals(routeless()(situation), run)]
    assert ("NameTooLong" in codes) is too_long
    assert "NameTooLong" not in [found.code for found in checks.refusals(situation, run)]
    orders = promql.read("orders", "sum(rate(orders_failed_total[1m])) < 5")
    assert isinstance(orders, UserCheck)
    assert isinstance(situation.policy, Policy)
    checked = replace(situation, policy=replace(situation.policy, checks=(orders,)))
    assert ("NameTooLong" in [found.code for found in checks.refusals(checked, run)]) is too_long


NGINX = "gateway.nginx.org/nginx-gateway-controller"


@pytest.mark.parametrize(
    ("controller", "metrics", "refused"),
    [
        (NGINX, "auto", True),
        (NGINX, "traefik", True),
        (NGINX, "application", False),
        ("example.org/of-our-own", "auto", False),
    ],
)
def test_a_gateway_that_does_not_count_by_service_is_refused_unless_the_pods_judge(
    controller: str, metrics: str, refused: bool
) -> None:
    """It would hold every step till its deadline, without a word why."""
    memory = begun(Paper())
    situation = Paper().situation(memory)
    routes = tuple(replace(route, controllers=(controller,)) for route in situation.view.routes)
    situation = replace(situation, view=replace(situation.view, routes=routes))
    run = replace(memory.run, annotations=(("metrics", metrics),))
    unfit = [one for one in checks.refusals(situation, run) if one.code == "MetricsUnfit"]
    assert bool(unfit) is refused
    assert all("NGINX Gateway Fabric" in one.message for one in unfit)
    assert all("or opentelemetry" in one.message for one in unfit)


def test_without_a_route_the_counters_of_a_gateway_are_refused() -> None:
    memory = begun(Paper())
    situation = Paper().situation(memory)

    def codes(metrics: str) -> list[str]:
        change = routeless(metrics=metrics)
        return [found.code for found in checks.refusals(change(situation), memory.run)]

    assert "MetricsUnfit" in codes("traefik")
    assert "MetricsUnfit" in codes("envoy")
    assert "MetricsUnfit" not in codes("application")
    assert "MetricsUnfit" not in codes("auto")
