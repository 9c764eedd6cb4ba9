# SPDX-License-Identifier: Apache-2.0
"""The ways in which what is scraped may be wrong, while the version itself is in order."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from tests.metrics.shapes.exporter import POST, Down, Late, Line, Pod, Said, Spoil


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One way.

    Attributes:
        name: As people call it.
        spoil: What it does to one scrape.
        tracks: Whose scrapes.
        holds: In which phases nothing can be said while it lasts. In the others what is counted is
            right in spite of it, or was seen well enough before, and a PASS is earned.
        twice: Whether its pods are scraped by a second job besides.
        lasting: Phases of which the step may not recover; its deadline ends it then.
    """

    name: str
    spoil: Spoil
    tracks: tuple[str, ...] = ("canary",)
    holds: tuple[str, ...] = ("before", "mid", "bake")
    twice: bool = False
    lasting: tuple[str, ...] = ()


def each(change: Callable[[Line], Line | None]) -> Spoil:
    """The same done to each line; None leaves it out."""

    def spoil(_pod: Pod, lines: list[Line], _at: float, _number: int) -> Said:
        return [new for line in lines if (new := change(line)) is not None]

    return spoil


def stamped(offset: float, *, frozen: bool = False) -> Spoil:
    """With time stamps of the exposition's own, so many seconds from the truth."""

    def spoil(pod: Pod, lines: list[Line], at: float, _number: int) -> Said:
        stamp = (pod.born if frozen else at) + offset
        return [replace(line, stamp=stamp) for line in lines]

    return spoil


def _half(_pod: Pod, lines: list[Line], _at: float, number: int) -> Said:
    return Down() if number else lines


def _restarted(pod: Pod, _lines: list[Line], at: float, _number: int) -> Said:
    """A counter that begins anew every three seconds or so, as of a container in trouble."""
    if pod.served(at) > 3 * 100:
        pod.lost += pod.served(at)
    return pod.lines(at)


def _gauge(_pod: Pod, lines: list[Line], at: float, number: int) -> Said:
    """Requests under way instead of requests answered: it rises and falls."""
    value = float(round(40 + 30 * math.sin(at + number)))
    good = {"code": "200"}
    return [replace(line, value=value) if line.labels == good else line for line in lines]


def _turns(pod: Pod, _lines: list[Line], at: float, _number: int) -> Said:
    """Of four processes behind one port, of unequal age, each scrape meets another one."""
    mine = pod.served(at) / 4 + 4000 + 600 * (0, 2, 1, 3)[int(at) % 4]
    return replace(pod, lost=pod.lost + pod.served(at) - mine).lines(at)


def _late(seconds: float) -> Spoil:
    return lambda _pod, lines, _at, _number: Late(seconds, lines)


def _without(label: str) -> Callable[[Line], Line]:
    def change(line: Line) -> Line:
        return replace(line, labels={key: one for key, one in line.labels.items() if key != label})

    return change


def _named(line: Line) -> Line:
    return replace(line, name=line.name.replace("http_request", "app_request"))


def _milliseconds(line: Line) -> Line:
    bound = line.labels.get("le", "+Inf")
    if bound == "+Inf":
        return line
    return replace(line, labels={"le": str(float(bound) * 1000)})


def _only(keep: Callable[[str], bool]) -> Callable[[Line], Line | None]:
    """Of the histogram only the buckets with such bounds."""
    return lambda line: line if keep(line.labels.get("le", "")) or line.name == POST else None


def _counted(line: Line) -> Line | None:
    """Answers alone."""
    return line if line.name == POST else None


def _counts(change: Callable[[float], float]) -> Callable[[Line], Line]:
    return lambda line: replace(line, value=change(line.value)) if line.name == POST else line


def _down(_pod: Pod, _lines: list[Line], _at: float, _number: int) -> Said:
    return Down()


def _empty(_pod: Pod, _lines: list[Line], _at: float, _number: int) -> Said:
    return []


BOTH: Final = ("canary", "stable")

SHAPES: Final = (
    Shape(name="no series", spoil=_empty),
    Shape(name="canary not scraped", spoil=_down),
    Shape(name="stable not scraped", spoil=_down, tracks=("stable",)),
    Shape(name="neither scraped", spoil=_down, tracks=BOTH),
    Shape(name="half of the pods scraped", spoil=_half),
    Shape(name="half of stable's pods scraped", spoil=_half, tracks=("stable",)),
    Shape(name="not a number", spoil=each(lambda line: replace(line, value=math.nan))),
    Shape(name="infinite", spoil=each(lambda line: replace(line, value=math.inf))),
    Shape(name="negative", spoil=each(lambda line: replace(line, value=-line.value - 1))),
    Shape(name="counters restart", spoil=_restarted, holds=()),
    Shape(name="scraped by two jobs", spoil=each(lambda line: line), holds=(), twice=True),
    Shape(name="scrapes are slow", spoil=_late(0.5), holds=()),
    Shape(name="scrapes time out", spoil=_late(1.5)),
    Shape(name="stamps in the past", spoil=stamped(-120.0)),
    Shape(name="stamps in the future", spoil=stamped(+300.0), lasting=("before", "mid", "bake")),
    Shape(name="stamps that stand still", spoil=stamped(1.0, frozen=True)),
    Shape(name="bounds in milliseconds", spoil=each(_milliseconds)),
    Shape(name="buckets missing", spoil=each(_only(lambda bound: bound == "+Inf"))),
    Shape(name="stable's buckets missing", spoil=each(_counted), tracks=("stable",)),
    Shape(name="no histogram", spoil=each(_counted), tracks=BOTH),
    Shape(name="no +Inf", spoil=each(_only(lambda bound: bound not in ("", "+Inf")))),
    Shape(name="no bounds", spoil=each(_without("le"))),
    Shape(name="no codes", spoil=each(_without("code"))),
    Shape(name="metrics renamed", spoil=each(_named)),
    Shape(name="a gauge", spoil=_gauge),
    Shape(name="a gauge of stable", spoil=_gauge, tracks=("stable",)),
    Shape(name="processes take turns", spoil=_turns),
    Shape(name="fractions", spoil=each(_counts(lambda value: value + 0.4)), holds=()),
)
