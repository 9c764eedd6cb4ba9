# SPDX-License-Identifier: Apache-2.0
"""A native roll is undone from every moment, by real controllers, with every number of pods.

No process stands behind these pods: what counts here is which of them there are, at each moment.
Nothing is measured either, so a person lets the steps pass.
"""

import sys
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import pytest

from tests.cluster.conftest import Lab, Space
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

POLICY = {"policy": "fast", "traffic": "replicas", "steps": "50@1s", "bake": "10m"}
MOMENTS = {"at 5 %": 0.05, "half-way": 0.5, "at 95 %": 0.95, "in the bake": 1.0}

pytestmark = pytest.mark.timeout(400)


def idle(name: str, version: str, **about: object) -> Object:
    """A Deployment whose pods do nothing and are ready when they have been there for a second.

    Of pods that are ready at once none would ever be missing, however early the others went.
    """
    made = deployment(name, annotations=POLICY, version=version, **about)  # type: ignore[arg-type]
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["image"] = f"registry.example/pause:{version}"
    container["readinessProbe"] = {"exec": {"command": ["true"]}, "initialDelaySeconds": 1}
    return made


@dataclass(slots=True, kw_only=True)
class Watch:
    """How many pods of the user's own were ready, by version, from one event to the next."""

    seen: list[Counter[str]] = field(default_factory=list)

    def look(self, pods: Collection[Object]) -> None:
        """All pods as they are now.

        The canary's own do not count: a native roll has none to fall back on.
        """
        found = Counter(
            version_of(pod)
            for pod in pods
            if is_ready(pod)
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
        return max(found["v2"] for found in self.seen)


async def rolling(
    gate: Installed, lab: Lab, space: Space, shop: App, replicas: int, **about: object
) -> tuple[Daemon, Space]:
    """A run whose only step a person let pass: the Deployment is about to roll under traffic.

    By the shipped account, under the shipped policies; its documents are where the second one says.
    """
    daemon, own = await shipped(gate, lab, space)
    await shop.create("deployments", idle(shop.name, "v1", replicas=replicas, **about))
    await shop.create("services", service(shop.name))
    await shop.complete()
    await daemon.start()
    await shop.adopted(daemon.log)
    changed = idle(shop.name, "v2")["spec"]["template"]["spec"]["containers"]
    answer = await shop.patch(
        "deployments", {"spec": {"template": {"spec": {"containers": changed}}}}
    )
    assert answer.status == 200, answer.content
    await records.reached(lab.api, own.system, "Judging", log=daemon.log)
    async with plain() as http:
        path = f"/v1/targets/{shop.namespace}/{shop.name}/promote"
        said = await http.post(f"{daemon.url}{path}", json={"reason": "nothing is measured here"})
        assert said.status_code < 300, said.text
    return daemon, own


async def come_to(
    moment: str, own: Space, shop: App, daemon: Daemon, *, replicas: int, watch: Watch
) -> None:
    """Wait until so much of the roll is done: so many new pods are ready."""
    wanted = max(1, int(replicas * MOMENTS[moment]))

    async def there() -> bool:
        return watch.most >= wanted

    await until(there, 90.0, lambda: f"{wanted} new pods: {daemon.log()}", every=0.05)
    if moment == "in the bake":
        await records.reached(shop.port, own.system, "Baking", log=daemon.log)


def begun_in(moment: str, replicas: int, watch: Watch) -> None:
    """The undo began where the test says: from there on no pod of the new version was added."""
    most = watch.most
    sys.stderr.write(f"undone {moment}: from {most} of {replicas} pods\n")
    least, *later = [part for part in MOMENTS.values() if part >= MOMENTS[moment]]
    if replicas > 1:
        assert max(1, int(replicas * least)) <= most <= replicas
        # The last two moments of eight pods are one pod apart.
        assert moment not in {"at 5 %", "half-way"} or most < replicas * later[0]


async def abort(shop: App) -> None:
    """As a person does it with kubectl."""
    asked = {"metadata": {"annotations": {"switchgear.dev/abort": "true"}}}
    assert (await shop.patch("deployments", asked)).status == 200


async def held_on_stable(lab: Lab, space: Space, shop: App, daemon: Daemon, replicas: int) -> None:
    """All pods are stable's, none is nobody's, and the Deployment rests paused."""
    state = await records.ended(lab.api, space.system, "aborted", daemon.log)
    assert state["phase"] == "Held"
    found = await shop.pods()
    assert Counter(pod["spec"]["containers"][0]["image"] for pod in found) == {
        "registry.example/pause:v1": replicas
    }
    assert all(pod["metadata"].get("ownerReferences") for pod in found)
    selector = (await shop.read("services"))["spec"]["selector"]
    assert selector == {"app": shop.name}
    assert (await shop.read("deployments"))["spec"]["paused"] is True


CASES = [
    pytest.param(
        replicas,
        moment,
        id=f"{replicas} pods {moment}",
        marks=() if replicas == 8 or moment == "half-way" else pytest.mark.deep,
    )
    for replicas in (1, 8, 40)
    for moment in MOMENTS
]


@pytest.mark.parametrize(("replicas", "moment"), CASES)
async def test_undone_from_every_moment(
    *,
    gate: Installed,
    lab: Lab,
    space: Space,
    app: Callable[..., App],
    replicas: int,
    moment: str,
) -> None:
    shop = app()
    daemon, own = await rolling(gate, lab, space, shop, replicas)
    watch = Watch()
    async with followed(shop, watch.look):
        await come_to(moment, own, shop, daemon, replicas=replicas, watch=watch)
        await abort(shop)
        await held_on_stable(lab, own, shop, daemon, replicas)
    begun_in(moment, replicas, watch)
    # maxUnavailable is 0: a native roll never has fewer ready pods of any version than wanted.
    assert watch.least >= replicas, watch.seen


@pytest.mark.parametrize(
    "moment", ["half-way", pytest.param("in the bake", marks=pytest.mark.deep)]
)
async def test_not_fewer_pods_than_a_native_roll_may_have(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], moment: str
) -> None:
    """With 25 % unavailable a native roll has six of eight; its undoing has no fewer."""
    shop = app()
    strategy = {"rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}
    # So that half-way is a moment that can be met: between two batches of the roll.
    slow = {"strategy": strategy, "minReadySeconds": 2}
    daemon, own = await rolling(gate, lab, space, shop, 8, **slow)
    watch = Watch()
    async with followed(shop, watch.look):
        await come_to(moment, own, shop, daemon, replicas=8, watch=watch)
        await abort(shop)
        await held_on_stable(lab, own, shop, daemon, 8)
    assert any(found["v2"] >= 8 * MOMENTS[moment] for found in watch.seen)
    assert watch.least >= 6, watch.seen


async def test_held_survives_scaling_to_nothing_and_back(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """As a scaler does at night: it is stable that comes back, and the failed version never."""
    shop = app()
    daemon, own = await rolling(gate, lab, space, shop, 4)
    await records.reached(lab.api, own.system, "RollingOut", "Baking", log=daemon.log)
    await abort(shop)
    await held_on_stable(lab, own, shop, daemon, 4)
    watch = Watch()
    async with followed(shop, watch.look):
        for replicas in (0, 4):
            answer = await shop.patch("deployments", {"spec": {"replicas": replicas}})
            assert answer.status == 200

            async def scaled(wanted: int = replicas) -> bool:
                return (
                    sum((await shop.ready()).values()) == wanted
                    and len(await shop.pods()) == wanted
                )

            await until(scaled, 60.0, f"{replicas} pods")
    assert not any(found["v2"] for found in watch.seen)
    await held_on_stable(lab, own, shop, daemon, 4)
