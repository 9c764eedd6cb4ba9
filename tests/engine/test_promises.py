# SPDX-License-Identifier: Apache-2.0
"""The promises, watched at every write that reaches the API server, whatever the story is."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from controller.adapters.kube.documents import KubeDocuments
from controller.sim import clock
from controller.sim.apiserver.request import Request
from controller.sim.apiserver.store import Event
from controller.sim.faults import MUTATING, Fault, Plan
from tests.engine.house import POLICY, House, house
from tests.engine.sweep import quick

IMAGE = "registry.example/app:v2"
AGENT = "switchgear"
CAPS = {0: 500, 1: 2500, 2: 9500, 3: 10_000}
"""Rungs of the house's ladder, in basis points."""
FIELDS = {
    "deployments": {"paused"},
    "services": {"selector"},
    "httproutes": {"rules"},
    "grpcroutes": {"rules"},
    "replicasets": {"replicas"},
}
"""What of a spec of the user's objects may be written, by kind."""
KINDS = set(FIELDS) | {"configmaps", "events"}


def _ours(name: str) -> bool:
    return name.endswith("-canary") or "-canary-" in name


class Watcher:
    """Looks at every write; `broken` holds what it did not like."""

    def __init__(self, found: House) -> None:
        """Begin to look."""
        self.found = found
        self.broken: list[str] = []
        self.raises = 0
        self._writing = ""
        world = found.world
        world.api.before.append(self._before)
        world.api.after.append(self._after)
        world.store.subscribe(self._event)

    async def _before(self, request: Request) -> None:
        agent = request.headers.get("user-agent", "")
        self._writing = request.method if AGENT in agent and request.method != "GET" else ""

    async def _after(self, _request: Request, _response: object) -> None:
        self._writing = ""

    def _event(self, event: Event) -> None:
        # The server writes without giving way, so that this is the write of the request at hand
        # or what another writer does outside of any request.
        if not self._writing:
            return
        plural, name = event.resource.plural, event.obj["metadata"]["name"]
        if plural not in KINDS:
            self.broken.append(f"S12: wrote a {plural} {name}")
        if plural in FIELDS and not _ours(name) and event.previous is not None:
            before, after = event.previous.get("spec", {}), event.obj.get("spec", {})
            moved = {key for key in {*before, *after} if before.get(key) != after.get(key)}
            if moved - FIELDS[plural]:
                self.broken.append(f"S12: wrote {sorted(moved)} of {plural} {name}")
            notes = _moved(_notes(event.previous), _notes(event.obj))
            foreign = {key for key in notes if not key.startswith("switchgear.dev/")}
            if foreign:
                self.broken.append(f"S12: wrote the annotations {sorted(foreign)} of {name}")
        if plural in {"httproutes", "grpcroutes"} and event.previous is not None:
            self._weights(event.previous, event.obj)

    def _weights(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        share = _share(after)
        if share <= _share(before):
            return
        self.raises += 1
        documents = self.found.documents()
        state = json.loads(documents[-1]["data"]["state"])
        if share > CAPS[state["granted"]]:
            self.broken.append(f"S1: {share} with rung {state['granted']} granted")
        if not self._ready():
            self.broken.append("S5: weight without ready endpoints")
        records = [json.loads(line) for line in documents[-1]["data"]["journal"].splitlines()]
        done = {item["body"]["intent"] for item in records if item["kind"] == "outcome"}
        waiting = [
            item
            for item in records
            if item["kind"] == "intent"
            and item["body"]["effect"] == "RaiseWeight"
            and item["seq"] not in done
        ]
        if len(waiting) != 1:
            self.broken.append(f"S6: {len(waiting)} open intents at a raise")

    def _ready(self) -> bool:
        return any(
            address.get("conditions", {}).get("ready", True)
            for item in self.found.world.store.list("endpointslices", "shop")
            if item["metadata"]["labels"].get("kubernetes.io/service-name") == "checkout-canary"
            for address in item.get("endpoints") or ()
        )

    def settled(self) -> None:
        """Nothing was broken, and each intent to raise has got one outcome."""
        assert self.broken == []
        records = self.found.journal()
        wanted = {item["seq"] for item in records if item["kind"] == "intent"}
        known = [item["body"]["intent"] for item in records if item["kind"] == "outcome"]
        assert sorted(known) == sorted(wanted)


def _notes(item: dict[str, Any]) -> dict[str, str]:
    return dict(item["metadata"].get("annotations") or {})


def _moved(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    return (key for key in {*before, *after} if before.get(key) != after.get(key))


def _share(route: dict[str, Any]) -> int:
    refs = route["spec"]["rules"][0]["backendRefs"]
    total = sum(ref.get("weight", 1) for ref in refs) or 1
    canary = sum(ref.get("weight", 1) for ref in refs if _ours(ref["name"]))
    return int(canary * 10_000 // total)


@pytest.mark.parametrize(
    ("env", "outcome"),
    [
        ({}, "promoted"),
        ({"ERROR_RATE": "0.5"}, "rolled-back"),
        ({"CRASH": "1"}, "rolled-back"),
        ({"NEVER_READY": "1"}, "inconclusive"),
    ],
    ids=["good", "errors", "crash", "never ready"],
)
def test_every_write_keeps_the_promises(env: dict[str, str], outcome: str) -> None:
    """Caps, endpoints, intents, and only what is ours to write."""

    async def story() -> None:
        async with house() as found:
            watcher = Watcher(found)
            found.world.set_image("shop", "checkout", IMAGE, env or None)
            await found.ended(outcome)
            watcher.settled()
            assert (watcher.raises > 0) is ("ERROR_RATE" in env or not env)

    clock.run(story())


@pytest.mark.slow
def test_the_older_of_two_engines_raises_nothing() -> None:
    """The newer one has claimed the epoch; the older one may only lead toward safety."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Scaling")
            assert found.engine is not None
            calls = found.engine.documents._calls  # type: ignore[attr-defined]
            assert await KubeDocuments(calls, "switchgear").claim_epoch() == 2
            weights: set[int] = set()
            end = asyncio.get_running_loop().time() + 120
            while asyncio.get_running_loop().time() < end:
                weights.add(world.weights("checkout").get("checkout-canary", 0))
                await asyncio.sleep(0.5)
            assert weights == {0}
            newer = House(world)
            await found.stop()
            await newer.start()
            await newer.ended("promoted")
            newer.at_rest()

    clock.run(story())


@pytest.mark.slow
def test_at_rest_nothing_is_asked() -> None:
    """No query of metrics, and no request but watches and their lists anew once a minute."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.ended("promoted")
            await world.settle()
            await asyncio.sleep(60)
            queries = world.prometheus.queries
            sent: list[str] = []

            async def note(request: Request) -> None:
                if AGENT in request.headers.get("user-agent", ""):
                    sent.append(f"{request.method} {request.path}")

            world.api.before.append(note)
            await asyncio.sleep(600)
            assert world.prometheus.queries == queries
            assert all(line.startswith("GET ") for line in sent)
            assert not [line for line in sent if line.endswith("/checkout")]
            # A list and a watch for each kind, once a minute or less often.
            per_kind = {line: sent.count(line) for line in sent}
            assert max(per_kind.values(), default=0) <= 2 * 11

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize(
    "restarted", quick([False, True], True), ids=["one leader", "a restart in between"]
)
def test_five_trips_open_the_breaker_of_the_fleet(*, restarted: bool) -> None:
    """A shared cause is likelier than five bad versions: the sixth target does not begin."""

    async def story() -> None:
        notes = dict(POLICY)
        async with house(annotations=notes) as found:
            world = found.world
            names = [f"app{number}" for number in range(6)]
            for name in names:
                await world.shop(name=name, rate=400.0, annotations=notes)
            await asyncio.sleep(10)
            env = {"ERROR_RATE": "0.5"}
            for name in names[:4]:
                world.set_image("shop", name, IMAGE, env)
            await found.until(lambda: sum(run["tripped"] for run in found.runs()) == 4, 60)
            if restarted:
                await found.stop()
                await found.start()
            else:
                # The fifth trip finds the document of the cluster unwritable for a while.
                end = asyncio.get_running_loop().time() + 30
                plan = Plan().install(world.api)
                plan.add(Fault.INTERNAL, path="/switchgear-cluster", methods=MUTATING, end=end)
            world.set_image("shop", names[4], IMAGE, env)
            await found.until(lambda: sum(run["tripped"] for run in found.runs()) == 5, 60)
            await asyncio.sleep(15)
            world.set_image("shop", names[5], IMAGE)
            await asyncio.sleep(20)
            last = [run for run in found.runs() if run["target"]["name"] == names[5]][-1]
            assert last["phase"] == "Held"
            assert "fleet breaker" in last["reason"]
            assert found.engine is not None
            await found.engine.requests.release_fleet("all", actor="ada")
            await found.until(
                lambda: any(
                    run["outcome"] == "promoted" and run["target"]["name"] == names[5]
                    for run in found.runs()
                )
            )

    clock.run(story())
