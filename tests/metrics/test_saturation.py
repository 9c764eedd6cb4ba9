# SPDX-License-Identifier: Apache-2.0
"""What pods use up, asked of a store: by recorded rows, and of a real Prometheus."""

import asyncio
from pathlib import Path

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.adapters.prometheus.past import Archive
from controller.adapters.prometheus.providers import choose
from controller.adapters.prometheus.saturation import Saturation
from controller.adapters.prometheus.wire import Row
from controller.core.backtest.measured import Grid
from controller.core.evidence.series import PodsKey
from tests.metrics import scraped

STABLE = PodsKey("shop", "checkout", "6d4f7b9c8")
CANARY = PodsKey("shop", "checkout-canary", "")
NOBODY = "127.0.0.1:9"
"""An address at which nobody listens."""
PODS = {"checkout-6d4f7b9c8-x2x2x": 51, "checkout-canary-7c9d8f6b5-z4z4z": 950}


def test_every_query_is_promql_and_names_pods_and_metrics() -> None:
    known = Saturation()
    for text in (known.query([STABLE, CANARY]), known.past_query(STABLE, 3600.0)):
        expr = promql_parser.parse(text)
        if isinstance(expr, promql_parser.SubqueryExpr):
            expr = expr.expr
        else:
            assert isinstance(expr, promql_parser.MatrixSelector)
            expr = expr.vector_selector
        assert isinstance(expr, promql_parser.VectorSelector)
        assert {m.name for m in expr.matchers.matchers} == {"__name__", "namespace", "pod"}
        assert "process_open_fds" in text
        assert ('|up"' in text) is ("3600" not in text)


@pytest.mark.parametrize(
    "text",
    [
        "pods: {namespace: n, pod: p}\nitems: [{name: x, kind: level, metric: 'a b', floor: 1}]",
        "pods: {namespace: n, pod: p}\nitems: [{name: x, kind: mood, metric: a, floor: 1}]",
        "pods: {namespace: n, pod: p}\nitems: [{name: x, kind: level, metric: a}]",
        "items: []",
        "{",
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^saturation\.yaml: "):
        Saturation(text)


AT = 1764000000.0


def test_pools_of_connections_are_known_by_every_name_that_libraries_give_them() -> None:
    """Those of OpenTelemetry are recorded from its own exporter, the others from their sources."""
    text = (Path(__file__).parent / "recorded" / "pools.txt").read_text()
    scrape = [one for family in text_string_to_metric_families(text) for one in family.samples]
    place = {"namespace": "shop", "pod": "checkout-6d4f7b9c8-x2x2x", "job": "pods"}
    rows = [
        # An empty label is none to the store.
        Row(
            metric={"__name__": one.name, **{k: v for k, v in one.labels.items() if v}, **place},
            values=[(AT - 15.0, repr(one.value)), (AT, repr(one.value))],
        )
        for one in scrape
    ]
    figures = Saturation().levels([STABLE, CANARY], rows, AT).figures
    # The fullest pool stands for its pod; what is idle is not used, and no end is none.
    assert figures[STABLE] == {
        "HikariCP connections": pytest.approx(0.9),
        "JDBC connections": pytest.approx(0.7),
        "database connections (OpenTelemetry)": pytest.approx(0.85),
        "database connections (OpenTelemetry 1.27)": pytest.approx(0.95),
        "database connections (OpenTelemetry, by state)": pytest.approx(0.25),
        "database connections (Go)": pytest.approx(0.6),
        "database connections (otelsql)": pytest.approx(0.4),
        "database connections (pgxpool)": pytest.approx(0.75),
    }
    assert CANARY not in figures


BODY = "".join(
    f'{metric}{{namespace="shop",pod="{pod}"}} {value}\n'
    for pod, files in PODS.items()
    for metric, value in (("process_open_fds", files), ("process_max_fds", 1024))
)


@pytest.mark.slow
async def test_a_real_prometheus_tells_what_both_versions_use_and_who_is_scraped(
    tmp_path: Path,
) -> None:
    stable, canary = PODS
    async with (
        scraped.exposed(lambda: BODY) as target,
        scraped.exposed(lambda: "") as silent,
        scraped.stored(
            tmp_path,
            {
                target: {},
                silent: {"namespace": "shop", "pod": stable},
                NOBODY: {"namespace": "shop", "pod": canary},
            },
        ) as url,
        scraped.reading(url, ["application"]) as store,
    ):
        async with asyncio.timeout(scraped.SEEN_SECONDS):
            levels = await store.saturation([STABLE, CANARY])
            while not (
                all(levels.figures.get(key) for key in (STABLE, CANARY)) and levels.pods[STABLE]
            ):
                await asyncio.sleep(0.2)
                levels = await store.saturation([STABLE, CANARY])
        assert levels.figures[STABLE] == {"open files": pytest.approx(51 / 1024)}
        assert levels.figures[CANARY] == {"open files": pytest.approx(950 / 1024)}
        # Of the canary's pod there is a target, which does not answer.
        assert levels.pods == {STABLE: {"demo": {stable}}, CANARY: {}}
        # Seconds of a past are too few to say what is usual.
        assert await store.saturation_past(STABLE, 3600.0) == ()
        archive = Archive(url, choose(["application"]))
        # The store tells whole seconds: what it answered with was scraped before the next one.
        grid = Grid(int(levels.evaluated_at) + 1, 1)
        everybody = PodsKey("shop", "checkout", "")
        figures = await archive.figures(everybody, ["open files", "Java heap"], grid)
        archive.close()
        assert set(figures) == {"open files"}
        assert set(figures["open files"]) == {"checkout-6d4f7b9c8-x2x2x"}
        assert figures["open files"]["checkout-6d4f7b9c8-x2x2x"] == pytest.approx((51 / 1024,))
