# SPDX-License-Identifier: Apache-2.0
"""A report of a backtest as one page: no script, nothing loaded, readable in ten years."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from controller.core import markup
from controller.core.backtest import words
from controller.core.markup import label, safe

WIDTH: Final = 720
ROW: Final = 26
LEFT: Final = 110
RIGHT: Final = 150
HEIGHT: Final = 260


def page(report: Mapping[str, Any]) -> str:
    """The whole page as HTML."""
    title = f"Backtest of {report['target']}"
    body = [
        f"<h1>{safe(title)}</h1>",
        markup.paragraph(f"{words.headline(report)}."),
        *(markup.paragraph(f"{one}.") for one in words.basis(report)),
        "<h2>False rollbacks</h2>",
        *map(markup.paragraph, words.false_rollbacks(report)),
    ]
    if report["nearest"]:
        body += [_evidence(report["nearest"])]
    body += ["<h2>Time to detect</h2>", _bars(report["detection"]), _table(report["detection"])]
    body += ["<h2>Time to promote</h2>"]
    body += map(markup.paragraph, words.promotions(report))
    notes = markup.items(words.notes(report))
    if notes:
        body += ["<h2>Notes</h2>", notes]
    return markup.page(title, body)


def _table(rows: Iterable[Mapping[str, Any]]) -> str:
    head = (
        "regression", "runs", "found", "median", "worst", "bad answers, median", "worst",
        "what became of the others",
    )  # fmt: skip
    lines = []
    for row in rows:
        times, cost = row["seconds"] or {}, row["bad_answers"] or {}
        lines.append(
            (
                row["regression"],
                row["runs"],
                row["found"],
                *(words.seconds(times[key]) if times else "" for key in ("median", "worst")),
                *(f"{cost[key]:.0f}" if cost else "" for key in ("median", "worst")),
                words.fate(row),
            )
        )
    return markup.table(head, lines)


def _bars(rows: Sequence[Mapping[str, Any]]) -> str:
    """Median (bar) and worst (line) by regression, on a logarithmic scale."""
    worst = max((row["seconds"]["worst"] for row in rows if row["seconds"]), default=10.0)
    scale = math.log10(max(worst, 10.0))
    room = WIDTH - LEFT - RIGHT

    def x(seconds: float) -> float:
        return LEFT + math.log10(max(seconds, 1.0)) / scale * room

    height = ROW * len(rows) + 10
    found = []
    for number, row in enumerate(rows):
        y = 5 + number * ROW
        found.append(label(LEFT - 8, y + 16, row["regression"], "end"))
        times = row["seconds"]
        if times is None:
            found.append(label(LEFT, y + 16, "not found", "start"))
            continue
        middle, last = x(times["median"]), x(times["worst"])
        found.append(
            f'<rect x="{LEFT}" y="{y + 4}" width="{max(middle - LEFT, 1):.1f}" height="16" '
            'fill="#9ecae1"/>'
            f'<line x1="{middle:.1f}" y1="{y + 12}" x2="{last:.1f}" y2="{y + 12}" '
            'stroke="#1f4e79"/>'
        )
        told = f"{words.seconds(times['median'])}, worst {words.seconds(times['worst'])}"
        found.append(label(last + 6, y + 16, told, "start"))
    return markup.svg(WIDTH, height, found)


def _evidence(nearest: Mapping[str, Any]) -> str:
    """The evidence over time of the healthy run that came nearest to a rollback."""
    levels = nearest["log10_evidence"]
    top, bottom = max(2.0, *levels) + 0.2, min(0.0, *levels) - 0.2
    room, height = WIDTH - LEFT - 20, HEIGHT - 50

    def y(level: float) -> float:
        return float(10 + (top - level) / (top - bottom) * height)

    step = room / max(len(levels), 1)
    line = " ".join(
        f"{LEFT + (place + 1) * step:.1f},{y(level):.1f}" for place, level in enumerate(levels)
    )
    seconds = len(levels) * nearest["gap_seconds"]
    limits = (
        (2.0, 'stroke="#c0392b" stroke-dasharray="4 4"', "rollback, 100 to 1"),
        (0.0, 'stroke="#888"', "1 to 1"),
    )
    found = []
    for level, stroke, name in limits:
        ends = f'x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(level):.1f}" y2="{y(level):.1f}"'
        found += [f"<line {ends} {stroke}/>", label(LEFT - 6, y(level) + 4, name, "end")]
    found += [
        f'<polyline points="{line}" fill="none" stroke="#1f4e79" stroke-width="2"/>',
        label(LEFT, HEIGHT - 20, "0 s", "start"),
        label(WIDTH - 20, HEIGHT - 20, words.seconds(seconds), "end"),
    ]
    pods = ", ".join(nearest["pods"])
    told = (
        f"The run that came nearest to a rollback: begun {nearest['at']}, {nearest['end']}; its "
        f"canary were at last {pods}. The evidence against it:"
    )
    return f"{markup.paragraph(told)}{markup.svg(WIDTH, HEIGHT, found)}"
