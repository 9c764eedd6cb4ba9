# SPDX-License-Identifier: Apache-2.0
"""The reflector against servers that do everything but answer properly."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from controller.adapters.clock import LoopClock
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.pods import ConfigMap, parse_config_map
from controller.adapters.kube.reflector import Reflector, Settings, Source
from controller.adapters.kube.store import Store
from controller.adapters.kube.wire import Request, Response, Wire
from controller.core.errors import Unavailable
from controller.sim import clock
from controller.sim.world import World
from tests.support.scripted import (
    Answer,
    ScriptedWire,
    asked,
    config_map,
    lines,
    page,
    watching,
)
from tests.support.simwire import SimWire

PATH = "/api/v1/namespaces/shop/configmaps"
HTML = b"<html><body><h1>503 Service Unavailable</h1></body></html>"


@contextlib.asynccontextmanager
async def reflecting(
    wire: Wire, settings: Settings | None = None, *, optional: bool = False
) -> AsyncIterator[tuple[Reflector[ConfigMap], Store[ConfigMap]]]:
    store: Store[ConfigMap] = Store(parse_config_map)
    source = Source(path=PATH, scope="shop", optional=optional)
    reflector = Reflector(Calls(wire, LoopClock()), source, store, settings)
    task = asyncio.create_task(reflector.run())
    try:
        yield reflector, store
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def names(store: Store[ConfigMap]) -> list[str]:
    return sorted(item.name for item in store)


def virtually(main: Callable[[], Coroutine[Any, Any, None]], limit: float = 3600) -> None:
    clock.run(main(), seed=7, limit=limit)


BAD_WATCHES = {
    "429 as plain text": Answer(status=429, body=(b"Too many requests",)),
    "503 of a load balancer": Answer(status=503, body=(HTML,)),
    "410 as status": Answer(status=410, body=(b"gone",)),
    "410 as frame": Answer(body=(lines(("ERROR", {"code": 410, "reason": "Expired"})),)),
    "an ERROR without a word": Answer(body=(b'{"type":"ERROR","object":7}\n',)),
    "500 as frame": Answer(body=(lines(("ERROR", {"code": 500})),)),
    "nothing at all": Answer(),
    "HTML under a 200": Answer(body=(HTML + b"\n",)),
    "a frame cut off": Answer(body=(b'{"type":"DELETED","object":{"metadata":{"name":"a"',)),
    "half an object that is JSON": Answer(body=(lines(("DELETED", config_map("a", "9")))[:-1],)),
    "reset": Answer(ending="reset"),
    "no rights": Answer(status=403, body=(b"no",)),
    "token refused": Answer(status=401, body=(b"no",)),
    "not found": Answer(status=404, body=(b"no",)),
}


@pytest.mark.parametrize("bad", BAD_WATCHES.values(), ids=BAD_WATCHES.keys())
def test_a_watch_that_always_fails_leaves_a_right_cache_and_few_requests(bad: Answer) -> None:
    async def main() -> None:
        objects = [config_map("a", "5")]

        def script(request: Request) -> Answer:
            return bad if watching(request) else page(objects, "5")

        wire = ScriptedWire(script)
        async with reflecting(wire) as (reflector, store):
            await asyncio.sleep(5)
            assert names(store) == ["a"]
            objects.append(config_map("b", "6"))
            await asyncio.sleep(115)
            assert names(store) == ["a", "b"]
            assert reflector.counters.errors > 0
            # Two minutes: the waits grow to half a minute, a 410 lists again each time.
            assert len(wire.sent) < 30

    virtually(main)


def test_a_silent_stream_is_given_up_and_resumed_from_the_last_version() -> None:
    async def main() -> None:
        def script(request: Request) -> Answer:
            if not watching(request):
                return page([config_map("a", "5")], "5")
            if asked(request, "resourceVersion") == "5":
                return Answer(body=(lines(("ADDED", config_map("b", "8"))),), ending="silence")
            return Answer(body=(lines(("ADDED", config_map("c", "9"))),), ending="silence")

        wire = ScriptedWire(script)
        async with reflecting(wire, Settings(resync=1e6)) as (_, store):
            await asyncio.sleep(10)
            assert names(store) == ["a", "b"]
            await asyncio.sleep(75)
            assert names(store) == ["a", "b", "c"]
            versions = [asked(r, "resourceVersion") for r in wire.sent if watching(r)]
            assert versions == ["5", "8"]

    virtually(main)


def test_bookmarks_and_poison_move_the_version_on() -> None:
    async def main() -> None:
        poison = {"metadata": {"name": "p", "namespace": "shop", "resourceVersion": "7"}, "data": 1}

        def script(request: Request) -> Answer:
            if not watching(request):
                return page([config_map("a", "5"), poison, 12], "6")
            if asked(request, "resourceVersion") == "6":
                mark = {"metadata": {"resourceVersion": "40"}}
                return Answer(body=(lines(("MODIFIED", poison), ("BOOKMARK", mark)),))
            return Answer(ending="silence")

        wire = ScriptedWire(script)
        async with reflecting(wire) as (reflector, store):
            await asyncio.sleep(10)
            assert names(store) == ["a"]
            assert store.skipped == 3
            assert reflector.counters.bookmarks == 1
            assert asked(wire.sent[-1], "resourceVersion") == "40"

    virtually(main)


def test_an_event_that_got_lost_is_made_good_within_a_minute() -> None:
    async def main() -> None:
        objects = [config_map("a", "5"), config_map("b", "5")]

        def script(request: Request) -> Answer:
            return Answer(ending="silence") if watching(request) else page(objects, "5")

        wire = ScriptedWire(script)
        async with reflecting(wire) as (_, store):
            gone: list[str] = []
            store.listen(lambda old, new: gone.append(old.name) if old and not new else None)
            await asyncio.sleep(1)
            objects[:] = [config_map("a", "5"), config_map("c", "9")]
            await asyncio.sleep(60)
            assert names(store) == ["a", "c"]
            assert gone == ["b"]
            again = [r for r in wire.sent if not watching(r)][1]
            assert asked(again, "resourceVersionMatch") == "NotOlderThan"
            assert asked(again, "resourceVersion") == "5"

    virtually(main)


def test_a_list_beside_the_watch_does_not_take_back_what_the_watch_said() -> None:
    async def main() -> None:
        release = asyncio.Event()
        listed = itertools.count()

        class Slow(ScriptedWire):
            async def send(self, request: Request) -> Response:
                answer = await super().send(request)
                if not watching(request) and next(listed) == 1:
                    release.set()
                    await asyncio.sleep(5)
                return answer

        async def told() -> AsyncIterator[bytes]:
            await release.wait()
            await asyncio.sleep(1)
            yield lines(("MODIFIED", config_map("a", "9", new="yes")))
            yield lines(("ADDED", config_map("b", "10")))
            await asyncio.get_running_loop().create_future()

        class Stream(Answer):
            def chunks(self) -> AsyncIterator[bytes]:
                return told()

        def script(request: Request) -> Answer:
            return Stream() if watching(request) else page([config_map("a", "5")], "5")

        async with reflecting(Slow(script)) as (_, store):
            await asyncio.sleep(58)
            held = store.get("shop", "a")
            assert held is not None
            assert held.value.data == {"new": "yes"}
            assert names(store) == ["a", "b"]

    virtually(main)


def test_pages_are_followed_and_a_token_that_expired_begins_anew() -> None:
    async def main() -> None:
        lists = itertools.count()

        def script(request: Request) -> Answer:
            if watching(request):
                return Answer(ending="silence")
            token = asked(request, "continue")
            if not token:
                next(lists)
                return page([config_map("a", "1")], "5", "more")
            if next(lists) == 1:
                return Answer(status=410, body=(b"expired",))
            return page([config_map("b", "2")], "5")

        wire = ScriptedWire(script)
        async with reflecting(wire) as (reflector, store):
            await asyncio.wait_for(reflector.synced.wait(), 10)
            assert names(store) == ["a", "b"]
            assert reflector.counters.expired == 1

    virtually(main)


def test_the_same_name_with_another_uid_is_told_as_gone_and_come() -> None:
    async def main() -> None:
        def script(request: Request) -> Answer:
            if not watching(request):
                return page([config_map("a", "5", "one")], "5")
            event = ("MODIFIED", config_map("a", "6", "two"))
            return Answer(body=(lines(event, event),), ending="silence")

        async with reflecting(ScriptedWire(script)) as (_, store):
            told: list[tuple[str, str]] = []
            store.listen(
                lambda old, new: told.append((old.uid if old else "", new.uid if new else ""))
            )
            await asyncio.sleep(1)
            assert told == [("", "one"), ("one", ""), ("", "two")]

    virtually(main)


def test_retry_after_is_the_least_wait() -> None:
    async def main() -> None:
        def script(_: Request) -> Answer:
            return Answer(status=429, headers={"retry-after": "20"}, body=(b"slow down",))

        wire = ScriptedWire(script)
        async with reflecting(wire) as (reflector, _):
            await asyncio.sleep(60)
            assert not reflector.synced.is_set()
            # One list is up to three tries, a second or two apart, then twenty seconds.
            assert len(wire.sent) <= 9

    virtually(main)


def test_a_kind_that_is_not_there_is_empty_and_asked_for_again() -> None:
    async def main() -> None:
        there = False

        def script(request: Request) -> Answer:
            if not there:
                return Answer(status=404, body=(b"404 page not found",))
            return (
                Answer(ending="silence") if watching(request) else page([config_map("a", "1")], "1")
            )

        wire = ScriptedWire(script)
        async with reflecting(wire, optional=True) as (reflector, store):
            await asyncio.sleep(1)
            assert reflector.synced.is_set()
            assert reflector.stale_seconds == 0
            there = True
            await asyncio.sleep(240)
            assert names(store) == ["a"]
            assert len(wire.sent) < 10

    virtually(main)


def test_an_answer_beyond_the_bound_is_asked_for_in_smaller_pages() -> None:
    async def main() -> None:
        def script(request: Request) -> Answer:
            if watching(request):
                return Answer(ending="silence")
            size = int(asked(request, "limit"))
            items = [config_map(f"c{n}", "1", text="x" * 1024) for n in range(min(size, 100))]
            big = page(items, "1")
            return big if size <= 100 else Answer(body=(b" " * (65 << 20),))

        async with reflecting(ScriptedWire(script)) as (_, store):
            await asyncio.sleep(30)
            assert len(store) > 50

    virtually(main)


@pytest.mark.parametrize("seed", range(6))
def test_chaos_ends_with_the_right_cache_and_a_bounded_number_of_requests(seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        async with World(gateway=False) as world:
            broken = True

            def disturb(_: Request) -> None:
                if broken and dice.random() < 0.3:
                    raise Unavailable("reset")

            class Chaos(SimWire):
                async def send(self, request: Request) -> Response:
                    if broken and dice.random() < 0.4:
                        bad = dice.choice(list(BAD_WATCHES.values()))
                        if bad.status not in {401, 403, 404}:
                            return Response(status=bad.status, headers={}, body=bad.chunks())
                    return await super().send(request)

            wire = Chaos(world.api)
            wire.before.append(disturb)
            made = 0
            async with reflecting(wire) as (_, store):
                for _ in range(400):
                    await asyncio.sleep(dice.random() * 2)
                    made = write(world, dice, made)
                    if dice.random() < 0.02:
                        world.store.compact()
                requests = len(wire.sent)
                broken = False
                await asyncio.sleep(65)
                real = {
                    item["metadata"]["name"]: item["metadata"]["resourceVersion"]
                    for item in world.store.list("configmaps", "shop")
                }
                assert {item.name: item.version for item in store} == real
                # About 400 s of trouble: far below one request per second.
                assert requests < 300

    virtually(main)


def write(world: World, dice: random.Random, made: int) -> int:
    """Create, change or delete one ConfigMap."""
    existing = [item["metadata"]["name"] for item in world.store.list("configmaps", "shop")]
    choice = dice.random()
    if not existing or choice < 0.5:
        meta = {"name": f"c{made}", "namespace": "shop"}
        world.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        return made + 1
    name = dice.choice(existing)
    if choice < 0.8:
        world.edit("configmaps", "shop", name, lambda o: o.update(data={"n": str(choice)}))
    else:
        world.delete("configmaps", "shop", name)
    return made
