# SPDX-License-Identifier: Apache-2.0
"""Acts on targets and the release of latches: recorded with who asked, refused when unclear."""

import asyncio
import json

import httpx
import pytest

from controller.sim import clock
from tests.http.front import V2, V3, Front, fronted

ADA = {"X-Switchgear-Actor": "ada"}


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, which must be problem+json."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    assert told["status"] == answer.status_code
    assert told["detail"]
    return answer.status_code, told["code"]


def actors(front: Front, kind: str) -> list[str]:
    """Who stands behind the records of a kind."""
    return [record["actor"] for record in front.house.journal() if record["kind"] == kind]


async def _trip(front: Front) -> None:
    front.house.world.set_image("shop", "checkout", V2, {"ERROR_RATE": "0.5"})
    await front.house.ended("rolled-back")


@pytest.mark.slow
def test_release_of_a_kill_lets_the_next_version_run() -> None:
    """A killed version stays held; another one may try."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            await front.kill()
            await front.house.ended("killed")
            answer = await front.http.post("/v1/release", json={"reason": "over"}, headers=ADA)
            assert (answer.status_code, answer.json()["scope"]) == (200, "all")
            assert front.latched() == set()
            front.house.world.set_image("shop", "checkout", V3)
            await front.house.ended("promoted")
            front.house.at_rest()

    clock.run(story())


def test_release_says_who_and_why() -> None:
    """The held run's journal has it."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            await front.kill()
            await front.house.ended("killed")
            await front.http.post("/v1/release", json={"reason": "over"}, headers=ADA)
            await asyncio.sleep(60)
            released = [item for item in front.house.journal() if item["kind"] == "released"]
            assert [item["actor"] for item in released] == ["ada (loopback)"]
            assert released[0]["body"] == {"scope": "all", "reason": "over"}

    clock.run(story())


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"[" * 60_000,
        b'{"namespace": 5}',
        b'{"namespace": ""}',
        b'{"name": "checkout"}',
    ],
)
def test_a_release_that_is_not_clear_releases_nothing(body: bytes) -> None:
    """What is everything to a kill is nothing to a release."""

    async def story() -> None:
        async with fronted(rate=0.0) as front:
            await front.kill()
            assert problem(await front.http.post("/v1/release", content=body)) == (
                400,
                "Unreadable",
            )
            assert front.latched() == {"all"}

    clock.run(story())


def test_a_release_is_exact() -> None:
    """One scope goes, the others stay; what is not engaged cannot be released."""

    async def story() -> None:
        async with fronted(rate=0.0) as front:
            await front.kill({"namespace": "shop"})
            await front.kill({"namespace": "shop", "name": "checkout"})
            await asyncio.sleep(1)
            missing = await front.http.post("/v1/release")
            assert problem(missing) == (404, "NotFound")
            assert "namespace.shop, target.shop.checkout" in missing.json()["detail"]
            one = await front.http.post("/v1/release", json={"namespace": "shop"})
            assert one.status_code == 200
            assert one.json()["still_engaged"] == ["target.shop.checkout"]
            assert front.latched() == {"target.shop.checkout"}
            assert (await front.act("release")).status_code == 202
            assert front.latched() == set()

    clock.run(story())


@pytest.mark.slow
def test_release_closes_the_breaker_of_a_target() -> None:
    """Without it the next version is refused, with it promoted; the journal has the name."""

    async def story() -> None:
        async with fronted() as front:
            await _trip(front)
            front.house.world.set_image("shop", "checkout", V3, {"ERROR_RATE": "0"})
            await front.house.until(
                lambda: len(front.house.runs()) == 2 and front.house.runs()[-1]["phase"] == "Held"
            )
            assert "breaker" in front.house.runs()[-1]["reason"]
            answer = await front.http.post("/v1/targets/shop/checkout/release", headers=ADA)
            assert (answer.status_code, answer.json()["accepted"]) == (202, True)
            await front.house.ended("promoted")
            assert "ada (loopback)" in json.dumps(front.house.documents())

    clock.run(story())


def test_release_of_everything_closes_the_fleet_breaker() -> None:
    """It is open without any kill, and the same act closes it."""

    async def story() -> None:
        async with fronted(rate=0.0) as front:
            assert front.house.engine is not None
            documents = front.house.engine.documents
            await documents.open_fleet_breaker("three targets tripped")
            await asyncio.sleep(1)
            assert (await documents.latches()).fleet_open
            assert (await front.http.post("/v1/release")).status_code == 200
            assert not (await documents.latches()).fleet_open

    clock.run(story())


def test_retry_begins_another_run() -> None:
    """As one probe, of the version that failed."""

    async def story() -> None:
        async with fronted() as front:
            await _trip(front)
            assert (await front.act("retry", reason="again")).status_code == 202
            await front.house.until(lambda: len(front.house.runs()) == 2)
            assert front.house.runs()[-1]["probe"]

    clock.run(story())


def test_promote_counts_the_step_as_passed() -> None:
    """No request has come, so nothing but a person moves it."""

    async def story() -> None:
        async with fronted(rate=0.0, phase="Judging") as front:
            early = front.house.runs()[-1]["step"]
            answer = await front.http.post(
                "/v1/targets/shop/checkout/promote", json={"reason": "sure"}, headers=ADA
            )
            assert answer.status_code == 202
            await front.house.until(lambda: front.house.runs()[-1]["step"] == early + 1)
            assert actors(front, "request") == ["ada (loopback)"]

    clock.run(story())


def test_abort_rolls_back() -> None:
    """The version is not called bad; a reason may hold any character."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            answer = await front.act("abort", reason="odd \u2028 but\x85 fine")
            assert answer.status_code == 202
            await front.house.ended("aborted")
            front.house.at_rest(paused=True)
            assert not front.house.runs()[-1]["quarantined"]
            assert actors(front, "request") == ["unnamed (loopback)"]
            await front.house.stop()
            await front.house.start()
            await asyncio.sleep(10)
            assert front.house.runs()[-1]["phase"] == "Held"

    clock.run(story())


def test_what_cannot_be_done_is_refused_by_code() -> None:
    """Every refusal is problem+json, and none of them leaves anything behind."""

    async def story() -> None:
        async with fronted(rate=0.0) as front:
            for verb in ("abort", "promote", "retry"):
                assert problem(await front.act(verb)) == (409, "Refused"), verb
            assert problem(await front.act("explode")) == (404, "UnknownVerb")
            for target in ("shop/nobody", "nowhere/checkout", "shop/Not A Name"):
                for verb in ("abort", "promote", "retry", "release"):
                    assert problem(await front.act(verb, target)) == (404, "NotFound"), target
            assert problem(await front.http.get("/v1/kill")) == (405, "WrongMethod")
            assert problem(await front.http.get("/v1/nothing")) == (404, "NoSuchDoor")
            assert problem(await front.http.get("/v1/runs/nobody")) == (404, "NotFound")
            long = await front.http.post(
                "/v1/targets/shop/checkout/abort", content=b'{"reason": "' + b"x" * 70_000
            )
            assert problem(long) == (413, "TooLarge")
            listed = (await front.http.get("/v1/targets")).json()["targets"]
            assert [item["name"] for item in listed] == ["checkout"]

    clock.run(story())


def test_an_api_server_that_does_not_answer_is_said_so() -> None:
    """A release that could not be written is no release."""

    async def story() -> None:
        async with fronted(rate=0.0) as front:
            await front.kill()
            mend = front.spoil(lambda request: request.method != "GET")
            assert problem(await front.http.post("/v1/release")) == (503, "Unavailable")
            mend()
            assert front.latched() == {"all"}
            end = front.spoil(lambda request: request.method != "GET", status=403)
            assert problem(await front.http.post("/v1/release")) == (403, "Forbidden")
            end()

    clock.run(story())
