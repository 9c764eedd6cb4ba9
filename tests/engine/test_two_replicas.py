# SPDX-License-Identifier: Apache-2.0
"""Two replicas on one world: one acts, and whatever befalls it the other one carries on.

Both compete for the lease over the simulated API server, in virtual time. What is judged is the end
of the world, that never two believe to lead at once, and that no epoch on an object ever goes down.
"""

import asyncio
from typing import Any

import pytest

from controller.adapters.kube.wire import Request as Sent
from controller.core.errors import Unavailable
from controller.core.values import EPOCH
from controller.sim.apiserver.request import Request, Response
from controller.sim.faults import Fault, Plan, Point
from tests.engine.house import NAMESPACE
from tests.engine.pair import Pair, pair, play
from tests.engine.sweep import in_turn, quick

IMAGE = "registry.example/app:v2"
NEXT = "registry.example/app:v3"


def _lease(found: Pair) -> dict[str, Any]:
    return found.world.get("leases", NAMESPACE, "switchgear")


@pytest.mark.slow
def test_one_acts_and_the_other_stands_by() -> None:
    """A whole run with two replicas ends as with one, under one epoch."""

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            found.world.set_image("shop", "checkout", IMAGE)
            await first.ended("promoted")
            first.at_rest()
            assert first.leads
            assert not second.leads
            assert {record["epoch"] for record in first.journal()} == {1}
            writes = [item for item in second.wire.writes() if "/leases" not in item.path]
            assert writes == []
            spec = _lease(found)["spec"]
            assert spec["holderIdentity"].startswith("a_")
            assert spec["leaseDurationSeconds"] == 10

    play(story)


LED = ["Preparing", "Judging", "Rolling", "HandingBack"]


@pytest.mark.slow
@pytest.mark.parametrize("phase", quick(LED, "Judging"))
def test_a_clean_end_hands_over_within_two_seconds(phase: str) -> None:
    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            found.world.set_image("shop", "checkout", IMAGE)
            await first.reaches(phase)
            await first.stop()
            assert await found.leads(second) <= 2.0
            await second.ended("promoted")
            second.at_rest()
            assert sum(found.world.failures.values()) == 0

    play(story)


@pytest.mark.slow
@pytest.mark.parametrize("phase", quick(LED, "Judging"))
@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
def test_a_dead_leader_is_replaced_within_fifteen_seconds(phase: str, *, bad: bool) -> None:
    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            if bad and phase in {"Rolling", "HandingBack"}:
                return  # A bad version never comes that far.
            env = {"ERROR_RATE": "0.5"} if bad else None
            found.world.set_image("shop", "checkout", IMAGE, env)
            await first.reaches(phase)
            await first.crash()
            assert await found.leads(second) <= 15.0
            await second.ended("rolled-back" if bad else "promoted")
            second.at_rest(paused=bad)
            assert sum(found.world.failures.values()) == 0

    play(story)


def _died_at(nth: int, point: Point, *, bad: bool) -> None:
    async def story() -> None:
        async with pair(rate=200.0) as found:
            first, second = found.houses
            plan = Plan().install(found.world.api)
            dead = asyncio.Event()

            def die() -> None:
                first.die()
                dead.set()

            plan.stop_at(nth, point, agent="switchgear/a", die=die)
            env = {"ERROR_RATE": "0.5" if bad else "0"}
            found.world.set_image("shop", "checkout", IMAGE, env)
            await second.ended("rolled-back" if bad else "promoted")
            await found.world.settle()
            second.at_rest(paused=bad)
            assert sum(found.world.failures.values()) == 0
            assert second.journal()
            if dead.is_set():
                await found.leads(second)

    play(story)


def _gone(request: Sent) -> None:
    raise Unavailable(f"{request.path}: nobody is there any more")


@pytest.mark.slow
@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
def test_the_leader_dies_at_one_write(*, bad: bool) -> None:
    """A sample for every change; the whole sweep below is slower. Renewals are writes as well."""
    _died_at(17, Point.DURING, bad=bad)


PLACES = [
    pytest.param(nth, point, id=f"{nth}-{point.value}", marks=deep)
    # Not the very first: who dies before a change is held leaves it to roll, and it is reported.
    for nth, point, deep in in_turn(range(9, 130, 8))
]


@pytest.mark.slow
@pytest.mark.parametrize(("nth", "point"), PLACES)
@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
def test_the_leader_dies_at_every_eighth_write(nth: int, point: Point, *, bad: bool) -> None:
    """One point of each in turn, and all three when deep."""
    _died_at(nth, point, bad=bad)


@pytest.mark.slow
def test_a_leader_that_is_cut_off_stops_before_the_other_begins() -> None:
    """And when the network is back it stands by in the same process."""

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            found.world.set_image("shop", "checkout", IMAGE)
            await first.reaches("Judging")
            first.wire.before.append(_gone)
            await found.leads(second, within=15.0)
            assert not first.leads
            first.wire.before.remove(_gone)
            await second.ended("promoted")
            second.at_rest()
            assert not first.leads
            await second.crash()
            await found.leads(first)
            found.world.set_image("shop", "checkout", NEXT)
            await first.ended("promoted")

    play(story)


def _spoil(lease: dict[str, Any], how: str) -> None:
    if how == "emptied":
        lease["spec"] = {}
    else:
        lease["spec"]["holderIdentity"] = "mallory"


@pytest.mark.slow
@pytest.mark.parametrize("how", quick(["deleted", "given away", "emptied"], "given away"))
def test_a_lease_under_another_hand_ends_the_leading_cleanly(how: str) -> None:
    """Whoever touches it gets a new leader, never a second one."""

    async def story() -> None:
        async with pair() as found:
            first, _ = found.houses
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await first.reaches("Judging")
            if how == "deleted":
                world.delete("leases", NAMESPACE, "switchgear")
            else:
                world.edit("leases", NAMESPACE, "switchgear", lambda lease: _spoil(lease, how))
            # Whoever leads now has begun anew, with an epoch of its own.
            await first.until(lambda: bool(found.leading) and _epoch(found) > 1, within=25.0)
            assert first.engine is not None
            assert found.leading != [first] or first.engine.actor.epoch > 1
            await first.ended("promoted")
            first.at_rest()

    play(story)


def _epoch(found: Pair) -> int:
    return int(found.world.get("configmaps", NAMESPACE, "switchgear-cluster")["data"]["epoch"])


def test_a_kill_on_the_one_that_stands_by_does_not_forget_what_it_could_not_read() -> None:
    """The leader is dead, and the first look at the runs fails: the next look stops them."""

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            found.world.set_image("shop", "checkout", IMAGE)
            await first.until(lambda: bool(first.runs()) and first.runs()[-1]["weight_bp"] == 500)
            await first.crash()
            refused = 0

            def once(request: Sent) -> None:
                nonlocal refused
                if request.method == "GET" and request.path.endswith("/configmaps") and refused < 4:
                    refused += 1
                    raise Unavailable("429 Too Many Requests")

            second.wire.before.append(once)
            assert second.engine is not None
            halt = await second.engine.killer.kill("all", actor="ada", reason="", wait_seconds=8.0)
            assert refused == 4
            assert not second.leads
            assert halt.in_force
            route = found.world.get("httproutes", "shop", "checkout")
            weights = {
                item["name"]: item["weight"] for item in route["spec"]["rules"][0]["backendRefs"]
            }
            assert weights["checkout-canary"] == 0
            assert route["metadata"]["annotations"][EPOCH] == "0"

    play(story)


def test_a_label_on_the_lease_changes_nothing() -> None:
    async def story() -> None:
        async with pair() as found:
            first, _ = found.houses
            for number in range(5):
                notes = {"team": f"blue{number}"}
                found.world.annotate(NAMESPACE, "switchgear", notes, kind="leases")
                await asyncio.sleep(3)
            assert first.leads
            assert first.engine is not None
            assert first.engine.actor.epoch == 1

    play(story)


def test_renewals_whose_answers_are_lost_count_all_the_same() -> None:
    async def story() -> None:
        async with pair() as found:
            first, _ = found.houses
            plan = Plan().install(found.world.api)
            rule = plan.add(
                Fault.NO_REPLY, path="/leases/", methods=frozenset({"PATCH"}), chance=0.3
            )
            await asyncio.sleep(120)
            assert rule.spoiled > 10
            assert first.leads
            assert first.engine is not None
            assert first.engine.actor.epoch == 1

    play(story)


@pytest.mark.slow
def test_a_slow_api_server_makes_no_second_leader() -> None:
    """Each answer takes a second and a half, for both of them, for a whole run."""

    async def story() -> None:
        async with pair() as found:

            async def slow(request: Request) -> Response | None:
                if "switchgear/" in request.headers.get("user-agent", ""):
                    await asyncio.sleep(1.5)
                return None

            first, second = found.houses
            found.world.set_image("shop", "checkout", IMAGE)
            await first.reaches("Judging")
            found.world.api.before.append(slow)
            await asyncio.sleep(60)
            await first.crash()
            await found.leads(second, within=40.0)
            await second.ended("promoted")
            found.world.api.before.remove(slow)

    play(story)
