# SPDX-License-Identifier: Apache-2.0
"""Queries as people write them: read or refused, and asked of one track alone."""

import itertools
import math
from pathlib import Path

import promql_parser as ql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.evidence.measures import Comparison
from controller.core.policy import promql, promql_text
from controller.core.policy.model import Problem, UserCheck

TEXT = (Path(__file__).parent / "queries.txt").read_text(encoding="utf-8")
LINES = TEXT.splitlines()
REAL = {*TEXT.partition("\n# --- forms\n")[0].splitlines()}
"""What people ask of things that exist; below it are forms of the language, which nobody asks."""

ROWS = list(itertools.pairwise(line for line in LINES if line and not line.startswith("#")))
TAKEN = [(query, told[4:]) for query, told in ROWS if told.startswith("  = ")]
REFUSED = [(query, set(told[4:].split())) for query, told in ROWS if told.startswith("  ! ")]
TAKEN += [("sum(x) # what waits\n < 3", 'sum(x{pod=~"x"})')]
REFUSED += [
    ("", {"CheckUnreadable"}),
    (f"sum({'x' * 1100}) < 1", {"CheckTooLong"}),
    ("(" * 60 + "sum(a)" + ")" * 60 + " < 1", {"CheckTooDeep"}),
    ("-" * 400 + "sum(a) < 1", {"CheckTooDeep"}),
    ("-" * 900 + "sum(a) < 1", {"CheckTooDeep"}),
    ("+".join(["sum(a)"] * 120) + " < 1", {"CheckTooDeep"}),
]

PODS = 'pod=~"x"'
FAMILIES = (("traefik_service_", 'service=~"y"'),)


def read(text: str) -> UserCheck:
    found = promql.read("orders", text)
    assert isinstance(found, UserCheck), found
    return found


def matchers(selector: ql.VectorSelector) -> list[str]:
    return [str(one) for one in selector.matchers.matchers]


def shape(expr: ql.Expr, ours: tuple[str, ...] = ()) -> object:
    """A tree as plain values, without the matchers that are `ours`."""
    found: list[object] = []

    def visit(node: ql.Expr) -> None:
        match node:
            case ql.VectorSelector():
                left = [text for text in matchers(node) if text not in ours]
                found.append((promql_text.metric(node), sorted(left)))
            case ql.MatrixSelector():
                found.append(node.range)
            case ql.SubqueryExpr():
                found.append((node.range, node.step))
            case ql.NumberLiteral() | ql.StringLiteral():
                found.append(str(node.val))
            case ql.Call():
                found.append((node.func.name, len(node.args)))
            case ql.AggregateExpr():
                kept = node.modifier
                found.append((str(node.op), kept and (str(kept.type), kept.labels)))
            case ql.BinaryExpr():
                on = node.modifier and node.modifier.matching
                card = node.modifier and str(node.modifier.card)
                found.append((str(node.op), card, on and (str(on.type), on.labels)))
            case _:
                found.append(type(node).__name__)

    ql.walk(expr, visit, lambda _: found.append("up"))
    return found


@pytest.mark.parametrize(("text", "injected"), TAKEN)
def test_what_is_taken_is_asked_of_the_track_alone(text: str, injected: str) -> None:
    check = read(text)
    assert check.text == text
    asked = promql.inject(check.expression, PODS, FAMILIES)
    assert asked == injected
    for selector in promql_text.selectors(ql.parse(asked)):
        ours = (
            FAMILIES[0] if promql_text.metric(selector).startswith(FAMILIES[0][0]) else ("", PODS)
        )
        assert ours[1] in matchers(selector)
    # But for the matchers it is the tree that was written.
    whole = ql.parse(text)
    while isinstance(whole, ql.ParenExpr):
        whole = whole.expr
    assert isinstance(whole, ql.BinaryExpr)
    sides = [
        shape(side.expr if isinstance(side, ql.ParenExpr) else side)
        for side in (whole.lhs, whole.rhs)
    ]
    assert shape(ql.parse(asked), (PODS, FAMILIES[0][1])) in sides


@pytest.mark.parametrize(("text", "codes"), REFUSED)
def test_what_is_refused_says_why_and_what_to_do(text: str, codes: set[str]) -> None:
    found = promql.read("orders", text)
    assert isinstance(found, tuple)
    assert {problem.code for problem in found} == codes
    assert all(problem.message and problem.hint for problem in found)
    assert all(problem.key == "check.orders" and len(str(problem)) < 400 for problem in found)


def test_the_table_is_long() -> None:
    real = {query for query, _ in TAKEN} & REAL
    assert len(real) > 60
    assert len(TAKEN) - len(real) > 20
    # Each is about metrics that something exposes, by whose names one can find it.
    for query in real:
        names = [promql_text.metric(one) for one in promql_text.selectors(ql.parse(query))]
        assert all(name == "up" or "_" in name for name in names), names
    assert len(REFUSED) > 50


def test_the_number_stands_on_the_right() -> None:
    check = read("2 * 0.25 >= sum(a)")
    assert (check.comparison, check.limit) == (Comparison.AT_MOST, 0.5)
    assert [check.holds(value) for value in (0.4, 0.5, 0.6, math.nan)] == [True, True, False, False]
    assert read("-1 < sum(a)").comparison is Comparison.ABOVE
    assert read("sum(a) >= -(3)").limit == -3
    assert not read("sum(a) < 5").holds(5)
    assert read("sum(a) >= 5").holds(5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("sum(a) < 1", 15),
        ("sum(rate(a[5s])) < 1", 15),
        ("sum(rate(a[1m])) / sum(rate(b[5m])) < 1", 300),
        ("max_over_time(sum(rate(a[1m]))[5m:15s]) < 1", 360),
    ],
)
def test_the_window_is_the_longest_reach(text: str, seconds: float) -> None:
    assert read(text).window_seconds == seconds


@pytest.mark.parametrize("name", ["", "A", "a b", "a/b", "-a", "a" * 58, "a.b"])
def test_a_name_that_is_none_is_told_beside_the_rest(name: str) -> None:
    found = promql.read(name, "a < 1")
    assert isinstance(found, tuple)
    assert [problem.code for problem in found] == ["CheckNameInvalid", "CheckManySeries"]
    assert isinstance(promql.read("a" * 57, "sum(a) < 1"), UserCheck)


def test_the_metrics_that_are_read() -> None:
    assert promql.metrics('sum(a{b="c"}) / (sum(rate(b[1m])) + sum(a))') == ("a", "b")


_PIECES = st.sampled_from(
    [
        "sum", "rate", "by", "(le)", "on", "(", ")", "[1m]", "[5m:]", "{", "}", 'a="b"', "x", "y:z",
        "vector", "absent", "<", ">", "==", "bool", "or", "and", "/", "-", "1", "0.5", "Inf", "NaN",
        "offset 1m", "@ end()", "histogram_quantile", ",", "le", "`", "'", '"', "\\",
        "é", "#", "\n",
    ]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=14).map(" ".join)))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    found = promql.read("orders", text)
    if isinstance(found, UserCheck):
        assert math.isfinite(found.limit)
        assert promql.inject(found.expression, PODS)
    else:
        assert found
        assert all(isinstance(problem, Problem) for problem in found)


_VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
_SELECTORS = st.builds(
    lambda name, label, value, op: f"{name}{{{label}{op}{promql_text._quoted(value)}}}",
    st.sampled_from(["a", "orders_total", "x9"]),
    st.sampled_from(["code", "route", '"my.label"']),
    _VALUES,
    st.sampled_from(["=", "!="]),
)
_RATES = st.builds(
    lambda func, selector, span: f"{func}({selector}[{span}])",
    st.sampled_from(["rate", "increase", "max_over_time"]),
    _SELECTORS,
    st.sampled_from(["1m", "90s", "1500ms", "1h"]),
)
_VECTORS = st.recursive(
    st.one_of(_SELECTORS, _RATES),
    lambda inner: st.one_of(
        st.builds(
            lambda op, by, one: f"{op}{by}({one})",
            st.sampled_from(["sum", "max", "quantile by (le)"]).filter(lambda op: "quan" not in op),
            st.sampled_from(["", " by (le, code)", " without (a)", " by ()"]),
            inner,
        ),
        st.builds(
            lambda one, op, two: f"({one}) {op} {two}",
            inner,
            st.sampled_from(["/", "+", "- on (code)", "* ignoring (a)", "or", "> bool"]),
            inner,
        ),
        st.builds(lambda one: f"max_over_time(({one})[5m:])", inner),
        st.builds(lambda one: f"-({one})", inner),
        st.builds(lambda one: f'label_replace({one}, "d", "$1", "s", "(.*)\\\\.x")', inner),
    ),
    max_leaves=5,
)


@given(_VECTORS)
def test_injection_changes_nothing_but_the_matchers(text: str) -> None:
    """And what was injected is read as the same tree again, however often."""
    plain = shape(ql.parse(text))
    once = promql.inject(text, PODS)
    assert shape(ql.parse(once), (PODS,)) == plain
    assert all(PODS in matchers(one) for one in promql_text.selectors(ql.parse(once)))
    assert shape(ql.parse(promql.inject(once, PODS)), (PODS,)) == plain
    assert promql.inject(once, "") == once
