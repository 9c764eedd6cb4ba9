# SPDX-License-Identifier: Apache-2.0
"""What a user check must not be, found in its syntax tree.

Three things make a query unfit to judge by: it says something where there are no data, it reads
what no matcher of a track reaches, or it has more than one value. All rules are asked.
"""

from collections.abc import Iterator
from typing import Final

import promql_parser as ql

from controller.core.policy import families, promql_text
from controller.core.policy.grammar import shown

MAX_WINDOW_SECONDS: Final = 3600.0
"""Longest reach into the past. Beyond it a query says more of earlier canaries than of this one."""

COMPARISONS: Final = ("<", "<=", ">", ">=", "==", "!=")
SETS: Final = ("and", "or", "unless")

Fault = tuple[str, str, str]
"""Code, what is so, and what to do instead."""

_ONE: Final[frozenset[str]] = frozenset()
"""No label is left: there is one series at most."""

_ABSENT: Final = ("absent", "absent_over_time")
_OVERWRITING: Final = ("label_replace", "label_join")
_PICKING: Final = ("topk", "bottomk", "limitk", "limit_ratio")
_CLASSIC: Final = ("histogram_quantile", "histogram_fraction")


def faults(expr: ql.Expr) -> tuple[Fault, ...]:
    """Everything that is wrong with the measured side of a check, each once."""
    nodes = [node for node, _ in promql_text.nodes(expr)]
    found = [fault for node in nodes for fault in _of_node(node)]
    chosen = [node for node in nodes if isinstance(node, ql.VectorSelector)]
    found += _overwritten(nodes, chosen)
    found += _empty(expr, chosen)
    found += _several(expr)
    if window(expr) > MAX_WINDOW_SECONDS:
        message = f"it looks back {window(expr):g} s, further than a canary lasts"
        hint = f"write a range of at most {MAX_WINDOW_SECONDS:g} s; 1m to 5m is usual"
        found.append(("CheckReachesFar", message, hint))
    return tuple(dict.fromkeys(found))


def _empty(expr: ql.Expr, chosen: list[ql.VectorSelector]) -> Iterator[Fault]:
    """A value without data."""
    if not chosen:
        yield (
            "CheckReadsNothing",
            "it reads no metric, so it says the same whatever the version does",
            "write a query of a metric that the application or its gateway counts",
        )
    elif speaks(expr):
        yield (
            "CheckHidesMissing",
            (
                "it has a value even where there are no data, so that a version that counts "
                "nothing may look good"
            ),
            (
                "leave out what stands in for missing data; within one operand, as in "
                "(A or vector(0)) / B, it may stay"
            ),
        )


def window(expr: ql.Expr) -> float:
    """How far back a tree reaches, in seconds; ranges within subqueries add up."""
    match expr:
        case ql.MatrixSelector():
            return expr.range.total_seconds()
        case ql.SubqueryExpr():
            return (expr.range.total_seconds() if expr.range else 0.0) + window(expr.expr)
        case _:
            return max((window(part) for part in promql_text.parts(expr)), default=0.0)


def speaks(expr: ql.Expr) -> bool:
    """Whether a tree has a value while none of its selectors finds anything."""
    match expr:
        case ql.VectorSelector() | ql.MatrixSelector():
            return False
        case ql.NumberLiteral() | ql.StringLiteral():
            return True
        case ql.BinaryExpr():
            return _pair_speaks(expr)
        case ql.Call() if expr.func.name == "scalar":
            # NaN without a series, and what counts or compares NaN has a value again.
            return True
        case ql.Call():
            data = [part for part in expr.args if not _constant(part)]
            return all(speaks(part) for part in data)
        case ql.AggregateExpr():
            return speaks(expr.expr)
        case _:
            return all(speaks(part) for part in promql_text.parts(expr))


def _pair_speaks(expr: ql.BinaryExpr) -> bool:
    left, right = speaks(expr.lhs), speaks(expr.rhs)
    if str(expr.op) == "or":
        return left or right
    fill = expr.modifier.fill_values if expr.modifier else None
    if fill is not None and fill.lhs is not None and right:
        return True
    if fill is not None and fill.rhs is not None and left:
        return True
    return left and right


def labels(expr: ql.Expr) -> frozenset[str] | None:
    """The labels that tell the series of a tree apart; None: all that its selectors have."""
    match expr:
        case ql.VectorSelector() | ql.MatrixSelector():
            return None
        case ql.NumberLiteral() | ql.StringLiteral():
            return _ONE
        case ql.AggregateExpr():
            return _grouped(expr)
        case ql.Call():
            return _called(expr)
        case ql.BinaryExpr():
            return _paired(expr)
        case ql.ParenExpr() | ql.UnaryExpr() | ql.SubqueryExpr():
            return labels(expr.expr)
        case _:
            return None


def _grouped(expr: ql.AggregateExpr) -> frozenset[str] | None:
    op, modifier = str(expr.op), expr.modifier
    if modifier is not None and modifier.type == ql.AggModifierType.Without:
        return None
    kept = frozenset(modifier.labels) if modifier else _ONE
    if op in _PICKING:
        first = op in ("topk", "bottomk", "limitk")
        if first and isinstance(expr.param, ql.NumberLiteral) and expr.param.val == 1:
            return kept
        return labels(expr.expr)
    if op == "count_values":
        value = expr.param.val if isinstance(expr.param, ql.StringLiteral) else "value"
        return kept | {value}
    return kept


def _called(expr: ql.Call) -> frozenset[str] | None:
    name = expr.func.name
    if name in ("scalar", "vector", *_ABSENT):
        return _ONE
    data = [part for part in expr.args if not _constant(part)]
    if not data:
        return _ONE
    found = labels(data[-1])
    return found - {"le"} if found and name in _CLASSIC else found


def _paired(expr: ql.BinaryExpr) -> frozenset[str] | None:
    left, right = labels(expr.lhs), labels(expr.rhs)
    if _constant(expr.lhs):
        return right
    if _constant(expr.rhs):
        return left
    modifier = expr.modifier
    if str(expr.op) == "or":
        return left if left == right else None
    if modifier is not None and modifier.card == ql.VectorMatchCardinality.ManyToOne:
        return left
    if modifier is not None and modifier.card == ql.VectorMatchCardinality.OneToMany:
        return right
    # One to one: there are no more pairs than either side has series.
    if _ONE in (left, right):
        return _ONE
    matching = modifier.matching if modifier else None
    if matching is not None and matching.type == ql.LabelModifierType.Include:
        return frozenset(matching.labels)
    return left if left is not None else right


def _constant(expr: ql.Expr) -> bool:
    """Whether a tree is a number or a text, however it is put together; it has no series then."""
    match expr:
        case ql.NumberLiteral() | ql.StringLiteral():
            return True
        case ql.ParenExpr() | ql.UnaryExpr() | ql.BinaryExpr():
            return all(_constant(part) for part in promql_text.parts(expr))
        case ql.Call():
            return str(expr.func.return_type) == str(ql.ValueType.Scalar)
        case _:
            return False


def _of_node(node: ql.Expr) -> Iterator[Fault]:
    """What one node shows by itself."""
    match node:
        case ql.VectorSelector():
            yield from _of_selector(node)
        case ql.SubqueryExpr() if node.offset is not None or node.at is not None:
            yield _shifted("a subquery")
        case ql.BinaryExpr():
            yield from _of_pair(node)
        case ql.Call() if node.func.name in _ABSENT:
            yield (
                "CheckAbsent",
                f"{node.func.name} has a value where there are no data, which must never look good",
                "leave it out: missing data hold a run by themselves",
            )
        case ql.Call() if node.func.name == "info":
            yield (
                "CheckReadsBeside",
                "info reads series beside those that it names, which no matcher of a track reaches",
                "join them in so many words, by * on (...) group_left (...)",
            )
        case ql.Call() if node.func.name in _CLASSIC:
            yield from _of_quantile(node)
        case _:
            pass


def _of_selector(node: ql.VectorSelector) -> Iterator[Fault]:
    metric, given = promql_text.metric(node), node.matchers
    if given.or_matchers:
        yield (
            "CheckUnreadable",
            "Prometheus knows no `or` between the matchers of a selector",
            'write one matcher with alternatives, like code=~"500|503"',
        )
    if not metric:
        yield (
            "CheckNameless",
            "a selector names no metric, so nobody knows which series it takes",
            "write the name of one metric",
        )
    if ":" in metric:
        yield (
            "CheckRecorded",
            f"{shown(metric)} is what a recording rule leaves, and the pods are mostly gone in it",
            "write the expression of that rule instead",
        )
    if node.offset is not None or node.at is not None:
        yield _shifted(shown(metric))
    taken = [one.name for one in given.matchers if one.name in families.labels(metric)]
    for label in dict.fromkeys(taken):
        yield (
            "CheckLabelTaken",
            f"{shown(metric)} is matched by {label}, which is what tells the tracks apart",
            f"leave {label} out: it is put in for each track",
        )


def _shifted(what: str) -> Fault:
    return (
        "CheckShifted",
        f"{what} is asked for at another time (offset or @), when there was no canary yet",
        "leave it out: both versions are measured at the same time",
    )


def _of_pair(node: ql.BinaryExpr) -> Iterator[Fault]:
    op = str(node.op)
    drops = op in COMPARISONS and not (node.modifier and node.modifier.return_bool)
    if drops or op in ("and", "unless"):
        yield (
            "CheckDropsSamples",
            f"`{op}` within the expression drops series, so that bad ones may be left out unseen",
            "write `bool` after a comparison to count what holds, or make it a check of its own",
        )


def _of_quantile(node: ql.Call) -> Iterator[Fault]:
    """A classic histogram has its bounds in a label, which an aggregation must keep."""
    found = labels(node.args[-1])
    inner = [promql_text.metric(one) for one in promql_text.selectors(node.args[-1])]
    if found is not None and "le" not in found and any(n.endswith("_bucket") for n in inner):
        yield (
            "CheckBucketsLost",
            f"{node.func.name} needs the bounds of the buckets, and the label le is gone",
            f"write {node.func.name}(..., sum by (le) (rate({inner[0]}[1m])))",
        )


def _overwritten(nodes: list[ql.Expr], chosen: list[ql.VectorSelector]) -> Iterator[Fault]:
    ours = {label for one in chosen for label in families.labels(promql_text.metric(one))}
    for node in nodes:
        if not isinstance(node, ql.Call) or node.func.name not in _OVERWRITING:
            continue
        target = node.args[1]
        if isinstance(target, ql.StringLiteral) and target.val in ours:
            yield (
                "CheckLabelOverwritten",
                f"{node.func.name} overwrites {target.val}, which is what tells the tracks apart",
                "write another label",
            )


def _several(expr: ql.Expr) -> Iterator[Fault]:
    found = labels(expr)
    if found == _ONE:
        return
    kept = (
        "one for each pod and more" if found is None else f"one for each {', '.join(sorted(found))}"
    )
    yield (
        "CheckManySeries",
        f"it has many values ({kept}), and a check judges one",
        "gather them, like sum(...), max(...) or sum(...) / sum(...)",
    )
