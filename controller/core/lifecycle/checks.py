# SPDX-License-Identifier: Apache-2.0
"""What is asked before anything is touched: one small function per reason to say no.

All checks are asked and all refusals are told at once. None of them ends a run: a refused change
stays held on the stable pods, and the checks are asked again when something has changed.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from controller.core.evidence.series import LONGEST_NAME
from controller.core.guard.permit import Refusal
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.lifecycle.tracks import by_pods
from controller.core.observation import MOST_WEIGHT, Deployment
from controller.core.policy import caps, keys, promql
from controller.core.policy.model import Policy, Promotion, Traffic
from controller.core.values import MANAGED_BY, PREFIX, WHOLE_BP, canary_name, percent

UNANSWERED: Final = "RouteNotAnswered"
"""The one refusal that a little patience may spare: a gateway answers within milliseconds."""


def refusals(situation: Situation, run: Run) -> tuple[Refusal, ...]:
    """Every reason why the run may not begin; empty: it may."""
    if isinstance(situation.policy, tuple):
        return tuple(
            Refusal(code="InvalidPolicy", message=str(problem)) for problem in situation.policy
        )
    found: list[Refusal] = []
    for check in _CHECKS:
        found.extend(check(situation, run, situation.policy))
    return tuple(found)


def traffic(situation: Situation) -> Traffic:
    """How this run would split requests: by routes where some lead to the Service, else by pods."""
    wanted = situation.plan.traffic
    if wanted is not Traffic.AUTO:
        return wanted
    by_route = situation.view.routes or situation.plan.routes
    return Traffic.GATEWAY if by_route else Traffic.REPLICAS


def promotion(situation: Situation) -> Promotion:
    """How this run would be promoted: without a route there is nothing that could be shifted."""
    usual = Promotion.SHIFT if traffic(situation) is Traffic.GATEWAY else Promotion.ROLL
    return situation.plan.promotion or usual


def _latches(situation: Situation, run: Run, policy: Policy) -> Iterator[Refusal]:
    target = run.target
    scope = situation.latches.kill_for(target.namespace, target.name)
    deployment = situation.view.deployment
    if not scope and deployment is not None and "kill" in deployment.annotations:
        scope = "annotation"
    if scope:
        yield Refusal(
            code="KillEngaged",
            message=f"the kill latch ({scope}) is engaged; release it with `switchgear release`",
        )
    if situation.latches.fleet_open:
        yield Refusal(
            code="FleetBreakerOpen",
            message=f"the fleet breaker is open: {situation.latches.fleet_open}; "
            "close it with `switchgear release`",
        )
    if situation.breaker and not run.probe:
        yield Refusal(code="BreakerOpen", message=situation.breaker)
    if run.digest in situation.quarantined and not run.probe:
        yield Refusal(
            code="Quarantined",
            message="this template failed before; try it again with "
            f"`switchgear retry {target}` or ship another one",
        )
    if policy.paused:
        yield Refusal(code="Paused", message="the policy is paused; remove the annotation `paused`")


def _workload(situation: Situation, _run: Run, policy: Policy) -> Iterator[Refusal]:
    deployment = situation.view.deployment
    if deployment is None:
        return
    if deployment.strategy != "RollingUpdate":
        yield Refusal(
            code="StrategyNotRolling",
            message=f"the strategy is {deployment.strategy}: two versions may not run side by "
            "side; use RollingUpdate or remove the policy annotation",
        )
    if deployment.history == 0:
        yield Refusal(
            code="NoHistory",
            message="revisionHistoryLimit is 0: once the Deployment has rolled there is no "
            "ReplicaSet to go back to; write 1 or more, or remove the policy annotation",
        )
    if deployment.replicas == 0:
        yield Refusal(
            code="ScaledToZero", message="the Deployment is scaled to 0: nothing to compare with"
        )
    facts = situation.preflight
    if facts is not None and facts.once_claims and deployment.replicas == 1:
        claims = ", ".join(facts.once_claims)
        yield Refusal(
            code="SingletonVolume",
            message=f"a singleton with the ReadWriteOnce volume {claims}: a second pod could not "
            "mount it; use ReadWriteMany or remove the policy annotation",
        )
    if policy.observes_only:
        yield Refusal(code="ObserveOnly", message="the policy `observe` touches no traffic")
    if not policy.observes_only and caps.ceiling(policy, situation.ceilings).limit_bp == 0:
        yield Refusal(
            code="CapZero", message="a cap of 0 leaves no traffic to judge; raise `max-weight`"
        )


def _counters(situation: Situation, run: Run, policy: Policy) -> Iterator[Refusal]:
    """Whether there is something by which the two versions can be told apart."""
    chosen = traffic(situation)
    if chosen is Traffic.REPLICAS and policy.metrics in keys.SERVICE_PROVIDERS:
        yield Refusal(
            code="MetricsUnfit",
            message=f"without a route the counters of {policy.metrics} cannot tell two versions "
            f"apart; write {PREFIX}metrics: {keys.one_of(keys.POD_PROVIDERS)}",
        )
    counted_by_pods = by_pods(replace(run, traffic=chosen))
    for controller in sorted(
        {name for route in situation.view.routes for name in route.controllers}
    ):
        if controller in keys.UNCOUNTED and not counted_by_pods:
            yield Refusal(
                code="MetricsUnfit",
                message=f"{keys.UNCOUNTED[controller]} ({controller}) does not count by Service: "
                "its counters cannot tell two versions apart; let the pods judge: write "
                f"{PREFIX}metrics: {keys.one_of(keys.POD_PROVIDERS)}",
            )
    needed = counted_by_pods or promql.reads_pods(policy.checks)
    if needed and len(run.target.canary) > LONGEST_NAME:
        yield Refusal(
            code="NameTooLong",
            message=f"the pods of {run.target.canary} would have names that Kubernetes cuts, so "
            "that by their own counters the two versions could not be told apart; give the "
            f"Deployment a name of at most {LONGEST_NAME - len(canary_name(''))} characters",
        )


def _services(situation: Situation, _run: Run, policy: Policy) -> Iterator[Refusal]:
    services = situation.view.services
    if not services:
        yield Refusal(
            code="NoService",
            message="no Service selects the pods; create one whose selector matches their labels",
        )
    if policy.service and policy.service not in {service.name for service in services}:
        yield Refusal(
            code="ServiceNotSelecting",
            message=f"the Service {policy.service!r} of the annotation `service` does not exist "
            "or its selector does not match the pods",
        )
    for service in services:
        if service.shared_with:
            others = ", ".join(service.shared_with)
            yield Refusal(
                code="ServiceShared",
                message=f"the Service {service.name!r} also selects pods of {others}: pinning it "
                "would take their traffic away; give each Deployment a Service of its own",
            )


def _replicas(situation: Situation, _run: Run, policy: Policy) -> Iterator[Refusal]:
    """Whether whole pods can make the first step's share."""
    deployment = situation.view.deployment
    if traffic(situation) is Traffic.GATEWAY or deployment is None or not deployment.replicas:
        return
    first = caps.ladder(policy, situation.ceilings)[0].weight_bp
    pods = deployment.replicas
    if first > 0 and caps.most_beside(pods, first) == 0:
        least = percent(caps.share_beside(1, pods))
        yield Refusal(
            code="StepUnreachable",
            message=f"without a route 1 canary pod beside {pods} gets {least} of the requests, "
            f"more than the first step's {percent(first)}; write {PREFIX}steps from {least} on, "
            f"run at least {caps.pods_needed(first)} pods, or lead the Service through a HTTPRoute",
        )


def _routes(situation: Situation, _run: Run, policy: Policy) -> Iterator[Refusal]:
    routes = situation.view.routes
    by_pods = traffic(situation) is Traffic.REPLICAS
    if promotion(situation) is Promotion.SHIFT and by_pods:
        yield Refusal(
            code="NoRoute",
            message="promotion by shift needs a HTTPRoute or GRPCRoute that leads to the Service; "
            f"create one, or write {PREFIX}promotion: roll",
        )
    if by_pods:
        return
    if not routes:
        yield Refusal(
            code="NoRoute",
            message="no HTTPRoute or GRPCRoute leads to the Service; create one, or write "
            f"{PREFIX}traffic: replicas",
        )
    known = {(route.ref.kind, route.ref.name) for route in routes}
    for wanted in policy.routes:
        kinds = {kind for kind, name in known if name == wanted.name}
        if not kinds or (wanted.kind is not None and wanted.kind.value not in kinds):
            yield Refusal(
                code="RouteMissing",
                message=f"the route {wanted.name!r} of the annotation `route` does not lead to "
                "the Service or does not exist",
            )
    for route in routes:
        if route.accepted is False:
            yield Refusal(
                code="RouteNotAccepted",
                message=f"{route.ref} is not accepted by its gateway: {route.message}",
            )
        if route.accepted is None:
            yield Refusal(
                code=UNANSWERED,
                message=f"{route.ref}: {route.message or 'no gateway has answered yet'}; bring "
                "that gateway back, or take it out of the route's parentRefs",
            )
        if route.finest > MOST_WEIGHT:
            yield Refusal(
                code="WeightsTooFine",
                message=f"a rule of {route.ref} has a weight of {route.finest} where all that its "
                "weights have in common is divided out, which leaves no room for a canary's share "
                f"in hundredths of a percent; use weights up to {MOST_WEIGHT}",
            )


def _asked_once(situation: Situation, _run: Run, policy: Policy) -> Iterator[Refusal]:
    facts = situation.preflight
    deployment = situation.view.deployment
    if facts is None or deployment is None:
        return
    routed = traffic(situation) is Traffic.GATEWAY
    for path in facts.unweighable if routed else ():
        yield Refusal(
            code="PathNotWeighable",
            message=f"{path} leads to the Service and cannot be weighed; lead it through a "
            "HTTPRoute or remove it",
        )
    for path in facts.uncovered if routed else ():
        yield Refusal(code="NotCovered", message=f"{path} does not cover the canary Service")
    for what in facts.ungranted if routed else ():
        yield Refusal(
            code="NotGranted",
            message=f"no ReferenceGrant lets {what}; name that Service in one beside the other, or "
            "leave the name out",
        )
    for why in (facts.autoscaler_runs_away, facts.autoscaler_starves if routed else ""):
        if why:
            yield Refusal(code="AutoscalerUnfit", message=why)
    for metric in facts.autoscaler_external if routed else ():
        if metric not in policy.total_load:
            yield Refusal(code="AutoscalerUnfit", message=_unknown_load(metric))
    needed, what = _room(situation, policy, deployment)
    if facts.pods_left is not None and facts.pods_left < needed:
        yield Refusal(
            code="QuotaTooSmall",
            message=f"{what} needs {needed} more pods and the quota leaves {facts.pods_left}",
        )


def _unknown_load(metric: str) -> str:
    return (
        f"the HorizontalPodAutoscaler scales on the External metric {metric!r}, and whose load it "
        "follows cannot be seen: that of the Service alone falls while the canary takes a share of "
        "it, and stable would be starved; if it follows the load of both versions, say so by "
        f"{PREFIX}total-load: {metric}; if not, let its query count the canary's Service as well, "
        "scale on CPU, or set minReplicas to maxReplicas while a run lasts"
    )


def _room(situation: Situation, policy: Policy, deployment: Deployment) -> tuple[int, str]:
    """Pods that the run adds at its height, and when that is."""
    if promotion(situation) is Promotion.SHIFT:
        return deployment.replicas, "the bake"
    last = caps.ceiling(policy, situation.ceilings).limit_bp
    if traffic(situation) is Traffic.REPLICAS:
        return caps.most_beside(deployment.replicas, last), "the last step"
    return max(1, -(-deployment.replicas * last // WHOLE_BP)), "the last step"


def _names(situation: Situation, _run: Run, _policy: Policy) -> Iterator[Refusal]:
    canary = situation.view.canary
    if canary is not None and not canary.ours:
        yield Refusal(
            code="ForeignName",
            message=f"a Deployment {canary.name!r} exists that is not ours (label managed-by is "
            f"not {MANAGED_BY}); rename it",
        )
    routed = {
        canary_name(service.name)
        for service in situation.view.services
        if traffic(situation) is Traffic.GATEWAY
        and any(route.names(service.name) for route in situation.view.routes)
    }
    for service in situation.view.canary_services:
        if service.name in routed and not service.ours:
            yield Refusal(
                code="ForeignName",
                message=f"a Service {service.name!r} exists that is not ours; rename it",
            )


_CHECKS: Final[tuple[Callable[[Situation, Run, Policy], Iterator[Refusal]], ...]] = (
    _latches,
    _workload,
    _counters,
    _services,
    _replicas,
    _routes,
    _asked_once,
    _names,
)
