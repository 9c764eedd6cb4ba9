# SPDX-License-Identifier: Apache-2.0
"""A native roll is undone from every moment, by real controllers, with every number of pods.

No process stands behind these pods: what counts here is which of them there are, at each moment.
Nothing is measured either, so a person lets the steps pass. New pods become ready as far as the
moment that is meant, and there the roll stands, with its next batch at most, until it is stopped.
"""

import asyncio
import math
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.gates import GATE, Gates, opening
from tests.cluster.installed import Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import (
    PREFIX,
    App,
    Object,
    deployment,
    is_ready,
    service,
    until,
    version_of,
)
from tests.cluster.scenes import followed, shipped
from tests.support.realtime import Daemon, plain

POLICY = {"policy": "fast", "traffic": "replicas", "steps": "20@1s", "bake": "10m"}
LONELY = {**POLICY, "steps": "50@1s"}
"""Beside a single pod one of the canary is the half; everywhere else a few are enough."""
MOMENTS = {"at 5 %": 0.05, "half-way": 0.5, "at 95 %": 0.95, "in the bake": 1.0, "long after": 1.0}
LATE = "long after"
MOMENT_SECONDS = 240.0
"""Forty pods in batches of four take a minute, and several beside four other clusters."""
"""When those that were undone from any other moment have been back for long."""

pytestmark = [pytest.mark.timeout(600), pytest.mark.once]


SURGE = 0.1
STRATEGY = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": f"{SURGE:.0%}"}}
"""One pod after the other, or four of forty. Without unavailable ones a native roll never has fewer
ready pods of any version than wanted."""


def idle(name: str, version: str, replicas: int, **about: Any) -> Object:
    """A Deployment whose pods do nothing and are ready when they have been there for a second.

    Of pods that are ready at once none would ever be missing, however early the others went.
    """
    policy = POLICY if replicas > 1 else LONELY
    made = deployment(name, annotations=policy, version=version, replicas=replicas, **about)
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["image"] = f"registry.example/pause:{version}"
    container["readinessProbe"] = {"exec": {"command": ["true"]}, "initialDelaySeconds": 1}
    return made


@dataclass(slots=True, kw_only=True)
class Roll:
    """An application whose Deployment rolls natively, and what is seen of its pods meanwhile."""

    lab: Lab
    own: Space
    shop: App
    daemon: Daemon
    gates: Gates
    replicas: int
    met: int = 0
    """New pods that were ready when it was stopped."""
    seen: list[Counter[str]] = field(default_factory=list)
    """Ready pods of the user's own, by version, whenever these numbers changed."""

    def look(self, pods: Collection[Object]) -> None:
        """All pods as they are now.

        The canary's own do not count: a native roll has none to fall back on.
        """
        found = Counter(
            version_of(pod)
            for pod in pods
            if pod["metadata"]["labels"]["app"] == self.shop.name
            and is_ready(pod)
            and "deletionTimestamp" not in pod["metadata"]
            and PREFIX + "track" not in pod["metadata"]["labels"]
        )
        if [found] != self.seen[-1:]:
            self.seen.append(found)

    @property
    def least(self) -> int:
        """The fewest of all versions together."""
        return min(found.total() for found in self.seen)

    @property
    def most(self) -> int:
        """The most of the new version."""
        return max((found["v2"] for found in self.seen), default=0)

    async def judged(self) -> None:
        """Deploy, and wait until only a person is missing."""
        await self.shop.adopted(self.daemon.log)
        changed = idle(self.shop.name, "v2", self.replicas)["spec"]["template"]["spec"]
        pod = {"containers": changed["containers"], "readinessGates": [{"conditionType": GATE}]}
        body = {"spec": {"template": {"spec": pod}}}
        answer = await self.shop.patch("deployments", body)
        assert answer.status == 200, answer.content
        await self.reached("Judging")

    async def promote(self) -> None:
        """A person lets the only step pass: the Deployment is about to roll under traffic."""
        async with plain() as http:
            path = f"/v1/targets/{self.shop.namespace}/{self.shop.name}/promote"
            body = {"reason": "nothing is measured here"}
            said = await http.post(f"{self.daemon.url}{path}", json=body)
        assert said.status_code < 300, said.text

    async def reached(self, *phases: str) -> Object:
        """Wait until the run is in one of these phases, and return its state."""
        found: Object = {}

        async def there() -> bool:
            runs = await records.runs(self.lab.api, self.own.system)
            found.update(*(run for run in runs if run["target"]["name"] == self.shop.name))
            return found.get("phase") in phases

        await until(
            there, MOMENT_SECONDS, lambda: f"{phases}: {found}: {self.daemon.log()}", every=0.1
        )
        return found

    def wanted(self, moment: str) -> int:
        """How many new pods are ready then."""
        return max(1, int(self.replicas * MOMENTS[moment]))

    async def come_to(self, moment: str) -> None:
        """Wait until so much of the roll is done: so many new pods are ready."""
        wanted = self.wanted(moment)

        async def there() -> bool:
            return self.most >= wanted

        told = f"{self.shop.name} has {wanted} new pods"
        await until(there, MOMENT_SECONDS, lambda: f"{told}: {self.daemon.log()}", every=0.05)
        if MOMENTS[moment] == 1.0:
            await self.reached("Baking")

    async def abort(self) -> None:
        """As a person does it with kubectl."""
        self.met = self.most
        asked = {"metadata": {"annotations": {f"{PREFIX}abort": "true"}}}
        assert (await self.shop.patch("deployments", asked)).status == 200

    async def stopped(self) -> None:
        """Wait until the Deployment's controller knows of the pause, and let every pod be ready."""

        async def paused() -> bool:
            found = await self.shop.read("deployments")
            seen = found["status"].get("observedGeneration") == found["metadata"]["generation"]
            return found["spec"].get("paused") is True and seen

        await until(paused, 30.0, lambda: f"{self.shop.name}: {self.daemon.log()}", every=0.1)
        self.gates.let(self.shop.name, 2 * self.replicas + 1)

    async def held_on_stable(self) -> None:
        """All pods are stable's, none is nobody's, and the Deployment rests paused."""
        state = await self.reached(*records.AT_REST)
        assert (state["phase"], state["outcome"]) == ("Held", "aborted"), state
        name = self.shop.name
        found = [p for p in await self.shop.pods() if p["metadata"]["labels"]["app"] == name]
        assert Counter(map(version_of, found)) == {"v1": self.replicas}
        assert all(pod["metadata"].get("ownerReferences") for pod in found)
        selector = (await self.shop.read("services"))["spec"]["selector"]
        assert selector == {"app": name}
        assert (await self.shop.read("deployments"))["spec"]["paused"] is True

    async def undone(self, moment: str) -> None:
        """Let it roll until then, and abort."""
        self.gates.let(self.shop.name, self.wanted(moment))
        await self.promote()
        await self.come_to(moment)
        await self.abort()
        await self.stopped()
        await self.held_on_stable()

    def begun_in(self, moment: str, batch: int) -> None:
        """The undo began where the test says, and the roll did not go on.

        Beyond the batch that was under way there may be pods by which the ReplicaSet's controller
        replaces orphans, until it knows that the ReplicaSet is to go: measured one of forty.
        """
        told = f"undone {moment}: from {self.met} of {self.replicas} pods, {self.most} at most"
        sys.stderr.write(f"{told}\n")
        wanted = self.wanted(moment)
        assert self.met == wanted, f"the moment was missed: {told}, wanted {wanted}"
        assert self.most <= wanted + 2 * batch, told


async def rolling(
    gate: Installed,
    lab: Lab,
    space: Space,
    shops: Sequence[App],
    replicas: int,
    *,
    past: Sequence[str] = (),
    **about: Any,
) -> list[Roll]:
    """Runs whose only step waits for a person, of some applications under one daemon.

    By the shipped account, under the shipped policies. Versions of the `past` have rolled before
    there was a daemon.
    """
    daemon, own = await shipped(gate, lab, space)
    for shop in shops:
        made = idle(shop.name, "v1", replicas, **{"strategy": STRATEGY, **about})
        await shop.create("deployments", made)
        await shop.create("services", service(shop.name))
    for shop in shops:
        await shop.complete()
        for version in past:
            template = idle(shop.name, version, replicas)["spec"]["template"]
            answer = await shop.patch("deployments", {"spec": {"template": template}})
            assert answer.status == 200, answer.content
            await shop.complete()
    await daemon.start()
    gates = await lab.stack.enter_async_context(opening(shops[0]))
    rolls = [
        Roll(lab=lab, own=own, shop=shop, daemon=daemon, gates=gates, replicas=replicas)
        for shop in shops
    ]
    await asyncio.gather(*(roll.judged() for roll in rolls))
    return rolls


@pytest.mark.parametrize("replicas", [1, 8, 40])
async def test_undone_from_every_moment(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], replicas: int
) -> None:
    """From all moments, each with an application of its own, and all but the last at once."""
    # A single pod is all of the roll, or what comes after it.
    moments = tuple(MOMENTS) if replicas > 1 else ("half-way", "in the bake", LATE)
    shops = [app(f"checkout-{number}") for number in range(len(moments))]
    rolls = await rolling(gate, lab, space, shops, replicas)

    def look(pods: Collection[Object]) -> None:
        for roll in rolls:
            roll.look(pods)

    async with followed(shops[0], look):
        *early, late = rolls
        await late.promote()
        each = zip(early, moments, strict=False)
        await asyncio.gather(*(roll.undone(moment) for roll, moment in each))
        await late.come_to(LATE)
        await late.abort()
        await late.held_on_stable()
    for roll, moment in zip(rolls, moments, strict=True):
        roll.begun_in(moment, batch=math.ceil(SURGE * replicas))
        assert roll.least >= replicas, (moment, roll.seen)


@pytest.mark.parametrize(
    "moment", ["half-way", pytest.param("in the bake", marks=pytest.mark.deep)]
)
async def test_not_fewer_pods_than_a_native_roll_may_have(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], moment: str
) -> None:
    """With 25 % unavailable a native roll has six of eight; its undoing has no fewer."""
    strategy = {"rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
    (roll,) = await rolling(gate, lab, space, [app()], 8, strategy=strategy)
    async with followed(roll.shop, roll.look):
        await roll.undone(moment)
    # Two beyond the eight, and two in place of those that may be missing.
    roll.begun_in(moment, batch=4)
    assert roll.least >= 6, roll.seen


async def test_held_survives_scaling_to_nothing_and_back(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """As a scaler does at night: it is stable that comes back, and the failed version never.

    Nor one that was rolled and taken back before, whose ReplicaSet is newer than stable's: left
    alone, a paused Deployment starts the newest.
    """
    (roll,) = await rolling(gate, lab, space, [app()], 4, past=("v1b", "v1"))
    shop = roll.shop
    await roll.promote()
    await roll.reached("RollingOut", "Baking")
    await roll.abort()
    await roll.held_on_stable()
    async with followed(shop, roll.look):
        for replicas in (0, 4):
            answer = await shop.patch("deployments", {"spec": {"replicas": replicas}})
            assert answer.status == 200

            async def scaled(wanted: int = replicas) -> bool:
                return (
                    sum((await shop.ready()).values()) == wanted
                    and len(await shop.pods()) == wanted
                )

            await until(scaled, 60.0, f"{replicas} pods")
    assert roll.most == 0
    await roll.held_on_stable()
