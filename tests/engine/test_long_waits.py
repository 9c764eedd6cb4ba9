# SPDX-License-Identifier: Apache-2.0
"""What is asked for again and again neither fills the run document nor blocks the way back."""

import asyncio
import json

import pytest

from controller.engine.ledger import LAST_BYTES, MOST_PENDING, Ledger
from controller.sim import clock
from controller.sim.faults import MUTATING, Fault, Plan
from tests.engine.house import House, house
from tests.support.ports import TARGET, MemoryDocuments, StillClock, Turns

IMAGE = "registry.example/app:v2"


def _bytes(found: House) -> int:
    return len(json.dumps(found.documents()[-1]["data"]))


@pytest.mark.slow
def test_a_long_pause_fills_nothing_and_the_way_back_is_open() -> None:
    """The refusal is noted once; then a person gives up and all is put back."""

    async def story() -> None:
        async with house(rate=20.0) as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.reaches("Judging")
            world.annotate("shop", "checkout", {"switchgear.dev/paused": "true"})
            await asyncio.sleep(900)
            assert _bytes(found) < 100_000
            kinds = [item["kind"] for item in found.journal()]
            assert len(kinds) < 60
            assert kinds.count("refused") <= 2
            world.annotate("shop", "checkout", {"switchgear.dev/abort": "true"})
            await found.ended("aborted", 120)
            found.at_rest(paused=True)

    clock.run(story())


def test_run_documents_that_cannot_be_written_do_not_stop_the_way_back() -> None:
    """From the breach on nothing can be noted; all is put back all the same, and noted later."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", IMAGE)
            await found.until(lambda: bool(found.runs()) and found.runs()[-1]["weight_bp"] == 500)
            plan = Plan().install(world.api)
            now = asyncio.get_running_loop().time()
            plan.add(
                Fault.UNAVAILABLE,
                agent="switchgear",
                methods=MUTATING,
                path="/configmaps",
                begin=now,
                end=now + 120,
            )
            world.annotate("shop", "checkout", {"switchgear.dev/abort": "true"})
            await asyncio.sleep(60)
            assert found.runs()[-1]["phase"] == "Judging"
            found.at_rest(paused=True)
            await asyncio.sleep(90)
            assert found.outcome() == "aborted"
            assert "RollingBack" in json.dumps(found.journal())

    clock.run(story())


def _ledger() -> Ledger:
    documents = MemoryDocuments(Turns())
    return Ledger(documents=documents, clock=StillClock(), epoch=1, name="run-1", target=TARGET)


def test_records_without_room_are_counted_and_get_no_number() -> None:
    """None of them is taken for another one, and the gap is told."""
    ledger = _ledger()
    numbers = [ledger.note("effect", {"n": n}) for n in range(MOST_PENDING + 7)]
    assert numbers[MOST_PENDING - 1] == MOST_PENDING
    assert numbers[MOST_PENDING:] == [None] * 7


def test_a_journal_never_outgrows_its_document() -> None:
    """What is written stays below the limit of a ConfigMap whatever is noted."""
    ledger = _ledger()
    for _ in range(MOST_PENDING):
        ledger.note("effect", {"words": "x" * 5_000})
    assert ledger.full
    assert LAST_BYTES < sum(len(line) + 1 for line in ledger.lines) < LAST_BYTES + 6_000
