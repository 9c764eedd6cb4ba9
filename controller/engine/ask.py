# SPDX-License-Identifier: Apache-2.0
"""What no cache holds and a tick has to ask for; without an answer it stays unasked."""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from controller.core import errors
from controller.core.evidence import calibration
from controller.core.lifecycle import endpoints, tracks
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.table import RESTING, SERVED
from controller.core.observation import Pod
from controller.engine.desk import Card
from controller.engine.feed import Feed
from controller.engine.measurer import Measurer
from controller.engine.observe import policy_of
from controller.ports.clock import Clock
from controller.ports.cluster import Cluster

PREFLIGHT_SECONDS: Final = 30.0
"""How long the answers of the preflight count for a change that waits."""

PODS_SECONDS: Final = 1.0
"""Longest that a tick waits for pods: the evidence it has may be all it needs to go back."""

ENDPOINTS_SECONDS: Final = 5.0
"""Longest that it waits for where the Services lead. In those phases nothing goes on without an
answer, and going back is a write to the same API server.
"""

log = structlog.get_logger(__name__)


class Asker:
    """Asks the cluster and the metrics store on behalf of one tick."""

    def __init__(self, *, cluster: Cluster, clock: Clock, feed: Feed, measurer: Measurer) -> None:
        """`feed` and `measurer` know stable's history."""
        self._cluster = cluster
        self._clock = clock
        self._feed = feed
        self._measurer = measurer

    async def before_run(self, card: Card) -> None:
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
            found = await self._feed.calibration(tracks.stable_of(run, names), run, policy)
            gauges = await self._measurer.past(run)
            card.calibration = calibration.watching(found, gauges)

    async def rolled(self, memory: Memory) -> tuple[Pod, ...] | None:
        """Rolled pods that get requests and what an undone roll left, which no cache follows."""
        run = memory.run
        fresh = [run.new_hash] if memory.phase in SERVED and run.new_hash else []
        hashes = list(dict.fromkeys([*run.orphans, *fresh]))
        if not hashes or memory.phase in RESTING:
            return None
        try:
            async with asyncio.timeout(PODS_SECONDS):
                return await self._cluster.read_pods(run.target, hashes)
        except errors.SwitchgearError as error:
            log.warning("pods not read", target=str(run.target), why=error.diagnostics())
        except TimeoutError:
            log.warning("pods not read in time", target=str(run.target))
        return None

    async def led(self, memory: Memory) -> Mapping[str, frozenset[str]] | None:
        """Where the Services lead, when pods go as soon as they have followed."""
        run = memory.run
        if not endpoints.asked(run, memory.phase):
            return None
        try:
            async with asyncio.timeout(ENDPOINTS_SECONDS):
                names = [pin.service for pin in run.pins]
                return await self._cluster.read_endpoints(run.target.namespace, names)
        except errors.SwitchgearError as error:
            log.warning("endpoints not read", target=str(run.target), why=error.diagnostics())
        except TimeoutError:
            log.warning("endpoints not read in time", target=str(run.target))
        return None
