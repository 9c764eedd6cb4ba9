# SPDX-License-Identifier: Apache-2.0
"""The controller dies at each of its writes, before, during and after it, and starts again.

Two oracles: the world ends in the same state as without the crash, and no object of ours was made
or deleted more often. The journal's chain holds over every restart.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.core.journal import chain
from controller.engine.ledger import read_head
from controller.sim import clock
from controller.sim.apiserver.store import Event
from controller.sim.faults import MUTATING, Plan, Point
from tests.engine.house import POLICY, House, house
from tests.engine.sweep import in_turn

IMAGE = "registry.example/app:v2"
AGENT = "switchgear"


@dataclass(frozen=True, kw_only=True)
class Story:
    """What is deployed where, and how it should end."""

    outcome: str
    env: dict[str, str] = field(default_factory=dict)
    scene: dict[str, Any] = field(default_factory=dict)
    bad_in: str = ""
    """Phase from which on the new version errs."""

    @property
    def routed(self) -> bool:
        """Whether a route splits the requests; else no roll is without failed ones."""
        return bool(self.scene.get("route", True))


WITHOUT_ROUTE: dict[str, Any] = {
    "route": False,
    "replicas": 4,
    "annotations": {**POLICY, "switchgear.dev/steps": "20@20s,50@20s"},
}
STORIES = {
    "good": Story(outcome="promoted"),
    "bad": Story(outcome="rolled-back", env={"ERROR_RATE": "0.5"}),
    "rolled": Story(outcome="promoted", scene=WITHOUT_ROUTE),
    "rolled-bad": Story(outcome="rolled-back", scene=WITHOUT_ROUTE, bad_in="Baking"),
}


@dataclass(frozen=True, kw_only=True)
class _End:
    """What is left of a story."""

    outcome: str
    deployment: dict[str, Any]
    service: dict[str, Any]
    rules: list[Any]
    versions: tuple[str, ...]
    made: Counter[tuple[str, str]]
    """Objects of ours that came and went."""


def _version(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def _end(found: House, story: Story, made: Counter[tuple[str, str]]) -> _End:
    world = found.world
    deployment = world.get("deployments", "shop", "checkout")
    notes = set(deployment["metadata"]["annotations"])
    return _End(
        outcome=found.outcome(),
        deployment={"spec": deployment["spec"], "notes": sorted(notes)},
        service=world.get("services", "shop", "checkout")["spec"]["selector"],
        rules=world.get("httproutes", "shop", "checkout")["spec"]["rules"] if story.routed else [],
        versions=tuple(sorted(_version(pod) for pod in world.pods())),
        made=made,
    )


def _played(told: Story, stop: tuple[int, Point] | None) -> tuple[_End, bool, int]:
    """One story, with one crash or none: its end, whether it crashed, how many writes it took."""
    made: Counter[tuple[str, str]] = Counter()
    writes = 0
    crashed = False

    async def story() -> _End:
        nonlocal crashed
        async with house(start=False, rate=200.0, **told.scene) as found:
            world = found.world
            plan = Plan().install(world.api)
            dead = asyncio.Event()

            def look(event: Event) -> None:
                kind, name = event.resource.plural, event.obj["metadata"]["name"]
                ours = name.startswith("checkout-canary") and kind in {"deployments", "services"}
                if ours and event.type != "MODIFIED":
                    made[str(event.type), kind] += 1

            def count(entry: Any) -> None:
                nonlocal writes
                if entry.verb.upper() in MUTATING | {"CREATE", "UPDATE"}:
                    writes += entry.user_agent.startswith(AGENT)

            def die() -> None:
                found.die()
                dead.set()

            world.store.subscribe(look)
            world.api.audit = count
            if stop is not None:
                plan.stop_at(stop[0], stop[1], agent=AGENT, die=die)
            await found.start()
            await found.until(lambda: dead.is_set() or _adopted(found), within=30)

            async def again() -> None:
                nonlocal crashed
                await dead.wait()
                await found.stop()
                crashed = True
                await asyncio.sleep(1)
                await found.start()

            phoenix = asyncio.ensure_future(again())
            await found.until(lambda: _adopted(found), within=60)
            world.set_image("shop", "checkout", IMAGE, told.env)
            if told.bad_in:
                await found.reaches(told.bad_in)
                world.virtual.behave("v2", error_rate=0.5)
            await found.ended(told.outcome)
            await world.settle()
            phoenix.cancel()
            found.at_rest(paused=told.outcome != "promoted")
            assert not told.routed or sum(world.failures.values()) == 0
            _chains(found)
            return _end(found, told, made)

    end = clock.run(story())
    return end, crashed, writes


def _adopted(found: House) -> bool:
    deployment = found.world.get("deployments", "shop", "checkout")
    return "switchgear.dev/managed" in deployment["metadata"]["annotations"]


def _chains(found: House) -> None:
    """Every journal is whole, and every intent has exactly one outcome."""
    for document in found.documents():
        lines = document["data"]["journal"].splitlines()
        assert chain.verify(lines, read_head(document["data"])) == []
        records = [json.loads(line) for line in lines]
        intents = Counter(item["seq"] for item in records if item["kind"] == "intent")
        outcomes = Counter(item["body"]["intent"] for item in records if item["kind"] == "outcome")
        assert outcomes - intents == Counter()
        assert all(number == 1 for number in outcomes.values())


_PLAIN: dict[str, _End] = {}


def _sweep(story: str, nth: int, point: Point) -> None:
    if story not in _PLAIN:
        _PLAIN[story] = _played(STORIES[story], None)[0]
    end, crashed, writes = _played(STORIES[story], (nth, point))
    assert end == _PLAIN[story]
    assert crashed or writes < nth


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_one_write(story: str) -> None:
    """A sample for every change; the whole sweep below is slower."""
    _sweep(story, 12, Point.DURING)


# One point of each write in turn (of every other one of a long story), and all when deep. Without
# a route a story moves more pods and takes longer to play: every eighth write of it.
PLACES = [
    pytest.param(story, nth, point, id=f"{story}-{nth}-{point.value}", marks=deep)
    for story, told in STORIES.items()
    for long in (told.outcome == "promoted" or not told.routed,)
    for nth, point, deep in in_turn(range(1, 80, 1 if told.routed else 8), every=2 if long else 1)
]


@pytest.mark.slow
@pytest.mark.parametrize(("story", "nth", "point"), PLACES)
def test_every_write(story: str, nth: int, point: Point) -> None:
    """The places where the process can die are visited once."""
    _sweep(story, nth, point)
