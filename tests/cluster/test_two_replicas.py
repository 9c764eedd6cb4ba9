# SPDX-License-Identifier: Apache-2.0
"""Two replicas on a real control plane: one acts, and its end, however it comes, is no event.

By the shipped account, under the shipped policies; each with a token of its own, so that the audit
log tells whose write was whose.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import SYSTEM, Installed
from tests.cluster.lab import effects, records
from tests.cluster.lab.application import App, until
from tests.cluster.lab.relay import Relay
from tests.cluster.lab.traffic import Traffic
from tests.cluster.lab.trail import credential, now
from tests.cluster.scenes import shipped
from tests.manifests.rendered import CONTROLLER
from tests.support.realtime import Daemon, plain

POLICY = {"policy": "fast", "steps": "5@8s,50@8s", "bake": "3s"}

RAISED = {
    ("httproutes", "checkout"),
    ("services", "checkout"),
    ("deployments", "checkout-canary"),
}
"""What raises write, and nothing else that a leader which has just woken could still have to do."""

OWN = ("deployments", "checkout")
"""Written toward risk as well, by the unpause; but annotations of it tell people only."""

# Whole runs in real time, each with two dozen processes.
pytestmark = [pytest.mark.timeout(400), pytest.mark.once]


@dataclass(slots=True, kw_only=True)
class Replica:
    """One daemon, and the token that the API server knows it by."""

    daemon: Daemon
    token: str

    def did(self, event: dict[str, Any]) -> bool:
        """Whether an event of the audit log is its own."""
        return credential(event) == self.token

    async def leads(self) -> bool:
        """Whether it says that it acts."""
        async with plain(seconds=2.0) as http:
            with contextlib.suppress(httpx.HTTPError):
                return (
                    "switchgear_leader 1.0" in (await http.get(f"{self.daemon.url}/metrics")).text
                )
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        process = self.daemon.process
        assert process is not None
        os.kill(process.pid, number)


@pytest.fixture
async def pair(gate: Installed, lab: Lab, space: Space) -> tuple[Replica, Replica]:
    """Two that are not started yet."""
    # Nobody gave it back in the test before.
    lease = ("delete", "lease", "switchgear", "-n", SYSTEM, "--ignore-not-found")
    await asyncio.to_thread(lab.cluster.kubectl, *lease)
    first, own = await shipped(gate, lab, space)
    config = lab.cluster.kubeconfig_for_service_account(SYSTEM, SYSTEM, copy="b")
    second = lab.daemon(own, kubeconfig=config, name="b")
    (trail,) = lab.trails
    trail.logs = lambda: [daemon.folder / "daemon.log" for daemon in (first, second)]
    for daemon, name in ((first, "replica-a"), (second, "replica-b")):
        election = ("--leader-election=on", f"--pod-name={name}")
        daemon.options += (*election, f"--advertise=127.0.0.1:{daemon.port}")
    return (
        Replica(daemon=first, token=_token(gate.controller)),
        Replica(daemon=second, token=_token(config)),
    )


def _token(config: Path) -> str:
    """What the audit log calls the token in a kubeconfig."""
    token = json.loads(config.read_text(encoding="utf-8"))["users"][0]["user"]["token"]
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return f"JTI={claims['jti']}"


async def in_mid_run(
    lab: Lab, pair: tuple[Replica, Replica], shop: App, phase: str = "Judging"
) -> tuple[Replica, Replica, Traffic]:
    """The first replica leads and has come so far with a new version, under load."""
    first, second = pair
    load = await with_a_new_version(lab, pair, shop, POLICY)
    await records.reached(lab.api, SYSTEM, phase, log=first.daemon.log, within=120.0)
    return first, second, load


async def with_a_new_version(
    lab: Lab, pair: tuple[Replica, Replica], shop: App, policy: dict[str, str]
) -> Traffic:
    """The first replica leads, the second stands by, and a new version is there, under load."""
    first, second = pair
    await shop.start(annotations=policy, replicas=2)
    await first.daemon.start()
    await until(first.leads, 120.0, "the first one leads")
    await second.daemon.start()
    await second.daemon.answers("/readyz", within=120.0)
    await shop.adopted(first.daemon.log)
    load = await lab.load(shop)
    await shop.deploy("v2")
    return load


async def acted(lab: Lab, space: Space, replica: Replica, since: str, within: float) -> None:
    """The replica's first write about the run was there so many seconds after a time.

    Taking the lease is none, nor is the epoch, nor what people are told. The first one is a record
    in the run's document, which carries the epoch under which it goes on.
    """
    found: list[dict[str, Any]] = []

    def about_the_run(event: dict[str, Any]) -> bool:
        ref = event.get("objectRef", {})
        return (
            replica.did(event)
            and event["verb"] in {"create", "update", "patch", "delete"}
            and event["responseStatus"]["code"] < 300
            and ref.get("namespace") in {space.name, SYSTEM}
            and ref.get("resource") not in {"leases", "events"}
            and ref.get("name") != "switchgear-cluster"
        )

    async def wrote() -> bool:
        found[:] = lab.cluster.audited(about_the_run, since=since, user=CONTROLLER)
        return bool(found)

    # Looked for much longer than it may take: what is judged is when it came.
    await until(wrote, within + 30.0, lambda: f"the other one acts: {replica.daemon.log()}")
    came = datetime.fromisoformat(found[0]["requestReceivedTimestamp"])
    took = (came - datetime.fromisoformat(since)).total_seconds()
    sys.stderr.write(f"the other one acts after {took:.2f} s: {found[0]['requestURI']}\n")
    assert took <= within
    epochs = [record["epoch"] for record in await records.journal(lab.api, SYSTEM)]
    assert epochs == sorted(epochs)
    assert epochs[-1] == epochs[0] + 1


async def ends_well(lab: Lab, shop: App, second: Replica, load: Traffic) -> None:
    await records.ended(lab.api, SYSTEM, "promoted", second.daemon.log)
    await shop.complete()
    assert await shop.ready() == {"v2": 2}
    assert load.failures == {}


async def test_a_leader_that_is_killed_is_replaced_within_fifteen_seconds(
    lab: Lab, space: Space, app: Callable[..., App], pair: tuple[Replica, Replica]
) -> None:
    shop = app()
    first, second, load = await in_mid_run(lab, pair, shop)
    # Of a write toward safety the record comes after it, so a killed one may have died in between.
    lab.trails[0].killed = first.token
    since = now()
    first.signal(signal.SIGKILL)
    await acted(lab, space, second, since, within=15.0)
    await ends_well(lab, shop, second, load)


async def test_a_leader_that_is_asked_to_end_makes_way_at_once(
    lab: Lab, space: Space, app: Callable[..., App], pair: tuple[Replica, Replica]
) -> None:
    shop = app()
    first, second, load = await in_mid_run(lab, pair, shop)
    since = now()
    first.signal(signal.SIGTERM)
    await acted(lab, space, second, since, within=2.0)
    assert await first.daemon.ended() == 0
    await ends_well(lab, shop, second, load)


async def test_a_raise_that_a_stopped_leader_has_on_its_way_is_refused(
    lab: Lab, space: Space, app: Callable[..., App], pair: tuple[Replica, Replica]
) -> None:
    """It has its permit and is sent; it arrives when the leader wakes, and another one leads.

    The API server refuses it, since the other one has claimed the route; and that one raises.
    """
    shop = app()
    first, second = pair
    relay = Relay(raises_to_half)
    way = relay.serving(first.daemon.kubeconfig)
    first.daemon.kubeconfig = await lab.stack.enter_async_context(way)
    load = await with_a_new_version(lab, pair, shop, {**POLICY, "steps": "5@3s,50@3s"})
    async with asyncio.timeout(120.0):
        await relay.held.wait()
    lab.trails[0].killed = first.token
    since = now()
    first.signal(signal.SIGSTOP)
    await acted(lab, space, second, since, within=15.0)
    await until(lambda: claimed(lab, second, since), 30.0, second.daemon.log)
    woken = now()
    first.signal(signal.SIGCONT)
    relay.free.set()
    await ends_well(lab, shop, second, load)
    await awake(lab, first, woken)
    assert [event["responseStatus"]["code"] for event in raised(lab, first, woken)] == [422]
    halves = [event for event in raised(lab, second, since) if on_the_route(event, 5_000)]
    assert 200 in {event["responseStatus"]["code"] for event in halves}


def raises_to_half(method: str, path: str, body: bytes) -> bool:
    """Whether a request gives the canary half of the route."""
    return method == "PATCH" and "/httproutes/" in path and b'/weight","value":5000' in body


@pytest.mark.deep
@pytest.mark.parametrize("phase", ["Judging", "Committing", "Rolling"])
async def test_a_stopped_leader_that_wakes_up_writes_nothing_toward_risk(
    *,
    lab: Lab,
    space: Space,
    app: Callable[..., App],
    pair: tuple[Replica, Replica],
    phase: str,
) -> None:
    """By the audit log: after it woke, none of its writes on what a raise writes succeeded.

    A status annotation on the Deployment may still have been on its way; it moves no request.
    """
    shop = app()
    first, second, load = await in_mid_run(lab, pair, shop, phase)
    # What it had on its way may have arrived, and it may not write the run's journal any more.
    lab.trails[0].killed = first.token
    since = now()
    first.signal(signal.SIGSTOP)
    await acted(lab, space, second, since, within=15.0)
    woken = now()
    first.signal(signal.SIGCONT)
    await ends_well(lab, shop, second, load)
    await awake(lab, first, woken)
    codes = [event["responseStatus"]["code"] for event in raised(lab, first, woken)]
    sys.stderr.write(f"what it tried: {codes}\n")
    # A request of which only the head had arrived is given up by the API server itself (504).
    assert [code for code in codes if code not in {409, 422, 504}] == []


async def awake(lab: Lab, replica: Replica, woken: str) -> None:
    """It asks for the lease and does not lead: one that died would write nothing either."""
    await replica.daemon.answers("/readyz", within=60.0)
    assert not await replica.leads()

    def asks(event: dict[str, Any]) -> bool:
        return replica.did(event) and event.get("objectRef", {}).get("resource") == "leases"

    assert lab.cluster.audited(asks, since=woken, user=CONTROLLER)


def raised(lab: Lab, replica: Replica, since: str) -> list[dict[str, Any]]:
    """What a replica wrote since then, or tried to, on what a raise writes; oldest first."""

    def late(event: dict[str, Any]) -> bool:
        ref = event.get("objectRef", {})
        what = (ref.get("resource"), ref.get("name"))
        return (
            replica.did(event)
            and event["verb"] not in {"get", "list", "watch"}
            and (what in RAISED or (what == OWN and not tells_only(event.get("requestObject"))))
        )

    return lab.cluster.audited(late, since=since, user=CONTROLLER)


async def claimed(lab: Lab, replica: Replica, since: str) -> bool:
    """Whether the replica has put its epoch on the route."""
    return any(
        event["objectRef"]["resource"] == "httproutes" and effects.claims(event)
        for event in raised(lab, replica, since)
    )


def on_the_route(event: dict[str, Any], weight: int) -> bool:
    """Whether it gives somebody this weight."""
    changed = effects.changes(event.get("requestObject"))
    return weight in (value for path, value in changed.items() if path.endswith("/weight"))


def tells_only(body: object) -> bool:
    """Whether a patch touches nothing but metadata; a body that is not known does not."""
    if isinstance(body, list):
        return all(op["op"] == "test" or op["path"].startswith("/metadata/") for op in body)
    return isinstance(body, dict) and body.keys() == {"metadata"}
