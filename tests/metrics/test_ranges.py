# SPDX-License-Identifier: Apache-2.0
"""A user check asked of some pods of the past, and of all others."""

import re

import promql_parser
import pytest

from controller.adapters.prometheus import ranges
from controller.adapters.prometheus.providers import choose
from controller.core.errors import MetricsUnavailable
from controller.core.evidence.series import PodsKey
from controller.core.policy.promql_text import selectors

ORDERS = "sum(rate(orders_failed_total[1m])) / sum(rate(orders_total[1m]))"


def test_pods_of_the_past_are_asked_for_by_name_and_the_others_are_all_but_them() -> None:
    key = PodsKey("shop", "checkout", "")
    pods = ["checkout-7d9f8-bcdfg", "checkout-7d9f8-hjklm", "checkout-5c7b9-npqrs"]
    mine, others = ranges.parted(choose(["application"]), ORDERS, key, pods)
    first, second = (
        {one.name: one.value for one in selector.matchers.matchers}
        for selector in selectors(promql_parser.parse(mine))
    )
    assert first == second
    assert first["namespace"] == "shop"
    assert [
        pod for pod in (*pods, "checkout-7d9f8-npqrs") if re.fullmatch(first["pod"], pod)
    ] == pods
    for selector in selectors(promql_parser.parse(others)):
        of_key, but = (one for one in selector.matchers.matchers if one.name == "pod")
        assert (of_key.op, but.op) == (promql_parser.MatchOp.Re, promql_parser.MatchOp.NotRe)
        assert but.value == first["pod"]
        assert re.fullmatch(of_key.value, "checkout-7d9f8-npqrs")
        assert not re.fullmatch(of_key.value, "checkout-canary-7d9f8-npqrs")
    with pytest.raises(MetricsUnavailable, match="cannot ask for metrics"):
        ranges.parted(choose(["application"]), ORDERS, key, ['checkout-7d9f8-bcdfg"} or vector(1)'])
