# SPDX-License-Identifier: Apache-2.0
"""What tests with requests begin with: an application on a data plane, and a daemon that knows it.

Clients come through the data plane and past it. Whatever they count that is no answer of the
application failed because of what was done to its pods.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from controller.core.values import WHOLE_BP
from tests.cluster.conftest import QUICK, Lab, Space
from tests.cluster.installed import SYSTEM, Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import PREFIX, App, Object, until
from tests.cluster.lab.traffic import Traffic
from tests.cluster.lab.trail import Trail, now
from tests.manifests.rendered import CONTROLLER
from tests.support.realtime import Daemon, plain

PLANES: Final = ("traefik", "envoy")

DRAINS: Final[dict[str, dict[str, str]]] = {"dies-at-once": {}, "drains": {"DRAIN_SECONDS": "3"}}
"""Environments of an application by what its pods do when they are asked to end."""

FORGOTTEN_SECONDS: Final = 5.0
"""So late after a pod went a gateway asks for it no more: 1.5 s were seen, on an idle machine."""

RESTED: Final = 300
"""Answers until a gateway has rested that was given a route. Traefik takes the first change at once
and the next two seconds later: of a roll just after the route it knew the most after 0.8 s, of four
others after 1.6 s, and 109 requests failed in that one, and 155 to 162 in each of these."""

ANY_LAG: Final = 3**-0.5
"""A gateway hears of a pod that goes after next to nothing to twice the mean."""

SAME_LAG: Final = 0.2
"""One that has rested hears of it as late in each whole roll: five times what was measured, where
155 to 162 failed in four native rolls (and 109 to 135 in runs, with a canary pod beside them)."""

SEEN_SECONDS: Final = 1.0
"""So late a test may hear that a pod was asked to end."""

LEFT: Final = ("managed", "status", "maker")
"""Annotations of a Deployment at rest by which the controller tells of it."""


@dataclass(slots=True, kw_only=True)
class Scene:
    """One application under one daemon, and its clients."""

    lab: Lab
    space: Space
    shop: App
    daemon: Daemon
    load: Traffic
    before: dict[str, Object] = field(default_factory=dict)
    """The team's objects at rest, before anything was deployed."""

    async def ended(self, outcome: str) -> Object:
        """Wait until the newest run rests with this outcome; returns its state."""
        return await records.ended(self.lab.api, self.space.system, outcome, self.daemon.log)

    async def reached(self, *phases: str, share: int | None = None) -> None:
        """Wait until the newest run is in one of these phases with this share in percent."""

        async def there() -> bool:
            runs = await records.runs(self.lab.api, self.space.system)
            at = bool(runs) and runs[-1]["phase"] in phases
            return at and share in {None, await self._share()}

        await until(there, 120.0, lambda: f"{phases}, {share} %: {self.daemon.log()}", every=0.1)

    async def _share(self) -> int:
        """What the route gives the canary, in percent."""
        weights = await self.shop.weights()
        canary = weights.get(f"{self.shop.name}-canary", 0)
        return 100 * canary // (sum(weights.values()) or 1)

    async def abort(self) -> None:
        """As a person does it with kubectl."""
        asked = {"metadata": {"annotations": {f"{PREFIX}abort": "true"}}}
        answer = await self.shop.patch("deployments", asked)
        assert answer.status == 200, answer.content

    async def pause(self, *, on: bool) -> None:
        """Keep the weight where it is, or let the run go on."""
        asked = {"metadata": {"annotations": {f"{PREFIX}paused": "true" if on else None}}}
        answer = await self.shop.patch("deployments", asked)
        assert answer.status == 200, answer.content

    async def in_time_for(self, age: float) -> None:
        """Keep the run where it is until its first canary pod has this age in seconds.

        So a version that turns bad at an age does so in a phase of the test's choice, however long
        this machine took for what came before.
        """
        await self.pause(on=True)
        begun = min(
            datetime.fromisoformat(status["state"]["running"]["startedAt"])
            for pod in await self.shop.pods()
            if PREFIX + "track" in pod["metadata"]["labels"]
            for status in pod["status"]["containerStatuses"]
        )
        left = age - (datetime.now(UTC) - begun).total_seconds()
        assert left > 0.0, "this machine is too slow for what the test wants to see"
        await asyncio.sleep(left)
        await self.pause(on=False)

    async def tripped_in(self, phase: str, most_bp: int = WHOLE_BP) -> None:
        """The newest run was ended by the breaker, in this phase, with at most this share."""
        api, system = self.lab.api, self.space.system
        await records.tripped_in(api, system, phase, self.daemon.log, most_bp=most_bp)

    async def went_to(self, phase: str) -> float:
        """When the newest run decided to go to a phase, as seconds since 1970."""
        return await records.went_to(self.lab.api, self.space.system, phase)

    async def kill(self) -> None:
        """At the daemon's door; not waited for."""
        body = {"namespace": self.shop.namespace, "name": self.shop.name}
        async with plain() as http:
            answer = await http.post(f"{self.daemon.url}/v1/kill?wait=0", json=body)
        assert answer.status_code in {200, 202}, answer.text

    async def objects(self) -> dict[str, Object]:
        """The team's objects now, without the few annotations that a run may leave behind."""
        found = await self.shop.of_git()
        annotations = found["deployments"]["metadata"].get("annotations") or {}
        for name in LEFT:
            annotations.pop(PREFIX + name, None)
        return found


Look = Callable[[Collection[Object]], None]
"""Is given all pods of a namespace as they are at a moment."""


@contextlib.asynccontextmanager
async def followed(app: App, look: Look) -> AsyncIterator[None]:
    """Look at the pods of the application's namespace while the block lasts.

    After each event of the API server's own watch, so that no state is missed. A watch that ends
    too early fails the test.
    """
    listed = (await app.send("GET", app.path("pods"))).json
    pods = {pod["metadata"]["name"]: pod for pod in listed["items"]}
    look(pods.values())
    task = asyncio.ensure_future(_follow(app, pods, look, listed["metadata"]["resourceVersion"]))
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _follow(app: App, pods: dict[str, Object], look: Look, since: str) -> None:
    about = {"watch": "true", "resourceVersion": since}
    async with app.port.lines(app.path("pods"), about) as lines:
        async for line in lines:
            event = json.loads(line)
            pod = event["object"]
            pods[pod["metadata"]["name"]] = pod
            if event["type"] == "DELETED":
                del pods[pod["metadata"]["name"]]
            look(pods.values())


@dataclass(slots=True)
class Gone:
    """Which pods were asked to end, and when that was seen, as seconds since 1970; by name."""

    own: dict[str, float] = field(default_factory=dict)
    """The application's own."""
    canary: dict[str, float] = field(default_factory=dict)
    """Of the controller's twin."""
    _standing: dict[str, bool] = field(default_factory=dict)
    """Whether it is the twin's, of each pod that stood at the last look."""

    def look(self, pods: Collection[Object]) -> None:
        """What stands no more since the last look has gone; see `followed`."""
        before = self._standing
        self._standing = {
            pod["metadata"]["name"]: PREFIX + "track" in pod["metadata"]["labels"]
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
        }
        for name in before.keys() - self._standing.keys():
            (self.canary if before[name] else self.own)[name] = time.time()

    def standing(self) -> set[str]:
        """The application's own pods at the last look."""
        return {name for name, canary in self._standing.items() if not canary}


async def only_the_roll_cost(
    lab: Lab, system: str, gone: Gone, stable: set[str], failed: Iterable[float]
) -> None:
    """In a promoted run with `promotion: roll` Kubernetes' own roll is all that took anything.

    The stable pods went in it and no other of the application's, and whatever `failed` (ends of
    slots) failed in it or in the bake, while a gateway may still ask for a pod that went. The
    canary pods go afterwards, when nothing leads to them, and cost nothing.
    """
    begin = await records.went_to(lab.api, system, "RollingOut")
    end = await records.went_to(lab.api, system, "Restoring")
    assert gone.own.keys() == stable, (gone.own, stable)
    assert [at - begin for at in gone.own.values() if not begin < at < end] == []
    assert gone.canary, "no canary pod was seen to go"
    assert [at - end for at in gone.canary.values() if at < end] == []
    failed = list(failed)
    assert [at - begin for at in failed if not begin < at < end] == [], end - begin
    first, last = min(gone.own.values()), max(gone.own.values())
    since, until_then = first - SEEN_SECONDS, last + FORGOTTEN_SECONDS
    sys.stderr.write(f"the stable pods went within {last - first:.1f} s; ")
    sys.stderr.write(f"the last failed after {max(failed, default=first) - last:.1f} s\n")
    assert [at - last for at in failed if not since < at < until_then] == [], last - first


def not_more(
    ours: int, theirs: int, what: object, *, pods: float = 4.0, spread: float = ANY_LAG
) -> None:
    """So many pods went in each way; how many requests meet one that goes is chance.

    And not Poisson's alone: all that come until the gateway hears of it fail, and that varies by
    `spread`, a part of the mean. Three standard errors of such a sum, for each of the two.
    """
    each = theirs / max(pods, 1.0)
    deviation = (2 * pods * (each * spread) ** 2 + ours + theirs) ** 0.5
    assert ours <= theirs + 3 * deviation + 3, (ours, theirs, what)


async def begun(
    gate: Installed,
    lab: Lab,
    space: Space,
    shop: App,
    *,
    policy: Mapping[str, str],
    env: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    **about: Any,
) -> Scene:
    """Everything at rest under load, adopted by a daemon that judges by the data plane's counts.

    By the shipped account, under the shipped policies. `options` are the daemon's, beside the quick
    ones; `about` as for `deployment`.
    """
    options = (f"--provider={shop.gateway}", "--provider=application", *options)
    daemon, own = await shipped(gate, lab, space, options=options)
    await shop.start(annotations=policy, env=env, **about)
    await daemon.start()

    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    scene = Scene(lab=lab, space=own, shop=shop, daemon=daemon, load=load)
    scene.before = await scene.objects()
    return scene


async def shipped(
    gate: Installed, lab: Lab, space: Space, *, options: tuple[str, ...] = ()
) -> tuple[Daemon, Space]:
    """The daemon as the shipped account, and the space with the namespace of its documents.

    When the test has passed, all that the account did must be in order (`Trail.holds`).
    """
    await asyncio.to_thread(gate.forget)
    found = Space(name=space.name, system=SYSTEM)
    daemon = lab.daemon(found, kubeconfig=gate.controller, options=(*QUICK, *options))
    trail = Trail(
        cluster=lab.cluster,
        user=CONTROLLER,
        system=SYSTEM,
        targets=space.name,
        logs=lambda: [daemon.folder / "daemon.log"],
        since=now(),
    )
    lab.trails.append(trail)
    return daemon, found
