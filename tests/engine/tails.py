# SPDX-License-Identifier: Apache-2.0
"""Counters as a store has them, and a run that is followed through any number of restarts.

Each scrape target is written down beforehand: when it is scraped, what it had counted by then and
when the store shows it. So the same stream can be judged by one process, or by one after another
that have nothing but what the last one made durable.
"""

import asyncio
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.adapters.clock import LoopClock
from controller.core.errors import MetricsTooLarge, MetricsUnavailable
from controller.core.evidence.judge import Interval, Verdict
from controller.core.evidence.scraped import Scraped
from controller.core.evidence.series import (
    PodsKey,
    Sample,
    Series,
    ServiceKey,
    TrackKey,
    TrackSeries,
)
from controller.core.lifecycle import coverage, trial
from controller.core.lifecycle.memory import Lane, Memory, Moments, Run, encode, recalled
from controller.core.lifecycle.situation import Situation
from controller.core.lifecycle.table import Event, Phase
from controller.core.observation import View
from controller.core.policy.model import PRESETS, Bake, LatencyLimit, Policy, Preset, Step, Traffic
from controller.core.values import RouteRef, TargetRef
from controller.engine.feed import Feed
from controller.engine.meters import Meters
from controller.ports.metrics import Batch
from controller.sim import clock

EVERY = 4.0
"""Seconds between two scrapes of a target."""

LOOKS = 2
"""Per scrape."""

BEGIN = 1_800_000_000.0
"""The store's clock when a story begins, a multiple of `EVERY`."""

BOUNDS = ((0.1, 0.9), (0.3, 0.996), (math.inf, 1.0))
"""Of the histogram, each with the share of answers within."""

CANARY = ServiceKey("shop", "checkout-canary")
STABLE = ServiceKey("shop", "checkout")
CANARY_PODS = PodsKey("shop", "checkout-canary", "")
STABLE_PODS = PodsKey("shop", "checkout", "5d9c7b6f48")

POLICY = replace(
    PRESETS[Preset.FAST],
    steps=(Step(weight_bp=1000, dwell_seconds=40.0), Step(weight_bp=5000, dwell_seconds=40.0)),
    bake=Bake(seconds=1800.0),
    latency=(LatencyLimit(quantile=0.99, seconds=0.3),),
    error_rate=0.05,
    min_requests=100,
)


@dataclass(kw_only=True)
class Target:
    """One scrape target; all times are seconds of the story."""

    key: TrackKey
    name: str = "gateway"
    every: float = EVERY
    rate: float = 20.0
    bad: float = 0.01
    phase: float = 0.0
    born: float = -80.0
    dies: float = math.inf
    resets: tuple[float, ...] = ()
    lost: tuple[tuple[float, float], ...] = ()
    """Between these times no scrape succeeds."""
    moved: Mapping[int, float] = field(default_factory=dict)
    """Scrapes that happen so much later, by number."""
    unseen: Mapping[int, float] = field(default_factory=dict)
    """Scrapes that the store shows so much later."""
    twice: frozenset[int] = frozenset()
    """Scrapes that stand in the store two times."""
    past: int = 0
    """What each counter had at birth."""


@dataclass
class _Counter:
    """One series of a target."""

    what: str
    labels: tuple[tuple[str, str], ...]
    samples: list[tuple[Sample, float]] = field(default_factory=list)
    """Each with the time from which on the store shows it."""


class Store:
    """What a Prometheus says of these targets, in the time of the running loop."""

    def __init__(self, targets: Collection[Target], seconds: float) -> None:
        """Everything that will be counted in so many seconds."""
        self._counters: dict[TrackKey, list[_Counter]] = {}
        for target in targets:
            self._counters.setdefault(target.key, []).extend(_scraped(target, seconds))
        self.gone: list[tuple[float, float, float]] = []
        """(seen from, begin, end): from then on the store has no samples of that time."""
        self.windows: list[float] = []
        """What each look has asked for."""
        self.slow = 0.0
        """Seconds that an answer takes."""
        self.most_keys = 1000
        self.most_seconds = math.inf
        """An answer about more would be too large."""
        self.large: set[TrackKey] = set()
        """An answer about these would be too large, whoever else it is about."""
        self.refusals = 0
        """How many answers were too large."""
        self.asked: list[int] = []
        """About how many keys each look was."""
        self.refused: set[TrackKey] = set()
        """Whoever asks about these gets no answer."""

    @staticmethod
    def now() -> float:
        """By the store's own clock, which is the story's."""
        return asyncio.get_running_loop().time() - clock.MONOTONIC_START

    async def samples(self, since_seconds: float, keys: Collection[TrackKey]) -> Batch:
        """The samples of the window, as a store returns them."""
        self.windows.append(since_seconds)
        self.asked.append(len(keys))
        now = BEGIN + self.now()
        await asyncio.sleep(self.slow)
        large = self.large & set(keys)
        if large or len(keys) > self.most_keys or since_seconds > self.most_seconds:
            self.refusals += 1
            raise MetricsTooLarge("more than it may be")
        if self.refused & set(keys):
            raise MetricsUnavailable("nobody is there")
        found = {key: self._track(key, now - since_seconds, now) for key in keys}
        series = {key: track for key, track in found.items() if track is not None}
        return Batch(evaluated_at=now, series=series)

    def _track(self, key: TrackKey, begin: float, now: float) -> TrackSeries | None:
        shown: dict[str, list[Series]] = {}
        for counter in self._counters.get(key, ()):
            samples = tuple(
                sample
                for sample, visible in counter.samples
                if begin < sample.at <= now and visible <= now and not self._lost(sample.at, now)
            )
            if samples:
                shown.setdefault(counter.what, []).append(Series(counter.labels, samples))
        if not shown:
            return None
        pods = isinstance(key, PodsKey)
        return TrackSeries(
            requests=(*shown.get("good", ()), *shown.get("bad", ())),
            errors=tuple(shown.get("bad", ())),
            buckets=tuple(
                (bound, series) for bound, _ in BOUNDS for series in shown.get(str(bound), ())
            ),
            target_labels=("instance", "pod") if pods else ("instance",),
            pod_label="pod" if pods else "",
        )

    def _lost(self, at: float, now: float) -> bool:
        return any(
            now - BEGIN >= since and begin < at - BEGIN <= end for since, begin, end in self.gone
        )

    def answered(self, key: TrackKey, begin: float, end: float = math.inf) -> tuple[int, int]:
        """Requests and errors in all scrapes between, whoever sees them; without a reset."""
        sums = {"good": 0, "bad": 0}
        for counter in self._counters[key]:
            values = [sample.value for sample, _ in counter.samples if sample.at - BEGIN <= end]
            before = [sample.value for sample, _ in counter.samples if sample.at - BEGIN <= begin]
            if counter.what in sums and values:
                sums[counter.what] += round(values[-1] - (before[-1] if before else 0.0))
        return sums["good"] + sums["bad"], sums["bad"]

    async def history(self, key: TrackKey, seconds: float) -> Batch:
        """Nobody asks."""
        raise AssertionError(f"{key} {seconds}")

    latency_history = history


def _scraped(target: Target, seconds: float) -> list[_Counter]:
    """The counters of a target, scrape by scrape; that of errors begins with the first one."""
    source = random.Random(f"{target.key} {target.name}")
    labels = {"instance": target.name}
    if isinstance(target.key, PodsKey):
        labels["pod"] = target.name
    service = {} if isinstance(target.key, PodsKey) else {"service": target.key.service}
    whats = ("good", "bad", *(str(bound) for bound, _ in BOUNDS))
    counters = {
        what: _Counter(what, tuple(sorted({**labels, **service, "what": what}.items())))
        for what in whats
    }
    totals = dict.fromkeys(whats, target.past)
    resets = list(target.resets)
    for number in range(round(target.born / target.every) + 1, int(seconds / target.every) + 1):
        at = number * target.every + target.phase + target.moved.get(number, 0.0)
        if at > target.dies:
            break
        if resets and at >= resets[0]:
            resets.pop(0)
            totals = dict.fromkeys(whats, 0)
        requests = round(target.rate * target.every * source.uniform(0.7, 1.3))
        bad = sum(source.random() < target.bad for _ in range(requests))
        totals["good"] += requests - bad
        totals["bad"] += bad
        for bound, share in BOUNDS:
            totals[str(bound)] += round(requests * share)
        if any(begin < at <= end for begin, end in target.lost):
            continue
        for what, total in totals.items():
            if total:
                pair = (
                    Sample(BEGIN + at, float(total)),
                    BEGIN + at + 0.05 + target.unseen.get(number, 0.0),
                )
                counters[what].samples += [pair] * (2 if number in target.twice else 1)
    return list(counters.values())


@dataclass(kw_only=True)
class Told:
    """What a story came to."""

    verdicts: dict[float, Verdict] = field(default_factory=dict)
    """By the time of the look, in seconds of the story."""
    intervals: list[Interval] = field(default_factory=list)
    memory: Memory
    restarts: int = 0
    tails: int = 0
    """Intervals that were judged again by another process."""
    silences: dict[float, float] = field(default_factory=dict)
    """For how many seconds one of the two, or both, were not heard of, by the time of the look."""
    undurable: float = 0.0
    """Seconds of scrapes that a death after a look would have left to the tail, at most."""


class Daemon:
    """One process after another that follows one run, and what each leaves behind."""

    def __init__(self, store: Store, *, pods: bool, policy: Policy = POLICY) -> None:
        """The run stands before its first weight."""
        self.store = store
        self.policy = policy
        lane = Lane(
            route=RouteRef("HTTPRoute", "shop", "checkout"), uid="r", service=STABLE.service,
            original=(),
        )  # fmt: skip
        run = Run(
            name="checkout-1", target=TargetRef("shop", "checkout"), uid="u", phase=Phase.RAISING,
            stable_hash=STABLE_PODS.hash, stable_digest="d", digest="e", replicas=4,
            ladder=tuple((step.weight_bp, step.dwell_seconds) for step in policy.steps),
            traffic=Traffic.REPLICAS if pods else Traffic.GATEWAY, lanes=() if pods else (lane,),
            weight_bp=policy.steps[0].weight_bp,
        )  # fmt: skip
        memory = Memory(run=run, moments=Moments(entered=0.0))
        self.told = Told(memory=trial.watched(self._situation(), memory))
        self._begin()

    def _begin(self) -> None:
        self.feed = Feed(metrics=self.store, clock=LoopClock(), meters=Meters())
        self.feed.follow(self.told.memory)

    def _situation(self) -> Situation:
        return Situation(now=self.store.now(), view=View(deployment=None), policy=self.policy)

    def restart(self) -> None:
        """The process dies; the next one reads the run document."""
        text = encode(self.told.memory.run)
        self.told.memory = recalled(text, self.store.now())
        self.told.restarts += 1
        self._begin()

    async def look(self, event: Event | None = None) -> None:
        """One look at the store, and the tick that it wakes."""
        await self.feed.look()
        self.told.verdicts[self.store.now()] = self.tick(event)

    def tick(self, event: Event | None = None) -> Verdict:
        """What is made of what the feed has now; something may be found to be so."""
        reading = self.feed.reading(self.told.memory.run)
        situation = replace(
            self._situation(), intervals=reading.intervals, clock=reading.clock,
            scrape_seconds=reading.scrape_seconds, metrics_age=reading.age_seconds,
            scraped_at=reading.scraped_at, scraped=Scraped(at=reading.clock),
            counted_from=reading.counted_from, too_large=reading.too_large,
        )  # fmt: skip
        self._taken(reading.intervals)
        self.told.memory = trial.fed(situation, self.told.memory)
        silence = coverage.silence(situation, self.told.memory).seconds
        self.told.silences[self.store.now()] = silence
        if event is not None:
            self._moved(situation, event)
        self.told.undurable = max(self.told.undurable, self._undurable())
        return trial.verdict(situation, self.told.memory)

    def _undurable(self) -> float:
        """How much older the evidence in the document is than what has been judged."""
        known = self.told.memory.evidence
        if known is None or not math.isfinite(known.last_at):
            return 0.0
        document = recalled(encode(self.told.memory.run), self.store.now()).evidence
        return math.inf if document is None else known.last_at - document.last_at

    def _taken(self, intervals: Collection[Interval]) -> None:
        """One that comes again stands in place of what it was before."""
        known = {interval.at: place for place, interval in enumerate(self.told.intervals)}
        for interval in intervals:
            if interval.at in known:
                self.told.tails += 1
                self.told.intervals[known[interval.at]] = interval
            else:
                self.told.intervals.append(interval)

    def _moved(self, situation: Situation, event: Event) -> None:
        """As the rules of the phases have it; all that they do at a change of phase is durable."""
        memory, now = self.told.memory, situation.now
        if event is Event.PASSED:
            memory = memory.moved(event, now, step=memory.run.step + 1).moved(Event.READY, now)
            event = Event.IN_FORCE
        if event is not Event.LADDER_PASSED:
            memory = trial.begun(situation, memory, cold=event is Event.IN_FORCE)
        self.told.memory = memory.moved(event, now)


async def judged(
    daemon: Daemon,
    seconds: float,
    *,
    events: Mapping[float, Event],
    restarts: Callable[[int], bool] = lambda _: False,
    away: tuple[float, float] = (math.inf, math.inf),
) -> Told:
    """Follow it for so long.

    Args:
        daemon: The first process.
        seconds: How long the story is.
        events: What is found to be so, by the time of the look.
        restarts: After which looks with news the process dies, by their number.
        away: From when to when there is no process.
    """
    scrapes, died = 0, False
    for at in _looks(seconds):
        if away[0] <= at < away[1]:
            continue
        await asyncio.sleep(at - daemon.store.now())
        if at - EVERY / LOOKS < away[1] <= at:
            daemon.restart()
        before, died = len(daemon.told.intervals), False
        await daemon.look(events.get(at))
        if len(daemon.told.intervals) > before:
            scrapes += 1
            if died := restarts(scrapes):
                daemon.restart()
    if died:
        # It died after the last look, and leaves its tail to the next one all the same.
        await daemon.feed.look()
        daemon.tick()
    return daemon.told


def _looks(seconds: float) -> Iterator[float]:
    # Not at the very moment of a scrape, which nobody sees before it is stored.
    pause = EVERY / LOOKS
    return (number * pause + 0.25 for number in range(int(seconds / pause)))


def sums(intervals: Sequence[Interval]) -> list[int]:
    """All that was counted: requests and errors of the canary and of stable."""
    tallies = [(one.canary, one.stable) for one in intervals]
    return [
        sum(count)
        for track in zip(*tallies, strict=True)
        for count in zip(*((tally.requests, tally.errors) for tally in track), strict=True)
    ]
