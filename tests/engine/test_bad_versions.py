# SPDX-License-Identifier: Apache-2.0
"""Versions that do not deserve the traffic, and versions of which nobody can tell.

Bad ones are held and quarantined; those without enough evidence go back without being called bad.
"""

import pytest

from controller.sim import clock
from tests.engine.house import POLICY, House, house
from tests.engine.sweep import quick

IMAGE = "registry.example/app:v2"


def _held(found: House, *, tripped: bool) -> None:
    """Stable serves alone, the Deployment waits paused, and nothing of ours is left."""
    run = found.runs()[-1]
    assert run["phase"] == "Held"
    assert run["tripped"] is tripped
    assert run["quarantined"] is tripped
    found.at_rest(paused=True)
    assert found.world.ready_pods("v1") == 4
    assert found.world.pods(version="v2") == []
    assert sum(found.world.failures.values()) == 0


def test_half_of_the_answers_are_errors() -> None:
    """Rolled back, held, in quarantine, the breaker open, and few people saw it."""

    async def story() -> None:
        async with house(direct_rate=30.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE, {"ERROR_RATE": "0.5"})
            await found.ended("rolled-back")
            _held(found, tripped=True)
            # 5 % of 400 requests/s for at most five seconds until it shows and is undone.
            assert world.answered()["v2"] <= 120
            assert "errors" in found.runs()[-1]["reason"]

    clock.run(story())


def test_slow_answers_break_a_latency_limit() -> None:
    """Nothing fails, but the limit that the team wrote is broken."""

    async def story() -> None:
        notes = {**POLICY, "switchgear.dev/latency": "p99<500ms"}
        async with house(annotations=notes) as found:
            found.world.set_image("shop", "checkout", IMAGE, {"LATENCY_MS": "2000"})
            await found.ended("rolled-back")
            _held(found, tripped=True)
            assert "slower than" in found.runs()[-1]["reason"]

    clock.run(story())


@pytest.mark.parametrize(
    ("env", "word"),
    [
        ({"CRASH": "1"}, "crash-looping"),
        ({"CRASH": "1", "CRASH_SECONDS": "12", "READY_SECONDS": "1"}, "was ready and is not"),
        ({"IMAGE_PULL_ERROR": "1"}, "ImagePull"),
        ({"OOM": "1", "CRASH_SECONDS": "8", "READY_SECONDS": "1"}, "want of memory"),
        ({"UNREADY_AFTER": "14", "READY_SECONDS": "1"}, "ready"),
    ],
    ids=["crash-loop", "late crash", "image pull", "out of memory", "readiness lost"],
)
def test_what_the_pods_say_of_themselves(env: dict[str, str], word: str) -> None:
    """No statistics are needed for these."""

    async def story() -> None:
        async with house() as found:
            found.world.set_image("shop", "checkout", IMAGE, env)
            await found.ended("rolled-back")
            run = found.runs()[-1]
            assert run["tripped"]
            assert word.lower() in run["reason"].lower()
            found.at_rest(paused=True)
            assert found.world.ready_pods("v1") == 4

    clock.run(story())


@pytest.mark.parametrize("env", [{"PENDING": "1"}, {"NEVER_READY": "1"}])
def test_pods_that_never_come(env: dict[str, str]) -> None:
    """Nobody knows what the version is like: inconclusive, and not called bad."""

    async def story() -> None:
        async with house() as found:
            found.world.set_image("shop", "checkout", IMAGE, env)
            await found.ended("inconclusive")
            _held(found, tripped=False)
            assert "0 of 1 canary pods are ready" in found.runs()[-1]["reason"]

    clock.run(story())


def test_no_traffic_is_no_good_news() -> None:
    """Never promoted, never called bad; the reason says how many requests were missing."""

    async def story() -> None:
        notes = {**POLICY, "switchgear.dev/deadline": "1m"}
        async with house(rate=0.0, annotations=notes) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.ended("inconclusive")
            _held(found, tripped=False)
            assert "of 50 requests" in found.runs()[-1]["reason"]

    clock.run(story())


@pytest.mark.slow
def test_too_little_traffic_is_counted() -> None:
    """Some requests came, too few for the step."""

    async def story() -> None:
        notes = {**POLICY, "switchgear.dev/deadline": "1m"}
        async with house(rate=2.0, annotations=notes) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.ended("inconclusive")
            _held(found, tripped=False)
            assert "of 50 requests" in found.runs()[-1]["reason"]

    clock.run(story())


@pytest.mark.slow
def test_a_version_that_turns_bad_in_the_bake() -> None:
    """95 % are at stake, stable still stands: one route write brings all back."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.until(lambda: world.weights("checkout").get("checkout-canary", 0) >= 9500)
            await found.until(lambda: found.runs()[-1]["phase"] == "Judging", 60)
            world.virtual.behave("v2", error_rate=0.5)
            await found.ended("rolled-back")
            _held(found, tripped=True)

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["Rolling", "HandingBack"])
def test_a_version_that_crashes_after_the_commit(phase: str) -> None:
    """Stable comes back first, and no request fails by how traffic is moved back."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.until(lambda: bool(found.runs()) and found.runs()[-1]["phase"] == phase)
            world.annotate("shop", "checkout", {"switchgear.dev/abort": "true"})
            await found.ended("aborted")
            _held(found, tripped=False)

    clock.run(story())


@pytest.mark.slow
def test_both_versions_are_equally_bad() -> None:
    """Stable breaks the same limit: no reason to call the new one bad."""

    async def story() -> None:
        notes = {**POLICY, "switchgear.dev/deadline": "1m"}
        env = {"ERROR_RATE": "0.2"}
        async with house(annotations=notes, env=env) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.until(
                lambda: bool(found.runs()) and found.runs()[-1]["phase"] in {"Held", "Ended"}
            )
            assert not found.runs()[-1]["tripped"]

    clock.run(story())


def _a_a(seed: int) -> None:
    async def story() -> None:
        env = {"ERROR_RATE": "0.005"}
        async with house(seed=seed, env=env) as found:
            found.world.set_image("shop", "checkout", IMAGE)
            await found.ended("promoted")

    clock.run(story())


@pytest.mark.parametrize("seed", quick([1, 2], 1))
def test_the_same_version_twice_is_promoted(seed: int) -> None:
    """Both have 0.5 % errors."""
    _a_a(seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [*range(100, 115), *(pytest.param(n, marks=pytest.mark.deep) for n in range(115, 150))]
)
def test_equal_versions_are_all_promoted(seed: int) -> None:
    """No false rollback in fifteen runs, or in fifty."""
    _a_a(seed)
