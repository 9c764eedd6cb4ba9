# SPDX-License-Identifier: Apache-2.0
"""Scrape targets that several scrape, of whom one goes and returns: each answer counts once."""

import httpx
import pytest

from controller.core.evidence.samples import Cursor, difference
from controller.core.evidence.tally import Interval
from tests.metrics.test_client import AT, COUNTER, HISTOGRAM, STABLE, client, matrix, query, row


@pytest.mark.parametrize(
    "copies",
    [
        ({"prometheus_replica": "a"}, {"prometheus_replica": "b"}),
        ({"replica": "0", "prometheus": "x"}, {"replica": "1", "prometheus": "y"}),
        ({"job": "pods"}, {"job": "services"}),
    ],
)
async def test_a_copy_that_goes_and_returns_brings_nothing_that_was_counted(
    copies: tuple[dict[str, str], dict[str, str]],
) -> None:
    """Both replicas of the store scrape; from the third look on one is down, and then it is back.

    200 requests a second, of which two fail, each counted once.
    """
    there = [(0, 1), (0, 1), (1,), (1,), (0, 1), (0, 1)]
    cursor, found = Cursor(), list[Interval]()
    for look, present in enumerate(there):

        def handler(
            request: httpx.Request, look: int = look, present: tuple[int, ...] = present
        ) -> httpx.Response:
            if query(request).startswith(HISTOGRAM):
                return matrix([])
            rows = []
            for copy in present:
                for code, each in (("200", 99), ("500", 1)):
                    made = row(COUNTER, "checkout", [], code=code, **copies[copy])
                    # One is scraped half a second after the other.
                    times = [2 * look + step + copy / 2 for step in (0, 1)]
                    made["values"] = [[AT + at, str(5000 + each * 2 * at)] for at in times]
                    rows.append(made)
            return matrix(rows)

        batch = await client(handler).samples(10, [STABLE])
        told = difference(cursor, None, batch.series[STABLE])
        cursor = told.cursor
        found += told.intervals
        assert not told.problems
    seconds = sum(one.seconds for one in found)
    assert sum(one.stable.requests for one in found) == 200 * seconds
    assert sum(one.stable.errors for one in found) == 2 * seconds
    assert seconds >= 10
