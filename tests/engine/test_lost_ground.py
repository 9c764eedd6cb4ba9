# SPDX-License-Identifier: Apache-2.0
"""What the run stands on is taken away under it: caps, canary pods, the metrics store."""

import asyncio

import pytest

from controller.engine.observe import Bounds
from controller.sim import clock
from controller.sim.faults import MUTATING, Fault, Plan
from controller.sim.prometheus import Trouble
from tests.engine.house import BOUNDS, POLICY, House, house
from tests.engine.sweep import quick

V2 = "registry.example/app:v2"
CAREFUL = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def capped(found: House, cap_bp: int) -> None:
    """From the next start on the operator's cap is this."""
    found.bounds = Bounds(
        settle_seconds=BOUNDS.settle_seconds,
        drain_seconds=BOUNDS.drain_seconds,
        ready_seconds=BOUNDS.ready_seconds,
        roll_seconds=BOUNDS.roll_seconds,
        cluster_cap_bp=cap_bp,
    )


def share(found: House) -> int:
    """The canary's share in the route, in basis points."""
    weights = found.world.weights("checkout")
    canary = weights.get("checkout-canary", 0)
    return 10_000 * canary // (sum(weights.values()) or 1)


@pytest.mark.slow
def test_a_cap_that_is_lowered_over_a_restart_only_takes_away() -> None:
    """At 25 % the daemon restarts under a cap of 5 %: weight goes down to 5 % and no rung is lost.

    The step that was reached, its evidence and the steps before the bake stay what they were.
    """

    async def story() -> None:
        async with house(annotations={**POLICY, "switchgear.dev/steps": "5@20s,25@60s"}) as found:
            found.world.set_image("shop", "checkout", V2)
            await found.until(lambda: found.runs()[-1:] != [] and share(found) == 2500)
            await asyncio.sleep(10)
            await found.stop()
            capped(found, 500)
            await found.start()
            await found.until(lambda: share(found) == 500, within=20)
            for _ in range(40):
                await asyncio.sleep(1)
                assert share(found) <= 500
            assert found.runs()[-1]["step"] == 1

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("phase", quick(["Committing", "Rolling", "HandingBack"], "Rolling"))
def test_the_canary_is_deleted_while_it_carries_everything(phase: str) -> None:
    """It is made again at once; the version is not called bad, and the end is a good one."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await found.reaches(phase)
            await asyncio.sleep(0.5)
            world.delete("deployments", "shop", "checkout-canary")
            await found.ended("promoted")
            await world.settle()
            assert world.ready_pods("v2") == 4
            assert not found.runs()[-1]["quarantined"]
            found.at_rest()

    clock.run(story())


@pytest.mark.slow
def test_the_canary_is_scaled_to_0_by_somebody() -> None:
    """Weight 0 until it is back; not the version's fault."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await found.reaches("Judging")
            await asyncio.sleep(3)
            world.scale("shop", "checkout-canary", 0)
            await found.until(lambda: share(found) == 0, within=10)
            await found.ended("promoted")
            found.at_rest()

    clock.run(story())


def test_the_metrics_store_is_silent_after_a_restart() -> None:
    """The deadline runs although this process never had an answer: exposure goes to 0."""

    async def story() -> None:
        policy = {**POLICY, "switchgear.dev/metrics-deadline": "30s"}
        async with house(annotations=policy) as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await found.reaches("Judging")
            await asyncio.sleep(3)
            await found.stop()
            world.prometheus.faults.trouble = Trouble.DOWN
            await found.start()
            await found.until(lambda: share(found) == 0, within=90)
            await found.ended("inconclusive")
            found.at_rest(paused=True)

    clock.run(story())


@pytest.mark.slow
def test_a_foreign_weight_while_the_step_is_being_raised() -> None:
    """50 % while 25 % is asked for: back to the step at once, not at the deadline."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await found.until(lambda: bool(found.runs()) and found.runs()[-1]["step"] == 1)
            await found.until(lambda: found.runs()[-1]["phase"] == "Raising")

            def double(route: dict) -> None:  # type: ignore[type-arg]
                for backend in route["spec"]["rules"][0]["backendRefs"]:
                    backend["weight"] = 5000

            world.edit("httproutes", "shop", "checkout", double)
            await found.until(lambda: share(found) <= 2500, within=5)
            await found.ended("promoted")

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["Rolling", "HandingBack"])
def test_the_version_turns_bad_after_the_commit(phase: str) -> None:
    """With no stable requests left to compare with, the absolute limit still speaks."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await found.reaches(phase)
            world.virtual.behave("v2", error_rate=0.6)
            await found.ended("rolled-back")
            await world.settle()
            assert world.ready_pods("v1") == 4
            assert world.ready_pods("v2") == 0
            found.at_rest(paused=True)

    clock.run(story())


@pytest.mark.slow
def test_only_the_rolled_pods_are_bad() -> None:
    """What the Deployment's own pods answer is the new version's word as soon as they are asked."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await found.reaches("HandingBack")
            rolled = {
                str(pod["status"]["podIP"])
                for pod in world.pods(version="v2")
                if "switchgear.dev/track" not in pod["metadata"]["labels"]
            }
            assert len(rolled) == 4
            world.virtual.behave("v2", error_rate=0.6, at=rolled)
            await found.ended("rolled-back")
            assert found.runs()[-1]["tripped"]
            await world.settle()
            assert world.ready_pods("v1") == 4
            found.at_rest(paused=True)

    clock.run(story())


def test_a_change_that_cannot_be_held_in_time_is_no_outage() -> None:
    """The pause comes when the new pods serve alone: adopted and reported, nothing is lost."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            await found.stop()
            world.set_image("shop", "checkout", V2)
            await world.settle()
            # As if the pause had been on its way all the time.
            hold = {"switchgear.dev/hold": "run x decides"}
            world.annotate("shop", "checkout", hold)
            world.edit("deployments", "shop", "checkout", lambda d: d["spec"].update(paused=True))
            before = sum(world.failures.values())
            await found.start()
            await asyncio.sleep(60)
            assert sum(world.failures.values()) == before
            assert world.ready_pods("v2") == 4
            found.at_rest()
            events = world.store.list("events", "shop")
            assert "RolledUngated" in {item["reason"] for item in events}

    clock.run(story())


@pytest.mark.slow
def test_the_way_back_from_the_commit_does_not_wait_for_the_journal() -> None:
    """Direct clients follow the canary there: the Service is as urgent as the weight."""

    async def story() -> None:
        async with house() as found:
            world = found.world

            def selector() -> dict[str, str]:
                return dict(world.get("services", "shop", "checkout")["spec"]["selector"])

            world.set_image("shop", "checkout", V2)
            await found.reaches("Committing")
            await found.until(lambda: "switchgear.dev/track" in selector(), within=30)
            plan = Plan().install(world.api)
            plan.add(Fault.HANG, path="/configmaps/", methods=MUTATING)
            world.annotate("shop", "checkout", {"switchgear.dev/abort": "true"})
            await found.until(lambda: "pod-template-hash" in selector(), within=1)
            assert "switchgear.dev/track" not in selector()
            plan.remove(world.api)
            await found.ended("aborted")
            found.at_rest(paused=True)

    clock.run(story())


def _disowned(found: House) -> None:
    """Somebody takes the owner from the canary."""
    found.world.edit(
        "deployments", "shop", "checkout-canary", lambda d: d["metadata"].pop("ownerReferences")
    )


def _owners(found: House) -> list[str]:
    """The uids of the canary's owners."""
    canary = found.world.get("deployments", "shop", "checkout-canary")
    return [item["uid"] for item in canary["metadata"].get("ownerReferences") or ()]


@pytest.mark.parametrize("phase", ["Rolling", "HandingBack"])
def test_the_canary_that_carries_everything_loses_its_owner(phase: str) -> None:
    """It goes on serving and gets its owner back; to delete it would be an outage."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await found.reaches(phase)
            uid = world.get("deployments", "shop", "checkout-canary")["metadata"]["uid"]
            _disowned(found)
            await asyncio.sleep(1)
            canary = world.get("deployments", "shop", "checkout-canary")
            assert canary["metadata"]["uid"] == uid
            assert _owners(found) == [
                world.get("deployments", "shop", "checkout")["metadata"]["uid"]
            ]
            await found.ended("promoted")
            found.at_rest()
            assert sum(world.failures.values()) == 0

    clock.run(story())


@pytest.mark.parametrize("seed", quick([4, 7, 8], 4))
def test_a_canary_that_loses_its_owner_in_a_step_is_made_anew(seed: int) -> None:
    """At weight 0, once that is in force: no request fails, and the step is taken again."""

    async def story() -> None:
        async with house(direct_rate=30.0, seed=seed) as found:
            world = found.world
            world.set_image("shop", "checkout", V2)
            await found.until(lambda: bool(found.runs()) and found.runs()[-1]["weight_bp"] == 2500)
            _disowned(found)
            await found.ended("promoted")
            found.at_rest()
            assert found.runs()[-1]["slips"] == 1
            assert sum(world.failures.values()) == 0

    clock.run(story())


@pytest.mark.parametrize("phase", ["Rolling", "HandingBack"])
def test_the_canary_that_carries_everything_gets_another_image(phase: str) -> None:
    """Where stable still is the way to go it comes back first; no request fails meanwhile."""

    async def story() -> None:
        async with house(direct_rate=30.0, strategy=CAREFUL) as found:
            world = found.world
            # What pods that end at once cost in that other writer's roll is not ours.
            world.set_image("shop", "checkout", V2, env={"STOP_SECONDS": 5})
            await found.reaches(phase)
            world.set_image("shop", "checkout-canary", "registry.example/app:v3")
            await found.ended("inconclusive" if phase == "Rolling" else "promoted")
            await world.settle()
            found.at_rest(paused=phase == "Rolling")
            assert world.ready_pods("v1" if phase == "Rolling" else "v2") == 4
            assert world.pods(version="v3") == []
            assert sum(world.failures.values()) == 0

    clock.run(story())
