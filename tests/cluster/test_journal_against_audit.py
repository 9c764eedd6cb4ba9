# SPDX-License-Identifier: Apache-2.0
"""The API server's audit log and the journals tell the same story, write by write.

The daemon calls each write after its journal record, and the API server keeps that name. What is
done for a target without a run has its record in the daemon's log. A write without a name must be
about the journal itself, tell people, elect a leader, or mark a target; the reason for each is
below.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from controller.core.journal import chain
from tests.cluster.conftest import QUICK, Lab, Space
from tests.cluster.installed import SYSTEM, Installed, installed
from tests.cluster.lab import records
from tests.cluster.lab.application import App, until
from tests.cluster.lab.worker import Cluster
from tests.manifests.rendered import CONTROLLER
from tests.support.realtime import plain

pytestmark = [pytest.mark.timeout(600), pytest.mark.once]

Object = dict[str, Any]
POLICY = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s"}
WRITES = {"create", "update", "patch", "delete"}
UNNAMED = {
    "configmaps": "the journal itself, the kill latch, the epoch",
    "events": "what people are told; the journal holds the same",
    "leases": "who leads",
}
"""Resources that the daemon writes to without a record, with the reason."""

MARKS = "deployments"
"""Annotations of a target need none either: `managed` at first sight, `status`, an `abort` done."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gated(cluster: Cluster) -> AsyncIterator[Installed]:
    """The roles and the policies, and the daemon as a process."""
    async with installed(cluster, "base", "admission") as found:
        yield found


async def test_each_write_has_one_record_and_each_record_its_write(
    gated: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """Through a promotion, a rollback and a kill."""
    since = lab.cluster.audit()[-1]["requestReceivedTimestamp"]
    daemon = lab.daemon(
        Space(name=space.name, system=SYSTEM), kubeconfig=gated.controller, options=QUICK
    )
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
    await asyncio.to_thread(lab.cluster.kubectl, "get", "--raw", "/readyz")

    named, unnamed = _audited(lab, since)
    recorded = await _recorded(lab) + _logged(daemon.folder / "daemon.log")
    assert named
    counted = Counter({name: len(writes) for name, writes in named.items()})
    wrong = {name: named.get(name) for name in (counted - recorded) | (recorded - counted)}
    assert counted == recorded, (wrong, [recorded[name] for name in wrong], daemon.log())
    assert unnamed == []


async def _ended(lab: Lab, wanted: dict[str, str]) -> bool:
    runs = await records.runs(lab.api, SYSTEM)
    found = {run["target"]["name"]: run for run in runs}
    if not all(found.get(name, {}).get("phase") in records.AT_REST for name in wanted):
        return False
    assert {name: found[name]["outcome"] for name in wanted} == wanted
    return True


def _audited(lab: Lab, since: str) -> tuple[dict[str, list[str]], list[Object]]:
    """Accepted writes by name, and those that have no name and no reason to have none."""

    def ours(event: Object) -> bool:
        accepted = 200 <= event["responseStatus"]["code"] < 300
        who = event["user"]["username"] == CONTROLLER
        return bool(who and accepted and event["verb"] in WRITES)

    named: dict[str, list[str]] = {}
    unnamed = []
    for event in lab.cluster.audited(ours, since=since):
        if "/" in event["auditID"]:
            told = f"{event['stageTimestamp']} {event['verb']} {event['requestURI']}"
            named.setdefault(event["auditID"], []).append(told)
        elif not _about_itself(event):
            unnamed.append(event)
    return named, unnamed


def _about_itself(event: Object) -> bool:
    """Whether a write needs no record."""
    resource = event["objectRef"]["resource"]
    if resource == MARKS:
        body = event.get("requestObject")
        return isinstance(body, dict) and body.keys() == {"metadata"}
    return resource in UNNAMED


async def _recorded(lab: Lab) -> Counter[str]:
    """How many writes the journals claim for each name; no name stands in two records."""
    found: Counter[str] = Counter()
    for document in await records.documents(lab.api, SYSTEM):
        assert chain.verify(chain.lines_of(document["data"]["journal"])) == []
        claimed = _claimed(records.records_of(document))
        assert not found.keys() & claimed.keys(), "a name stands in one record alone"
        found.update(claimed)
    return +found


def _logged(file: Path) -> Counter[str]:
    """The same by the daemon's log, of what is done for a target without a run."""
    found: Counter[str] = Counter()
    for line in file.read_text(encoding="utf-8").splitlines():
        if '"effect without a run"' in line:
            entry = json.loads(line)
            assert entry["call"] not in found, "a name stands in one record alone"
            found[entry["call"]] = entry["writes"]
    return +found


def _claimed(journal: list[Object]) -> dict[str, int]:
    """Writes by name in one journal.

    An intent carries the name, and its outcome the number; an effect without an intent carries
    both, and what becomes of it later is told without the name and counts from its beginning.
    """
    names: dict[object, str] = {}
    found: dict[str, int] = {}
    for record in journal:
        body = record["body"]
        key = body["intent"] if "intent" in body else _same(body)
        if body.get("call"):
            assert body["call"] not in found, "a name stands in one record alone"
            names[record["seq"]] = names[key] = body["call"]
            found[body["call"]] = 0
        if "writes" in body:
            found[names[key]] = body["writes"]
    return found


def _same(body: Object) -> str:
    """An effect, whatever became of it."""
    told = {"done", "words", "times", "writes", "call"}
    return json.dumps({name: body[name] for name in sorted(body.keys() - told)})
