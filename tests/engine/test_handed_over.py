# SPDX-License-Identifier: Apache-2.0
"""A leader that is asked to end finishes what it has begun, and its journal says so.

Whoever leads next finds no write that nobody has told of, unlike after a crash. An intent that was
not carried out stays open, and names what may still be on its way.
"""

import asyncio
from collections import Counter

import pytest

from controller.adapters.kube.calls import AUDIT_ID
from controller.sim.apiserver.request import Request, Response
from controller.sim.faults import MUTATING, Fault, Plan
from tests.engine.house import House
from tests.engine.pair import Pair, pair, play
from tests.engine.sweep import quick


class _Asked:
    """Asks the first replica to end while the answer to its nth named write is on its way."""

    def __init__(self, found: Pair, nth: int) -> None:
        self.found = found
        self.nth = nth
        self.accepted: Counter[str] = Counter()
        found.world.api.after.append(self)

    async def __call__(self, request: Request, response: Response) -> None:
        headers = request.headers
        name = {key.lower(): value for key, value in headers.items()}.get(AUDIT_ID.lower(), "")
        if request.method not in MUTATING or not name or response.status >= 300:
            return
        self.accepted[name] += 1
        if self.accepted.total() == self.nth:
            self.found.houses[0].cancel()
            # The answer takes a moment, in which the process learns of it.
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("nth", quick(range(1, 27), 6, 17))
def test_every_write_that_was_begun_has_its_outcome_in_the_journal(nth: int) -> None:
    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            asked = _Asked(found, nth)
            found.world.set_image("shop", "checkout", "registry.example/app:v2")
            await second.ended("promoted", within=300.0)
            assert not first.leads
            journal = second.journal()
            assert {record["epoch"] for record in journal} == {1, 2}
            names = {
                record["seq"]: record["body"]["call"]
                for record in journal
                if record["body"].get("call")
            }
            told: dict[str, int] = {}
            for record in journal:
                body = record["body"]
                if "writes" in body:
                    told[names[body.get("intent", record["seq"])]] = body["writes"]
            runs = {name: n for name, n in asked.accepted.items() if not name.startswith("rest/")}
            assert {name: n for name, n in told.items() if n} == runs

    play(story)


def test_a_raise_without_an_answer_is_claimed_by_whoever_leads_next() -> None:
    """It may still arrive: the intent stays open, and its route is made the next leader's own."""

    async def story() -> None:
        async with pair() as found:
            first, second = found.houses
            plan = Plan().install(found.world.api)
            lost = plan.add(
                Fault.NO_REPLY, path="/httproutes/", agent="switchgear/a", methods=MUTATING
            )
            found.world.set_image("shop", "checkout", "registry.example/app:v2")
            await first.until(lambda: _failing(first, "RaiseWeight"))
            assert lost.spoiled > 0
            await first.stop()
            await second.ended("promoted")
            claims = [
                record["body"]
                for record in second.journal()
                if record["epoch"] == 2 and record["body"].get("effect") == "Claim"
            ]
            assert claims[0]["done"]
            assert any("HTTPRoute" in text for text in claims[0]["objects"])
            second.at_rest()

    play(story)


def _failing(found: House, effect: str) -> bool:
    """Whether an intent of this kind stands open, and was tried in vain."""
    records = found.journal() if found.runs() else []
    asked = {r["seq"] for r in records if r["body"].get("effect") == effect}
    return any(r["kind"] == "failing" and r["body"]["intent"] in asked for r in records)
