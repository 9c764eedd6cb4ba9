# SPDX-License-Identifier: Apache-2.0
"""What is asked for is PromQL by the grammar of Prometheus, however many keys there are."""

import json
from collections.abc import Sequence
from urllib.parse import parse_qs

import httpx
import promql_parser
import pytest

from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.names import LONGEST_PODS, LONGEST_SERVICES
from controller.adapters.prometheus.providers import Provider, choose, load
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey

PROVIDERS = sorted(load())


def keys(provider: Provider, count: int) -> list[TrackKey]:
    """Keys of the provider's kind, in as many namespaces as there are tens."""
    if provider.pods:
        return [PodsKey(f"team-{n // 10}", f"shop-{n}-canary", "") for n in range(count)]
    return [ServiceKey(f"team-{n // 10}", f"shop-{n}-canary") for n in range(count)]


async def asked(name: str, wanted: Sequence[TrackKey]) -> list[str]:
    """The queries for the latest samples and for both histories of the first key."""
    texts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        texts.append(parse_qs(request.content.decode())["query"][0])
        data = {"resultType": "matrix", "result": []}
        return httpx.Response(200, text=json.dumps({"status": "success", "data": data}))

    store = Prometheus(
        "http://metrics.test", choose([name]), now=lambda: 0.0,
        transport=httpx.MockTransport(answer),
    )  # fmt: skip
    await store.samples(15, wanted)
    await store.history(wanted[0], 3600)
    await store.latency_history(wanted[0], 3600)
    await store.close()
    return texts


def selector(text: str) -> promql_parser.VectorSelector:
    expr = promql_parser.parse(text)
    if isinstance(expr, promql_parser.SubqueryExpr):
        expr = expr.expr
    if isinstance(expr, promql_parser.MatrixSelector):
        expr = expr.vector_selector
    assert isinstance(expr, promql_parser.VectorSelector), text
    return expr


@pytest.mark.parametrize("count", [1, 7, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PROVIDERS)
async def test_every_query_is_promql(name: str, count: int) -> None:
    provider = load()[name]
    texts = await asked(name, keys(provider, count))
    counter = provider.requests.metric
    metrics = [f"{counter}|{provider.native}" if provider.natively_counted else counter]
    if provider.latency:
        bucket = provider.latency.metric
        metrics.append(f"{bucket}|{provider.native}" if provider.native else bucket)
    for text, metric in zip(texts, [*metrics, *metrics], strict=True):
        found = selector(text)
        matchers = {one.name: one for one in found.matchers.matchers}
        # The classic form and the native one are asked for together.
        assert (found.name or matchers["__name__"].value) == metric
        # More than one for a label would be valid, and mean both.
        assert len(matchers) == len(found.matchers.matchers)
        ignored = [one for one in matchers.values() if one.op == promql_parser.MatchOp.NotRe]
        assert {one.name: one.value for one in ignored} == provider.ignore
        taken = [one for one in matchers.values() if one.op == promql_parser.MatchOp.Re]
        assert len(taken) + len(ignored) == len(matchers)
        timed = provider.latency if provider.latency and "bucket" in metric else None
        for label, words in (provider.only | (timed.only if timed else {})).items():
            assert matchers[label].value == "|".join(words)
        assert sum(len(one.value) for one in matchers.values()) < LONGEST_SERVICES + LONGEST_PODS


def test_the_parser_is_a_judge() -> None:
    """It refuses what Prometheus refuses, expressions included, so that passing means something."""
    for text in ("m{a=~}[5s]", 'm{a="b"', 'm{a=~"("}[5s]', 'm{a=~"(?!b)c"}[5s]', "{}", "m[5s"):
        with pytest.raises(ValueError, match=r".+"):
            promql_parser.parse(text)
