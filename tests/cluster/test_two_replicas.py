# SPDX-License-Identifier: Apache-2.0
"""Two replicas on a real control plane: one acts, and its end, however it comes, is no event.

Each has a client certificate of its own, so that the audit log tells whose write was whose.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest

from tests.cluster.conftest import QUICK, Lab, Space
from tests.cluster.lab import records
from tests.cluster.lab.application import App, until
from tests.cluster.lab.traffic import Traffic
from tests.support.realtime import Daemon

POLICY = {"policy": "fast", "steps": "5@8s,50@8s", "bake": "3s"}

RAISED = {
    ("httproutes", "checkout"),
    ("services", "checkout"),
    ("deployments", "checkout-canary"),
}
"""What steps up to the commit write; the run is in its first step when the leader is stopped."""

# Whole runs in real time, each with two dozen processes.
pytestmark = pytest.mark.timeout(400)


@dataclass(slots=True, kw_only=True)
class Replica:
    """One daemon, and the user that the API server knows it by."""

    daemon: Daemon
    user: str

    async def leads(self) -> bool:
        """Whether it says that it acts."""
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
            with contextlib.suppress(httpx.HTTPError):
                return (
                    "switchgear_leader 1.0" in (await http.get(f"{self.daemon.url}/metrics")).text
                )
        return False

    async def leading(self, within: float, what: str) -> None:
        """Poll until it acts; says how long that took."""
        begin = asyncio.get_running_loop().time()
        await until(self.leads, within, f"{self.user} leads: {self.daemon.log()}", every=0.05)
        took = asyncio.get_running_loop().time() - begin
        sys.stderr.write(f"{what}: the other one acts after {took:.1f} s\n")

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        process = self.daemon.process
        assert process is not None
        os.kill(process.pid, number)


@pytest.fixture
def pair(lab: Lab, space: Space) -> tuple[Replica, Replica]:
    """Two that are not started yet."""
    found = []
    for name in ("a", "b"):
        user = f"replica-{name}"
        config = lab.cluster.kubeconfig_for(user, groups=("system:masters",))
        options = (*QUICK, "--leader-election=on", f"--pod-name={user}")
        daemon = lab.daemon(space, kubeconfig=config, name=user, options=options)
        daemon.options += (f"--advertise=127.0.0.1:{daemon.port}",)
        found.append(Replica(daemon=daemon, user=user))
    return found[0], found[1]


async def in_mid_run(
    lab: Lab, pair: tuple[Replica, Replica], shop: App
) -> tuple[Replica, Replica, Traffic]:
    """The first replica leads and has given a new version its first share, under load."""
    first, second = pair
    await shop.start(annotations=POLICY, replicas=2)
    await first.daemon.start()
    await until(first.leads, 120.0, "the first one leads")
    await second.daemon.start()
    await second.daemon.answers("/readyz", within=120.0)
    await shop.adopted(first.daemon.log)
    load = await lab.load(shop)
    await shop.deploy("v2")

    async def shared() -> bool:
        return (await shop.weights()).get("checkout-canary", 0) > 0

    await until(shared, 90.0, first.daemon.log())
    return first, second, load


async def ends_well(lab: Lab, space: Space, shop: App, second: Replica, load: Traffic) -> None:
    await records.ended(lab.api, space.system, "promoted", second.daemon.log)
    await shop.complete()
    assert await shop.ready() == {"v2": 2}
    assert load.failures == {}


async def test_a_leader_that_is_killed_is_replaced_within_fifteen_seconds(
    lab: Lab, space: Space, app: Callable[..., App], pair: tuple[Replica, Replica]
) -> None:
    shop = app()
    first, second, load = await in_mid_run(lab, pair, shop)
    first.signal(signal.SIGKILL)
    await second.leading(15.0, "SIGKILL")
    await ends_well(lab, space, shop, second, load)


async def test_a_leader_that_is_asked_to_end_makes_way_at_once(
    lab: Lab, space: Space, app: Callable[..., App], pair: tuple[Replica, Replica]
) -> None:
    """The API server's own log says how long the lease was nobody's, by its own clock alone."""
    shop = app()
    first, second, load = await in_mid_run(lab, pair, shop)
    first.signal(signal.SIGTERM)
    await second.leading(15.0, "SIGTERM")
    assert await first.daemon.ended() == 0
    writes = [
        event
        for event in lab.cluster.audit()
        if event.get("objectRef", {}).get("resource") == "leases"
        and event["objectRef"].get("namespace") == space.system
        and event["verb"] == "patch"
        and event["responseStatus"]["code"] == 200
    ]
    released = [event for event in writes if event["user"]["username"] == first.user][-1]
    taken = next(event for event in writes if event["user"]["username"] == second.user)
    begin = datetime.fromisoformat(released["requestReceivedTimestamp"])
    end = datetime.fromisoformat(taken["requestReceivedTimestamp"])
    free = (end - begin).total_seconds()
    sys.stderr.write(f"SIGTERM: the lease was free for {free:.2f} s\n")
    assert 0.0 < free <= 2.0
    await ends_well(lab, space, shop, second, load)


async def test_a_stopped_leader_that_wakes_up_writes_nothing_toward_risk(
    lab: Lab, space: Space, app: Callable[..., App], pair: tuple[Replica, Replica]
) -> None:
    """By the audit log: after it woke, none of its writes on what a raise writes succeeded.

    A status annotation on the Deployment may still have been on its way; it moves no request.
    """
    shop = app()
    first, second, load = await in_mid_run(lab, pair, shop)
    first.signal(signal.SIGSTOP)
    await second.leading(15.0, "SIGSTOP")
    woken = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    first.signal(signal.SIGCONT)
    await ends_well(lab, space, shop, second, load)
    assert not await first.leads()

    def late(event: dict[str, object]) -> bool:
        ref, user = event.get("objectRef", {}), event["user"]
        status = event.get("responseStatus", {})
        assert isinstance(ref, dict)
        assert isinstance(user, dict)
        assert isinstance(status, dict)
        return (
            user["username"] == first.user
            and event["verb"] not in {"get", "list", "watch"}
            and (ref.get("resource"), ref.get("name")) in RAISED
            and status.get("code", 0) < 300
        )

    found = lab.cluster.audited(late, since=woken)
    assert [(event["verb"], event["requestURI"]) for event in found] == []
