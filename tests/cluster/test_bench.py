# SPDX-License-Identifier: Apache-2.0
"""What `make bench` does on the lab works; how long things take there is nobody's test."""

import math

import pytest

from tests.bench import lab_rig, lab_scale, lab_stories
from tests.cluster.installed import Installed
from tests.cluster.lab.application import until

pytestmark = pytest.mark.timeout(400)


@pytest.mark.deep
async def test_targets_and_runs_are_counted_and_broken(gate: Installed) -> None:
    """Two, each with a run; both turn bad at once."""
    names = ["app-0", "app-1"]
    async with lab_scale.stage(gate, 1.0, calm=0.0) as stage:
        await stage.add(names, replicas=1)
        await lab_rig.start(stage.place, len(names))
        await stage.begin(names)
        assert stage.place.routes.weights == dict.fromkeys(names, 10 * 100)
        cost = await _with_a_look(stage)
        assert 20 < cost.rss_mib < 400
        assert 0 <= cost.cpu_seconds < 60
        breached = await stage.breach(names)
    assert len(breached) == len(names)
    assert all(0 < seconds < math.inf for seconds in breached)


async def _with_a_look(stage: lab_scale.Stage) -> lab_scale.Cost:
    """The cost of a window in which the daemon has looked, and been answered."""
    found: list[lab_scale.Cost] = []

    async def looked() -> bool:
        found.append(await stage.cost(2.0))
        return bool(found[-1].per_look)

    await until(looked, 30.0, lambda: f"{found}")
    return found[-1]


@pytest.mark.deep
async def test_two_targets_make_every_line_of_the_table(gate: Installed) -> None:
    size = lab_scale.Size(targets=2, runs=1, window=2.0, scrape=1.0)
    lines = await lab_scale.measure(gate, size)
    # With so few there may be no look at Prometheus in a window.
    empty = [line.what for line in lines if line.value is None]
    assert [what for what in empty if "Prometheus" not in what and "ratio" not in what] == []


@pytest.mark.deep
async def test_a_breach_and_kills_are_timed(gate: Installed) -> None:
    lines = await lab_stories.measure(gate, 1)
    assert len(lines) > 4
    assert [line.what for line in lines if line.value is None] == []
