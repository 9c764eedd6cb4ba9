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
from controller.adapters.kube import elsewhere, transport
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.cluster import KubeCluster
from controller.adapters.kube.documents import KubeDocuments
from controller.adapters.prometheus import providers
from controller.core import errors
from controller.core.effects import Annotate, SplitRef
from controller.core.journal import story
from controller.core.lifecycle import exposure
from controller.core.lifecycle.machine import after_commit
from controller.core.lifecycle.memory import Run, split_of
from controller.core.lifecycle.table import RESTING
from controller.core.observation import Route
from controller.core.values import TargetRef, canary_name
from controller.engine import claims
from controller.engine.records import Found, Records, unusable

LATCH_SECONDS: Final = 5.0
"""Longest that the routes wait for the latch."""

SERVICE_SECONDS: Final = 2.5
"""A changed Service reaches those who call it so soon, where no gateway is in between."""

SEARCH_SECONDS: Final = 5.0
"""Longest that a kill looks into other namespaces, which it does while the gateways follow."""

SIDECARS: Final = "a sidecar's are in its own namespace: --controller-namespace"

MOST_TOLD: Final = 20
"""Other namespaces that are named; with more of them a list of all would hide the headline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Which cluster, and where in it the controller's documents are."""

    kubeconfig: str | None
    context: str | None
    namespace: str
    settle_seconds: float | None = None
    """Waited before weight 0 is called in force: a gateway runs behind its own status. None: as
    long as the files of the providers say."""


@contextlib.asynccontextmanager
async def connected(access: Access) -> AsyncIterator[Calls]:
    """The API server, with the caller's own rights. Raises Unavailable without one."""
    try:
        connection = await transport.load(kubeconfig=access.kubeconfig, context=access.context)
    except errors.Refused as error:
        # To the caller no configuration and no answer are the same: no cluster was reached.
        raise errors.Unavailable(error.message, advice=error.advice) from error
    try:
        yield Calls(connection.wire, LoopClock())
    finally:
        await connection.wire.aclose()


@contextlib.asynccontextmanager
async def _open(access: Access) -> AsyncIterator[tuple[KubeCluster, KubeDocuments, Calls]]:
    async with connected(access) as calls:
        yield KubeCluster(calls), KubeDocuments(calls, access.namespace), calls


async def stories(
    access: Access, target: TargetRef | None = None, *, journal: bool = False
) -> list[dict[str, Any]]:
    """Every run on record (of one target), oldest first. Errors as the documents."""
    async with _open(access) as (_, documents, _):
        found = await _read(documents)
    told: list[dict[str, Any]] = []
    for record in found.records:
        run = record.run
        if target is not None and run.target != target:
            continue
        facts = story.facts(run, record.lines, journal=journal)
        facts["ladder"] = story.ladder_text(run)
        facts["next"] = story.next_command(run)
        told.append(facts)
    return sorted(told, key=lambda facts: str(facts["started_at"]))


async def kill(access: Access, scope: str, *, actor: str, reason: str) -> dict[str, Any]:
    """Latch, weight 0 everywhere, read back; says what is not in force yet.

    What controllers in other namespaces keep for themselves is not reached, and named where the
    caller may see it. Raises Refused or Unavailable only if nothing at all could be done.
    """
    async with _open(access) as (cluster, documents, calls):
        problems: list[str] = []
        latched = await _latched(documents, scope, problems, actor=actor, reason=reason)
        runs: list[Run] = []
        try:
            found = (await _read(documents)).within(scope)
        except errors.SwitchgearError as error:
            if not latched:
                raise
            problems.append(f"the runs could not be read: {error.diagnostics()}")
        else:
            runs = found.active
            problems += [unusable(name, target) for name, target in found.unreadable.items()]
        (zeroed, pending), (beyond, searched) = await asyncio.gather(
            _zero(cluster, runs, problems, access),
            _beyond(calls, access.namespace, scope),
        )
    return {
        "scope": scope,
        "latched": latched,
        "in_force": latched and not pending and not problems and not beyond,
        "zeroed": zeroed,
        "pending": pending,
        "problems": problems,
        "not_covered": beyond,
        "searched": searched,
    }


async def _beyond(calls: Calls, own: str, scope: str) -> tuple[list[str], str]:
    """Controllers elsewhere that this kill does not stop, and what was searched, for people."""
    blind = (
        f"namespace {own} alone, for want of rights or of an answer. Sidecars keep their runs in "
        "their own namespace: `switchgear kill --controller-namespace NAMESPACE`"
    )
    try:
        async with asyncio.timeout(SEARCH_SECONDS):
            found = await elsewhere.look(calls, own, scope)
            names = {space for space, _ in found.leases or ()} | set(found.runs or ())
            told = [await _controller(calls, space, scope, found) for space in sorted(names)]
    except TimeoutError:
        return [], blind
    if found.leases is None and found.runs is None:
        return [], blind
    beyond = [words for words in told if words]
    if len(beyond) > MOST_TOLD:
        beyond[MOST_TOLD:] = [f"{len(beyond) - MOST_TOLD} more namespaces"]
    return beyond, f"namespace {own}; what other namespaces keep for themselves was looked for"


async def _controller(calls: Calls, space: str, scope: str, found: elsewhere.Elsewhere) -> str:
    """What a namespace keeps for itself and no kill stops; empty if there is nothing."""
    if await elsewhere.latched(calls, space, scope):
        return ""
    parts = [f"Lease {name}" for where, name in sorted(found.leases or ()) if where == space]
    if space in (found.runs or ()):
        with contextlib.suppress(errors.SwitchgearError):
            runs = (await _read(KubeDocuments(calls, space))).within(scope)
            parts += [f"run of {run.target} in {run.phase.value}" for run in runs.active]
            parts += [f"run document {name}" for name in runs.unreadable]
    if not parts:
        return ""
    return f"namespace {space}: {', '.join(parts)}; the same with --controller-namespace {space}"


async def abort(access: Access, target: TargetRef) -> dict[str, Any]:
    """Ask for the end of the target's run and take its weight to 0. Raises Refused without one."""
    async with _open(access) as (cluster, documents, _):
        active = (await _read(documents)).active
        runs = [run for run in active if run.target == target and run.phase not in RESTING]
        if not runs:
            message = f"{target} has no run under way that namespace {access.namespace} knows of"
            raise errors.Refused(message, advice=f"`switchgear get` lists the runs; {SIDECARS}")
        problems: list[str] = []
        for run in runs:
            effect = Annotate(target=target, uid=run.uid, annotations={"abort": run.name})
            await _tried(cluster.perform(effect), problems, "the mark could not be set")
        zeroed, pending = await _zero(cluster, runs, problems, access)
    return {
        "scope": str(target),
        "in_force": not pending and not problems,
        "zeroed": zeroed,
        "pending": pending,
        "problems": problems,
    }


async def pause(access: Access, target: TargetRef) -> None:
    """Let no weight of the target rise. Raises Missing if there is no such Deployment."""
    async with _open(access) as (cluster, _, _):
        uid = await cluster.uid(target)
        effect = Annotate(target=target, uid=uid, annotations={"paused": "true"})
        await cluster.perform(effect)


async def _read(documents: KubeDocuments) -> Found:
    return await Records(documents=documents, clock=LoopClock()).fresh()


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


def _settle(access: Access, routes: Sequence[Route]) -> float:
    """How long the gateways of these routes may take, by the controllers that took them in.

    One that no file of a provider names may be as slow as the slowest there is.
    """
    if access.settle_seconds is not None:
        return access.settle_seconds
    files = [one for one in providers.load().values() if one.pods is None]
    known = {name: one.settle_seconds for one in files for name in one.recognise.controllers}
    longest = max(one.settle_seconds for one in files)
    seen = [name for route in routes for name in route.controllers or ("",)]
    return max((known.get(name, longest) for name in seen), default=SERVICE_SECONDS)


async def _zero(
    cluster: KubeCluster, runs: Sequence[Run], problems: list[str], access: Access
) -> tuple[int, list[str]]:
    """Weight 0 in the routes of all runs; how many were written, and what is still pending."""
    ready = [run for run in runs if not after_commit(run.phase)]
    pending = [
        f"{run.target}: stable pods may be gone ({run.phase.value}); the daemon brings them back "
        "before it takes the weight away. Without a daemon: docs/runbook.md, `After the commit`"
        for run in runs
        if after_commit(run.phase)
    ]
    routes = [await _routes(cluster, run, problems) for run in ready]
    splits = [
        split for run, found in zip(ready, routes, strict=True) for split in _splits(run, found)
    ]
    led = [run for run in ready if exposure.by_services(run)]
    if not splits and not led:
        return 0, pending
    written = len({split.route for split in splits})
    if not await _tried(cluster.zero(splits), problems, "not every route could be written"):
        written = 0
    for run in led:
        what = f"{run.target}: Services not confined"
        if await _tried(cluster.perform(exposure.confine(run)), problems, what) and not run.lanes:
            written += len(run.pins)
    await _voided(cluster, ready, problems)
    await LoopClock().sleep(_settle(access, [route for found in routes for route in found]))
    for run in ready:
        pending.extend(
            [f"{run.target}: {words}" for words in await _open_ways(cluster, run, problems)]
        )
    return written, pending


async def _voided(cluster: KubeCluster, runs: Sequence[Run], problems: list[str]) -> None:
    """No raise that is on its way arrives behind this; Deployments are not the caller's to write.

    Weight 0 where it is 0 already changes nothing, and so would not stop one.
    """
    refs = [ref for run in runs for ref in claims.of_run(run) if ref.kind != "Deployment"]
    await _tried(claims.void(cluster, refs), problems, "a raise may still be on its way")


async def _open_ways(cluster: KubeCluster, run: Run, problems: list[str]) -> list[str]:
    """What still leads to the canary, by routes and Services as they read back."""
    found: list[str] = []
    for split in _splits(run, await _routes(cluster, run, problems)):
        weights = [item.weight for item in split.seen if item.service == split.canary]
        if any(weights):
            found.append(f"{split.route} still has weight {weights}")
    if exposure.by_services(run):
        names = [pin.service for pin in run.pins]
        try:
            services = await cluster.read_services(run.target.namespace, names)
        except errors.SwitchgearError as error:
            problems.append(f"{run.target}: Services could not be read: {error.diagnostics()}")
            services = []
        left = exposure.leading(run, services)
        found += [f"Service {name} still selects canary pods" for name in left]
    return found


async def _routes(cluster: KubeCluster, run: Run, problems: list[str]) -> list[Route]:
    refs = list(dict.fromkeys(lane.route for lane in run.lanes))
    names = [name for lane in run.lanes for name in (lane.service, canary_name(lane.service))]
    if not refs:
        return []
    try:
        return await cluster.read_routes(refs, names)
    except errors.Missing:
        return []
    except errors.SwitchgearError as error:
        problems.append(f"a route could not be read: {error.diagnostics()}")
        return []


def _splits(run: Run, routes: Sequence[Route]) -> list[SplitRef]:
    return [
        split_of(lane, route.backends)
        for lane in run.lanes
        for route in routes
        if route.ref == lane.route
    ]
