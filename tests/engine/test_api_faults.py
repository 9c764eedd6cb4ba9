# SPDX-License-Identifier: Apache-2.0
"""An API server that fails in every way it can, by seed: the same end, and few requests."""

import asyncio

import pytest

from controller.sim import clock
from controller.sim.faults import MUTATING, Fault, Plan
from tests.engine.house import House, house

IMAGE = "registry.example/app:v2"
AGENT = "switchgear"

ANSWERS = [
    Fault.THROTTLED,
    Fault.INTERNAL,
    Fault.UNAVAILABLE,
    Fault.HANG,
    Fault.HANG_AFTER,
    Fault.RESET,
    Fault.NO_REPLY,
]
WATCHES = [Fault.TRUNCATED, Fault.SILENT, Fault.GONE]


async def _play(found: House, *, bad: bool) -> None:
    """The story to its end, whatever the server does, and then a check of the world."""
    world = found.world
    world.set_image("shop", "checkout", IMAGE, {"ERROR_RATE": "0.5" if bad else "0"})
    # A pause that does not get through in time leaves a native roll, which is adopted and reported.
    outcomes = {"ungated", "rolled-back"} if bad else {"ungated", "promoted", "inconclusive"}
    await found.until(
        lambda: (
            bool(found.runs())
            and found.runs()[-1]["outcome"] in outcomes
            and found.runs()[-1]["phase"] in {"Held", "Ended"}
        ),
        3_000,
    )
    await asyncio.sleep(60)
    await world.settle()
    held = found.runs()[-1]["phase"] == "Held"
    found.at_rest(paused=held)
    assert world.ready_pods("v1" if held else "v2") == 4
    assert len(world.pods()) == 4


def _bounded(requests: int, seconds: float) -> None:
    """At most a few requests a second on average, whatever is answered."""
    assert requests < 200 + 5 * seconds


async def _under(plan: Plan, *, bad: bool, seed: int) -> None:
    async with house(rate=100.0, seed=seed) as found:
        world = found.world
        requests = 0

        async def count(request: object) -> None:
            nonlocal requests
            requests += 1 if AGENT in getattr(request, "headers", {}).get("user-agent", "") else 0

        world.api.before.append(count)
        plan.install(world.api)
        begun = asyncio.get_running_loop().time()
        await _play(found, bad=bad)
        _bounded(requests, asyncio.get_running_loop().time() - begun)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ANSWERS)
@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
def test_one_request_in_seven_fails(fault: Fault, *, bad: bool) -> None:
    """Reads and writes alike."""

    async def story() -> None:
        plan = Plan(seed=7)
        plan.add(fault, chance=1 / 7, agent=AGENT)
        await _under(plan, bad=bad, seed=3)

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("fault", WATCHES)
@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
def test_watches_break(fault: Fault, *, bad: bool) -> None:
    """Every second one, some seconds after it was opened."""

    async def story() -> None:
        plan = Plan(seed=11)
        plan.add(fault, chance=0.5, agent=AGENT, delay=5.0)
        await _under(plan, bad=bad, seed=4)

    clock.run(story())


def _mixed(seed: int) -> Plan:
    plan = Plan(seed=seed)
    for fault in ANSWERS:
        plan.add(fault, chance=0.02, agent=AGENT, methods=MUTATING)
        plan.add(fault, chance=0.01, agent=AGENT)
    for fault in WATCHES:
        plan.add(fault, chance=0.1, agent=AGENT, delay=10.0)
    return plan


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_everything_together(seed: int) -> None:
    """A bad day; seeds 0 to 2 for every change."""

    async def story() -> None:
        await _under(_mixed(seed), bad=bool(seed % 2), seed=seed)

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [*range(100, 110), *(pytest.param(n, marks=pytest.mark.deep) for n in range(110, 140))]
)
def test_more_bad_days(seed: int) -> None:
    """The same with other seeds."""

    async def story() -> None:
        await _under(_mixed(seed), bad=bool(seed % 2), seed=seed)

    clock.run(story())


@pytest.mark.slow
def test_the_api_server_is_gone_for_two_minutes_in_the_bake() -> None:
    """Nothing moves while it is gone, and the run goes on afterwards."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.until(lambda: bool(found.runs()) and found.runs()[-1]["weight_bp"] == 9500)
            now = asyncio.get_running_loop().time()
            plan = Plan().install(world.api)
            plan.add(Fault.RESET, agent=AGENT, begin=now, end=now + 120)
            await found.ended("promoted")
            found.at_rest()
            assert sum(world.failures.values()) == 0

    clock.run(story())
