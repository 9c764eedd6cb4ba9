# SPDX-License-Identifier: Apache-2.0
"""How single values are written: durations, shares, ladders, limits and names.

Every reader takes a text and returns a value or raises `Unreadable`. Texts come from people and
from machines that made mistakes, so nothing is guessed: `5m` is five minutes, `5` is not a
duration. Digits are ASCII only, since `int` and `float` would take far more than a person expects.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Final

from controller.core.policy.model import AUTO_STEPS, BAKE_BP, LatencyLimit, RouteName, Step
from controller.core.values import WHOLE_BP, RouteKind

MAX_TEXT: Final = 4096
"""Longest value that is read at all. The longest sensible ladder has some 300 characters."""

MAX_STEPS: Final = 20
"""Rungs of a ladder; more would each be shorter than the evidence needs."""

MAX_ITEMS: Final = 10
"""Entries of a list; a run holds state for each."""

MAX_DURATION_SECONDS: Final = 7 * 86_400.0
"""One week. What should take longer is not a canary but a second version."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER: Final = r"[0-9]{1,9}(?:\.[0-9]{1,6})?"
_PART: Final = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_DURATION: Final = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h|d)){{1,5}}")
_SHARE: Final = re.compile(rf"({_NUMBER})\s*(%?)")
_LATENCY: Final = re.compile(rf"p([0-9]{{1,2}}(?:\.[0-9]{{1,3}})?)\s*<\s*({_NUMBER}(?:ms|s))")
_WHOLE: Final = re.compile(r"[0-9]{1,9}")
_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LONG_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")


class Unreadable(ValueError):
    """A text that does not say what its key needs; `hint` says how to write it."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Say what is wrong in `message` and what to write in `hint`."""
        super().__init__(message)
        self.message = message
        self.hint = hint


def shown(text: str) -> str:
    """A text as it may stand in a message: quoted, on one line, and short."""
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return repr(short)


def duration(text: str) -> float:
    """Seconds from `30s`, `2m`, `1h30m` or `500ms`; more than none, at most one week."""
    word = text.strip()
    if not _DURATION.fullmatch(word):
        raise Unreadable(f"{shown(word)} is not a duration", "write it like 30s, 2m or 1h30m")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(word))
    if seconds <= 0:
        raise Unreadable(f"{shown(word)} is no time at all", "write at least 1s")
    if seconds > MAX_DURATION_SECONDS:
        raise Unreadable(f"{shown(word)} is longer than a week", "write at most 7d")
    return seconds


def weight(text: str) -> int:
    """Basis points from a share in percent, with or without its sign: `5`, `0.5%`."""
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        raise Unreadable(f"{shown(text)} is not a percentage", "write it like 5 or 0.5%")
    points = float(match[1]) * 100
    weight_bp = round(points)
    if abs(points - weight_bp) > 1e-6:
        raise Unreadable(f"{shown(text)} is finer than 0.01 %", "write at most two decimals")
    if not 0 < weight_bp <= WHOLE_BP:
        raise Unreadable(f"{shown(text)} is not above 0 and at most 100 %")
    return weight_bp


def share(text: str) -> float:
    """A fraction from a share whose percent sign is there: `1%` is 0.01."""
    match = _SHARE.fullmatch(text.strip())
    if match is None or not match[2]:
        raise Unreadable(
            f"{shown(text)} is not a percentage with its sign", "write it like 1% or 0.1%"
        )
    fraction = float(match[1]) / 100
    if not 0 < fraction < 1:
        raise Unreadable(f"{shown(text)} is not between 0 and 100 %")
    return fraction


def steps(text: str) -> tuple[Step, ...]:
    """A ladder like `5@2m,25@5m,50@5m`: percent at least so long, strictly rising; or `auto`."""
    if text.strip() == "auto":
        return AUTO_STEPS
    rungs = tuple(_step(item) for item in _items(text, MAX_STEPS, "5@2m,25@5m,50@5m"))
    for before, after in itertools.pairwise(rungs):
        if after.weight_bp <= before.weight_bp:
            raise Unreadable(
                f"{after.weight_bp / 100:g} % does not come above {before.weight_bp / 100:g} %",
                "let each step be larger than the one before",
            )
    if rungs[-1].weight_bp >= BAKE_BP:
        raise Unreadable(
            f"the step of {rungs[-1].weight_bp / 100:g} % leaves stable too little to compare with",
            f"end below {BAKE_BP / 100:g} %; the bake and the promotion follow by themselves",
        )
    return rungs


def _step(text: str) -> Step:
    percent, at, dwell = text.partition("@")
    if not at:
        raise Unreadable(f"{shown(text)} has no duration", "write it like 5@2m")
    return Step(weight_bp=weight(percent), dwell_seconds=duration(dwell))


def latency(text: str) -> tuple[LatencyLimit, ...]:
    """Limits like `p99<500ms`, several divided by commas, each quantile once."""
    limits: list[LatencyLimit] = []
    for item in _items(text, MAX_ITEMS, "p99<500ms"):
        match = _LATENCY.fullmatch(item)
        if match is None or not 0 < float(match[1]) < 100:
            raise Unreadable(f"{shown(item)} is not a latency limit", "write it like p99<500ms")
        # Rounded, so that p99.9 is 0.999 and not 0.9990000000000001 in the journal.
        quantile = round(float(match[1]) / 100, 6)
        if any(limit.quantile == quantile for limit in limits):
            raise Unreadable(f"p{match[1]} stands there twice", "keep one limit per quantile")
        limits.append(LatencyLimit(quantile=quantile, seconds=duration(match[2])))
    return tuple(limits)


def count(text: str) -> int:
    """A whole number, 1 to 999,999,999."""
    word = text.strip()
    if not _WHOLE.fullmatch(word) or int(word) < 1:
        raise Unreadable(f"{shown(word)} is not a whole number above 0", "write it like 100")
    return int(word)


def flag(text: str) -> bool:
    """`true` or `false`; other words for it are refused, as Kubernetes does."""
    match text.strip():
        case "true":
            return True
        case "false":
            return False
        case other:
            raise Unreadable(f"{shown(other)} is neither true nor false", 'write "true" or "false"')


def name(text: str) -> str:
    """A name that is a DNS label: of a Service, a namespace, a provider."""
    word = text.strip()
    if not _NAME.fullmatch(word):
        raise Unreadable(
            f"{shown(word)} is not a name", "use lower-case letters, digits and dashes"
        )
    return word


def routes(text: str) -> tuple[RouteName, ...]:
    """Routes like `checkout` or `GRPCRoute/checkout`, several divided by commas."""
    return tuple(_route(item) for item in _items(text, MAX_ITEMS, "HTTPRoute/checkout"))


def metrics(text: str) -> tuple[str, ...]:
    """Names of metrics as their owners spell them, several divided by commas."""
    return tuple(_items(text, MAX_ITEMS, "s0-prometheus"))


def _route(text: str) -> RouteName:
    kind, slash, route = text.rpartition("/")
    kinds = {member.value: member for member in RouteKind}
    if slash and kind not in kinds:
        raise Unreadable(
            f"{shown(kind)} is no kind of route that can be weighed",
            f"write one of {', '.join(kinds)}",
        )
    if not _LONG_NAME.fullmatch(route):
        raise Unreadable(f"{shown(route)} is not a name", "write it like HTTPRoute/checkout")
    return RouteName(name=route, kind=kinds.get(kind))


def _items(text: str, most: int, example: str) -> Iterator[str]:
    items = [item.strip() for item in text.split(",")]
    if items == [""]:
        raise Unreadable("the value is empty", f"write it like {example}")
    if "" in items:
        raise Unreadable("there is a comma with nothing beside it", f"write it like {example}")
    if len(items) > most:
        raise Unreadable(f"{len(items)} entries are too many", f"write at most {most}")
    return iter(items)
