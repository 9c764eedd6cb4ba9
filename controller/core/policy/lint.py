# SPDX-License-Identifier: Apache-2.0
"""A policy beside the manifests that it will meet: one small function per rule.

All rules are asked and all problems are told. The codes are those of the refusals that the daemon
would give, so that a problem looks the same before and after it reached a cluster. A rule about
objects that the manifests do not contain stays silent and is named by `unchecked`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from controller.core.evidence.series import LONGEST_NAME
from controller.core.policy import caps, keys, manifests, promql
from controller.core.policy.manifests import WEIGHABLE, Path, Service, Workload, World
from controller.core.policy.model import Policy, Problem, Promotion, Traffic
from controller.core.policy.parse import is_target, parse
from controller.core.values import PREFIX, canary_name, percent

SCRAPES_TO_DETECT: Final = 3
"""Scrapes before evidence may speak where there is no history: the cap per scrape lets it grow by
a third of the threshold's logarithm at each."""

LEAST_SCRAPES: Final = 2
"""Fewer than two samples have no difference, so nothing at all is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the manifests cannot say about the measurements, in seconds."""

    scrape_seconds: float = 15.0
    """Interval between two scrapes; 15 s is what Prometheus installations mostly use."""
    settle_seconds: float = 2.5
    """From a weight that was written to one in force at the gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One target with what surrounds it, as every rule sees it."""

    workload: Workload
    policy: Policy
    world: World
    timing: Timing

    @property
    def services(self) -> tuple[Service, ...]:
        """Services that select the target's pods."""
        return tuple(s for s in self.world.services if s.selects(self.workload))

    @property
    def paths(self) -> tuple[Path, ...]:
        """Everything that leads to one of these Services."""
        names = {(service.namespace, service.name) for service in self.services}
        return tuple(path for path in self.world.paths if path.backends & names)

    @property
    def routes(self) -> tuple[Path, ...]:
        """Routes to one of these Services whose weights split the requests."""
        return tuple(path for path in self.paths if path.kind in WEIGHABLE)

    @property
    def by_pods(self) -> bool:
        """Whether the number of pods splits the requests, as far as the manifests show it."""
        if self.policy.traffic is not Traffic.AUTO:
            return self.policy.traffic is Traffic.REPLICAS
        unrouted = self.world.knows_routes and not self.routes and not self.policy.routes
        return unrouted and bool(self.services)


def lint(workload: Workload, world: World, timing: Timing) -> tuple[Problem, ...]:
    """Every problem of one workload; none for a Deployment that asks for nothing."""
    found = [*manifests.unreadable(workload), *_misplaced(workload)]
    named = {problem.key for problem in found}
    if workload.kind != "Deployment":
        return (*found, _wrong_kind(workload))
    if not _asks(workload):
        return tuple(found)
    policy = parse(workload.annotations)
    if isinstance(policy, tuple):
        # A value that is no text was reported as such; that its key seems missing follows from it.
        return (*found, *(problem for problem in policy if problem.key not in named))
    case = Case(workload=workload, policy=policy, world=world, timing=timing)
    return (*found, *(problem for rule in RULES for problem in rule(case)))


def unchecked(world: World) -> tuple[str, ...]:
    """What could not be looked at, because the manifests do not contain it."""
    missing = []
    if not world.knows_services:
        missing.append("Services")
    if not world.knows_routes:
        missing.append("HTTPRoutes and GRPCRoutes")
    return tuple(missing)


def notes(workload: Workload) -> tuple[str, ...]:
    """What is in order and may still not be what somebody expects."""
    policy = parse(workload.annotations)
    if workload.kind == "Deployment" and isinstance(policy, Policy) and policy.observes_only:
        return ("under the policy observe a change rolls natively; it is reported and not judged",)
    return ()


def _asks(workload: Workload) -> bool:
    # Overrides without `policy` are a forgotten line, and the parser says so; our own marks alone
    # are what a former target still carries.
    ours = (key.removeprefix(PREFIX) for key in workload.annotations if key.startswith(PREFIX))
    own = keys.STATUS_KEYS | keys.REQUEST_KEYS
    return is_target(workload.annotations) or any(key not in own for key in ours)


def _wrong_kind(workload: Workload) -> Problem:
    return Problem(
        key="policy",
        code="KindNotSupported",
        message=f"a {workload.kind} cannot be a target",
        hint="only Deployments can",
    )


def _misplaced(workload: Workload) -> Iterator[Problem]:
    for key in sorted(workload.template_annotations):
        if key.startswith(PREFIX) and keys.is_policy(key.removeprefix(PREFIX)):
            yield Problem(
                key=key.removeprefix(PREFIX),
                code="AnnotationMisplaced",
                message="on the pod template it has no effect",
                hint="move it to the metadata of the Deployment itself",
            )


def _short_steps(case: Case) -> Iterator[Problem]:
    if case.policy.observes_only:
        return  # Nothing is measured.
    scrape = case.timing.scrape_seconds
    detect = case.timing.settle_seconds + SCRAPES_TO_DETECT * scrape
    # Those of the automatic ladder are as long as two scrapes and the budget make them.
    steps = () if case.policy.budget is not None else case.policy.steps
    rungs = [(f"the step of {percent(s.weight_bp)}", s.dwell_seconds) for s in steps]
    for what, seconds in [*rungs, ("the bake", case.policy.bake.seconds)]:
        key = "bake" if what == "the bake" else "steps"
        if seconds < LEAST_SCRAPES * scrape:
            yield Problem(
                key=key,
                code="StepWithoutScrapes",
                message=f"{what} lasts {seconds:g} s, less than two scrapes of {scrape:g} s",
                hint=f"give it at least {detect:g}s",
            )
        elif seconds < detect:
            yield Problem(
                key=key,
                code="StepTooShort",
                message=f"{what} lasts {seconds:g} s, less than the {detect:g} s that a failure "
                "needs to be seen",
                hint=f"give it at least {detect:g}s",
            )


def _cap(case: Case) -> Iterator[Problem]:
    first = case.policy.steps[0].weight_bp
    cap = case.policy.max_weight_bp
    if case.policy.observes_only or cap >= first:
        return
    yield Problem(
        key="max-weight",
        code="CapBelowFirstStep",
        message=f"the cap of {percent(cap)} lies below the first step of {percent(first)}, so the "
        "ladder has a single rung",
        hint=f"write {PREFIX}max-weight: {first / 100:g}, or begin steps at {cap / 100:g}",
    )


def _strategy(case: Case) -> Iterator[Problem]:
    if case.workload.strategy != "RollingUpdate":
        yield Problem(
            key="strategy",
            code="StrategyNotRolling",
            message=f"the strategy {case.workload.strategy} says that two versions may not run "
            "side by side",
            hint="use RollingUpdate, or remove the policy",
        )


def _history(case: Case) -> Iterator[Problem]:
    if case.workload.history == 0:
        yield Problem(
            key="revisionHistoryLimit",
            code="NoHistory",
            message="without an old ReplicaSet there is nothing to go back to once it has rolled",
            hint="write 1 or more, or leave it out (Kubernetes then keeps 10)",
        )


def _singleton(case: Case) -> Iterator[Problem]:
    if case.workload.replicas != 1:
        return
    for claim in case.workload.claims:
        if (case.workload.namespace, claim) in case.world.once_claims:
            yield Problem(
                key="volumes",
                code="SingletonVolume",
                message=f"a second pod could not mount the ReadWriteOnce volume {claim}",
                hint="use ReadWriteMany, or remove the policy",
            )


def _long_name(case: Case) -> Iterator[Problem]:
    by_pods = case.policy.metrics in keys.POD_PROVIDERS or case.policy.traffic is Traffic.REPLICAS
    name = canary_name(case.workload.name)
    if len(name) > LONGEST_NAME and (by_pods or promql.reads_pods(case.policy.checks)):
        yield Problem(
            key="metrics",
            code="NameTooLong",
            message=f"the pods of {name} would have names that Kubernetes cuts, so that by their "
            "own counters the two versions could not be told apart",
            hint=f"give the Deployment a name of at most {LONGEST_NAME - len(canary_name(''))} "
            "characters, or let judge, and checks read, a gateway's counters alone",
        )


def _services(case: Case) -> Iterator[Problem]:
    names = {service.name for service in case.services}
    bare = {s.name for s in case.world.services if not s.selector} & _meant(case)
    for name in sorted(bare):
        yield Problem(
            key="service",
            code="ServiceWithoutSelector",
            message=f"the Service {name} has no selector, so it cannot be pinned to a version",
            hint="give it the labels of the pods as selector",
        )
    if bare or not case.world.knows_services:
        return
    wanted = case.policy.service
    if not names:
        yield Problem(
            key="service",
            code="NoService",
            message="no Service selects the pods",
            hint="create one whose selector matches the labels of the pod template",
        )
    elif wanted is not None and wanted not in names:
        yield Problem(
            key="service",
            code="ServiceNotSelecting",
            message=f"the Service {wanted} does not exist or does not select the pods",
            hint=f"write one of {', '.join(sorted(names))}",
        )


def _meant(case: Case) -> set[str]:
    """Services that the policy or a route of the policy names."""
    named = {case.policy.service} if case.policy.service else set()
    routes = {route.name for route in case.policy.routes}
    return named | {
        service
        for path in case.world.paths
        if path.name in routes
        for namespace, service in path.backends
        if namespace == case.workload.namespace
    }


def _shared(case: Case) -> Iterator[Problem]:
    for service in case.services:
        others = sorted(
            str(other)
            for other in case.world.workloads
            if service.selects(other) and str(other) != str(case.workload)
        )
        if others:
            yield Problem(
                key="service",
                code="ServiceShared",
                message=f"the Service {service.name} also selects pods of {', '.join(others)}, "
                "which would lose their traffic when it is pinned",
                hint="give each Deployment a Service of its own",
            )


def _routes(case: Case) -> Iterator[Problem]:
    if not case.world.knows_routes or (case.world.knows_services and not case.services):
        return
    ours = case.routes
    for wanted in case.policy.routes:
        kinds = {path.kind for path in ours if path.name == wanted.name}
        if not kinds or (wanted.kind is not None and wanted.kind.value not in kinds):
            yield Problem(
                key="route",
                code="RouteMissing",
                message=f"the route {wanted.name} does not exist or does not lead to the Service",
                hint="write the name of a HTTPRoute or GRPCRoute whose backend is the Service",
            )
    needed = not case.by_pods or case.policy.promotion is Promotion.SHIFT
    if needed and not ours and not case.policy.routes and case.world.knows_services:
        yield Problem(
            key="route",
            code="NoRoute",
            message="no HTTPRoute or GRPCRoute leads to the Service",
            hint="create one whose backend is the Service, or write traffic: replicas and "
            "promotion: roll",
        )


def _whole_pods(case: Case) -> Iterator[Problem]:
    first, pods = case.policy.steps[0].weight_bp, case.workload.replicas
    if case.policy.observes_only or not case.by_pods or not pods:
        return
    if caps.most_beside(pods, first) == 0:
        least = percent(caps.share_beside(1, pods))
        yield Problem(
            key="steps",
            code="StepUnreachable",
            message=f"without a route 1 canary pod beside {pods} gets {least} of the requests, "
            f"more than the first step's {percent(first)}",
            hint=f"write steps from {least} on, run at least {caps.pods_needed(first)} pods, or "
            "lead the Service through a HTTPRoute",
        )


def _other_paths(case: Case) -> Iterator[Problem]:
    for path in () if case.by_pods else case.paths:
        if path.kind not in WEIGHABLE:
            yield Problem(
                key="route",
                code="PathNotWeighable",
                message=f"{path} leads to the Service and cannot be weighed",
                hint="lead it through a HTTPRoute or GRPCRoute",
            )


def _names_taken(case: Case) -> Iterator[Problem]:
    twin = canary_name(case.workload.name)
    taken = [
        f"Deployment {other.name}"
        for other in case.world.workloads
        if (other.kind, other.namespace, other.name)
        == ("Deployment", case.workload.namespace, twin)
    ]
    twins = {canary_name(service.name) for service in case.services}
    taken += [
        f"Service {service.name}"
        for service in case.world.services
        if service.namespace == case.workload.namespace and service.name in twins
    ]
    for what in taken:
        yield Problem(
            key="name",
            code="NameTaken",
            message=f"the {what} stands where the canary would go",
            hint="rename it; a foreign object is never taken over",
        )


RULES: Final[tuple[Callable[[Case], Iterator[Problem]], ...]] = (
    _short_steps,
    _cap,
    _strategy,
    _history,
    _singleton,
    _long_name,
    _services,
    _shared,
    _routes,
    _whole_pods,
    _other_paths,
    _names_taken,
)
"""Every rule, in the order in which problems are told: the policy, the workload, what is around."""
