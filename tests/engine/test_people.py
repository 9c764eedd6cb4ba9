# SPDX-License-Identifier: Apache-2.0
"""What people do in the middle of a run: other templates, kill, abort, pause, promote, retry."""

import asyncio

import pytest

from controller.core.lifecycle.situation import Verb
from controller.core.values import TargetRef
from controller.engine.halt import Halt
from controller.sim import clock
from tests.engine.house import POLICY, House, house
from tests.engine.sweep import quick

TARGET = TargetRef("shop", "checkout")
V1, V2, V3 = (f"registry.example/app:v{number}" for number in (1, 2, 3))
LADDER = ["Holding", "Preparing", "Scaling", "Raising", "Judging", "Committing"]
CAREFUL = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
LATER = ["Rolling", "HandingBack"]


async def _in_phase(found: House, phase: str) -> None:
    await found.reaches(phase)


async def _finished(found: House) -> None:
    await found.until(lambda: found.runs()[-1]["phase"] in {"Held", "Ended"})
    await asyncio.sleep(5)


async def _submit(found: House, verb: Verb) -> str:
    assert found.engine is not None
    return await found.engine.requests.submit(TARGET, verb, actor="ada", reason="because")


@pytest.mark.slow
@pytest.mark.parametrize("phase", quick(["Judging", *LATER, "Restoring"], "Judging"))
def test_a_newer_template_takes_its_place(phase: str) -> None:
    """The newer one runs from 0 and is promoted; at no time does any request fail."""

    async def story() -> None:
        # Outside of a run a change is seen after the native roll has begun: only with
        # maxUnavailable 0 does that take no serving pod.
        async with house(direct_rate=30.0, strategy=CAREFUL) as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await _in_phase(found, phase)
            world.set_image("shop", "checkout", V3)
            await found.until(lambda: len(found.runs()) == 2)
            first = found.runs()[0]
            assert first["outcome"] == ("promoted" if phase == "Restoring" else "superseded")
            await found.ended("promoted")
            await world.settle()
            assert world.ready_pods("v3") == 4
            assert len(world.pods()) == 4
            found.at_rest()
            assert sum(world.failures.values()) == 0

    clock.run(story())


@pytest.mark.parametrize(
    "phase", quick(["Scaling", "Raising", "Judging", "Committing", *LATER], "Judging")
)
def test_the_stable_template_cancels_the_run(phase: str) -> None:
    """Nothing is held: the Deployment is unpaused on what serves anyway."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await _in_phase(found, phase)
            world.set_image("shop", "checkout", V1)
            await found.ended("cancelled")
            await world.settle()
            found.at_rest()
            assert world.ready_pods("v1") == 4
            assert len(world.pods()) == 4
            assert sum(world.failures.values()) == 0

    clock.run(story())


async def _kill(found: House) -> Halt:
    assert found.engine is not None
    return await found.engine.killer.kill("all", actor="ada", reason="", wait_seconds=60.0)


@pytest.mark.parametrize("phase", quick(LADDER + LATER, "Judging"))
def test_kill(phase: str) -> None:
    """In force means weight 0 in the data plane; released, a retry goes all the way."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await _in_phase(found, phase)
            halt = await _kill(found)
            assert halt.latched
            assert halt.in_force, halt.pending
            assert world.in_force("checkout").get("checkout-canary", 0) == 0
            before = world.answered()["v2"]
            await _finished(found)
            await asyncio.sleep(30)
            assert world.answered()["v2"] == before
            assert found.runs()[-1]["phase"] == "Held"
            assert found.runs()[-1]["tripped"] is False
            found.at_rest(paused=True)
            assert world.ready_pods("v1") == 4
            assert sum(world.failures.values()) == 0
            await _release(found)
            await found.ended("promoted")
            await world.settle()
            found.at_rest()

    async def _release(found: House) -> None:
        assert found.engine is not None
        await found.engine.requests.release_fleet("all", actor="ada")
        if found.runs()[-1]["ending"] != "held":
            await _submit(found, Verb.RETRY)

    clock.run(story())


def test_kill_by_an_annotation() -> None:
    """Anybody who may annotate the Deployment may stop it."""

    async def story() -> None:
        async with house() as found:
            found.world.set_image("shop", "checkout", V2)
            await _in_phase(found, "Judging")
            found.world.annotate("shop", "checkout", {"switchgear.dev/kill": "true"})
            await found.ended("killed")
            found.at_rest(paused=True)

    clock.run(story())


def test_kill_by_a_config_map_written_by_hand() -> None:
    """The latch needs neither our endpoint nor our command."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await _in_phase(found, "Judging")
            world.create(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "switchgear-kill", "namespace": "switchgear"},
                    "data": {"all": ""},
                }
            )
            await found.ended("killed")
            found.at_rest(paused=True)

    clock.run(story())


@pytest.mark.parametrize("phase", quick(["Preparing", "Scaling", "Judging", *LATER], "Judging"))
def test_abort(phase: str) -> None:
    """The run goes back; the version is not called bad."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await _in_phase(found, phase)
            await _submit(found, Verb.ABORT)
            await found.ended("aborted")
            assert not found.runs()[-1]["quarantined"]
            found.at_rest(paused=True)
            assert world.ready_pods("v1") == 4
            assert sum(world.failures.values()) == 0

    clock.run(story())


@pytest.mark.slow
def test_a_pause_keeps_the_weight_and_runs_no_deadline() -> None:
    """Minutes beyond it at the same weight, then it goes on by itself."""

    async def story() -> None:
        notes = {**POLICY, "switchgear.dev/deadline": "1m"}
        async with house(annotations=notes) as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await _in_phase(found, "Judging")
            world.annotate("shop", "checkout", {"switchgear.dev/paused": "true"})
            share = found.runs()[-1]["weight_bp"]
            await asyncio.sleep(200)
            assert found.runs()[-1]["weight_bp"] == share
            assert found.outcome() == ""
            world.annotate("shop", "checkout", {"switchgear.dev/paused": None})
            await found.ended("promoted")

    clock.run(story())


@pytest.mark.slow
def test_a_person_promotes_without_traffic() -> None:
    """Each word is one step; the evidence is asked for nothing."""

    async def story() -> None:
        async with house(rate=0.0) as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            for _ in range(3):
                await _in_phase(found, "Judging")
                step = found.runs()[-1]["step"]
                await _submit(found, Verb.PROMOTE)
                await found.until(lambda step=step: found.runs()[-1]["step"] > step)  # type: ignore[misc]
            await found.ended("promoted")
            found.at_rest()

    clock.run(story())


async def _failed(found: House) -> None:
    found.world.set_image("shop", "checkout", V2, {"ERROR_RATE": "0.5"})
    await found.ended("rolled-back")


@pytest.mark.slow
def test_an_open_breaker_refuses_the_next_version_until_released() -> None:
    """It stays open over time and restarts; `release` lets the next version run."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            await _failed(found)
            await found.stop()
            await found.start()
            await asyncio.sleep(600)
            world.set_image("shop", "checkout", V3, {"ERROR_RATE": "0"})
            await found.until(lambda: len(found.runs()) == 2)
            await _finished(found)
            assert "breaker" in found.runs()[-1]["reason"]
            assert world.pods(version="v3") == []
            await _submit(found, Verb.RELEASE)
            await found.ended("promoted")
            found.at_rest()

    clock.run(story())


@pytest.mark.slow
def test_the_next_revision_may_close_the_breaker() -> None:
    """With `after-trip: next-revision` another template runs at once."""

    async def story() -> None:
        notes = {**POLICY, "switchgear.dev/after-trip": "next-revision"}
        async with house(annotations=notes) as found:
            await _failed(found)
            found.world.set_image("shop", "checkout", V3, {"ERROR_RATE": "0"})
            await found.ended("promoted")
            found.at_rest()

    clock.run(story())


def test_retry_gives_the_same_template_one_more_try() -> None:
    """A probe that is bad opens the breaker again; one that is good is promoted."""

    async def story() -> None:
        async with house() as found:
            await _failed(found)
            await _submit(found, Verb.RETRY)
            await found.until(lambda: len(found.runs()) == 2)
            await found.ended("rolled-back")
            assert found.runs()[-1]["probe"]
            await _submit(found, Verb.RETRY)
            await found.until(lambda: found.runs()[-1]["phase"] == "Scaling")
            await found.until(lambda: found.world.ready_pods("v2") > 0)
            found.world.virtual.behave("v2", error_rate=0.0)
            await asyncio.sleep(1)
            assert len(found.runs()) == 3

    clock.run(story())
