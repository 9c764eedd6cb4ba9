# SPDX-License-Identifier: Apache-2.0
"""What the cluster says of a target before a run: the product's own checks, asked once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from controller.adapters.kube import paths
from controller.adapters.kube.cache import Unlisted
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.cluster import KubeCluster
from controller.adapters.kube.documents import KubeDocuments
from controller.core import checkup, errors
from controller.core.checkup import Finding
from controller.core.guard import breaker
from controller.core.lifecycle import checks
from controller.core.lifecycle.memory import Lane, Run, parse_mark
from controller.core.lifecycle.situation import Situation
from controller.core.lifecycle.table import RESTING
from controller.core.observation import Deployment, Latches, Preflight, View
from controller.core.policy import keys
from controller.core.policy.model import Preset, Traffic
from controller.core.policy.parse import policy_of
from controller.core.values import PREFIX, TargetRef
from controller.engine.records import Records

NEEDED: Final = frozenset({"deployments", "replicasets", "services", "httproutes", "grpcroutes"})
"""Without these nothing can be said of what a run would meet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """A target as it stands.

    Attributes:
        manifest: The Deployment as the API server has it, with the policy that is asked about.
        situation: What a tick before the run would see.
        run: The run as it would begin.
        findings: What was found on the way.
        partial: Whether something was out of sight without which no check can be believed.
    """

    manifest: dict[str, Any]
    situation: Situation
    run: Run
    findings: tuple[Finding, ...]
    partial: bool


async def look(calls: Calls, controller: str, target: TargetRef, preset: str) -> Surroundings:
    """Read everything once.

    Args:
        calls: The API server.
        controller: Namespace of the controller's documents.
        target: The Deployment.
        preset: The policy to assume where it is not annotated.

    Raises:
        Missing: There is no such Deployment.
        SwitchgearError: It could not be read.
    """
    manifest = await _manifest(calls, target)
    cluster, documents = KubeCluster(calls), KubeDocuments(calls, controller)
    unlisted = await cluster.fill(target.namespace)
    hidden = {item.plural for item in unlisted if item.namespace} & NEEDED
    findings = [_unlisted(item) for item in unlisted]
    view = cluster.view(target)
    deployment = view.deployment
    annotations = dict(deployment.annotations) if deployment else {}
    if "policy" not in annotations:
        annotations["policy"] = preset
        findings.append(_not_annotated(target, preset))
        metadata = manifest["metadata"]
        given = {**(metadata.get("annotations") or {}), f"{PREFIX}policy": preset}
        manifest = {**manifest, "metadata": {**metadata, "annotations": given}}
    elif deployment is not None:
        findings.extend(_unadopted(deployment, target))
    preflight, told = await _preflight(cluster, target)
    latches, runs, more = await _records(calls, documents, target)
    findings += [*told, *more]
    policy = policy_of(annotations)
    if isinstance(policy, tuple):
        if annotations["policy"].strip() in {known.value for known in Preset}:
            preset = annotations["policy"].strip()
        findings.append(_assumed(preset))
        kept = {key: text for key, text in annotations.items() if key in keys.STATUS_KEYS}
        annotations = {**kept, "policy": preset}
        policy = policy_of(annotations)
    ended = [run for run in runs if run.phase in RESTING]
    situation = Situation(
        now=0.0,
        view=view,
        policy=policy,
        latches=latches,
        breaker="" if isinstance(policy, tuple) else breaker.why_open(ended, policy, ""),
        preflight=preflight,
    )
    return Surroundings(
        manifest=manifest,
        situation=situation,
        run=_on_its_way(situation, _run(view, target, annotations)),
        findings=tuple(findings),
        partial=bool(hidden) or deployment is None,
    )


async def _manifest(calls: Calls, target: TargetRef) -> dict[str, Any]:
    try:
        return await calls.get(paths.apps(target.namespace, "deployments", target.name))
    except errors.Missing as error:
        message = f"there is no Deployment {target}"
        raise errors.Missing(message, advice="`kubectl get deployments -A` lists them") from error


def _unlisted(item: Unlisted) -> Finding:
    where = f"in {item.namespace}" if item.namespace else "in all namespaces"
    if isinstance(item.error, errors.Forbidden):
        message = f"your account may not list {item.plural} {where}"
        advice = "ask for that right, or examine the target as somebody who has it"
    else:
        message = f"{item.plural} {where} could not be listed: {item.error.message}"
        advice = "try again"
    if item.namespace and item.plural in NEEDED:
        return checkup.problem("rights", f"{message}: nothing can be checked", advice=advice)
    unseen = "those of other namespaces were not seen" if not item.namespace else "not looked at"
    return checkup.warning("rights", f"{message}: {unseen}", advice=advice)


def _not_annotated(target: TargetRef, preset: str) -> Finding:
    return checkup.warning(
        "policy",
        f"not annotated yet; examined as if it said {PREFIX}policy: {preset}",
        advice=f"kubectl annotate -n {target.namespace} deployment/{target.name} "
        f"{PREFIX}policy={preset}",
    )


def _assumed(preset: str) -> Finding:
    return checkup.warning(
        "policy", f"with these faults nothing begins; the rest is examined as if it were {preset}"
    )


def _unadopted(deployment: Deployment, target: TargetRef) -> Iterator[Finding]:
    mark = parse_mark(deployment.annotations.get("managed", ""))
    if mark is None or mark.uid != deployment.uid:
        yield checkup.warning(
            "checks",
            "no daemon has taken it up yet: until then a change rolls natively",
            advice=f"start `switchgear run` for the namespace {target.namespace}",
        )
    if deployment.paused and "hold" not in deployment.annotations:
        yield checkup.warning(
            "checks",
            "paused by its owner: no run begins before it is resumed",
            advice=f"kubectl rollout resume -n {target.namespace} deployment/{target.name}",
        )


async def _preflight(
    cluster: KubeCluster, target: TargetRef
) -> tuple[Preflight | None, list[Finding]]:
    try:
        return await cluster.preflight(target), []
    except errors.Forbidden as error:
        message = f"your account may not read what is asked before a run: {error.message}"
        advice = "ask for that right, or examine the target as somebody who has it"
    except errors.SwitchgearError as error:
        message, advice = f"not everything was answered: {error.message}", "try again"
    what = "volumes, autoscaler, quota and other ways to the Service were not checked"
    return None, [checkup.warning("rights", f"{message}; {what}", advice=advice)]


async def _records(
    calls: Calls, documents: KubeDocuments, target: TargetRef
) -> tuple[Latches, list[Run], list[Finding]]:
    """Latches and runs; both are in the controller's namespace, which not everybody may read."""
    try:
        latches = await documents.latches()
        found = await Records(documents=documents, clock=calls.clock).fresh()
    except errors.SwitchgearError as error:
        message = f"kill latch and earlier runs were not looked at: {error.message}"
        advice = "the role switchgear-viewer has the right; --controller-namespace says where"
        return Latches(), [], [checkup.warning("rights", message, advice=advice)]
    runs = [item.run for item in found.records if item.run.target == target]
    under_way = [run for run in runs if run.phase not in RESTING]
    told = [
        checkup.warning(
            "checks",
            f"run {run.name} is under way ({run.phase.value}): what is told here is of a target "
            "in mid-run",
            advice=f"`switchgear status {target}` shows it",
        )
        for run in under_way
    ]
    return latches, runs, told


def _run(view: View, target: TargetRef, annotations: dict[str, str]) -> Run:
    """The run that the next change would begin."""
    deployment = view.deployment
    mark = parse_mark(annotations.get("managed", ""))
    sets = [item for item in view.replica_sets if not item.deleting]
    serving = max(sets, key=lambda item: (item.ready > 0, item.revision), default=None)
    known = mark is not None and deployment is not None and mark.uid == deployment.uid
    return Run(
        name="not-begun",
        target=target,
        uid=deployment.uid if deployment else "",
        annotations=tuple(sorted(annotations.items())),
        stable_hash=mark.hash if mark and known else serving.hash if serving else "",
        stable_digest=mark.digest if mark and known else "",
        digest="",
        replicas=deployment.replicas if deployment else 0,
    )


def _on_its_way(situation: Situation, run: Run) -> Run:
    """With the ways that requests and the promotion would go."""
    chosen = checks.traffic(situation)
    lanes = tuple(
        Lane(route=route.ref, uid=route.uid, service=service.name, original=())
        for route in situation.view.routes
        for service in situation.view.services
        if route.names(service.name) and chosen is Traffic.GATEWAY
    )
    return replace(run, traffic=chosen, promotion=checks.promotion(situation), lanes=lanes)
