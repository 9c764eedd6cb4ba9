# SPDX-License-Identifier: Apache-2.0
"""The API server's audit log and the journals tell the same story, write by write.

What that means is `lab.trail.Trail.holds`, which is asked after every test with a daemon under the
shipped account. Here is a promotion, a rollback and a kill at once.
"""

import asyncio
import contextlib
import copy
import json
import re
from collections.abc import Callable

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SYSTEM, Installed
from tests.cluster.lab import effects, records
from tests.cluster.lab.application import PREFIX, App, Object, until
from tests.cluster.lab.trail import Trail, differing, writes
from tests.cluster.scenes import shipped
from tests.support.realtime import plain

pytestmark = [pytest.mark.timeout(600), pytest.mark.once]

POLICY = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s"}

OTHERS = (
    ("PinService", "/spec/selector", {"app": "good"}),
    ("Roll", "/spec/paused", True),
)
"""JSON patches, each with what would be the opposite."""


async def test_each_write_has_one_record_and_each_record_its_write(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Through a promotion, a rollback and a kill."""
    daemon, _ = await shipped(gate, lab, space)
    good, bad, stopped = app("good"), app("bad"), app("stopped")
    for each in (good, bad, stopped):
        await each.start(replicas=2, annotations=POLICY)
    await daemon.start()
    for each in (good, bad, stopped):
        await each.adopted(daemon.log)
    loads = [await lab.load(each, rate=60.0, direct_rate=5.0) for each in (good, bad, stopped)]
    await stopped.deploy("v2")
    await good.deploy("v2")
    await bad.deploy("v2", {"ERROR_RATE": "0.5"})

    async def exposed() -> bool:
        return any(
            weight for name, weight in (await stopped.weights()).items() if "-canary" in name
        )

    await until(exposed, 90.0, daemon.log())
    async with plain(daemon.url, seconds=30.0) as http:
        body = {"namespace": space.name, "name": "stopped"}
        assert (await http.post("/v1/kill", json=body, params={"wait": "20"})).status_code == 200
    wanted = {"good": "promoted", "bad": "rolled-back", "stopped": "killed"}
    await until(lambda: _ended(lab, wanted), records.RUN_SECONDS, daemon.log(), every=0.5)
    assert sum(sum(load.failures.values()) for load in loads) == 0
    (trail,) = lab.trails
    await trail.holds()
    named, _ = writes(trail.events())
    assert {re.split("[-/]", name)[0] for name in named} >= {*wanted, "kill"}
    await _finds_what_a_record_does_not_say(trail, named)
    lab.trails.clear()
    await _finds_what_nobody_recorded(trail, good, gate)


async def _finds_what_a_record_does_not_say(trail: Trail, named: dict[str, list[Object]]) -> None:
    """A raise of another weight, of another route, by another verb, or not at all.

    And of other kinds what changes nothing, or the opposite.
    """
    told = await trail.told()
    raises = [name for name, one in told.items() if one.body["effect"] == "RaiseWeight"]
    assert len(raises) >= 4
    for name in raises:
        record, events = told[name], named[name]
        assert differing(record, events) == []
        (moved,) = (event for event in events if not effects.claims(event))
        rest = [event for event in events if event is not moved]
        other = [copy.deepcopy(moved) for _ in range(4)]
        patch = other[0]["requestObject"]
        canary, stable = (op for op in patch if op["path"].endswith("/weight"))
        canary["value"] -= 1
        stable["value"] += 1
        other[1]["objectRef"]["name"] += "-other"
        other[2]["objectRef"]["namespace"] += "-other"
        other[3]["verb"] = "update"
        assert [bool(differing(record, [*rest, event])) for event in other] == [True] * 4
        assert differing(record, rest) != []
    for effect, path, value in OTHERS:
        name = next(name for name, one in told.items() if one.body["effect"] == effect)
        record, events = told[name], named[name]
        assert differing(record, events) == []
        moved = next(event for event in events if not effects.claims(event))
        tests = [op for op in moved["requestObject"] if op["op"] == "test"]
        for said in (tests, [*tests, {"op": "add", "path": path, "value": value}]):
            assert differing(record, [{**moved, "requestObject": said}]) != [], (effect, said)


async def _finds_what_nobody_recorded(trail: Trail, shop: App, gate: Installed) -> None:
    """A note on a target that says more than where its run stands."""
    uid = (await shop.read("deployments"))["metadata"]["uid"]
    for note, found in (("status", False), ("epoch", True)):
        body = {"metadata": {"uid": uid, "annotations": {PREFIX + note: "1"}}}
        args = ("patch", "deployment", shop.name, "-n", shop.namespace, "--type=merge", "-p")
        await asyncio.to_thread(
            trail.cluster.kubectl, *args, json.dumps(body), kubeconfig=gate.controller
        )
        wrong = pytest.raises(AssertionError, match=rf"without a name: .* patch .*/{shop.name}")
        with wrong if found else contextlib.nullcontext():
            await trail.holds()


async def _ended(lab: Lab, wanted: dict[str, str]) -> bool:
    runs = await records.runs(lab.api, SYSTEM)
    found = {run["target"]["name"]: run for run in runs}
    if not all(found.get(name, {}).get("phase") in records.AT_REST for name in wanted):
        return False
    assert {name: found[name]["outcome"] for name in wanted} == wanted
    return True
