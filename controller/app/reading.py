# SPDX-License-Identifier: Apache-2.0
"""What the command line does without the daemon: read the journal, stop things.

It goes straight to the API server with the caller's own rights, so it works with the daemon hung,
stopped or gone.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controller.adapters.clock import LoopClock
from controller.adapters.kube import transport
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.cluster import KubeCluster
from controller.adapters.kube.documents import KubeDocuments
from controller.core import errors
from controller.core.effects import Annotate, PinService, SplitRef
from controller.core.journal import chain, story
from controller.core.lifecycle import exposure
from controller.core.lifecycle import memory as memories
from controller.core.lifecycle.machine import after_commit
from controller.core.lifecycle.memory import Run, split_of
from controller.core.lifecycle.table import EXPOSED, RESTING, Phase
from controller.core.observation import Latches
from controller.core.policy.model import Traffic
from controller.core.values import HASH_LABEL, TargetRef, canary_name
from controller.engine import claims
from controller.ports.documents import Document

LATCH_SECONDS: Final = 5.0
"""Longest that the routes wait for the latch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Which cluster, and where in it the controller's documents are."""

    kubeconfig: str | None
    context: str | None
    namespace: str
    settle_seconds: float = 2.5
    """Waited before weight 0 is called in force: a gateway runs behind its own status."""


@contextlib.asynccontextmanager
async def _open(access: Access) -> AsyncIterator[tuple[KubeCluster, KubeDocuments]]:
    try:
        connection = await transport.load(kubeconfig=access.kubeconfig, context=access.context)
    except errors.Refused as error:
        # To the caller no configuration and no answer are the same: no cluster was reached.
        raise errors.Unavailable(error.message, advice=error.advice) from error
    calls = Calls(connection.wire, LoopClock())
    try:
        yield KubeCluster(calls), KubeDocuments(calls, access.namespace)
    finally:
        await connection.wire.aclose()


def _run_of(document: Document) -> Run | None:
    try:
        return memories.decode(document.texts.get("state", ""))
    except ValueError:
        return None


async def stories(
    access: Access, target: TargetRef | None = None, *, journal: bool = False
) -> list[dict[str, Any]]:
    """Every run on record (of one target), oldest first. Errors as the documents."""
    async with _open(access) as (_, documents):
        found = await documents.runs()
    told: list[dict[str, Any]] = []
    for document in found:
        run = _run_of(document)
        if run is None or (target is not None and run.target != target):
            continue
        lines = chain.lines_of(document.texts.get("journal", ""))
        facts = story.facts(run, lines, journal=journal)
        facts["ladder"] = story.ladder_text(run)
        facts["next"] = story.next_command(run)
        told.append(facts)
    return sorted(told, key=lambda facts: str(facts["started_at"]))


async def kill(access: Access, scope: str, *, actor: str, reason: str) -> dict[str, Any]:
    """Latch, weight 0 everywhere, read back; says what is not in force yet.

    Raises Refused or Unavailable only if nothing at all could be done.
    """
    async with _open(access) as (cluster, documents):
        problems: list[str] = []
        latched = await _latched(documents, scope, problems, actor=actor, reason=reason)
        try:
            active = await _active(documents)
        except errors.SwitchgearError as error:
            if not latched:
                raise
            problems.append(f"the runs could not be read: {error.diagnostics()}")
            active = []
        latch = Latches(kills=(scope,))
        runs = [run for run in active if latch.kill_for(run.target.namespace, run.target.name)]
        zeroed, pending = await _zero(cluster, runs, problems, access.settle_seconds)
    return {
        "scope": scope,
        "latched": latched,
        "in_force": latched and not pending and not problems,
        "zeroed": zeroed,
        "pending": pending,
        "problems": problems,
    }


async def abort(access: Access, target: TargetRef) -> dict[str, Any]:
    """Ask for the end of the target's run and take its weight to 0. Raises Refused without one."""
    async with _open(access) as (cluster, documents):
        runs = [run for run in await _active(documents) if run.target == target]
        if not runs:
            message = f"{target} has no run under way"
            raise errors.Refused(message, advice="`switchgear get` lists the runs")
        problems: list[str] = []
        for run in runs:
            effect = Annotate(target=target, uid=run.uid, annotations={"abort": run.name})
            await _tried(cluster.perform(effect), problems, "the mark could not be set")
        zeroed, pending = await _zero(cluster, runs, problems, access.settle_seconds)
    return {
        "scope": str(target),
        "in_force": not pending and not problems,
        "zeroed": zeroed,
        "pending": pending,
        "problems": problems,
    }


async def pause(access: Access, target: TargetRef) -> None:
    """Let no weight of the target rise. Raises Missing if there is no such Deployment."""
    async with _open(access) as (cluster, _):
        uid = await cluster.uid(target)
        effect = Annotate(target=target, uid=uid, annotations={"paused": "true"})
        await cluster.perform(effect)


async def _active(documents: KubeDocuments) -> list[Run]:
    found = [_run_of(document) for document in await documents.runs()]
    return [run for run in found if run is not None and run.phase not in RESTING]


async def _latched(
    documents: KubeDocuments, scope: str, problems: list[str], *, actor: str, reason: str
) -> bool:
    """Persist the latch; one that hangs does not keep the routes waiting."""
    try:
        async with asyncio.timeout(LATCH_SECONDS):
            work = documents.engage(scope, actor=actor, reason=reason)
            return await _tried(work, problems, "the latch could not be persisted")
    except TimeoutError:
        problems.append(f"the latch could not be persisted: no answer in {LATCH_SECONDS:g} s")
        return False


async def _tried(work: Awaitable[object], problems: list[str], what: str) -> bool:
    try:
        await work
    except errors.SwitchgearError as error:
        problems.append(f"{what}: {error.diagnostics()}")
        return False
    return True


async def _zero(
    cluster: KubeCluster, runs: Sequence[Run], problems: list[str], settle_seconds: float
) -> tuple[int, list[str]]:
    """Weight 0 in the routes of all runs; how many were written, and what is still pending."""
    ready = [run for run in runs if not after_commit(run.phase)]
    pending = [
        f"{run.target}: stable pods may be gone ({run.phase.value}); the daemon brings them back "
        "before it takes the weight away. Without a daemon: docs/runbook.md, `After the commit`"
        for run in runs
        if after_commit(run.phase)
    ]
    splits = [split for run in ready for split in await _splits(cluster, run, problems)]
    for run in ready:
        await _repin(cluster, run, problems)
    confined = sum([await _confined(cluster, run, problems) for run in ready])
    if confined and not splits:
        await _voided(cluster, ready, problems)
        await LoopClock().sleep(settle_seconds)
        return confined, pending
    if not splits or not await _tried(
        cluster.zero(splits), problems, "not every route could be written"
    ):
        return 0, pending
    await _voided(cluster, ready, problems)
    await LoopClock().sleep(settle_seconds)
    for run in ready:
        for split in await _splits(cluster, run, problems):
            weights = [item.weight for item in split.seen if item.service == split.canary]
            if any(weights):
                pending.append(f"{run.target}: {split.route} still has weight {weights}")
    return len({split.route for split in splits}) + confined, pending


async def _voided(cluster: KubeCluster, runs: Sequence[Run], problems: list[str]) -> None:
    """No raise that is on its way arrives behind this; Deployments are not the caller's to write.

    Weight 0 where it is 0 already changes nothing, and so would not stop one.
    """
    refs = [ref for run in runs for ref in claims.of_run(run) if ref.kind != "Deployment"]
    await _tried(claims.void(cluster, refs), problems, "a raise may still be on its way")


async def _confined(cluster: KubeCluster, run: Run, problems: list[str]) -> int:
    """Where the number of pods splits the requests, the Services lead to stable alone."""
    if run.traffic is not Traffic.REPLICAS or run.phase not in EXPOSED:
        return 0
    what = f"{run.target}: Services not confined"
    done = await _tried(cluster.perform(exposure.confine(run)), problems, what)
    return len(run.pins) if done else 0


async def _repin(cluster: KubeCluster, run: Run, problems: list[str]) -> None:
    """In the commit the Services follow the canary: there weight 0 alone would lead to it."""
    if run.phase is not Phase.COMMITTING:
        return
    for pin in run.pins:
        effect = PinService(
            target=run.target,
            name=pin.service,
            uid="",
            original=pin.original,
            key=HASH_LABEL,
            value=run.stable_hash,
        )
        with contextlib.suppress(errors.Missing):
            await _tried(cluster.perform(effect), problems, f"{pin.service} could not be pinned")


async def _splits(cluster: KubeCluster, run: Run, problems: list[str]) -> list[SplitRef]:
    refs = list(dict.fromkeys(lane.route for lane in run.lanes))
    names = [name for lane in run.lanes for name in (lane.service, canary_name(lane.service))]
    if not refs:
        return []
    try:
        routes = await cluster.read_routes(refs, names)
    except errors.Missing:
        return []
    except errors.SwitchgearError as error:
        problems.append(f"a route could not be read: {error.diagnostics()}")
        return []
    return [
        split_of(lane, route.backends)
        for lane in run.lanes
        for route in routes
        if route.ref == lane.route
    ]
