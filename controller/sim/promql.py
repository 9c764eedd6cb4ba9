# SPDX-License-Identifier: Apache-2.0
"""The part of PromQL that selects series: a name, matchers, a range, an offset."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

_NAME = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?\s*")
_MATCHER = re.compile(r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*")
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`")
_TAIL = re.compile(
    r"\s*(?:\[\s*([0-9a-z]+)\s*(?::\s*([0-9a-z]+)\s*)?\])?\s*(?:offset\s+([0-9a-z]+))?\s*$"
)
_DURATION = re.compile(r"(?:(\d+)(ms|[smhdwy]))")
_UNITS = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
    "w": 604_800.0,
    "y": 31_536_000.0,
}


class QueryError(ValueError):
    """A query that is malformed, or more than a plain selector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """One condition on a label; regular expressions are anchored at both ends."""

    name: str
    operator: str
    value: str
    pattern: re.Pattern[str] | None

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Tell whether ``labels`` satisfy it; an absent label counts as empty."""
        have = labels.get(self.name, "")
        if self.pattern is None:
            return (have == self.value) is (self.operator == "=")
        return (self.pattern.fullmatch(have) is not None) is (self.operator == "=~")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """A parsed query, times in seconds; ``window`` is None for an instant vector, and ``step`` for
    all but a subquery.
    """

    matchers: tuple[Matcher, ...]
    window: float | None
    offset: float
    step: float | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a series is selected."""
        return all(matcher.accepts(labels) for matcher in self.matchers)


@lru_cache(maxsize=256)
def parse(text: str) -> Selector:
    """Parse a plain selector.  Raises :class:`QueryError` for anything else."""
    if not text.strip():
        raise QueryError("unknown position: parse error: no expression found in input")
    head = _NAME.match(text)
    name = head.group(1) if head else None
    at = head.end() if head else 0
    matchers: list[Matcher] = []
    if name:
        matchers.append(Matcher(name="__name__", operator="=", value=name, pattern=None))
    if text[at : at + 1] == "{":
        at = _matchers(text, at + 1, matchers)
    if not any(matcher.value for matcher in matchers):
        raise QueryError(
            "1:1: parse error: vector selector must contain at least one non-empty matcher"
        )
    tail = _TAIL.match(text, at)
    if tail is None:
        raise QueryError(f"1:{at + 1}: parse error: only plain selectors are understood here")
    window, step, offset = tail.group(1), tail.group(2), tail.group(3)
    return Selector(
        matchers=tuple(matchers),
        window=duration(window) if window else None,
        offset=duration(offset) if offset else 0.0,
        step=duration(step) if step else None,
    )


def _matchers(text: str, at: int, found: list[Matcher]) -> int:
    """Read matchers up to the closing brace and return the place after it."""
    while True:
        rest = re.compile(r"\s*").match(text, at)
        at = rest.end() if rest else at
        if text[at : at + 1] == "}":
            return at + 1
        head = _MATCHER.match(text, at)
        literal = _STRING.match(text, head.end()) if head else None
        if head is None or literal is None:
            raise QueryError(f"1:{at + 1}: parse error: unexpected character inside braces")
        found.append(_matcher(head.group(1), head.group(2), _unquoted(literal.group())))
        at = literal.end()
        comma = re.compile(r"\s*(,)?").match(text, at)
        at = comma.end() if comma else at
        if (comma is None or not comma.group(1)) and text[at : at + 1] != "}":
            raise QueryError(f'1:{at + 1}: parse error: unexpected input, expected "," or "}}"')


def _matcher(name: str, operator: str, value: str) -> Matcher:
    pattern = None
    if operator in {"=~", "!~"}:
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise QueryError(f"1:1: parse error: error parsing regexp: {error}") from error
    return Matcher(name=name, operator=operator, value=value, pattern=pattern)


def _unquoted(literal: str) -> str:
    if literal[0] == "`":
        return literal[1:-1]
    inner = literal[1:-1].replace("\\'", "'")
    if literal[0] == "'":
        inner = inner.replace('"', '\\"')
    try:
        return str(json.loads(f'"{inner}"'))
    except ValueError as error:
        raise QueryError(f"1:1: parse error: invalid string literal {literal}") from error


def duration(text: str) -> float:
    """A PromQL duration such as ``1m30s`` in seconds.  Raises :class:`QueryError`."""
    parts = _DURATION.findall(text)
    if not parts or "".join(count + unit for count, unit in parts) != text:
        raise QueryError(f'1:1: parse error: not a valid duration string: "{text}"')
    return sum(int(count) * _UNITS[unit] for count, unit in parts)
