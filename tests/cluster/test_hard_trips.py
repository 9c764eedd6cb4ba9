# SPDX-License-Identifier: Apache-2.0
"""What pods themselves say so clearly that no statistics are needed: one of each kind, all at once.

Each ends its own run and no other: four targets that trip are one fewer than the breaker of the
whole fleet asks for.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import App, Object, is_ready, new_version, until, version_of
from tests.cluster.lab.traffic import Traffic
from tests.cluster.scenes import shipped

POLICY: Final = {"policy": "fast", "steps": "5@60s", "bake": "3s"}
"""The step outlasts the test, so that whatever ends a run is what the pods say."""

REPLICAS: Final = 2

OPTIONS: Final = ("--provider=traefik", "--ready-seconds=15")
"""A canary may be awaited as long as that; the others are there in two, on a busy machine too."""

pytestmark = [pytest.mark.timeout(300), pytest.mark.once]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of version that cannot be run, and what people read of it."""

    change: Object
    """The patch by which a pipeline deploys it."""
    reason: str
    outcome: str = "rolled-back"
    serves: bool = False
    """Whether it gets its share of the requests before it fails."""


def _nowhere() -> Object:
    """A version for which no node is good enough."""
    change = new_version("v2")
    change["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "none"}
    return change


KINDS: Final[Mapping[str, Kind]] = {
    "crashes": Kind(change=new_version("v2", {"CRASH": "1"}), reason="is crash-looping"),
    "starves": Kind(change=new_version("v2", {"OOM_SECONDS": "0"}), reason="for want of memory"),
    "no-image": Kind(change=new_version("missing"), reason="does not get its image"),
    "unready": Kind(
        change=new_version("v2", {"UNREADY_SECONDS": "10"}),
        reason="was ready and is not any more",
        serves=True,
    ),
    "no-place": Kind(
        change=_nowhere(),
        reason="0 of 1 canary pods are ready after 15 s",
        outcome="inconclusive",
    ),
}


async def test_each_kind_ends_its_own_run_and_stable_serves_on(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    daemon, own = await shipped(gate, lab, space, options=OPTIONS)
    shops = {name: app(name) for name in KINDS}
    about = {"annotations": POLICY, "replicas": REPLICAS}
    await asyncio.gather(*(shop.start(**about) for shop in shops.values()))
    await daemon.start()
    for shop in shops.values():
        await shop.adopted(daemon.log)
    loads = {
        name: await lab.load(shop, rate=30.0, direct_rate=10.0) for name, shop in shops.items()
    }
    before = {name: await shop.of_git() for name, shop in shops.items()}
    for name, shop in shops.items():
        answer = await shop.patch("deployments", KINDS[name].change)
        assert answer.status == 200, answer.content
    runs = await _at_rest(lab, own, daemon.log)
    await asyncio.gather(*(load.until_answered(50) for load in loads.values()))
    for name, shop in shops.items():
        _told(runs[name], KINDS[name])
        assert runs[name]["reason"] in (await shop.annotation("status") or "")
        await _intact(shop, before[name])
        _served(loads[name], KINDS[name], await _began_back(lab, own, name))


async def _at_rest(lab: Lab, own: Space, log: Callable[[], str]) -> dict[str, Object]:
    """The state of each application's only run, once all of them have ended."""
    found: dict[str, Object] = {}

    async def ended() -> bool:
        runs = await records.runs(lab.api, own.system)
        found.update({run["target"]["name"]: run for run in runs})
        assert len(runs) == len(found), "one run each"
        return len(found) == len(KINDS) and all(run["phase"] == "Held" for run in runs)

    await until(ended, 120.0, lambda: f"{found}: {log()}")
    return found


def _told(run: Object, kind: Kind) -> None:
    """Whether the version is called bad, and the words for it."""
    tripped = kind.outcome == "rolled-back"
    assert run["outcome"] == kind.outcome, run
    assert (run["tripped"], run["quarantined"]) == (tripped, tripped), run
    assert kind.reason in run["reason"], run


async def _intact(shop: App, before: Object) -> None:
    """Stable serves alone, and the Service and the route are what they were."""
    own = [pod for pod in await shop.pods() if pod["metadata"]["labels"]["app"] == shop.name]
    assert [version_of(pod) for pod in own if is_ready(pod)] == ["v1"] * REPLICAS, own
    assert len(own) == REPLICAS, "nothing is left of the canary"
    assert await shop.weights() == {shop.name: 1}
    after = await shop.of_git()
    assert after["deployments"]["spec"].get("paused") is True
    for kind in ("services", "httproutes"):
        assert after[kind] == before[kind]


async def _began_back(lab: Lab, own: Space, name: str) -> float:
    """When an application's run began its way back, as seconds since 1970."""
    found = [
        record["body"]["decided_at"]
        for document in await records.documents(lab.api, own.system)
        if json.loads(document["data"]["state"])["target"]["name"] == name
        for record in records.records_of(document)
        if record["kind"] == "decision" and record["body"]["to"] == "RollingBack"
    ]
    return datetime.fromisoformat(found[0]).timestamp()


def _served(load: Traffic, kind: Kind, back: float) -> None:
    """Nobody met a pod that could not serve.

    One that serves, then says that it is not well, is taken out of service by the endpoints at
    once, while the gateway takes two seconds until its share is stable's again: for so long nobody
    is there for that share, and for no longer.
    """
    assert load.answers("v1").bad == 0
    assert load.answers("v2").bad == 0
    if not kind.serves:
        assert load.answers("v2").total == 0
        assert load.failures == {}
    else:
        assert load.answers("v2").total > 0
        assert [at - back for at in load.failed_at() if not -1.0 < at - back < 3.0] == []
