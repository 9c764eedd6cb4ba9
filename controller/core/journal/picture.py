# SPDX-License-Identifier: Apache-2.0
"""A run as a picture: how much worse the new version was, how sure that is, and the limit, as SVG.

Everything that is drawn has its name beside it, since whoever looks at it at night reads no legend.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controller.core import markup
from controller.core.evidence.judge import Outcome
from controller.core.journal.course import Course, between, in_points
from controller.core.markup import label

WIDTH: Final = 920
HEIGHT: Final = 344
LEFT, RIGHT, TOP, BOTTOM = 64, 600, 62, 300
"""The frame of the plot; names stand on the right of it."""

CLIPPED: Final = 3.0
"""An interval is drawn up to so many times of what else there is; a wider one goes on outside."""

LEAST: Final = 0.02
"""So far it is always drawn, or nothing but shade would be seen where nothing differs."""

LONGEST: Final = 110
"""So many characters of a title fit."""

LEADING: Final = 15
"""Between two lines of text."""

NEW, BAD, LIMIT, GOOD, STABLE = "#1f4e79", "#c0392b", "#c0392b", "#2e7d32", "#777"

STEPS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200)
"""Distances of the marks of time, in seconds; days from there on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Where in the picture a time and a difference lie."""

    begin: float
    end: float
    bottom: float
    top: float

    def x(self, at: float) -> float:
        return LEFT + (at - self.begin) / (self.end - self.begin) * (RIGHT - LEFT)

    def y(self, share: float) -> float:
        """Kept within the frame."""
        kept = min(max(share, self.bottom), self.top)
        return TOP + (self.top - kept) / (self.top - self.bottom) * (BOTTOM - TOP)


def svg(title: str, how: str, course: Course | None) -> str:
    """The picture; without a verdict it is one that says so.

    Args:
        title: Of which run.
        how: Which check made the last verdict what it is.
        course: What is drawn.
    """
    title = title if len(title) <= LONGEST else title[: LONGEST - 1] + "…"
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        label(16, 24, title, "start", 'font-size="15" font-weight="bold"'),
    ]
    if course is None:
        parts.append(label(WIDTH / 2, HEIGHT / 2, "no verdict with requests yet", "middle"))
    else:
        what = f"{course.what}, in percentage points more than stable"
        parts += [label(16, 46, f"{what}; {how}", "start"), *_plot(course)]
    return markup.svg(WIDTH, HEIGHT, parts) + "\n"


def _plot(course: Course) -> list[str]:
    frame = _frame(course)
    points = course.points
    drawn = [(frame.x(point.at), place) for place, point in enumerate(points)]
    if len(drawn) == 1:
        # A single verdict is drawn as wide as the picture, or nothing could be seen of it.
        drawn = [(float(LEFT), 0), (float(RIGHT), 0)]

    def path(shares: Sequence[float]) -> list[str]:
        return [f"{x:.1f},{frame.y(shares[place]):.1f}" for x, place in drawn]

    found = _scales(frame, points[-1].at - points[0].at)
    sure = [(x, points[place]) for x, place in drawn if between(points[place])]
    if sure:
        upper = [f"{x:.1f},{frame.y(one.most):.1f}" for x, one in sure]
        lower = [f"{x:.1f},{frame.y(one.least):.1f}" for x, one in sure[::-1]]
        shade = 'fill="#9ecae1" fill-opacity="0.5"'
        found.append(f'<polygon points="{" ".join(upper + lower)}" {shade}/>')
    found.append(_curve(path([0.0] * len(points)), f'stroke="{STABLE}"'))
    for line in course.lines:
        dots = "1.5 5" if line.limit else "9 5"
        stroke = f'stroke="{LIMIT if line.limit else GOOD}" stroke-width="2"'
        look = f'{stroke} stroke-linecap="round" stroke-dasharray="{dots}"'
        found.append(_curve(path(line.shares), look))
    found.append(
        _curve(path([one.difference for one in points]), f'stroke="{NEW}" stroke-width="2"')
    )
    for point in points:
        bad = course.decides and point.outcome == Outcome.FAIL.value
        colour = BAD if bad else NEW
        place = f'cx="{frame.x(point.at):.1f}" cy="{frame.y(point.difference):.1f}"'
        found.append(f'<circle {place} r="4" fill="{colour}"/>')
    return [*found, *_names(course, frame)]


def _frame(course: Course) -> _Frame:
    """All that was counted and all lines are in it, of an interval what is not too wide."""
    points = course.points
    shares = [0.0, *(one.difference for one in points)]
    for line in course.lines:
        shares += line.shares
    low, high = min(shares), max(shares)
    room = max(CLIPPED * (high - low), LEAST)
    sure = [one for one in points if between(one)]
    top = min(max([high, *(one.most for one in sure)]), high + room)
    bottom = max(min([low, *(one.least for one in sure)]), low - room)
    spare = max(0.06 * (top - bottom), 1e-5)
    begin, end = points[0].at, points[-1].at
    return _Frame(begin=begin, end=max(end, begin + 1.0), bottom=bottom - spare, top=top + spare)


def _scales(frame: _Frame, span: float) -> list[str]:
    """Marks of difference on the left, and below those of so many seconds."""
    size = f'width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"'
    found = [f'<rect x="{LEFT}" y="{TOP}" {size} fill="none" stroke="#ccc"/>']
    step = _round(100 * (frame.top - frame.bottom) / 6)
    digits = max(-math.floor(math.log10(step)), 0)
    for number in range(
        math.ceil(100 * frame.bottom / step), math.floor(100 * frame.top / step) + 1
    ):
        y = frame.y(number * step / 100)
        found.append(_curve([f"{LEFT},{y:.1f}", f"{RIGHT},{y:.1f}"], 'stroke="#eee"'))
        words = f"{number * step:+.{digits}f}" if number else "0"
        found.append(label(LEFT - 8, y + 4, words, "end"))
    pace = next((pace for pace in STEPS if span / pace <= 6), 86400.0 * math.ceil(span / 6 / 86400))
    for number in range(math.floor(span / pace) + 1):
        x = frame.x(frame.begin + number * pace)
        found.append(_curve([f"{x:.1f},{BOTTOM}", f"{x:.1f},{BOTTOM + 5}"], 'stroke="#999"'))
        found.append(label(x, BOTTOM + 20, _span(number * pace, pace), "middle"))
    found.append(label((LEFT + RIGHT) / 2, BOTTOM + 38, "time since the first verdict", "middle"))
    return found


def _round(step: float) -> float:
    """The next of 1, 2, 5, 10 ..."""
    unit = 10.0 ** math.floor(math.log10(step))
    return next(times * unit for times in (1, 2, 5, 10) if times * unit >= step * (1 - 1e-9))


def _span(seconds: float, pace: float) -> str:
    if pace < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if pace < 3600 else f"{seconds / 3600:g} h"


def _names(course: Course, frame: _Frame) -> list[str]:
    """What each line is, beside its end; names that would lie upon each other move apart."""
    last = course.points[-1]
    interval = between(last)
    sure = f"{interval} ({100 * course.sure:.4g} % sure)" if interval else "nothing ruled out yet"
    wanted = [
        (frame.y(last.difference), NEW, [f"new version {in_points(last.difference)}", sure]),
        (frame.y(0.0), STABLE, ["as stable"]),
    ]
    for line in course.lines:
        share = line.shares[-1]
        wanted.append(
            (frame.y(share), LIMIT if line.limit else GOOD, [f"{line.words} ({in_points(share)})"])
        )
    wanted.sort(key=lambda name: name[0])
    found, places = [], _apart([(y, len(words)) for y, _, words in wanted])
    for (y, colour, words), place in zip(wanted, places, strict=True):
        found.append(
            _curve([f"{RIGHT + 2},{y:.1f}", f"{RIGHT + 12},{place:.1f}"], f'stroke="{colour}"')
        )
        for number, text in enumerate(words):
            weight = ' font-weight="bold"' if len(words) > 1 and not number else ""
            look = f'fill="{colour}"{weight}'
            found.append(label(RIGHT + 16, place + 4 + LEADING * number, text, "start", look))
    return found


def _apart(wanted: Sequence[tuple[float, int]]) -> list[float]:
    """Heights for texts of so many lines, in this order, near to where they are wanted."""
    places: list[float] = []
    least = -math.inf
    for y, lines in wanted:
        places.append(max(y, least))
        least = places[-1] + LEADING * lines + 2
    most = float(BOTTOM)
    for place in reversed(range(len(places))):
        most -= LEADING * (wanted[place][1] - 1)
        places[place] = min(places[place], most)
        most = places[place] - LEADING - 2
    return places


def _curve(path: Sequence[str], look: str) -> str:
    return f'<polyline points="{" ".join(path)}" fill="none" {look}/>'
