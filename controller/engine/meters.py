# SPDX-License-Identifier: Apache-2.0
"""The controller's own metrics; each counts a fact that the journal or an Event holds as well."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from controller.core.effects import ZeroWeight
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.situation import Decision

ALERTED: Final = (
    "EffectFailing",
    "NoRoom",
    "OtherWriter",
    "RolledUngated",
    "RunDocumentUnusable",
    "StableGone",
)
"""Reasons of notices that an alert waits for: exposed as 0 from the start, since Prometheus sees no
increase in a series that begins with 1."""


class Meters:
    """A registry of our own, so that two controllers in one process do not mix."""

    def __init__(self) -> None:
        """Register everything."""
        self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"switchgear_{name}", text, labels, registry=self._registry)

        self._runs = counter("runs_started", "Runs begun.")
        self._ended = counter("runs_ended", "Runs ended.", "outcome")
        self._ticks = counter("ticks", "Ticks of runs.", "phase")
        self._verdicts = counter("verdicts", "Verdicts.", "outcome")
        self._trips = counter("breaker_trips", "Circuit breakers opened.")
        self._kills = counter("kills", "Kill switch used.")
        self._notices = counter("notices", "Things people were told.", "reason")
        for reason in ALERTED:
            self._notices.labels(reason)
        self._journal = counter("journal_failures", "Run documents that could not be written.")
        self._looks = counter("metrics_looks", "Looks at the metrics store, each for all runs.")
        self._metrics = counter("metrics_failures", "Metrics queries without a usable answer.")
        self._broken = counter("promises_broken", "Decisions stopped by an invariant.")
        self._back = Histogram(
            "switchgear_rollback_write_seconds",
            "From the decision to go back to weight 0 written.",
            registry=self._registry,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
        )
        self._running = Gauge(
            "switchgear_runs_active", "Runs under way or held.", registry=self._registry
        )
        self._latched = Gauge(
            "switchgear_kill_latches", "Scopes of the kill latch, as seen.", registry=self._registry
        )
        self._slowest = Gauge(
            "switchgear_phase_seconds",
            "Longest that a run under way has been in its phase, but for those that judge.",
            registry=self._registry,
        )
        self._leader = Gauge(
            "switchgear_leader",
            "1 while this process acts, 0 while it stands by.",
            registry=self._registry,
        )
        self._epoch = Gauge(
            "switchgear_epoch",
            "Epoch that this process claimed last; 0 before the first.",
            registry=self._registry,
        )
        self._requests = Gauge(
            "switchgear_api_requests",
            "Requests sent to the API server since the start.",
            registry=self._registry,
        )

    def begun(self) -> None:
        """A run began."""
        self._runs.inc()

    def ended(self, outcome: str) -> None:
        """A run ended."""
        self._ended.labels(outcome).inc()

    def tick(self, before: Memory, decision: Decision, seconds: float) -> None:
        """A tick was carried out in `seconds`."""
        self._ticks.labels(before.phase.value).inc()
        if decision.verdict is not None:
            self._verdicts.labels(decision.verdict.outcome.value).inc()
        if any(isinstance(effect, ZeroWeight) for effect in decision.effects):
            self._back.observe(seconds)

    def tripped(self) -> None:
        """A breaker opened."""
        self._trips.inc()

    def killed(self) -> None:
        """The kill switch was used."""
        self._kills.inc()

    def notice(self, reason: str) -> None:
        """People were told something."""
        self._notices.labels(reason).inc()

    def journal_failed(self) -> None:
        """A run document could not be written."""
        self._journal.inc()

    def looked(self) -> None:
        """The metrics store is asked once for all that is followed."""
        self._looks.inc()

    def metrics_failed(self) -> None:
        """The metrics store gave no usable answer."""
        self._metrics.inc()

    def invariant_broken(self) -> None:
        """A decision was stopped."""
        self._broken.inc()

    def leads(self, *, leading: bool) -> None:
        """This process began or ceased to act."""
        self._leader.set(1 if leading else 0)

    def claimed(self, epoch: int) -> None:
        """An epoch was claimed."""
        self._epoch.set(epoch)

    def running(self, count: int, requests: int) -> None:
        """How many runs there are, and how many requests the API server was sent."""
        self._running.set(count)
        self._requests.set(requests)

    def waiting(self, kills: int, seconds: float) -> None:
        """How many scopes are killed, and how long the slowest run has been where it is."""
        self._latched.set(kills)
        self._slowest.set(seconds)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)
