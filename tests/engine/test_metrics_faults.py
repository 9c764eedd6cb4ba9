# SPDX-License-Identifier: Apache-2.0
"""A metrics store that does not answer, or not usefully: no data is not good news, nor bad news.

Weights freeze, the run is never promoted and never called bad, and after `metrics-deadline` the
exposure goes to 0. What comes back in time lets the run go on.
"""

import asyncio
from collections.abc import Callable

import pytest

from controller.sim import clock
from controller.sim.prometheus import Faults, Trouble
from tests.engine.house import POLICY, House, house
from tests.engine.sweep import quick

IMAGE = "registry.example/app:v2"
NOTES = {
    **POLICY,
    "switchgear.dev/metrics-deadline": "30s",
    "switchgear.dev/deadline": "1m",
    "switchgear.dev/min-requests": "100",
}


def _status(code: int) -> Callable[[Faults], None]:
    def change(faults: Faults) -> None:
        faults.trouble = Trouble.STATUS
        faults.status = code

    return change


def _trouble(which: Trouble) -> Callable[[Faults], None]:
    def change(faults: Faults) -> None:
        faults.trouble = which

    return change


def _set(name: str, value: object) -> Callable[[Faults], None]:
    def change(faults: Faults) -> None:
        setattr(faults, name, value)

    return change


TROUBLES: dict[str, Callable[[Faults], None]] = {
    "down": _trouble(Trouble.DOWN),
    "slow": _trouble(Trouble.SLOW),
    "not a number": _trouble(Trouble.NAN),
    "empty": _trouble(Trouble.EMPTY),
    "400": _status(400),
    "422": _status(422),
    "500": _status(500),
    "503": _status(503),
    "canary missing": _set("hide", "checkout-canary"),
    "both missing": _set("hide", "checkout"),
    "frozen": _set("frozen", True),
    "scrapes fail": _set("target_down", True),
}


async def _ends_without_a_verdict(found: House) -> None:
    """The run goes back, exposure is 0, and the version is not called bad."""
    await found.ended("inconclusive", within=600)
    run = found.runs()[-1]
    assert not run["tripped"]
    assert not run["quarantined"]
    found.at_rest(paused=True)
    assert found.world.ready_pods("v1") == 4
    assert found.world.pods(version="v2") == []
    assert sum(found.world.failures.values()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_before_the_first_step(trouble: str) -> None:
    """From the beginning nothing is known."""

    async def story() -> None:
        async with house(annotations=NOTES) as found:
            TROUBLES[trouble](found.world.prometheus.faults)
            found.world.set_image("shop", "checkout", IMAGE)
            await _ends_without_a_verdict(found)

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("trouble", quick(TROUBLES, "down", "empty", "frozen"))
def test_in_a_step(trouble: str) -> None:
    """Five percent are out there, and nothing is heard any more; the weight does not rise."""

    async def story() -> None:
        async with house(annotations=NOTES) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            await asyncio.sleep(5)
            TROUBLES[trouble](found.world.prometheus.faults)
            await _ends_without_a_verdict(found)
            assert found.runs()[-1]["granted"] == 0

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_in_the_bake(trouble: str) -> None:
    """At 95 % the same holds; the commit is never reached."""

    async def story() -> None:
        async with house(annotations=NOTES) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.until(lambda: bool(found.runs()) and found.runs()[-1]["weight_bp"] == 9500)
            await asyncio.sleep(5)
            TROUBLES[trouble](found.world.prometheus.faults)
            await _ends_without_a_verdict(found)

    clock.run(story())


@pytest.mark.parametrize("trouble", ["canary missing", "both missing"])
def test_a_version_that_is_counted_no_more_has_no_longer_than_a_silent_store(trouble: str) -> None:
    """The store answers, and the step has its time: nobody would see how bad the version is."""

    async def story() -> None:
        async with house(annotations={**NOTES, "switchgear.dev/deadline": "20m"}) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.until(lambda: bool(found.runs()) and found.runs()[-1]["weight_bp"] == 9500)
            await asyncio.sleep(5)
            TROUBLES[trouble](found.world.prometheus.faults)
            await found.until(lambda: found.world.weights("checkout")["checkout-canary"] == 0, 45)
            await _ends_without_a_verdict(found)
            reason = found.runs()[-1]["reason"]
            assert "was counted before and is missing in all scrapes for 3" in reason, reason

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [name for name in TROUBLES if "missing" not in name])
def test_it_comes_back_in_time(trouble: str) -> None:
    """Twenty seconds of silence cost twenty seconds."""

    async def story() -> None:
        async with house(annotations=NOTES) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            await asyncio.sleep(5)
            TROUBLES[trouble](found.world.prometheus.faults)
            await asyncio.sleep(20)
            found.world.prometheus.faults = Faults()
            await found.ended("promoted")
            found.at_rest()

    clock.run(story())


PATIENT = {**NOTES, "switchgear.dev/metrics-deadline": "10m", "switchgear.dev/deadline": "20m"}


def _rising(found: House) -> Callable[[], bool]:
    """Whether the bake is granted and its pods are being started."""

    def rising() -> bool:
        runs = found.runs()
        return bool(runs) and runs[-1]["granted"] == 2 and runs[-1]["phase"] == "Scaling"

    return rising


@pytest.mark.parametrize("trouble", quick(["down", "canary missing", "frozen"], "down"))
def test_between_a_pass_and_its_raise(trouble: str) -> None:
    """The pods for the bake take a minute; the store falls silent meanwhile, and 25 % stay 25 %.

    Once it answers again the raise follows by itself.
    """

    async def story() -> None:
        async with house(annotations=PATIENT) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE, env={"READY_SECONDS": 60})
            await found.until(_rising(found))
            TROUBLES[trouble](world.prometheus.faults)
            await found.reaches("Raising")
            await asyncio.sleep(60)
            assert found.runs()[-1]["phase"] == "Raising"
            assert world.weights("checkout")["checkout-canary"] == 2500
            refused = [item["body"] for item in found.journal() if item["kind"] == "refused"]
            assert [item["codes"] for item in refused] == ["MetricsStale"]
            world.prometheus.faults = Faults()
            await found.ended("promoted")
            found.at_rest()
            assert sum(world.failures.values()) == 0

    clock.run(story())


def test_a_pause_that_is_lifted_raises_nothing_on_what_was_seen_before_it() -> None:
    """Paused in Raising; the store dies meanwhile, and lifting the pause alone moves no weight."""

    async def story() -> None:
        async with house(annotations=PATIENT) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.until(lambda: bool(found.runs()) and found.runs()[-1]["weight_bp"] == 500)
            world.annotate("shop", "checkout", {"switchgear.dev/paused": "true"})
            await found.reaches("Raising")
            world.prometheus.faults.trouble = Trouble.DOWN
            await asyncio.sleep(60)
            world.annotate("shop", "checkout", {"switchgear.dev/paused": None})
            await asyncio.sleep(60)
            assert found.runs()[-1]["granted"] == 1
            assert world.weights("checkout")["checkout-canary"] == 500
            world.prometheus.faults = Faults()
            await found.ended("promoted")
            found.at_rest()

    clock.run(story())


def test_the_way_back_asks_for_no_metrics() -> None:
    """The raise is refused for want of them; an abort takes the weight away all the same."""

    async def story() -> None:
        async with house(annotations=PATIENT) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE, env={"READY_SECONDS": 60})
            await found.until(_rising(found))
            world.prometheus.faults.trouble = Trouble.DOWN
            await found.reaches("Raising")
            await asyncio.sleep(30)
            world.annotate("shop", "checkout", {"switchgear.dev/abort": "true"})
            await found.until(lambda: world.weights("checkout").get("checkout-canary", 0) == 0, 5)
            await found.ended("aborted", within=120)
            found.at_rest(paused=True)

    clock.run(story())


@pytest.mark.slow
def test_warnings_are_no_obstacle_alone() -> None:
    """An answer with warnings may lack series: it never passes a step, nor fails one."""

    async def story() -> None:
        async with house(annotations=NOTES) as found:
            found.world.prometheus.faults.warnings = ("PromQL warning: a shard did not answer",)
            found.world.set_image("shop", "checkout", IMAGE)
            await found.until(
                lambda: bool(found.runs()) and found.runs()[-1]["phase"] in {"Held", "Ended"}
            )
            assert not found.runs()[-1]["tripped"]

    clock.run(story())


def test_a_pause_is_no_excuse_for_a_store_that_never_answers() -> None:
    """Anybody may pause. A daemon that starts and hears nothing still takes the exposure away."""

    async def story() -> None:
        async with house(annotations=NOTES) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            await found.crash()
            world.annotate("shop", "checkout", {"switchgear.dev/paused": "true"})
            world.prometheus.faults.trouble = Trouble.DOWN
            await found.start()
            await _ends_without_a_verdict(found)

    clock.run(story())


@pytest.mark.parametrize("trouble", quick(["down", "canary missing", "frozen"], "down"))
def test_the_commit_needs_no_metrics(trouble: str) -> None:
    """After the bake has passed the road to the end is short and asks for no more evidence."""

    async def story() -> None:
        async with house(annotations=NOTES, direct_rate=30.0) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Rolling")
            TROUBLES[trouble](found.world.prometheus.faults)
            await found.ended("promoted")
            found.at_rest()
            assert sum(found.world.failures.values()) == 0

    clock.run(story())
