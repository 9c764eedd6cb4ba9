# SPDX-License-Identifier: Apache-2.0
"""The kill endpoint: any body, any time, any part broken; it says 200 only when it is so."""

import asyncio

import httpx
import pytest

from controller.sim import clock
from controller.sim.apiserver.request import Request, Response
from controller.sim.faults import Fault, Plan
from controller.sim.prometheus import Trouble
from tests.engine.house import POLICY
from tests.http.front import V2, Front, fronted, writes

UNCLEAR = {
    "nothing": b"",
    "blank": b" \n",
    "half an object": b"{",
    "a list": b"[1, 2]",
    "no text": b"\xff\xfe",
    "deeper than any reader": b"[" * 60_000,
    "longer than the limit": b"x" * 100_000,
    "a number as a namespace": b'{"namespace": 5}',
    "a name without a namespace": b'{"name": "checkout"}',
    "a name that is none": b'{"namespace": "shop", "name": ["checkout"]}',
    "names that nothing has": b'{"namespace": "../shop", "name": "Check out"}',
    "half a character": b'{"reason": "\\ud800"}',
}


def test_whatever_is_not_clear_means_everything() -> None:
    """In a hurry nobody reads a manual: each of these stops everything."""

    async def story() -> None:
        async with fronted(rate=0.0) as front:
            for what, body in UNCLEAR.items():
                answer = await front.kill(body)
                assert answer.status_code == 200, (what, answer.text)
                assert answer.json()["scope"] == "all", what
                assert front.latched() == {"all"}, what
                assert (await front.http.post("/v1/release")).status_code == 200
                assert front.latched() == set()

    clock.run(story())


def test_an_empty_body_takes_a_running_canary_off() -> None:
    """200 means that not one more request is answered by the new version."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            answer = await front.kill()
            assert answer.status_code == 200
            told = answer.json()
            assert (told["latched"], told["in_force"], told["pending"]) == (True, True, [])
            assert front.house.world.in_force("checkout").get("checkout-canary", 0) == 0
            before = front.house.world.answered()["v2"]
            assert before > 0
            await front.house.ended("killed")
            assert front.house.world.answered()["v2"] == before
            front.house.at_rest(paused=True)

    clock.run(story())


def test_latched_comes_before_in_force() -> None:
    """Asked not to wait, it says 202 and what is missing; asked again, 200."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            answer = await front.kill(wait=0.0)
            assert answer.status_code == 202
            told = answer.json()
            assert told["latched"]
            assert not told["in_force"]
            assert told["next"]
            assert front.latched() == {"all"}
            assert front.share() == 0, "the route is written whatever the caller waits for"
            assert (await front.kill()).status_code == 200

    clock.run(story())


def test_a_strange_wait_is_the_usual_one() -> None:
    """Not even the query can keep a kill from its work."""

    async def story() -> None:
        async with fronted(rate=0.0) as front:
            for wait in ("soon", "nan", "inf", "-1"):
                answer = await front.http.post(f"/v1/kill?wait={wait}")
                assert answer.status_code in {200, 202}, wait
                assert front.latched() == {"all"}

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["Rolling", "HandingBack"])
def test_after_the_commit_it_waits_for_the_stable_pods(phase: str) -> None:
    """Weight 0 would send requests to pods that are going: 202 until stable is back."""

    async def story() -> None:
        async with fronted(phase=phase, direct_rate=30.0) as front:
            world = front.house.world
            # Before that a kill stops the roll itself, and no stable pod has gone.
            await front.house.until(
                lambda: "paused" not in world.get("deployments", "shop", "checkout")["spec"]
            )
            early = await front.kill(wait=0.0)
            assert early.status_code == 202
            assert "stable pods are coming back" in early.json()["pending"][0]
            late = await front.kill()
            assert late.status_code == 200, late.text
            assert world.in_force("checkout").get("checkout-canary", 0) == 0
            before = world.answered()["v2"]
            await front.house.ended("killed")
            assert world.answered()["v2"] == before
            assert world.ready_pods("v1") == 4
            assert sum(world.failures.values()) == 0

    clock.run(story())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "scope", "others"),
    [
        ({"namespace": "shop", "name": "checkout"}, "target.shop.checkout", "promoted"),
        ({"namespace": "shop"}, "namespace.shop", "killed"),
    ],
)
def test_a_target_or_a_namespace(body: dict[str, str], scope: str, others: str) -> None:
    """What is named stops, what is not goes on."""

    async def story() -> None:
        async with fronted() as front:
            found = front.house
            await found.world.shop(name="payments", annotations=POLICY)
            found.world.set_image("shop", "checkout", V2)
            found.world.set_image("shop", "payments", V2)
            await found.until(
                lambda: (
                    len(found.runs()) == 2
                    and all(run["phase"] == "Judging" for run in found.runs())
                )
            )
            answer = await front.kill(body)
            assert (answer.status_code, answer.json()["scope"]) == (200, scope)
            await found.until(lambda: all(run["outcome"] for run in found.runs()))
            ends = {run["target"]["name"]: run["outcome"] for run in found.runs()}
            assert ends == {"checkout": "killed", "payments": others}

    clock.run(story())


def test_a_raise_in_flight_never_lands_behind_it() -> None:
    """The raise has read route and latch and is on its way: its write meets the new version."""

    async def story() -> None:
        async with fronted() as front:
            answers: list[httpx.Response] = []

            async def hold(request: Request) -> Response | None:
                raising = b'"value":500' in request.body or b'"weight":500' in request.body
                if request.method == "PATCH" and "httproutes" in request.path and raising:
                    front.house.world.api.before.remove(hold)
                    answers.append(await front.kill())
                return None

            front.house.world.api.before.append(hold)
            front.house.world.set_image("shop", "checkout", V2)
            await front.house.until(lambda: bool(answers))
            assert answers[0].status_code == 200, answers[0].text
            for _ in range(100):
                assert front.share() == 0
                await asyncio.sleep(0.1)
            await front.house.ended("killed")
            assert front.house.world.answered()["v2"] == 0

    clock.run(story())


async def _in_force(front: Front) -> None:
    answer = await front.kill()
    assert answer.status_code == 200, answer.text
    world = front.house.world
    assert world.in_force("checkout").get("checkout-canary", 0) == 0
    before = world.answered()["v2"]
    await asyncio.sleep(30)
    assert world.answered()["v2"] == before


def test_with_prometheus_down() -> None:
    """It asks nobody for evidence."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            front.house.world.prometheus.faults.trouble = Trouble.DOWN
            await _in_force(front)

    clock.run(story())


def test_with_run_documents_that_cannot_be_written() -> None:
    """The records wait; the weight does not."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            name = front.house.documents()[-1]["metadata"]["name"]
            mend = front.spoil(writes(f"/configmaps/{name}"))
            await _in_force(front)
            mend()
            await front.house.ended("killed")
            assert front.house.journal()
            front.house.at_rest(paused=True)

    clock.run(story())


@pytest.mark.slow
def test_in_the_commit_with_run_documents_that_cannot_be_written() -> None:
    """The Service has followed to the canary by then; weight 0 alone would lead right to it."""

    async def story() -> None:
        async with fronted(phase="Committing", direct_rate=30.0) as front:
            found = front.house
            await found.until(
                lambda: (
                    "switchgear.dev/track"
                    in found.world.get("services", "shop", "checkout")["spec"]["selector"]
                )
            )
            name = found.documents()[-1]["metadata"]["name"]
            mend = front.spoil(writes(f"/configmaps/{name}"))
            await _in_force(front)
            mend()
            await found.ended("killed")
            assert sum(found.world.failures.values()) == 0

    clock.run(story())


def test_with_a_latch_that_is_refused_the_routes_are_written_all_the_same() -> None:
    """202 with the problem named, and the run of this process ends: it may not rise again."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            front.spoil(
                lambda request: (
                    writes("/configmaps")(request)
                    and b"switchgear-kill" in request.path.encode() + request.body
                ),
                status=403,
            )
            answer = await front.kill()
            assert answer.status_code == 202
            told = answer.json()
            assert not told["latched"]
            assert "latch could not be persisted" in told["problems"][0]
            assert front.share() == 0
            before = front.house.world.answered()["v2"]
            await front.house.ended("aborted")
            assert front.house.world.answered()["v2"] == before

    clock.run(story())


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_AFTER])
def test_a_latch_that_hangs_holds_the_routes_up_for_seconds_only(fault: Fault) -> None:
    """The routes are at 0 long before any deadline of an ordinary call is over."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            plan = Plan().install(front.house.world.api)
            plan.add(fault, path="switchgear-kill")
            begin = asyncio.get_running_loop().time()
            asked = asyncio.ensure_future(front.kill(wait=0.0))
            await front.house.until(lambda: front.share() == 0, within=5.0)
            answer = await asked
            assert asyncio.get_running_loop().time() - begin < 5.0
            assert answer.status_code == 202
            assert "no answer" in answer.json()["problems"][0]

    clock.run(story())


def test_with_the_api_server_gone() -> None:
    """Nothing can be done, and it says so instead of failing."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            plan = Plan().install(front.house.world.api)
            plan.add(Fault.RESET)
            answer = await front.kill(wait=1.0)
            assert answer.status_code == 202
            told = answer.json()
            assert not told["latched"]
            assert len(told["problems"]) == 3
            assert told["pending"]

    clock.run(story())


def test_before_the_runs_are_known_nothing_is_called_in_force() -> None:
    """A controller that has just started does not take its own ignorance for silence."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            assert front.house.engine is not None
            front.house.engine.desk.known = False
            end = front.spoil(lambda request: request.path.endswith("/configmaps"))
            answer = await front.kill(wait=0.0)
            assert answer.status_code == 202
            assert "not known yet" in answer.json()["pending"][0]
            end()
            assert (await front.kill()).status_code == 200
            assert front.share() == 0

    clock.run(story())
