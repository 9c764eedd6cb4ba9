# SPDX-License-Identifier: Apache-2.0
"""User checks: PromQL that is written once, for no track, and asked of each.

A check is read into its measured side and what must hold of it. When it is asked, the matchers of a
track are put into every selector of the syntax tree, so that a team writes one query and needs no
placeholders in it.
"""

import functools

import promql_parser as ql

from controller.core.policy import promql_text


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
    return tuple(dict.fromkeys(map(promql_text.metric, selectors(ql.parse(expression)))))


def selectors(expr: ql.Expr) -> tuple[ql.VectorSelector, ...]:
    """Every selector of a tree, in the order in which they stand there."""
    found: list[ql.VectorSelector] = []

    def visit(node: ql.Expr) -> None:
        if isinstance(node, ql.VectorSelector):
            found.append(node)

    ql.walk(expr, visit)
    return tuple(found)
