# SPDX-License-Identifier: Apache-2.0
"""The accumulators of one run: everything the judge remembers, in at most 4 KB.

They stand in the run document, whose canonical JSON knows no floats: figures that are not whole are
written bit by bit, so that a restart changes no verdict and no figure is longer than another. What
one belongs to is told by its place, in the order of the fields and of the settings of the run.
"""

import base64
import itertools
import math
import struct
from collections.abc import Mapping
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

FORMAT = 7
"""Version of the written form; a reader refuses what it does not know. It is another one as soon as
a field is added, moved or taken away, here or in what stands in the fields."""

NEVER = -math.inf
"""The time of something that has not happened."""


class Window(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
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


class Trip(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The moment in which the evidence sufficed, with the figures it sufficed on.

    Attributes:
        check: Name of the deciding check.
        fast: Whether the fast trip decided.
        at: Scrape time of the interval.
        canary: (bad, requests) of the canary; zeros where it is not about requests.
        stable: The same of stable.
        log_evidence: Natural logarithm of the evidence then.
        bound: Bucket bound in seconds that the figures are about; 0 where they are about errors.
    """

    check: str
    fast: bool
    at: float
    canary: tuple[int, int]
    stable: tuple[int, int]
    log_evidence: float
    bound: float = 0.0


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
        canary_timed_at: Until when none of the canary's answers were without a time, at the bounds
            of all latency limits.
        stable_timed_at: The same of stable.
        warm_until: End of the warm-up.
        trip: Set once the evidence sufficed; it stays, for that is what the promise is about.
        proof: In favour of the canary, at the present weight.
        timely: The same for each latency limit, as soon as it is known which bounds there are.
        excess: By how much the canary is worse at least, at the present weight.
        noted: The newest reading of each assertion, and then of each gauge.
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
    canary_timed_at: float = NEVER
    stable_timed_at: float = NEVER
    warm_until: float = NEVER
    trip: Trip | None = None
    proof: Proof = NOTHING
    timely: tuple[Timely, ...] = ()
    excess: Excess = NONE
    noted: tuple[Noted, ...] = ()
    trials: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything but floats, of which canonical JSON knows none."""
        return {"v": FORMAT, "fields": _written(self)}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Evidence":
        """Read back what `to_json` wrote.

        Raises:
            ValueError: It is not of that form, or of a version that we do not know.
        """
        if told.get("v") != FORMAT:
            raise ValueError(f"evidence of version {told.get('v')!r} cannot be read")
        try:
            fields = zip(cls.__struct_fields__, _read(told["fields"]), strict=True)
            return msgspec.convert(dict(fields), cls)
        except (KeyError, TypeError, ValueError, struct.error) as error:
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
        noted=(Noted(),) * (len(settings.assertions) + len(settings.gauges)),
        trials=(NEVER,) * measured,
    )


def weight_changed(evidence: Evidence, at: float, *, warm_up_seconds: float = 0.0) -> Evidence:
    """The weight that is now in force opens a new window; nothing from before counts to its PASS.

    A part of each reserve is bet anew, for a regression that depends on load begins here. The
    processes themselves go on: the promise is one per run, not one per step.

    Args:
        evidence: The state before.
        at: When the new weight was read back in force, in seconds since the epoch.
        warm_up_seconds: How long the canary's new pods count as cold; those that were started for
            the weight before may still be.
    """
    rate = eprocess.WEIGHT_CHANGE_BET
    return replace(
        evidence,
        fast=eprocess.put(evidence.fast, rate),
        processes=tuple(eprocess.put(process, rate) for process in evidence.processes),
        window=Window(at=at),
        warm_until=max(evidence.warm_until, at + warm_up_seconds),
        proof=NOTHING,
        timely=tuple(Timely(seconds=known.seconds) for known in evidence.timely),
        excess=NONE,
    )


def floored(limit: float) -> float:
    """The limit as the formulas can use it: a limit of exactly 0 has no likelihood ratio."""
    return max(limit, 1e-5)


def _written(part: Any) -> Any:
    """What has parts as a list of them, in which neighbouring figures are one text of their bits.

    Rows are written column by column: of the buckets one column is figures and the other counts.
    """
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, tuple) and part and isinstance(part[0], tuple):
        return {"columns": [_written(column) for column in zip(*part, strict=True)]}
    if isinstance(part, msgspec.Struct):
        part = msgspec.structs.astuple(part)
    if not isinstance(part, tuple):
        return part
    told: list[Any] = []
    for figures, items in itertools.groupby(part, lambda item: isinstance(item, float)):
        some = tuple(items)
        told += [_bits(some)] if figures else map(_written, some)
    return told


def _read(told: Any) -> Any:
    """The parts that `_written` made a list of, in lists."""
    if isinstance(told, dict):
        return told["text"] if "text" in told else [*zip(*_read(told["columns"]), strict=True)]
    if not isinstance(told, list):
        return told
    parts: list[Any] = []
    for item in told:
        parts += _figures(item) if isinstance(item, str) else [_read(item)]
    return parts


def _bits(figures: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(figures)}d", *figures)).decode()


def _figures(bits: str) -> tuple[float, ...]:
    packed = base64.b64decode(bits, validate=True)
    return struct.unpack(f"<{len(packed) // 8}d", packed)
