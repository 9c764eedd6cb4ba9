# SPDX-License-Identifier: Apache-2.0
"""A syntax tree as PromQL, with matchers of our own in every selector.

The parser can print its trees too, but what it prints is not always what it read: it leaves strings
unescaped, drops the colon of a subquery without a step and the milliseconds of a duration. A query
that was changed on the way would judge by something that nobody wrote.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterator
from typing import Final

import promql_parser as ql

Matchers = Callable[[str], str]
"""What is to be put into the braces of a selector, by the name of its metric; empty for nothing."""

_PLAIN: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
# The parser's enums cannot be hashed.
_OPERATORS: Final = (
    (ql.MatchOp.Equal, "="),
    (ql.MatchOp.NotEqual, "!="),
    (ql.MatchOp.Re, "=~"),
    (ql.MatchOp.NotRe, "!~"),
)
_SIDES: Final = (
    (ql.VectorMatchCardinality.ManyToOne, " group_left"),
    (ql.VectorMatchCardinality.OneToMany, " group_right"),
)


def nodes(expr: ql.Expr) -> Iterator[tuple[ql.Expr, int]]:
    """Every node of a tree as it stands there, each with how deep it lies; the root lies at 1.

    The parser has a walk of its own, which takes minutes for what a few hundred signs can nest.
    """
    left = [(expr, 1)]
    while left:
        node, depth = left.pop()
        yield node, depth
        left.extend((part, depth + 1) for part in reversed(parts(node)))


def parts(expr: ql.Expr) -> tuple[ql.Expr, ...]:
    """The expressions that stand right within another."""
    match expr:
        case ql.BinaryExpr():
            return (expr.lhs, expr.rhs)
        case ql.AggregateExpr():
            given = (expr.param,) if isinstance(expr.param, ql.Expr) else ()
            return (*given, expr.expr)
        case ql.Call():
            return tuple(expr.args)
        case ql.ParenExpr() | ql.UnaryExpr() | ql.SubqueryExpr():
            return (expr.expr,)
        case ql.MatrixSelector():
            return (expr.vector_selector,)
        case _:
            return ()


def selectors(expr: ql.Expr) -> tuple[ql.VectorSelector, ...]:
    """Every selector of a tree, in the order in which they stand there."""
    return tuple(node for node, _ in nodes(expr) if isinstance(node, ql.VectorSelector))


def metric(selector: ql.VectorSelector) -> str:
    """The name of the metric that a selector asks for; empty if it names none in so many words."""
    if selector.name:
        return selector.name
    named = (one for one in selector.matchers.matchers if one.name == "__name__")
    return next((one.value for one in named if one.op == ql.MatchOp.Equal), "")


def written(expr: ql.Expr, matchers: Matchers = lambda _: "") -> str:
    """The tree as text.

    Raises:
        TypeError: It has a node that PromQL did not have when this was written.
    """

    def inner(part: ql.Expr) -> str:
        return written(part, matchers)

    match expr:
        case ql.ParenExpr():
            return f"({inner(expr.expr)})"
        case ql.UnaryExpr():
            return f"-{inner(expr.expr)}"
        case ql.Call():
            return f"{expr.func.name}({', '.join(inner(part) for part in expr.args)})"
        case ql.AggregateExpr():
            given = [inner(expr.param)] if expr.param is not None else []
            return f"{expr.op}{_grouping(expr)}({', '.join([*given, inner(expr.expr)])})"
        case ql.BinaryExpr():
            return f"{inner(expr.lhs)} {expr.op}{_matching(expr)} {inner(expr.rhs)}"
        case ql.SubqueryExpr():
            return f"{inner(expr.expr)}[{_duration(expr.range)}:{_duration(expr.step)}]"
        case _:
            return _leaf(expr, matchers)


def _leaf(expr: ql.Expr, matchers: Matchers) -> str:
    """What has no expression within."""
    match expr:
        case ql.VectorSelector():
            return _selector(expr, matchers)
        case ql.MatrixSelector():
            return _selector(expr.vector_selector, matchers, f"[{_duration(expr.range)}]")
        case ql.NumberLiteral():
            return number(expr.val)
        case ql.StringLiteral():
            return _quoted(expr.val)
        case _:
            raise TypeError(f"{type(expr).__name__} is a part of PromQL that is not known")


def number(value: float) -> str:
    """A number as PromQL has it: `0.05`, `100`, `+Inf`."""
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value).removesuffix(".0")


def _selector(selector: ql.VectorSelector, matchers: Matchers, span: str = "") -> str:
    """Name, matchers, ours after them, and range. Nothing shifted in time comes this far."""
    parts = [_matcher(one) for one in selector.matchers.matchers]
    ours = matchers(metric(selector))
    if ours:
        parts.append(ours)
    name = selector.name or ""
    if name and not _METRIC.fullmatch(name):
        parts.insert(0, f"__name__={_quoted(name)}")
        name = ""
    braces = f"{{{','.join(parts)}}}" if parts or not name else ""
    return f"{name}{braces}{span}"


def _matcher(one: ql.Matcher) -> str:
    operator = next(text for op, text in _OPERATORS if op == one.op)
    return f"{_label(one.name)}{operator}{_quoted(one.value)}"


def _label(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    """A string in double quotes; what would end it or the line is escaped as Go does."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(_printable(letter) for letter in plain)}"'


def _printable(letter: str) -> str:
    if letter == "\n":
        return "\\n"
    return letter if letter >= " " else f"\\x{ord(letter):02x}"


def _duration(length: dt.timedelta | None) -> str:
    """A length of time; empty where a subquery leaves its step to the store."""
    if length is None:
        return ""
    left = round(length.total_seconds() * 1000)
    text = ""
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _grouping(expr: ql.AggregateExpr) -> str:
    if expr.modifier is None:
        return ""
    word = "by" if expr.modifier.type == ql.AggModifierType.By else "without"
    return f" {word} ({_labels(expr.modifier.labels)}) "


def _matching(expr: ql.BinaryExpr) -> str:
    """What stands between an operator and its right side."""
    modifier = expr.modifier
    if modifier is None:
        return ""
    text = " bool" if modifier.return_bool else ""
    if modifier.matching is not None:
        include = modifier.matching.type == ql.LabelModifierType.Include
        text += f" {'on' if include else 'ignoring'} ({_labels(modifier.matching.labels)})"
    for card, word in _SIDES:
        if modifier.card == card:
            text += f"{word} ({_labels(modifier.group_labels or [])})"
    return text + _filled(modifier.fill_values)


def _filled(fill: ql.VectorMatchFillValues) -> str:
    text = f" fill_left ({number(fill.lhs)})" if fill.lhs is not None else ""
    return text + (f" fill_right ({number(fill.rhs)})" if fill.rhs is not None else "")


def _labels(names: list[str]) -> str:
    return ", ".join(_label(name) for name in names)
