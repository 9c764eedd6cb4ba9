# SPDX-License-Identifier: Apache-2.0
"""Effects in their order of I/O.

Toward safety: the write first, its record within seconds. Toward risk: the intent durable first;
then the routes are read, *then* the latches (the order that makes kill and raise exclude each
other: a raise that read its route before the killer's write fails on the version, one that read it
after sees the latch), then the permit, then the compare-and-set.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.core import effects, errors
from controller.core.effects import RaiseWeight, Riskier, Safer
from controller.core.guard import permit
from controller.core.guard.permit import Asked, Permit, Refusal
from controller.core.lifecycle import climb, rungs, trial
from controller.core.lifecycle.memory import Memory, Run
from controller.core.lifecycle.situation import Situation
from controller.core.observation import Route
from controller.engine import claims, describe
from controller.engine.ledger import Ledger
from controller.ports import trail
from controller.ports.cluster import Cluster, ObjectRef
from controller.ports.documents import Documents

MOST_TRIES: Final = 5
"""Compare-and-set on a route whose version a gateway moves after each write: 5 reads suffice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of an effect."""

    done: bool
    words: str
    refusals: tuple[Refusal, ...] = ()
    retry_seconds: float = 1.0
    claimed: tuple[str, ...] = ()
    """Objects that our epoch was put on for it."""
    writes: int = 0
    """How many writes the API server accepted for it; none if all was in place already."""


class Actor:
    """Performs effects; decides nothing."""

    def __init__(self, *, cluster: Cluster, documents: Documents, epoch: int) -> None:
        """`epoch` is ours: a higher one in the cluster document means that we are replaced."""
        self._cluster = cluster
        self._documents = documents
        self.epoch = epoch
        self.leading: Callable[[], bool] = lambda: True
        """Whether our lease cannot have expired for others yet, by our own clock."""

    async def safer(self, effect: Safer, ledger: Ledger | None, call: str = "") -> Result:
        """Perform an effect toward safety, or one that is neutral; never asks anybody.

        `call` is the name of its writes in the API server's audit log.
        """
        with trail.call(call) as sent:
            try:
                if isinstance(effect, effects.ZeroWeight):
                    await self._cluster.zero(effect.splits)
                    words = "weight 0 written"
                else:
                    words = await self._cluster.perform(effect)
            except errors.SwitchgearError as error:
                result = failure(error)
            else:
                result = Result(done=True, words=words)
        result = replace(result, writes=sent.writes)
        if ledger is not None:
            body = {**describe.effect(effect), "done": result.done, "words": result.words}
            ledger.note("effect", body)
        return result

    async def riskier(
        self, effect: Riskier, situation: Situation, memory: Memory, call: str = ""
    ) -> Result:
        """Perform an effect toward risk whose intent is durable; `call` as for `safer`.

        Claim, read, permit, compare-and-set: the epoch is read after the claim, so that a write of
        ours that is on its way when another one takes over fails on that one's claim.
        """
        with trail.call(call) as sent:
            result = await self._riskier(effect, situation, memory)
        return replace(result, writes=sent.writes)

    async def _riskier(self, effect: Riskier, situation: Situation, memory: Memory) -> Result:
        claimed: list[str] = []
        refs = claims.of_effect(effect)
        for _ in range(MOST_TRIES):
            try:
                claimed += await claims.hold(self._cluster, self._documents, refs, self.epoch)
                result = await self._raise(effect, situation, memory)
            except errors.Conflict:
                continue
            except errors.SwitchgearError as error:
                result = failure(error)
            return replace(result, claimed=tuple(claimed))
        words = f"the object kept moving in {MOST_TRIES} tries"
        return Result(done=False, words=words, claimed=tuple(claimed))

    async def _raise(self, effect: Riskier, situation: Situation, memory: Memory) -> Result:
        routes, found = await self._asked(effect, situation, memory)
        if not isinstance(found, Permit):
            return refused(found)
        if not self.leading():
            return Result(done=False, words="our lease may have run out")
        words = await self._cluster.perform(found.effect, expected=routes, epoch=found.epoch)
        return Result(done=True, words=words)

    async def take_over(self, refs: Sequence[ObjectRef]) -> list[str]:
        """Claim objects that the leader before us may be raising. Errors as the ports'."""
        return await claims.hold(self._cluster, self._documents, refs, self.epoch)

    async def asked(self, effect: Riskier, situation: Situation, memory: Memory) -> Result | None:
        """What stands against an effect now, without writing anything; None: nothing does."""
        try:
            _, found = await self._asked(effect, situation, memory)
        except errors.SwitchgearError as error:
            return failure(error)
        return None if isinstance(found, Permit) else refused(found)

    async def _asked(
        self, effect: Riskier, situation: Situation, memory: Memory
    ) -> tuple[list[Route], Permit | tuple[Refusal, ...]]:
        run = memory.run
        routes: list[Route] = []
        if isinstance(effect, RaiseWeight):
            refs = list(dict.fromkeys(split.route for split in effect.splits))
            names = [name for split in effect.splits for name in (split.service, split.canary)]
            routes = await self._cluster.read_routes(refs, names)
        latches = await self._documents.latches()
        if situation.latches.fleet_open and not latches.fleet_open:
            # Open as far as this process knows, and not written yet, or closed a moment ago.
            latches = replace(latches, fleet_open=situation.latches.fleet_open)
        annotations = await self._cluster.read_annotations(run.target)
        asked = Asked(
            effect=effect,
            target=run.target,
            policy=situation.plan,
            latches=latches,
            epoch=self.epoch,
            routes=routes,
            ladder=tuple(step.weight_bp for step in rungs.ladder(situation, run)),
            final=rungs.final(situation, run),
            granted=run.granted,
            breaker="" if run.probe else situation.breaker,
            paused=_paused(annotations),
            endpoints_ready=climb.ready_pods(situation.view, run) > 0,
            stale_seconds=situation.view.stale_seconds,
            stopped=_stopped(annotations, run),
            evidence=trial.unfit(situation, memory),
        )
        return routes, permit.grant(asked)


def _paused(annotations: Mapping[str, str]) -> str:
    if annotations.get("paused", "false").lower() in {"", "false", "no"}:
        return ""
    return "paused by the annotation `paused`; remove it to go on"


def _stopped(annotations: Mapping[str, str], run: Run) -> str:
    if "kill" in annotations:
        return "the annotation `kill` stands on the Deployment"
    if annotations.get("abort") in {run.name, "true"}:
        return "the run is being aborted"
    return ""


def refused(refusals: tuple[Refusal, ...]) -> Result:
    """The guards said no: nothing was written."""
    words = "; ".join(refusal.message for refusal in refusals)
    return Result(done=False, words=words, refusals=refusals, retry_seconds=2.0)


def failure(error: errors.SwitchgearError) -> Result:
    """An error as a result, with the wait that the other side asked for."""
    wait = 1.0
    if isinstance(error, errors.Unavailable) and error.retry_after_seconds is not None:
        wait = min(error.retry_after_seconds, 30.0)
    return Result(done=False, words=error.diagnostics(), retry_seconds=wait)
