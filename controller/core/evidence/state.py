# SPDX-License-Identifier: Apache-2.0
"""The accumulators of one run: everything the judge remembers, in at most 4 KB.

They stand in the run document, whose canonical JSON knows no floats: numbers that are not whole are
written as the shortest text that reads back to the same bits, so that a restart changes no verdict.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from controller.core.evidence import eprocess
from controller.core.evidence.eprocess import Process
from controller.core.evidence.excess import NONE, Excess
from controller.core.evidence.measures import FAILING, Noted
from controller.core.evidence.safe import NOTHING, Proof, Timely
from controller.core.evidence.settings import Settings
from controller.core.evidence.tally import Tally

FORMAT = 4
"""Version of the written form; a reader refuses what it does not know."""

NEVER = -math.inf
"""The time of something that has not happened."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen at the present weight, and nothing from before.

    Attributes:
        at: Since when the weight is in force, seconds since the epoch; None before the first.
        seconds: Evidence time: how much of it scrape intervals have covered.
        canary: Counts of the canary in that time, buckets at the watched bounds only.
        stable: The same of stable.
    """

    at: float | None = None
    seconds: float = 0.0
    canary: Tally = msgspec.field(default_factory=Tally)
    stable: Tally = msgspec.field(default_factory=Tally)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """The moment in which the evidence sufficed, with the figures it sufficed on.

    Attributes:
        check: Name of the deciding check.
        fast: Whether the fast trip decided.
        at: Scrape time of the interval.
        canary: (bad, requests) of the canary.
        stable: (bad, requests) of stable.
        log_evidence: Natural logarithm of the evidence then.
        bound: Bucket bound in seconds that the figures are about; 0 where they are about errors.
        words: What was read, where it is not about requests; then there are no figures.
    """

    check: str
    fast: bool
    at: float
    canary: tuple[int, int]
    stable: tuple[int, int]
    log_evidence: float
    bound: float = 0.0
    words: str = ""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. Made by `start`, changed by `observe` and `weight_changed`, read by `judge`.

    Attributes:
        fast: The relative error process without the cap, for the fast trip.
        processes: The capped processes of the composite, in the order of `checks.checks`.
        bounds: Upper bounds of the cells that latency is compared in, fixed at their first sight.
        past: Where stable's answers fell, by cell: from its history, or of the first intervals.
        limit_bounds: For each latency limit the bucket bound that stands for it, 0 if none does.
        level: Log of the composite after the latest cap.
        window: Counts at the present weight.
        recent: Fading sums of canary requests, canary errors, stable requests, stable errors: a
            collapse in the middle of a long step must not hide behind its healthy past.
        last_at: End of the latest interval taken in; an older one is never taken again.
        canary_at: End of the latest interval in which the canary was reported.
        stable_at: The same of stable.
        warm_until: End of the warm-up.
        trip: Set once the evidence sufficed; it stays, for that is what the promise is about.
        proof: In favour of the canary, at the present weight.
        timely: The same for each latency limit, as soon as it is known which bounds there are.
        excess: By how much the canary is worse at least, at the present weight.
        noted: The newest reading of each assertion and gauge.
        trials: When each check on what is measured beside requests was last bet on.
    """

    fast: Process
    processes: tuple[Process, ...]
    bounds: tuple[float, ...] = ()
    limit_bounds: tuple[float, ...] = ()
    past: tuple[int, ...] = ()
    level: float = 0.0
    window: Window = msgspec.field(default_factory=Window)
    recent: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    last_at: float = NEVER
    canary_at: float = NEVER
    stable_at: float = NEVER
    warm_until: float = NEVER
    trip: Trip | None = None
    proof: Proof = NOTHING
    timely: tuple[Timely, ...] = ()
    excess: Excess = NONE
    noted: tuple[Noted, ...] = ()
    trials: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Only whole numbers, strings, lists and objects."""
        return {
            "v": FORMAT,
            "fast": _process(self.fast),
            "processes": [_process(process) for process in self.processes],
            "bounds": [repr(bound) for bound in self.bounds],
            "limitBounds": [repr(bound) for bound in self.limit_bounds],
            "past": list(self.past),
            "level": repr(self.level),
            "window": {
                "at": "" if self.window.at is None else repr(self.window.at),
                "seconds": repr(self.window.seconds),
                "canary": _tally(self.window.canary),
                "stable": _tally(self.window.stable),
            },
            "recent": [repr(figure) for figure in self.recent],
            "times": [
                repr(at) for at in (self.last_at, self.canary_at, self.stable_at, self.warm_until)
            ],
            "trip": [] if self.trip is None else _trip(self.trip),
            "proof": _proof(self.proof),
            "timely": [_timely(known) for known in self.timely],
            "excess": [repr(figure) for figure in (*self.excess.sums, *self.excess.owed)],
            "noted": [_noted(noted) for noted in self.noted],
            "trials": [repr(at) for at in self.trials],
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Evidence":
        """Read back what `to_json` wrote.

        Raises:
            ValueError: It is not of that form, or of a version that we do not know.
        """
        if told.get("v") != FORMAT:
            raise ValueError(f"evidence of version {told.get('v')!r} cannot be read")
        try:
            return _read(told)
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"evidence is damaged: {error!r}") from error


def start(settings: Settings) -> Evidence:
    """Evidence that has seen nothing; the composite is 1.

    Latency processes join when the first histogram shows which bounds there are; until then they
    count as the 1 that they start with.
    """
    processes = [eprocess.fresh(len(eprocess.RATIOS))]
    limit = settings.limits.max_error_rate
    if limit is not None:
        processes.append(eprocess.fresh(len(eprocess.alternatives(floored(limit)))))
    measured = len(settings.assertions) + bool(settings.gauges)
    processes += [eprocess.fresh(len(FAILING))] * measured
    return Evidence(
        fast=eprocess.fresh(len(eprocess.RATIOS)),
        processes=tuple(processes),
        trials=(NEVER,) * measured,
    )


def weight_changed(evidence: Evidence, at: float, *, warm_up_seconds: float = 0.0) -> Evidence:
    """The weight that is now in force opens a new window; nothing from before counts to its PASS.

    A part of each reserve is bet anew, for a regression that depends on load begins here. The
    processes themselves go on: the promise is one per run, not one per step.

    Args:
        evidence: The state before.
        at: When the new weight was read back in force, in seconds since the epoch.
        warm_up_seconds: How long the canary's new pods count as cold.
    """
    rate = eprocess.WEIGHT_CHANGE_BET
    return replace(
        opened(evidence, at),
        fast=eprocess.put(evidence.fast, rate),
        processes=tuple(eprocess.put(process, rate) for process in evidence.processes),
        warm_until=at + warm_up_seconds,
    )


def opened(evidence: Evidence, at: float) -> Evidence:
    """A window that begins then; nothing from before speaks for the canary."""
    return replace(
        evidence,
        window=Window(at=at),
        proof=NOTHING,
        timely=tuple(Timely(seconds=known.seconds) for known in evidence.timely),
        excess=NONE,
    )


def floored(limit: float) -> float:
    """The limit as the formulas can use it: a limit of exactly 0 has no likelihood ratio."""
    return max(limit, 1e-5)


def _process(process: Process) -> list[str]:
    return [repr(process.scale), repr(process.cash), *(repr(bet) for bet in process.bets)]


def _proof(proof: Proof) -> list[str]:
    return [*map(str, proof.open), repr(proof.requests), *(repr(known) for known in proof.sums)]


def _timely(known: Timely) -> list[str]:
    return [repr(known.seconds), repr(known.slow), repr(known.requests)]


def _tally(tally: Tally) -> list[Any]:
    buckets = [[repr(bound), count] for bound, count in tally.buckets]
    return [tally.requests, tally.errors, int(tally.reported), buckets]


def _trip(trip: Trip) -> list[Any]:
    return [
        trip.check,
        int(trip.fast),
        repr(trip.at),
        list(trip.canary),
        list(trip.stable),
        repr(trip.log_evidence),
        repr(trip.bound),
        trip.words,
    ]


def _noted(noted: Noted) -> list[Any]:
    values = ["" if value is None else repr(value) for value in (noted.canary, noted.stable)]
    return [noted.name, repr(noted.at), *values, int(noted.bad)]


def _read(told: Mapping[str, Any]) -> Evidence:
    window = told["window"]
    last_at, canary_at, stable_at, warm_until = (float(at) for at in told["times"])
    recent = tuple(float(figure) for figure in told["recent"])
    return Evidence(
        fast=_read_process(told["fast"]),
        processes=tuple(_read_process(process) for process in told["processes"]),
        bounds=tuple(float(bound) for bound in told["bounds"]),
        limit_bounds=tuple(float(bound) for bound in told["limitBounds"]),
        past=tuple(int(count) for count in told["past"]),
        level=float(told["level"]),
        window=Window(
            at=float(window["at"]) if window["at"] else None,
            seconds=float(window["seconds"]),
            canary=_read_tally(window["canary"]),
            stable=_read_tally(window["stable"]),
        ),
        recent=(recent[0], recent[1], recent[2], recent[3]),
        last_at=last_at,
        canary_at=canary_at,
        stable_at=stable_at,
        warm_until=warm_until,
        trip=_read_trip(told["trip"]),
        proof=_read_proof(told["proof"]),
        timely=tuple(_read_timely(known) for known in told["timely"]),
        excess=Excess(
            sums=tuple(float(figure) for figure in told["excess"][: len(NONE.sums)]),
            owed=tuple(float(figure) for figure in told["excess"][len(NONE.sums) :]),
        ),
        noted=tuple(_read_noted(noted) for noted in told["noted"]),
        trials=tuple(float(at) for at in told["trials"]),
    )


def _read_process(told: list[str]) -> Process:
    scale, cash, *bets = (float(figure) for figure in told)
    return Process(bets=tuple(bets), scale=scale, cash=cash)


def _read_proof(told: list[str]) -> Proof:
    bad, total, waited, requests, *sums = told
    return Proof(
        sums=tuple(float(known) for known in sums),
        requests=float(requests),
        open=(int(bad), int(total), int(waited)),
    )


def _read_timely(told: list[str]) -> Timely:
    seconds, slow, requests = (float(figure) for figure in told)
    return Timely(seconds=seconds, slow=slow, requests=requests)


def _read_tally(told: list[Any]) -> Tally:
    requests, errors, reported, buckets = told
    return Tally(
        requests=int(requests),
        errors=int(errors),
        reported=bool(reported),
        buckets=tuple((float(bound), int(count)) for bound, count in buckets),
    )


def _read_trip(told: list[Any]) -> Trip | None:
    if not told:
        return None
    check, fast, at, canary, stable, log_evidence, bound, words = told
    return Trip(
        check=str(check),
        fast=bool(fast),
        at=float(at),
        canary=(int(canary[0]), int(canary[1])),
        stable=(int(stable[0]), int(stable[1])),
        log_evidence=float(log_evidence),
        bound=float(bound),
        words=str(words),
    )


def _read_noted(told: list[Any]) -> Noted:
    name, at, canary, stable, bad = told
    return Noted(
        name=str(name),
        at=float(at),
        canary=float(canary) if canary else None,
        stable=float(stable) if stable else None,
        bad=bool(bad),
    )
