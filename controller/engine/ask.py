# SPDX-License-Identifier: Apache-2.0
"""What no cache holds and a tick has to ask for; without an answer it stays unasked."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from controller.core import errors
from controller.core.evidence import calibration
from controller.core.lifecycle import endpoints, tracks, trial
from controller.core.lifecycle.memory import Memory, Run
from controller.core.lifecycle.table import SERVED, Phase
from controller.core.observation import Pod
from controller.core.policy import caps
from controller.core.policy.parse import policy_of
from controller.core.values import TargetRef
from controller.engine.desk import Card
from controller.engine.feed import Feed
from controller.engine.measurer import Measurer
from controller.ports.clock import Clock
from controller.ports.cluster import Cluster

PREFLIGHT_SECONDS: Final = 30.0
"""How long the answers of the preflight count for a change that waits."""

PODS_SECONDS: Final = 1.0
"""Longest that a tick waits for pods: the evidence it has may be all it needs to go back."""

ENDPOINTS_SECONDS: Final = 5.0
"""Longest that an answer is waited for that says where the Services lead; no tick waits for it."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Look:
    """Where a run's Services led in this phase, when that was last answered."""

    run: str
    phase: Phase
    found: Mapping[str, frozenset[str]] | None = None
    reading: asyncio.Task[None] | None = None


class Asker:
    """Asks the cluster and the metrics store on behalf of one tick."""

    def __init__(self, *, cluster: Cluster, clock: Clock, feed: Feed, measurer: Measurer) -> None:
        """`feed` and `measurer` know stable's history."""
        self._cluster = cluster
        self._clock = clock
        self._feed = feed
        self._measurer = measurer
        self._looks: dict[TargetRef, _Look] = {}

    async def before_run(self, card: Card, ceilings: caps.Ceilings) -> None:
        """What is asked once per run, before anything is touched."""
        now = self._clock.monotonic()
        if card.preflight is None or now - card.preflight_at > PREFLIGHT_SECONDS:
            try:
                card.preflight = await self._cluster.preflight(card.target)
                card.preflight_at = now
            except errors.SwitchgearError as error:
                log.warning("preflight", target=str(card.target), why=error.diagnostics())
        if card.calibration is None and card.memory is not None:
            run = card.memory.run
            policy = policy_of(dict(run.annotations))
            if isinstance(policy, tuple):
                return  # It is refused for its problems, before anybody would be judged.
            names = [service.name for service in self._cluster.view(card.target).services]
            found = await self._feed.calibration(
                tracks.stable_of(run, names), trial.rehearsed(run, policy, ceilings)
            )
            gauges = await self._measurer.past(run)
            card.calibration = calibration.watching(found, gauges)

    async def rolled(self, memory: Memory) -> tuple[Pod, ...] | None:
        """Rolled pods that get requests and what an undone roll left, which no cache follows."""
        run = memory.run
        fresh = [run.new_hash] if memory.phase in SERVED and run.new_hash else []
        hashes = list(dict.fromkeys([*run.orphans, *fresh]))
        if not hashes or memory.phase is Phase.ENDED:
            return None
        asked = self._cluster.read_pods(run.target, hashes)
        return await _answered(asked, PODS_SECONDS, what="pods", target=run.target)

    def led(self, memory: Memory) -> Mapping[str, frozenset[str]] | None:
        """Where the Services led when that was last read in this phase; it is read again meanwhile.

        Read beside the tick, which may have to go back at once. An answer from before the latest
        write shows the Services further behind than they are, and never further on.
        """
        run, phase = memory.run, memory.phase
        if not endpoints.asked(run, phase):
            self._looks.pop(run.target, None)
            return None
        look = self._looks.get(run.target)
        if look is None or (look.run, look.phase) != (run.name, phase):
            look = self._looks[run.target] = _Look(run=run.name, phase=phase)
        if look.reading is None or look.reading.done():
            look.reading = asyncio.create_task(self._read(look, run))
        return look.found

    async def _read(self, look: _Look, run: Run) -> None:
        names = [pin.service for pin in run.pins]
        asked = self._cluster.read_endpoints(run.target.namespace, names)
        look.found = await _answered(asked, ENDPOINTS_SECONDS, what="endpoints", target=run.target)


async def _answered(
    asked: Awaitable[T], seconds: float, *, what: str, target: TargetRef
) -> T | None:
    """The answer, or None where there is none in so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except errors.SwitchgearError as error:
        log.warning("not read", what=what, target=str(target), why=error.diagnostics())
    except TimeoutError:
        log.warning("not read in time", what=what, target=str(target))
    return None
