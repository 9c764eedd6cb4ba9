# SPDX-License-Identifier: Apache-2.0
"""The examination of a target before its first run. It reads, and writes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from controller.adapters.clock import LoopClock
from controller.adapters.kube import rights
from controller.adapters.kube.calls import Calls
from controller.adapters.prometheus import providers
from controller.adapters.prometheus.client import Prometheus
from controller.app import reading
from controller.app.doctor import counters, outlook, surroundings
from controller.app.doctor.surroundings import Surroundings
from controller.app.reading import Access
from controller.core import checkup, errors
from controller.core.checkup import Finding
from controller.core.lifecycle import checks, rungs
from controller.core.policy import lint, manifests
from controller.core.policy.lint import Timing
from controller.core.values import TargetRef, percent
from controller.engine import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the examination is told.

    Attributes:
        prometheus_url: Address of Prometheus; empty: it is not asked.
        providers: In which order the daemon chooses them, as `switchgear run` is told.
        preset: The policy to assume where the Deployment is not annotated.
    """

    prometheus_url: str
    providers: tuple[str, ...]
    preset: str


ACCOUNT = "switchgear"
"""Name of the controller's ServiceAccount, in the namespace of its documents."""


async def examine(access: Access, target: TargetRef, asked: Asked) -> dict[str, Any]:
    """Everything that can be said before the first run.

    Raises:
        Missing: There is no such Deployment.
        SwitchgearError: The cluster was not reached, or the Deployment may not be read.
    """
    async with reading.connected(access) as calls:
        seen = await surroundings.look(calls, access.namespace, target, asked.preset)
        allowed = await _rights(calls, access.namespace, target)
    told = [*seen.findings, *_checked(seen), *allowed]
    scrape = Timing().scrape_seconds
    if _judged(seen) and asked.prometheus_url:
        more, scrape = await _measured(seen, asked)
        told += more
    elif _judged(seen):
        told.append(
            checkup.warning(
                "metrics",
                "Prometheus was not asked: neither metrics, history nor steps were looked at",
                advice="give its address with --prometheus http://HOST:9090",
            )
        )
    told += _policy(seen, scrape)
    told.sort(key=lambda finding: TOPICS.index(finding.topic))
    return {
        "target": str(target),
        "ok": not any(finding.level is checkup.Level.PROBLEM for finding in told),
        "findings": [finding.to_json() for finding in told],
    }


TOPICS = ("policy", "checks", "rights", "metrics", "history", "steps")
"""In the order in which they are told."""


def _judged(seen: Surroundings) -> bool:
    return not seen.situation.plan.observes_only


def _policy(seen: Surroundings, scrape: float) -> Iterator[Finding]:
    """The policy in words, or all that is wrong with it by itself."""
    world = manifests.read([seen.manifest])
    timing = Timing(scrape_seconds=scrape, settle_seconds=seen.situation.settle_seconds)
    # What a run would be held for is told as such.
    refused = {one.code for one in checks.refusals(seen.situation, seen.run)}
    faults = [
        fault
        for workload in world.workloads
        for fault in lint.lint(workload, world, timing)
        if fault.code not in refused
    ]
    for fault in faults:
        # A short step holds no run; it sees less.
        tell = checkup.warning if fault.code.startswith("Step") else checkup.problem
        facts = {"code": fault.code, "key": fault.key}
        message = f"{fault.key}: {fault.message}"
        yield tell("policy", message, advice=fault.hint, facts=facts)
    if all(fault.code.startswith("Step") for fault in faults):
        plan = seen.situation.plan
        ask = f"`switchgear checks test {seen.run.target}` tells what its checks say now"
        notes = (ask,) if plan.checks else ()
        yield checkup.ok("policy", _words(seen), notes=notes, facts=describe.plain(plan))
    for workload in world.workloads:
        for note in lint.notes(workload):
            yield checkup.warning("policy", note)


def _words(seen: Surroundings) -> str:
    plan, run = seen.situation.plan, seen.run
    if plan.observes_only:
        return plan.name
    ladder = ", ".join(
        f"{percent(step.weight_bp)} {checkup.span(step.dwell_seconds)}"
        for step in rungs.planned(run, plan)
    )
    limits = [f"at most {plan.error_rate * 100:g} % errors"] if plan.error_rate is not None else []
    limits += [f"p{one.quantile * 100:g} below {one.seconds:g} s" for one in plan.latency]
    limits += [f"{one.name}: {one.text}" for one in plan.checks]
    return (
        f"{plan.name}: {ladder} (the last is the bake); {', '.join(limits) or 'no limit'}; at "
        f"least {plan.min_requests} requests a step; requests are split by {run.traffic.value}, "
        f"promoted by {run.promotion.value}"
    )


def _checked(seen: Surroundings) -> Iterator[Finding]:
    """Every refusal that a run would be held with."""
    if seen.partial or not _judged(seen):
        return
    found = [
        one for one in checks.refusals(seen.situation, seen.run) if one.code != checks.UNANSWERED
    ]
    for refusal in found:
        yield checkup.problem("checks", refusal.message, facts={"code": refusal.code})
    view = seen.situation.view
    for route in view.routes:
        if route.accepted is None:
            text = f"{route.ref} has no answer of its gateway yet; a run waits for it, for a minute"
            yield checkup.warning("checks", text, advice="see the route's status")
    if not found:
        around = [f"Service {service.name}" for service in view.services]
        around += [f"{route.ref}" for route in view.routes]
        yield checkup.ok("checks", f"nothing would hold a run; found {', '.join(around)}")


async def _rights(calls: Calls, home: str, target: TargetRef) -> list[Finding]:
    """Whether the controller's account may do what it has to."""
    who = f"the ServiceAccount {home}/{ACCOUNT}"
    try:
        missing = await rights.lacking(calls, target.namespace, (home, ACCOUNT))
    except errors.Forbidden:
        return [checkup.ok("rights", f"not asked: your account may not ask what {who} may do")]
    except errors.SwitchgearError as error:
        return [checkup.warning("rights", f"what {who} may do is not known: {error.message}")]
    if not missing:
        return [checkup.ok("rights", f"{who} may do all that a run needs")]
    if len(missing) == len(rights.asked()):
        text = f"{who} may do nothing in {target.namespace}"
        advice = "install the controller; one that runs as somebody else needs the same rights"
        return [checkup.warning("rights", text, advice=advice)]
    text = f"{who} may not {', '.join(missing)} in {target.namespace}"
    advice = "bind the ClusterRole switchgear to it (docs/kubernetes.md)"
    return [checkup.problem("rights", text, advice=advice, facts={"missing": list(missing)})]


async def _measured(seen: Surroundings, asked: Asked) -> tuple[list[Finding], float]:
    """What Prometheus says, and the scrape interval in seconds."""
    clock = LoopClock()
    choice = providers.choose(asked.providers)
    metrics = Prometheus(asked.prometheus_url, choice, now=clock.wall)
    situation = seen.situation
    try:
        found = await counters.look(metrics, choice, situation, seen.run, now=clock.wall())
        told = list(found.findings)
        if not found.past.rows:
            return told, Timing().scrape_seconds
        history, run = await outlook.history(metrics, clock, situation, found.run)
        told.append(history)
        told += outlook.steps(situation, run, found)
    finally:
        await metrics.close()
    return told, found.past.gap or Timing().scrape_seconds
