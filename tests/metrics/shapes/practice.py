# SPDX-License-Identifier: Apache-2.0
"""Runs whose data come from a real Prometheus by the daemon's own adapter, feed and judge.

All cases run side by side: each has a namespace with two pods of each version. In every case the
version is in order, and nothing but the data is wrong.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from controller.adapters.clock import LoopClock
from controller.adapters.prometheus.client import Prometheus
from controller.core.effects import Effect, ShrinkCanary
from controller.core.errors import MetricsUnavailable
from controller.core.evidence.judge import Outcome, Verdict
from controller.core.lifecycle import machine, trial
from controller.core.lifecycle.memory import Ending, Memory, Moments, Run
from controller.core.lifecycle.situation import Situation
from controller.core.lifecycle.table import Phase
from controller.core.lifecycle.tracks import pods_of
from controller.core.observation import Deployment, Pod, ReplicaSet, View
from controller.core.policy.model import (
    PRESETS,
    Bake,
    LatencyLimit,
    Preset,
    Promotion,
    Step,
    Traffic,
)
from controller.core.values import TargetRef
from controller.engine.feed import Feed
from controller.engine.meters import Meters
from controller.ports.metrics import Levels
from tests.metrics.shapes.exporter import Pod as Counting
from tests.metrics.shapes.exporter import Track

PHASES: Final = ("before", "mid", "bake")
DWELL: Final = 10.5
OPENS: Final = 4.0
"""Seconds after the begin at which the step's weight is in force."""

SPOILT: Final = {"before": (0.0, OPENS + 12), "mid": (OPENS + 3, OPENS + 15)}
SPOILT_BAKE: Final = SPOILT["mid"]
DEADLINE: Final = 10.0
"""How long a step of which that is told may wait beyond its dwell."""

LOOK: Final = 0.8
TELLS: Final = 2.0
"""Seconds until a scrape tells of what is wrong."""

HASH: Final = "5d9c7b6f48"
PODS: Final = {
    "stable": (f"checkout-{HASH}-x2x4z", f"checkout-{HASH}-bbbbb"),
    "canary": (f"checkout-canary-{HASH}-x2x4z", f"checkout-canary-{HASH}-bbbbb"),
}

VIEW: Final = View(
    deployment=None,
    replica_sets=(
        ReplicaSet(
            name=f"checkout-{HASH}", uid="r", hash=HASH, digest="", revision=1, replicas=2, ready=2
        ),
    ),
    pods=tuple(Pod(name=name, uid=name, phase="Running", ready=True) for name in PODS["canary"]),
)
"""All pods of both versions are ready from the beginning to the end."""

_TWIN: Final = Deployment(
    name="checkout-canary", uid="c", version="1", generation=1, observed_generation=1, replicas=2,
    paused=False, strategy="RollingUpdate", digest="", selector=(), pod_labels=(), ours=True,
    owner_uid="u", updated=2, ready=2, available=2, status_replicas=2,
)  # fmt: skip

WHOLE: Final = replace(
    VIEW,
    deployment=replace(_TWIN, name="checkout", uid="u", paused=True, ours=False, owner_uid=""),
    canary=_TWIN,
)
"""With what a run that goes back takes away."""

POLICY: Final = replace(
    PRESETS[Preset.FAST],
    steps=(Step(weight_bp=5000, dwell_seconds=DWELL),),
    bake=Bake(seconds=DWELL),
    deadline_seconds=DEADLINE,
    latency=(LatencyLimit(quantile=0.99, seconds=0.5),),
    min_requests=50,
)


def spoilt(phase: str) -> tuple[float, float]:
    """From when to when, in seconds since the begin."""
    return SPOILT.get(phase, SPOILT_BAKE)


@dataclass(frozen=True, slots=True)
class Look:
    """What the judge said at one look."""

    at: float
    outcome: Outcome
    codes: tuple[str, ...]
    expected: tuple[str, ...]
    """Of each reason."""
    canary: int
    seconds_to_go: float | None


@dataclass(slots=True, kw_only=True)
class Case:
    """One run at one step."""

    space: str
    phase: str
    lasting: bool = False
    """Whether no PASS is waited for."""
    ends: bool = False
    """Whether its deadline is waited for instead, and what becomes of the run then."""
    memory: Memory = field(init=False)
    looks: list[Look] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """What people were told at each look, where the deadline is waited for."""
    effects: list[Effect] = field(default_factory=list)
    """What was to be done to the cluster."""

    def __post_init__(self) -> None:
        run = Run(
            name=f"{self.space}-{self.phase}", target=TargetRef(self.space, "checkout"), uid="u",
            phase=Phase.JUDGING, stable_hash=HASH, stable_digest="", digest="", replicas=2,
            traffic=Traffic.REPLICAS, promotion=Promotion.SHIFT,
            step=1 if self.phase == "bake" else 0,
            ladder=tuple((step.weight_bp, step.dwell_seconds) for step in POLICY.steps),
        )  # fmt: skip
        self.memory = Memory(run=run, moments=Moments(entered=0.0))
        self.memory = trial.watched(self.situation(), self.memory)

    @property
    def opened(self) -> bool:
        evidence = self.memory.evidence
        return evidence is not None and evidence.window.at is not None

    def situation(self) -> Situation:
        view = WHOLE if self.ends else VIEW
        return Situation(
            now=0.0, view=view, policy=POLICY, scrape_seconds=1.0, settle_seconds=0.0,
            drain_seconds=0.0, metrics_age=0.0,
        )  # fmt: skip

    @property
    def over(self) -> bool:
        """Whether the canary's pods are taken away."""
        return any(isinstance(one, ShrinkCanary) and not one.replicas for one in self.effects)

    @property
    def inconclusive(self) -> bool:
        """Whether that was for want of evidence, and nothing is held against the version."""
        run = self.memory.run
        blamed = run.tripped or run.quarantined
        return self.over and run.ending is Ending.INCONCLUSIVE and not blamed

    def look(self, feed: Feed, at: float, levels: Levels | None) -> None:
        """Take in what is new, open the window when it is time, and ask the judge."""
        reading, pods = feed.reading(self.memory.run), pods_of(self.memory.run)
        situation = replace(
            self.situation(), intervals=reading.intervals, clock=reading.clock,
            scrape_seconds=reading.scrape_seconds, now=at,
            scraped=levels.scraped(pods.canary, pods.stable, reading.jobs) if levels else None,
        )  # fmt: skip
        self.memory = trial.fed(situation, self.memory)
        if at >= OPENS and not self.opened and reading.clock:
            self.memory = trial.begun(situation, self.memory)
        if self.ends:
            self._step(replace(situation, intervals=()))
        if self.memory.phase is not Phase.JUDGING:
            return
        verdict: Verdict = trial.verdict(situation, self.memory)
        self.looks.append(
            Look(
                at, verdict.outcome, tuple(reason.code.value for reason in verdict.reasons),
                tuple(reason.expected for reason in verdict.reasons),
                verdict.canary.requests, verdict.seconds_to_go,
            )
        )  # fmt: skip

    def _step(self, situation: Situation) -> None:
        """One tick of the run itself."""
        decision = machine.step(situation, self.memory)
        self.memory = decision.memory
        self.told.append(decision.why)
        self.effects.extend(decision.effects)

    def during(self) -> list[Look]:
        """The looks while it was spoilt and had been long enough for a scrape to tell."""
        begin, end = spoilt(self.phase)
        return [look for look in self.looks if begin + TELLS <= look.at < end]

    def passed_at(self, since: float) -> float | None:
        return next(
            (look.at for look in self.looks if look.at >= since and look.outcome is Outcome.PASS),
            None,
        )


def tracks(cases: Iterable[Case], born: float) -> Iterator[tuple[tuple[str, str], Track]]:
    """Pods for each case. Stable's are older."""
    for case in cases:
        for name in PODS:
            pods = [Counting(born=born - (100.0 if name == "stable" else 0.0)) for _ in range(2)]
            yield (case.space, name), Track(pods=pods)


def config(address: str, spaces: Iterable[str], twice: Iterable[str]) -> str:
    """Each pod is a target of its own, as PodMonitor would have it."""
    jobs = [("pods", list(spaces)), ("again", list(twice))]
    lines = ["global: {scrape_interval: 1s, scrape_timeout: 900ms}", "scrape_configs:"]
    for job, named in jobs:
        if not named:
            continue
        lines += [f"- job_name: {job}", "  static_configs:"]
        for space in named:
            for track, pods in PODS.items():
                for number, pod in enumerate(pods):
                    path = f"/{space}/{track}/{number}"
                    named_ = f'namespace: "{space}", pod: "{pod}", instance: "{space}-{pod}"'
                    lines.append(f'  - targets: ["{address}"]')
                    lines.append(f'    labels: {{__metrics_path__: "{path}", {named_}}}')
    return "\n".join([*lines, ""])


async def followed(store: Prometheus, cases: list[Case], begin: float, until: float) -> None:
    """Look at all cases until a time, or until each has passed after its data came back."""
    feed = Feed(metrics=store, clock=LoopClock(), meters=Meters())
    for case in cases:
        feed.follow(case.memory)
    keys = {
        key
        for both in (pods_of(case.memory.run) for case in cases)
        for key in (*both.canary, *both.stable)
    }
    levels: Levels | None = None
    while (at := time.time() - begin) < until:
        await feed.look()
        # Of a store that fails stands what it said last.
        with contextlib.suppress(MetricsUnavailable):
            levels = await store.saturation(keys)
        at = time.time() - begin
        for case in cases:
            case.look(feed, at, levels)
        if all(_settled(case) for case in cases):
            return
        await asyncio.sleep(LOOK)


def _settled(case: Case) -> bool:
    if case.ends:
        return case.over
    return case.lasting or bool(case.passed_at(spoilt(case.phase)[1]))
