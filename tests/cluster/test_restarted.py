# SPDX-License-Identifier: Apache-2.0
"""The controller's own pods are replaced in mid-run, as `kubectl rollout restart` does it.

Before that it is installed once more, which is what an upgrade is, and changes nothing.

Both of them, one after the other, so the run changes hands at least once and at most three times.
"""

import asyncio
import itertools
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SYSTEM
from tests.cluster.lab import records
from tests.cluster.lab.application import App
from tests.cluster.lab.trail import WRITES, Trail, now
from tests.cluster.lab.worker import Cluster
from tests.cluster.replicas import leader, log, pods, printed
from tests.manifests.rendered import CONTROLLER

pytestmark = [pytest.mark.timeout(600), pytest.mark.once]

POLICY = {"policy": "fast", "steps": "5@20s,50@20s", "bake": "5s"}
HAND_OVER_SECONDS = 2.0
"""What `docs/kubernetes.md` says under Upgrade."""

LOGS = f"{SYSTEM}_*/*.log"
RESTART = ("rollout", "restart", "deployment/switchgear", "-n", SYSTEM)
STATUS = ("rollout", "status", "deployment/switchgear", "-n", SYSTEM, "--timeout=80s")

Object = dict[str, Any]


async def test_a_restart_of_the_controller_in_mid_run(
    lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    shop, cluster = app(), lab.cluster
    since, folder = now(), cluster.folder / "pods"
    earlier = set(folder.glob(LOGS))  # Of the controllers of other tests.
    async with printed(cluster, lab.folder, "install") as checkout:
        first = {pod["metadata"]["name"] for pod in pods(cluster)}
        await checkout.types("install")
        assert {pod["metadata"]["name"] for pod in pods(cluster)} == first
        await shop.start(annotations=POLICY, replicas=2)
        await shop.adopted(lambda: log(cluster))
        load = await lab.load(shop)
        await shop.deploy("v2")
        await records.reached(lab.api, SYSTEM, "Judging", log=lambda: log(cluster))
        await asyncio.to_thread(cluster.kubectl, *RESTART)
        await asyncio.to_thread(cluster.kubectl, *STATUS)
        (run,) = await records.runs(lab.api, SYSTEM)
        assert run["phase"] not in records.AT_REST, "the run was over before the restart was"
        await records.ended(lab.api, SYSTEM, "promoted", lambda: log(cluster))
        await shop.complete()
        assert await shop.ready() == {"v2": 2}
        assert leader(cluster) not in {"", *first}
        assert load.failures == {}

        found = list(_hand_overs(cluster, space, since))
        sys.stderr.write(f"handed over: {found}\n")
        assert 1 <= len(found) <= 3
        assert all(0.0 <= seconds <= HAND_OVER_SECONDS for _, _, seconds in found)
        epochs = [record["epoch"] for record in await records.journal(lab.api, SYSTEM)]
        assert epochs == sorted(epochs)
        assert epochs[-1] - epochs[0] == len(found)
        trail = Trail(
            cluster=cluster,
            user=CONTROLLER,
            system=SYSTEM,
            targets=space.name,
            logs=lambda: sorted({*folder.glob(LOGS)} - earlier),
            since=since,
        )
        await trail.holds()


def _hand_overs(cluster: Cluster, space: Space, since: str) -> Iterator[tuple[str, str, float]]:
    """Who wrote about the run and who did next, and the seconds from the end that the former was
    asked for to the latter's first write.
    """

    def about_the_run(event: Object) -> bool:
        ref = event.get("objectRef", {})
        return (
            event["verb"] in WRITES
            and event["responseStatus"]["code"] < 300
            and ref.get("namespace") in {space.name, SYSTEM}
            and ref.get("resource") not in {"leases", "events"}
            and ref.get("name") != "switchgear-cluster"
        )

    def ended(event: Object) -> bool:
        ref = event.get("objectRef", {})
        return event["verb"] == "delete" and ref.get("resource") == "pods" and bool(ref.get("name"))

    stopped: dict[str, datetime] = {}
    for event in cluster.audited(ended, since=since):
        stopped.setdefault(event["objectRef"]["name"], _at(event))
    writes = cluster.audited(about_the_run, since=since, user=CONTROLLER)
    for one, other in itertools.pairwise(writes):
        old, new = _pod(one), _pod(other)
        if old != new:
            yield old, new, (_at(other) - stopped[old]).total_seconds()


def _pod(event: Object) -> str:
    """Which pod it was, by its token."""
    (name,) = event["user"]["extra"]["authentication.kubernetes.io/pod-name"]
    return str(name)


def _at(event: Object) -> datetime:
    return datetime.fromisoformat(event["requestReceivedTimestamp"])
