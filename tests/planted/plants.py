# SPDX-License-Identifier: Apache-2.0
"""Bugs that we plant in a copy of our own code, and the tests that must catch each of them.

Each is a mistake that has really been made in this field. A plant whose text is no longer found
fails its test as well: the net must be mended together with what it protects.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """One bug: in `file`, `right` becomes `wrong`; `tests` must fail then."""

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


REPLICAS = "tests/engine/test_two_replicas.py"
LATE = "tests/engine/test_late_writes.py"

PLANTS = (
    Plant(
        name="a kill leaves the claims",
        file="controller/engine/halt.py",
        right="""        try:
            await claims.void(self._cluster, refs)
""",
        wrong="""        try:
            del refs
""",
        tests=("tests/engine/test_kill_protocol.py",),
    ),
    Plant(
        name="a lease that is renewed for ever",
        file="controller/engine/leader.py",
        right="            if began >= self._until:\n",
        wrong="            if began < 0:\n",
        tests=(f"{REPLICAS}::test_a_leader_that_is_cut_off_stops_before_the_other_begins",),
    ),
    Plant(
        name="a raise that takes its object instead of testing whose it is",
        file="controller/adapters/kube/claims.py",
        right='fence = {"op": "test", "path": PATH',
        wrong='fence = {"op": "add", "path": PATH',
        tests=(f"{LATE}::test_a_raise_that_was_on_its_way_does_not_arrive",),
    ),
    Plant(
        name="not a number counts as 0",
        file="controller/core/evidence/counters.py",
        right="""    real = [
        sample
        for sample in samples
        if 0.0 <=""",
        wrong="""    samples = [
        Sample(one.at, 0.0 if math.isnan(one.value) else one.value) for one in samples
    ]
    real = [
        sample
        for sample in samples
        if 0.0 <=""",
        tests=("tests/core/evidence/test_samples.py",),
    ),
    Plant(
        name="the past of a stable pod counts",
        file="controller/core/evidence/samples.py",
        right="born = newborn and counter.canary and",
        wrong="born = newborn and",
        tests=("tests/core/evidence/test_newborn.py",),
    ),
    Plant(
        name="evidence used twice",
        file="controller/core/evidence/observe.py",
        right="if interval.at <= evidence.last_at or interval.begins < evidence.last_at - SLACK",
        wrong="if interval.at < SLACK",
        tests=("tests/engine/test_replays.py",),
    ),
    Plant(
        name="intent after effect",
        file="controller/engine/carry.py",
        right="""        unwritten = await self._flushed(turn)
        results.extend(await self._others(turn, others, unwritten))
""",
        wrong="""        results.extend(await self._others(turn, others, None))
        unwritten = await self._flushed(turn)
""",
        tests=("tests/engine/test_promises.py",),
    ),
    Plant(
        name="no version on a raise",
        file="controller/adapters/routers/gateway_api.py",
        right="""        test("/metadata/resourceVersion", route.version),
""",
        wrong="",
        tests=("tests/engine/test_replays.py",),
    ),
    Plant(
        name="no version on the run document",
        file="controller/adapters/kube/documents.py",
        right="""{"op": "test", "path": "/metadata/resourceVersion", "value": document""",
        wrong="""{"op": "test", "path": "/kind", "value": "ConfigMap"} or {"v": document""",
        tests=("tests/kube/test_documents.py",),
    ),
)
