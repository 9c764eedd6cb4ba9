# SPDX-License-Identifier: Apache-2.0
"""User checks: PromQL that is written once, for no track, and asked of each.

A check is read into its measured side and what must hold of it. When it is asked, the matchers of a
track are put into every selector of the syntax tree, so that a team writes one query and needs no
placeholders in it.
"""

import functools
import math
import re
from collections.abc import Iterable, Iterator
from typing import Final

import promql_parser as ql

from controller.core.evidence.measures import Comparison
from controller.core.policy import keys, promql_rules, promql_text
from controller.core.policy.families import family
from controller.core.policy.grammar import shown
from controller.core.policy.model import Problem, UserCheck
from controller.core.policy.promql_rules import Fault

MAX_CHECKS: Final = 4
"""Each is two queries at every look of a run, and each leaves the others less to bet."""

MAX_TEXT: Final = 1024
"""Characters of a check. Longer ones are rules of their own, and nobody sees what they say."""

MAX_DEPTH: Final = 40
"""Expressions within each other. The trees of dashboards have a dozen."""

LEAST_WINDOW_SECONDS: Final = 15.0
"""A query without a range looks at the newest sample, which is as old as a scrape interval."""

_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,55}[a-z0-9])?")
"""With the prefix no longer than Kubernetes lets the name of an annotation be."""

_RAW: Final = re.compile(r"`[^`]*\\[^`]*`")
"""Prometheus takes a backslash there as it stands; the parser escapes with it."""

_FLIPPED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_HINT: Final = (
    "write it like sum(rate(orders_failed_total[1m])) / sum(rate(orders_total[1m])) < 0.05"
)


class _Refused(Exception):
    """No tree can be judged: what is wrong, as a fault."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.fault: Fault = (code, message, hint)


@functools.lru_cache(maxsize=1024)
def read(name: str, text: str) -> UserCheck | tuple[Problem, ...]:
    """The check of an annotation `check.<name>`, or everything that is wrong with it."""
    found = list(_named(name))
    whole: ql.Expr | None = None
    try:
        whole = _tree(text)
        measured, comparison, limit = _split(whole)
    except _Refused as refusal:
        found.append(refusal.fault)
        # What the expression does is told as well, whatever it is compared with.
        if whole is not None:
            found += _of_the_rest(whole)
    else:
        found += promql_rules.faults(measured)
        if not found:
            return UserCheck(
                name=name,
                text=text,
                expression=promql_text.written(measured),
                comparison=comparison,
                limit=limit,
                window_seconds=max(promql_rules.window(measured), LEAST_WINDOW_SECONDS),
            )
    return tuple(
        Problem(key=shown(keys.CHECK_PREFIX + name)[1:-1], code=code, message=message, hint=hint)
        for code, message, hint in found
    )


@functools.lru_cache(maxsize=1024)
def inject(expression: str, matchers: str, families: tuple[tuple[str, str], ...] = ()) -> str:
    """The expression with the matchers of a track in each of its selectors.

    Args:
        expression: The measured side of a check that was read.
        matchers: What stands in the braces of a selector for the track, like `pod=~"a|b"`.
        families: Prefixes of metric names that have matchers of their own, each with those.

    Raises:
        ValueError: It is no PromQL, so it was never read as a check.
    """

    def ours(metric: str) -> str:
        return next((text for prefix, text in families if metric.startswith(prefix)), matchers)

    return promql_text.written(ql.parse(expression), ours)


@functools.lru_cache(maxsize=1024)
def metrics(expression: str) -> tuple[str, ...]:
    """The names of the metrics that an expression reads, each once. Errors as `inject`."""
    return tuple(
        dict.fromkeys(map(promql_text.metric, promql_text.selectors(ql.parse(expression))))
    )


def reads_pods(checks: Iterable[UserCheck]) -> bool:
    """Whether some check reads what is told apart by pod."""
    return any(family(metric) is None for check in checks for metric in metrics(check.expression))


def _named(name: str) -> list[Fault]:
    if _NAME.fullmatch(name):
        return []
    message = f"{shown(name)} is not a name of a check"
    return [("CheckNameInvalid", message, "use at most 57 lower-case letters, digits and dashes")]


def _tree(text: str) -> ql.Expr:
    """The syntax tree of a text that is neither too long nor too deep."""
    if len(text) > MAX_TEXT:
        message = f"the query has {len(text)} characters"
        raise _Refused("CheckTooLong", message, f"write at most {MAX_TEXT}")
    if not text.strip():
        raise _Refused("CheckUnreadable", "the query is empty", _HINT)
    if _RAW.search(text):
        message = "a backslash in backquotes is read by the parser as by nobody else"
        hint = 'write such texts in double quotes, with each backslash twice: "\\\\d+"'
        raise _Refused("CheckUnreadable", message, hint)
    deep = _Refused(
        "CheckTooDeep", f"more than {MAX_DEPTH} expressions stand within each other", "write less"
    )
    try:
        expr = ql.parse(text)
    except RecursionError as error:
        raise deep from error
    except ValueError as error:
        said = shown(" ".join(str(error).split()))[1:-1]
        raise _Refused("CheckUnreadable", f"this is no PromQL: {said}", _HINT) from error
    if any(depth > MAX_DEPTH for _, depth in promql_text.nodes(expr)):
        raise deep
    return expr


def _split(whole: ql.Expr) -> tuple[ql.Expr, Comparison, float]:
    """What is measured, and what must hold of it."""
    expr = _bare(whole)
    if not isinstance(expr, ql.BinaryExpr):
        message = "it compares with nothing, so it never says what must hold"
        raise _Refused("CheckUnlimited", message, _HINT)
    op = str(expr.op)
    if op in promql_rules.SETS:
        message = f"`{op}` at the top makes it more than one condition"
        raise _Refused("CheckUnlimited", message, "write an annotation for each of them")
    if op not in promql_rules.COMPARISONS:
        message = "it compares with nothing, so it never says what must hold"
        raise _Refused("CheckUnlimited", message, _HINT)
    if op in ("==", "!="):
        message = f"`{op}` compares measured numbers to the last digit"
        raise _Refused("CheckEquality", message, "write <, <=, > or >=; none at all is <= 0")
    if expr.modifier is not None and expr.modifier.return_bool:
        message = "with `bool` it has a value whether it holds or not"
        raise _Refused("CheckBool", message, "leave `bool` out")
    left, right = _number(expr.lhs), _number(expr.rhs)
    limit = right if right is not None else left
    if limit is None:
        message = "it compares two measured values, of which neither is the limit"
        hint = "divide or subtract them and compare with a number, like A / B < 1.5"
        raise _Refused("CheckUnlimited", message, hint)
    if not math.isfinite(limit):
        message = "its limit is no finite number, so it holds always or never"
        raise _Refused("CheckLimitInvalid", message, "write a number like 0.05")
    if right is not None:
        return _bare(expr.lhs), Comparison(op), limit
    return _bare(expr.rhs), Comparison(_FLIPPED[op]), limit


def _of_the_rest(whole: ql.Expr) -> Iterator[Fault]:
    """What is wrong with the measured side of a check whose comparison cannot be used."""
    expr = _bare(whole)
    told = ""
    if isinstance(expr, ql.BinaryExpr):
        op = str(expr.op)
        if op in promql_rules.COMPARISONS:
            expr = expr.rhs if _number(expr.lhs) is not None else expr.lhs
        elif op in promql_rules.SETS:
            # That there are several conditions has been said.
            told = "CheckDropsSamples"
    yield from (fault for fault in promql_rules.faults(_bare(expr)) if fault[0] != told)


def _bare(expr: ql.Expr) -> ql.Expr:
    """Without parentheses around the whole."""
    while isinstance(expr, ql.ParenExpr):
        expr = expr.expr
    return expr


def _number(expr: ql.Expr) -> float | None:
    """The value of what is put together from numbers alone; NaN where that cannot be computed."""
    match expr:
        case ql.NumberLiteral():
            return expr.val
        case ql.ParenExpr():
            return _number(expr.expr)
        case ql.UnaryExpr():
            value = _number(expr.expr)
            return None if value is None else -value
        case ql.BinaryExpr():
            left, right = _number(expr.lhs), _number(expr.rhs)
            return None if left is None or right is None else _computed(str(expr.op), left, right)
        case _:
            return None


def _computed(op: str, left: float, right: float) -> float:
    try:
        match op:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right
            case "%":
                return math.fmod(left, right)
            case "^":
                power: float = math.pow(left, right)
                return power
            case _:
                return math.nan
    except (ArithmeticError, ValueError):
        return math.nan
