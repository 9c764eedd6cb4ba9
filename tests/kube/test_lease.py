# SPDX-License-Identifier: Apache-2.0
"""The Lease as an object: what is written, what is compared, and what strange hands may leave."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controller.adapters.clock import LoopClock
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.lease import KubeLease
from controller.core.errors import Conflict, Missing
from controller.sim.world import World
from tests.support.simwire import SimWire

FIRST = "2026-11-25T12:00:00.000Z"
LATER = "2026-11-25T12:00:02.125Z"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World(seed=1, namespaces=("shop", "switchgear")) as found:
        yield found


def lease(world: World, identity: str, address: str = "10.0.0.7:8340") -> KubeLease:
    return KubeLease(
        Calls(SimWire(world.api), LoopClock()),
        namespace="switchgear",
        name="switchgear",
        identity=identity,
        address=address,
        seconds=10.0,
    )


def stored(world: World) -> dict[str, Any]:
    return world.get("leases", "switchgear", "switchgear")


async def test_the_first_one_makes_it(world: World) -> None:
    mine = lease(world, "a")
    assert await mine.read() is None
    held = await mine.hold(None, FIRST)
    assert (held.holder, held.address, held.seconds, held.transitions) == (
        "a",
        "10.0.0.7:8340",
        10.0,
        0,
    )
    spec = stored(world)["spec"]
    assert spec["leaseDurationSeconds"] == 10
    # The API server refuses any other number of digits.
    assert re.fullmatch(r".*T12:00:00\.\d{6}Z", spec["renewTime"])
    with pytest.raises(Conflict):
        await lease(world, "b").hold(None, FIRST)


async def test_a_renewal_keeps_the_beginning_and_the_count(world: World) -> None:
    mine = lease(world, "a")
    held = await mine.hold(await mine.hold(None, FIRST), LATER)
    spec = stored(world)["spec"]
    assert (spec["acquireTime"], spec["leaseTransitions"]) == ("2026-11-25T12:00:00.000000Z", 0)
    assert spec["renewTime"] == "2026-11-25T12:00:02.125000Z"
    assert held.mark == mine.marked(held, LATER)


async def test_a_take_over_counts_and_says_where_the_new_one_is(world: World) -> None:
    old, new = lease(world, "a"), lease(world, "b", "10.0.0.8:8340")
    held = await old.hold(None, FIRST)
    taken = await new.hold(held, LATER)
    assert (taken.holder, taken.address, taken.transitions) == ("b", "10.0.0.8:8340", 1)
    with pytest.raises(Conflict):
        await old.hold(held, LATER)


async def test_what_is_given_back_is_nobodys(world: World) -> None:
    mine = lease(world, "a")
    await mine.release(await mine.hold(None, FIRST))
    assert "holderIdentity" not in stored(world)["spec"]
    seen = await mine.read()
    assert seen is not None
    assert seen.holder == ""
    assert (await lease(world, "b").hold(seen, LATER)).holder == "b"


async def test_a_lease_that_is_gone_is_not_made_by_a_renewal(world: World) -> None:
    mine = lease(world, "a")
    held = await mine.hold(None, FIRST)
    world.delete("leases", "switchgear", "switchgear")
    with pytest.raises(Missing):
        await mine.hold(held, LATER)


async def test_an_empty_lease_reads_as_nobodys(world: World) -> None:
    mine = lease(world, "a")
    await mine.hold(None, FIRST)

    def empty(found: dict[str, Any]) -> None:
        found["spec"] = {}
        found["metadata"].pop("annotations", None)

    world.edit("leases", "switchgear", "switchgear", empty)
    seen = await mine.read()
    assert seen is not None
    assert (seen.holder, seen.address, seen.seconds, seen.transitions) == ("", "", 0.0, 0)
    assert (await mine.hold(seen, LATER)).holder == "a"


async def test_what_others_noted_on_it_stays(world: World) -> None:
    """Through a renewal, a take-over, the end of an address and the release."""
    old, new, silent = lease(world, "a"), lease(world, "b", "10.0.0.8:8340"), lease(world, "c", "")
    held = await old.hold(None, FIRST)
    theirs = {"example.com/owner": "ops", "example.com/note": "a/b~c"}

    def note(found: dict[str, Any]) -> None:
        found["metadata"]["annotations"].update(theirs)
        found["metadata"]["labels"]["team"] = "ops"

    world.edit("leases", "switchgear", "switchgear", note)
    with pytest.raises(Conflict):
        await old.hold(held, LATER)
    for mine, address in ((old, "10.0.0.7:8340"), (new, "10.0.0.8:8340"), (silent, "")):
        seen = await mine.read()
        assert seen is not None
        assert (await mine.hold(seen, LATER)).address == address
        ours = {"switchgear.dev/address": address} if address else {}
        assert stored(world)["metadata"]["annotations"] == theirs | ours
    seen = await silent.read()
    assert seen is not None
    await silent.release(seen)
    assert stored(world)["metadata"]["annotations"] == theirs
    assert stored(world)["metadata"]["labels"]["team"] == "ops"
