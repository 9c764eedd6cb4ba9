# SPDX-License-Identifier: Apache-2.0
"""One `Situation` for one tick, from caches and what was asked before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.core.evidence.calibration import Calibration
from controller.core.guard import breaker
from controller.core.lifecycle import tracks
from controller.core.lifecycle.memory import Memory, Run
from controller.core.lifecycle.situation import Request, Situation
from controller.core.lifecycle.table import UNTOUCHED, Phase
from controller.core.observation import Pod, Preflight, View
from controller.core.policy import caps
from controller.core.policy.parse import policy_of
from controller.engine.feed import Feed
from controller.engine.measurer import Measurer
from controller.ports.clock import Clock
from controller.ports.documents import Documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The operator's figures that every situation carries."""

    settle_seconds: float = 2.5
    """Of every run, whatever its policy names."""
    named_settle_seconds: Mapping[str, float] = field(default_factory=dict)
    """Of runs whose policy names this provider; the longer of the two counts."""
    drain_seconds: float = 3.0
    ready_seconds: float = 300.0
    roll_seconds: float = 900.0
    cluster_cap_bp: int | None = None
    namespace_caps_bp: Mapping[str, int] = field(default_factory=dict)

    def settle(self, run: Run | None) -> float:
        """How long a run waits until a weight that was accepted is in force."""
        name = tracks.named(run) if run else ""
        return max(self.settle_seconds, self.named_settle_seconds.get(name, 0.0))

    def ceilings(self, namespace: str) -> caps.Ceilings:
        """The caps of the cluster and of a namespace."""
        return caps.Ceilings(
            namespace_bp=self.namespace_caps_bp.get(namespace), cluster_bp=self.cluster_cap_bp
        )


class Observer:
    """Puts situations together."""

    def __init__(
        self,
        *,
        clock: Clock,
        documents: Documents,
        feed: Feed,
        measurer: Measurer,
        bounds: Bounds,
    ) -> None:
        """`feed` has the scraped counts, `measurer` what is measured beside them, `bounds` the
        operator's figures.
        """
        self._clock = clock
        self._documents = documents
        self._feed = feed
        self._measurer = measurer
        self._bounds = bounds

    def ceilings(self, namespace: str) -> caps.Ceilings:
        """The caps of the cluster and of a namespace."""
        return self._bounds.ceilings(namespace)

    def situation(
        self,
        *,
        view: View,
        memory: Memory | None,
        others: Sequence[Run],
        requests: tuple[Request, ...] = (),
        preflight: Preflight | None = None,
        calibration: Calibration | None = None,
        namespace: str,
        rolled: tuple[Pod, ...] | None = None,
        led: Mapping[str, frozenset[str]] | None = None,
    ) -> Situation:
        """The world as it is now; a running run is judged by the policy it began with."""
        if memory is not None and memory.phase not in UNTOUCHED | {Phase.HELD}:
            policy = policy_of(dict(memory.run.annotations))
        else:
            policy = policy_of(view.deployment.annotations if view.deployment else {})
        digest = view.deployment.digest if view.deployment else ""
        reading = self._feed.reading(memory.run if memory else None)
        return Situation(
            now=self._clock.monotonic(),
            view=view,
            policy=policy,
            latches=self._documents.latches_seen(),
            ceilings=self._bounds.ceilings(namespace),
            breaker="" if isinstance(policy, tuple) else breaker.why_open(others, policy, digest),
            quarantined=breaker.quarantined(others),
            requests=requests,
            preflight=preflight,
            calibration=calibration,
            rolled=rolled,
            led=led,
            intervals=reading.intervals,
            readings=self._measurer.readings(memory.run if memory else None),
            scraped=self._measurer.scraped(memory.run if memory else None, reading.jobs),
            scraped_at=reading.scraped_at,
            counted_from=reading.counted_from,
            too_large=reading.too_large,
            metrics_age=reading.age_seconds,
            scrape_seconds=reading.scrape_seconds,
            clock=reading.clock,
            settle_seconds=self._bounds.settle(memory.run if memory else None),
            drain_seconds=self._bounds.drain_seconds,
            ready_seconds=self._bounds.ready_seconds,
            roll_seconds=self._bounds.roll_seconds,
        )
