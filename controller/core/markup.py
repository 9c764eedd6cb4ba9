# SPDX-License-Identifier: Apache-2.0
"""Pages and pictures as text: no script, nothing loaded, every word escaped."""

import html
from collections.abc import Iterable, Sequence
from typing import Final

_STYLE: Final = (
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em .2em 0;text-align:left;"
    "border-bottom:1px solid #ddd;vertical-align:top}td:not(:last-child){white-space:nowrap}"
    "td:last-child{overflow-wrap:anywhere;min-width:15em}svg{max-width:100%;height:auto}"
)
"""What is long stands in the last column of a table."""


def safe(text: object) -> str:
    """The text as it may stand in an element or attribute."""
    return html.escape(str(text))


def page(title: str, body: Iterable[str]) -> str:
    """A whole page of HTML that needs nothing else; `body` is markup, the title is not."""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{safe(title)}</title><style>{_STYLE}</style></head><body>",
            *body,
            "</body></html>",
            "",
        ]
    )


def paragraph(text: object) -> str:
    """A paragraph of this text."""
    return f"<p>{safe(text)}</p>"


def items(texts: Iterable[object]) -> str:
    """A list of these texts; nothing if there are none."""
    found = "".join(f"<li>{safe(text)}</li>" for text in texts)
    return f"<ul>{found}</ul>" if found else ""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with one line of headings."""
    lines = ["".join(f"<th>{safe(name)}</th>" for name in head)]
    lines += ["".join(f"<td>{safe(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def svg(width: int, height: int, parts: Iterable[str]) -> str:
    """A picture of these elements, in a page or in a file of its own."""
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" '
        f'font-size="12" role="img">{"".join(parts)}</svg>'
    )


def label(x: float, y: float, text: str, anchor: str, look: str = "") -> str:
    """Words in a picture; `anchor` is start, middle or end, `look` more attributes."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place}{look and ' ' + look}>{safe(text)}</text>"
