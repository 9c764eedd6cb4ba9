# SPDX-License-Identifier: Apache-2.0
"""What a write of ours did is in the cache with its answer, whatever the watch tells and when."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec

from controller.adapters.clock import LoopClock
from controller.adapters.kube import paths
from controller.adapters.kube.ahead import BELIEVED_SECONDS, Ahead
from controller.adapters.kube.cache import Cache, Only
from controller.adapters.kube.calls import MERGE_PATCH, Calls
from controller.adapters.kube.cluster import KubeCluster
from controller.adapters.kube.reflector import Settings
from controller.core.values import TargetRef
from controller.sim import clock, manifests
from controller.sim.apiserver.request import Request as Asked
from controller.sim.apiserver.request import Response as Answered
from controller.sim.faults import Fault, Plan
from controller.sim.world import World
from tests.support.simwire import SimWire

TARGET = TargetRef("shop", "checkout")
PATH = paths.core("shop", "services", "checkout")
LATE = 5.0
"""Seconds by which the watches are late."""


class Scene:
    """The usual shop, and a cache of it whose watches are late."""

    def __init__(self, world: World, only: Only | None = None) -> None:
        """Nothing runs before `synced`."""
        self.world = world
        self.calls = Calls(SimWire(world.api), LoopClock())
        self.cluster = KubeCluster(self.calls, cache=Cache(only))

    def owner(self, name: str = "checkout") -> str | None:
        """What the cache says that this Service selects."""
        held = self.cluster.cache.services.get("shop", name)
        return dict(held.value.selector).get("owner", "") if held else None

    async def select(self, owner: str) -> None:
        """A write of ours."""
        body = {"spec": {"selector": {"owner": owner}}}
        await self.calls.patch(PATH, body, kind=MERGE_PATCH)

    def other(self, owner: str) -> None:
        """Somebody else's write."""

        def change(found: dict[str, Any]) -> None:
            found["spec"]["selector"]["owner"] = owner

        self.world.edit("services", "shop", "checkout", change)

    def uid(self, name: str = "checkout") -> str:
        """Of the live Service."""
        return str(self.world.get("services", "shop", name)["metadata"]["uid"])

    @contextlib.contextmanager
    def heard(self) -> Iterator[list[str | None]]:
        """Everything that the cache ever said of the Service meanwhile."""
        said: list[str | None] = [self.owner()]

        def listen(_before: object, _after: object) -> None:
            if self.owner() != said[-1]:
                said.append(self.owner())

        self.cluster.cache.services.listen(listen)
        yield said


@contextlib.asynccontextmanager
async def scene(
    late: float = LATE, only: Only | None = None, settings: Settings | None = None
) -> AsyncIterator[Scene]:
    async with World() as world:
        await world.shop(annotations={"switchgear.dev/policy": "standard"})
        Plan().install(world.api).add(Fault.LATE, delay=late)
        found = Scene(world, only)
        running = asyncio.create_task(found.cluster.run(settings))
        await world.until(lambda: found.cluster.synced, within=30)
        await asyncio.sleep(1)  # Each has its watch.
        try:
            yield found
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def told(story: Callable[[Scene], Awaitable[None]], **how: Any) -> None:
    async def main() -> None:
        async with scene(**how) as found:
            await story(found)

    clock.run(main(), limit=3600)


def test_a_patch_is_seen_at_once_and_nothing_older_comes_after_it() -> None:
    async def story(found: Scene) -> None:
        with found.heard() as said:
            found.other("first")
            await found.select("ours")
            assert found.owner() == "ours"
            found.other("last")
            await asyncio.sleep(LATE + 1)
        assert said == ["", "ours", "last"]

    told(story)


def test_what_was_created_is_seen_at_once_and_no_list_takes_it_away() -> None:
    async def story(found: Scene) -> None:
        body = manifests.service("shop", "twin", selector={"owner": "ours"})
        await found.calls.post(paths.core("shop", "services"), body)
        assert found.owner("twin") == "ours"
        # Longer than between two lists, with a watch that never says a word of it.
        for _ in range(70):
            await asyncio.sleep(1)
            assert found.owner("twin") == "ours"

    told(story, late=500.0)


def test_what_was_deleted_is_gone_at_once_and_a_namesake_is_another_one() -> None:
    async def story(found: Scene) -> None:
        with found.heard() as said:
            found.other("first")
            await found.calls.delete(PATH, uid=found.uid())
            assert found.owner() is None
            found.world.create(manifests.service("shop", "checkout", selector={"owner": "again"}))
            await asyncio.sleep(LATE + 1)
            assert found.owner() == "again"
        assert said == ["", None, "again"]

    told(story)


def test_what_was_made_anew_outlasts_the_news_that_it_was_deleted() -> None:
    async def story(found: Scene) -> None:
        with found.heard() as said:
            await found.calls.delete(PATH, uid=found.uid())
            body = manifests.service("shop", "checkout", selector={"owner": "ours"})
            await found.calls.post(paths.core("shop", "services"), body)
            assert found.owner() == "ours"
            await asyncio.sleep(LATE + 1)
        assert said == ["", None, "ours"]

    told(story)


def test_what_has_to_wait_for_a_finalizer_is_still_there_until_it_is_gone() -> None:
    async def story(found: Scene) -> None:
        path = paths.apps("shop", "deployments", "checkout")
        deployments = found.cluster.cache.deployments
        uid = found.world.get("deployments", "shop", "checkout")["metadata"]["uid"]
        await found.calls.delete(path, uid=uid, orphan=True)
        held = deployments.get("shop", "checkout")
        assert held is not None
        assert held.value.deleting
        await found.world.until(lambda: deployments.get("shop", "checkout") is None, within=30)

    told(story)


def test_an_answer_that_comes_after_the_watch_brings_nothing_back() -> None:
    """Made and deleted by others before the answer to the create is here."""

    async def story(found: Scene) -> None:
        async def slow(request: Asked, _response: Answered) -> None:
            if request.method == "POST":
                found.world.delete("services", "shop", "twin")
                await asyncio.sleep(3)

        found.world.api.after.append(slow)
        body = manifests.service("shop", "twin", selector={"owner": "ours"})
        await found.calls.post(paths.core("shop", "services"), body)
        assert found.owner("twin") is None

    told(story, late=0.5)


def test_an_answer_that_comes_after_a_list_of_later_things_changes_nothing() -> None:
    async def story(found: Scene) -> None:
        async def slow(request: Asked, _response: Answered) -> None:
            if request.method == "PATCH":
                found.other("last")
                await asyncio.sleep(5)

        found.world.api.after.append(slow)
        with found.heard() as said:
            await found.select("ours")
        assert said == ["", "last"]

    told(story, late=500.0, settings=Settings(resync=2.0))


def test_an_answer_is_not_believed_for_ever() -> None:
    """A storage that was restored from a backup counts from an earlier version again."""

    async def main() -> None:
        ahead = Ahead(LoopClock())
        ahead.wrote(("shop", "a"), "u", 9)
        ahead.removed(("shop", "b"), "u")
        older = [
            msgspec.json.encode({"metadata": {**meta, "namespace": "shop", "uid": "u"}})
            for meta in ({"name": "a", "resourceVersion": "8"}, {"name": "b"})
        ]
        assert all(ahead.outdates(raw) for raw in older)
        await asyncio.sleep(BELIEVED_SECONDS + 1)
        assert not any(ahead.outdates(raw) for raw in older)
        assert ahead.missing_from("1") == set()

    clock.run(main())


def test_a_sidecar_hears_its_own_writes_too() -> None:
    only = Only(target=TARGET, services=("checkout",), routes=(("HTTPRoute", "checkout"),))

    async def story(found: Scene) -> None:
        await found.select("ours")
        assert found.owner() == "ours"
        body = manifests.service("shop", "neighbour", selector={"owner": "ours"})
        await found.calls.post(paths.core("shop", "services"), body)
        assert found.owner("neighbour") is None, "it watches no other"

    told(story, only=only)
