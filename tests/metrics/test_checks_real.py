# SPDX-License-Identifier: Apache-2.0
"""A team's query in a real Prometheus, which scrapes two versions: each track has its own value."""

import asyncio
import time
from pathlib import Path

import pytest

from controller.adapters.prometheus.past import Archive
from controller.adapters.prometheus.providers import choose
from controller.core.backtest.measured import Grid
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey
from controller.core.policy import promql
from controller.core.policy.model import UserCheck
from tests.metrics import scraped

STABLE: tuple[TrackKey, ...] = (
    PodsKey("shop", "checkout", "7d9f8"),
    ServiceKey("shop", "checkout"),
)
CANARY: tuple[TrackKey, ...] = (
    PodsKey("shop", "checkout-canary", ""),
    ServiceKey("shop", "checkout-canary"),
)
PODS = ("checkout-7d9f8-bcdfg", "checkout-7d9f8-hjklm", "checkout-canary-5c7b9-npqrs")
SERVICE = "shop-{}-http-80@kubernetesgateway"
ANSWERED_SECONDS = 20.0
"""Prometheus scrapes every second; a rate needs two of them."""


class Exposed:
    """The metrics of all pods and of the gateway, growing with the time."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def text(self) -> str:
        age = time.monotonic() - self._began
        lines = []
        for pod in PODS:
            failed = 0.25 if "canary" in pod else 0.01
            labels = f'namespace="shop",pod="{pod}"'
            lines.append(f"orders_total{{{labels}}} {100 * age}")
            lines.append(f"orders_failed_total{{{labels}}} {100 * age * failed}")
            waiting = 7 if "canary" in pod else 2 + PODS.index(pod)
            lines.append(f'waiting{{{labels},queue="a\\\\d\\"b"}} {waiting}')
        for name, share in (("checkout", 0.0), ("checkout-canary", 0.5)):
            service = SERVICE.format(name)
            for code, part in (("200", 1 - share), ("500", share)):
                labels = f'code="{code}",service="{service}"'
                lines.append(f"traefik_service_requests_total{{{labels}}} {50 * age * part}")
        return "\n".join(lines) + "\n"


CHECKS = {
    "sum(rate(orders_failed_total[5s])) / sum(rate(orders_total[5s])) < 0.05": (0.01, 0.25),
    'max(waiting{queue="a\\\\d\\"b"}) < 5': (3, 7),
    'sum(rate(traefik_service_requests_total{code="500"}[5s])) '
    "/ sum(rate(traefik_service_requests_total[5s])) < 0.1": (0, 0.5),
    "quantile_over_time(0.5, (sum(rate(orders_failed_total[5s])) "
    "/ sum(rate(orders_total[5s])))[3s:1s]) < 0.05": (0.01, 0.25),
}


async def _each_pod_has_its_own_past(url: str) -> None:
    """A range over the moment that was just asked for, with one pod of stable as the canary."""
    archive = Archive(url, choose(["application"]))
    key, grid = PodsKey("shop", "checkout", ""), Grid(int(time.time()) + 1, 1)
    mine, others, _ = await archive.lines("max(waiting)", key, PODS[:1], grid)
    assert (mine, others) == ((2.0,), (3.0,))
    *none, why = await archive.lines("max(waiting)", key, ["checkout-7d9f8-zzzzz"], grid)
    assert (none, why) == ([(None,), (3.0,)], "no value")
    archive.close()


@pytest.mark.slow
async def test_each_track_has_its_own_value(tmp_path: Path) -> None:
    async with (
        scraped.exposed(Exposed().text) as target,
        scraped.stored(tmp_path, {target: {}}) as url,
        scraped.reading(url, ["traefik", "application"]) as client,
    ):
        for text, expected in CHECKS.items():
            check = promql.read("orders", text)
            assert isinstance(check, UserCheck)
            deadline = time.monotonic() + ANSWERED_SECONDS
            for keys, wanted in zip((STABLE, CANARY), expected, strict=True):
                while (found := await client.value(check.expression, keys)).value is None:
                    assert time.monotonic() < deadline, (text, found)
                    await asyncio.sleep(0.2)
                assert found.value == pytest.approx(wanted, rel=0.05)
                assert found.warnings == ()
                assert check.holds(found.value) is (keys is STABLE)
        await _each_pod_has_its_own_past(url)
        many = await client.value("waiting", STABLE)
        assert many.value is None
        assert "2 series instead of one: they differ in pod" in many.warnings[0]
