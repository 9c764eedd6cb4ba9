# SPDX-License-Identifier: Apache-2.0
"""A run as a picture: how much worse the new version was, and how sure that is, as SVG.

Drawn from the verdicts in the journal alone, so that it can be had of any run that is kept, and
says the same whoever draws it.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

WIDTH: Final = 720
HEIGHT: Final = 300
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 46
CLIPPED: Final = 4.0
"""So many margins are shown beyond 0 at most; an interval that is wider goes on outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One verdict: shares of failed answers, as differences from stable's.

    Attributes:
        at: Seconds since the epoch.
        difference: As counted at the weight of that time.
        least: What it is at least.
        most: What it is at most.
        margin: What a promotion must have ruled out.
        outcome: `pass`, `hold` or `fail`.
    """

    at: float
    difference: float
    least: float
    most: float
    margin: float
    outcome: str


def points(records: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The verdicts of a journal, oldest first, without those that lack one version's requests."""
    found = []
    for record in records:
        verdict = record["body"].get("verdict") if record.get("kind") == "decision" else None
        if not verdict or "difference" not in verdict:
            continue
        canary, stable = verdict["canary"], verdict["stable"]
        if not canary["requests"] or not stable["requests"]:
            continue
        told = verdict["difference"]
        found.append(
            Point(
                at=datetime.fromisoformat(str(record["at"])).timestamp(),
                difference=canary["errors"] / canary["requests"]
                - stable["errors"] / stable["requests"],
                least=float(told["at_least"]),
                most=float(told["at_most"]),
                margin=float(told["margin"]),
                outcome=str(verdict["outcome"]),
            )
        )
    return found


def svg(title: str, verdicts: Sequence[Point]) -> str:
    """The picture; of no verdict at all it is one that says so."""
    body = (
        _plot(verdicts) if verdicts else [_text(WIDTH / 2, HEIGHT / 2, "no verdict yet", "middle")]
    )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 20, title, "start"),
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _plot(verdicts: Sequence[Point]) -> list[str]:
    margin = max(point.margin for point in verdicts)
    highest = max([margin, *(point.difference for point in verdicts)])
    top = min(max([highest, *(point.most for point in verdicts)]), max(CLIPPED * margin, highest))
    bottom = max(
        min([0.0, *(point.least for point in verdicts)]),
        min([-margin, *(point.difference for point in verdicts)]),
    )
    begin, end = verdicts[0].at, verdicts[-1].at
    span, height = max(end - begin, 1.0), max(top - bottom, 1e-6)

    def x(at: float) -> float:
        return LEFT + (at - begin) / span * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        kept = min(max(share, bottom), top)
        return TOP + (top - kept) / height * (HEIGHT - TOP - BOTTOM)

    # A single verdict is drawn as wide as the picture, or nothing could be seen of it.
    drawn = [(x(point.at), point) for point in verdicts]
    if len(drawn) == 1:
        drawn.append((float(WIDTH - RIGHT), verdicts[0]))
    upper = [f"{at:.1f},{y(point.most):.1f}" for at, point in drawn]
    lower = [f"{at:.1f},{y(point.least):.1f}" for at, point in reversed(drawn)]
    line = " ".join(f"{at:.1f},{y(point.difference):.1f}" for at, point in drawn)
    found = [
        f'<polygon points="{" ".join(upper + lower)}" fill="#9ecae1" fill-opacity="0.5"/>',
        _level(y(0), 'stroke="#888"'),
        _level(y(margin), 'stroke="#c0392b" stroke-dasharray="4 4"'),
        f'<polyline points="{line}" fill="none" stroke="#1f4e79" stroke-width="2"/>',
    ]
    found += [
        f'<circle cx="{x(point.at):.1f}" cy="{y(point.difference):.1f}" r="3" '
        f'fill="{"#c0392b" if point.outcome == "fail" else "#1f4e79"}"/>'
        for point in verdicts
    ]
    # Labels that would lie upon each other are left out but for the first.
    placed: list[float] = []
    for share in (0.0, margin, top, bottom):
        if all(abs(y(share) - other) >= 14 for other in placed):
            placed.append(y(share))
            found.append(_text(LEFT - 6, y(share) + 4, f"{100 * share:+.2f} %", "end"))
    found.append(_text(LEFT, HEIGHT - 24, "0 s", "start"))
    found.append(_text(WIDTH - RIGHT, HEIGHT - 24, f"{end - begin:.0f} s", "end"))
    words = (
        "more failed answers than stable (line), with 95 % certainty (shade); dotted: the margin"
    )
    found.append(_text(LEFT, HEIGHT - 8, words, "start"))
    return found


def _level(y: float, stroke: str) -> str:
    return f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" {stroke}/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(words)}</text>'
