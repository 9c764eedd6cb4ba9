# SPDX-License-Identifier: Apache-2.0
"""The doors of a replica that stands by: it stops, it tells, and passes on what it must not do."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from controller.core.errors import Unavailable
from controller.ports.peer import Reply
from tests.engine.pair import pair, play
from tests.http.front import V2, doors


class Wires:
    """Leads from an address to the doors of a replica, and remembers who was asked."""

    def __init__(self) -> None:
        """Nobody is reached yet."""
        self.doors: dict[str, httpx.AsyncClient] = {}
        self.asked: list[str] = []

    async def post(self, address: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request to the replica that has this address."""
        self.asked.append(address)
        if address not in self.doors:
            message = f"the leader at {address} was not reached"
            raise Unavailable(message)
        answer = await self.doors[address].post(path, headers=dict(headers), content=body)
        kind = answer.headers["content-type"]
        return Reply(status=answer.status_code, kind=kind, body=answer.content)


def test_a_kill_works_on_a_replica_that_does_not_lead() -> None:
    """It latches, writes and reads back by itself; the leader carries the run to its end."""

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            found.world.set_image("shop", "checkout", V2)
            await first.reaches("Judging")
            async with doors(second) as http:
                answer = await http.post("/v1/kill?wait=60")
            assert answer.status_code == 200, answer.text
            assert found.world.in_force("checkout").get("checkout-canary", 0) == 0
            before = found.world.answered()["v2"]
            await first.ended("killed")
            assert found.world.answered()["v2"] == before
            first.at_rest(paused=True)

    play(story)


def test_a_kill_needs_no_leader_at_all() -> None:
    """The leader has just died and nobody has noticed yet."""

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            found.world.set_image("shop", "checkout", V2)
            await first.reaches("Judging")
            await first.crash()
            begin = asyncio.get_running_loop().time()
            async with doors(second) as http:
                answer = await http.post("/v1/kill?wait=60")
            assert answer.status_code == 200, answer.text
            assert asyncio.get_running_loop().time() - begin < 5.0
            assert not second.leads
            assert found.world.in_force("checkout").get("checkout-canary", 0) == 0
            await second.ended("killed")
            second.at_rest(paused=True)

    play(story)


@pytest.mark.slow
def test_after_the_commit_it_says_so_until_a_leader_has_brought_stable_back() -> None:
    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            found.world.set_image("shop", "checkout", V2)
            await first.reaches("HandingBack")
            await first.crash()
            async with doors(second) as http:
                early = await http.post("/v1/kill?wait=0")
                assert early.status_code == 202
                assert "stable pods are coming back" in early.json()["pending"][0]
                late = await http.post("/v1/kill?wait=60")
                assert late.status_code == 200, late.text
            assert found.world.ready_pods("v1") == 4
            assert sum(found.world.failures.values()) == 0

    play(story)


@pytest.mark.slow
def test_it_tells_what_the_leader_tells() -> None:
    """Both name the same runs and targets; the ended ones with the same words."""

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            found.world.set_image("shop", "checkout", V2)
            await first.ended("promoted")
            async with doors(first) as leading, doors(second) as standing:
                assert (await standing.get("/readyz")).status_code == 200
                assert "switchgear_leader 1.0" in (await leading.get("/metrics")).text
                assert "switchgear_epoch 1.0" in (await leading.get("/metrics")).text
                assert "switchgear_leader 0.0" in (await standing.get("/metrics")).text
                runs = (await standing.get("/v1/runs")).json()
                assert runs == (await leading.get("/v1/runs")).json()
                name = runs["runs"][0]["name"]
                one = f"/v1/runs/{name}"
                assert (await standing.get(one)).json() == (await leading.get(one)).json()
                assert (await standing.get("/v1/runs/none")).status_code == 404
                told = (await standing.get("/v1/targets")).json()["targets"]
                assert [(item["name"], item["phase"]) for item in told] == [("checkout", "AtRest")]

    play(story)


@pytest.mark.slow
def test_what_moves_toward_risk_goes_to_the_leader(tmp_path: Path) -> None:
    """With the caller's token, once; the journal has the caller's name."""
    token = tmp_path / "token"
    token.write_text("secret")
    mine = {"authorization": "Bearer secret", "x-switchgear-actor": "ada"}

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            wires = Wires()
            found.world.set_image("shop", "checkout", V2)
            await first.reaches("Judging")
            async with doors(first, token) as leading, doors(second, token, wires) as standing:
                path = "/v1/targets/shop/checkout/promote"
                assert (await standing.post(path)).status_code == 401
                assert (await standing.post(path, headers=mine)).status_code == 503
                wires.doors["a:8340"] = leading
                answer = await standing.post(path, headers=mine, json={"reason": "looks fine"})
                assert answer.status_code == 202, answer.text
                refused = await standing.post("/v1/release", headers=mine)
                assert refused.status_code == 404
                assert refused.headers["content-type"] == "application/problem+json"
                assert wires.asked == ["a:8340"] * 3
            await first.ended("promoted")
            asked = [item for item in first.journal() if item["kind"] == "request"]
            assert [item["actor"] for item in asked] == ["ada (token)"]

    play(story)


def test_two_replicas_that_point_at_each_other_end_it() -> None:
    """While the lead changes hands an answer may be `ask again`, never a circle."""

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            wires = Wires()
            async with doors(second, None, wires) as standing:
                wires.doors["a:8340"] = standing
                answer = await standing.post("/v1/targets/shop/checkout/retry")
                assert answer.status_code == 503
                assert answer.json()["code"] == "Unavailable"
                assert wires.asked == ["a:8340"]
                await first.stop()
                await first.until(lambda: second.leads)
                answer = await standing.post("/v1/targets/shop/checkout/retry")
                assert answer.status_code == 409, answer.text

    play(story)
