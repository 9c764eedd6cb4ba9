# SPDX-License-Identifier: Apache-2.0
"""Every write of a run goes out under the name that one record of its journal carries."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.adapters.kube.calls import AUDIT_ID
from controller.adapters.kube.wire import Request
from controller.core.values import MANAGED_BY_LABEL
from controller.sim import clock
from controller.sim.apiserver.store import Event
from tests.engine.house import NAMESPACE, House, house


def _named(found: House) -> Counter[str]:
    """The names that records carry whose effect wrote something, each with how many records."""
    journal = found.journal()
    wrote = {
        record["body"].get("intent", record["seq"])
        for record in journal
        if record["body"].get("writes")
    }
    return Counter(
        record["body"]["call"]
        for record in journal
        if record["body"].get("call") and record["seq"] in wrote
    )


def _about_itself(request: Request) -> str:
    """Why a write needs no record; empty: it does."""
    if request.path.endswith("/events") or "/configmaps" in request.path:
        return "telling people, and the journal itself"
    body: Any = json.loads(request.body or b"{}")
    marks = isinstance(body, dict) and body.keys() == {"metadata"}
    return "marks by which people see what is said elsewhere" if marks else ""


def _logged(log: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """The names of writes for a target that has no run, by the daemon's log."""
    return Counter(
        entry["call"]
        for entry in log
        if entry["event"] == "effect without a run" and entry["writes"]
    )


def _told(found: House, log: Sequence[Mapping[str, Any]]) -> None:
    """Each write has its one record in the newest journal or the log, and none is made up."""
    sent = {
        request.headers.get(AUDIT_ID, "")
        for request in found.wire.writes()
        if AUDIT_ID in request.headers or not _about_itself(request)
    }
    records = _named(found) + _logged(log)
    assert "" not in sent
    assert sent == set(records)
    assert set(records.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "outcome"), [(0.0, "promoted"), (0.5, "rolled-back"), (None, "killed")]
)
def test_every_write_has_one_record_and_every_record_its_write(
    rate: float | None, outcome: str
) -> None:
    async def story() -> None:
        async with house() as found:
            found.wire.sent.clear()
            log.clear()
            env = {"ERROR_RATE": str(rate or 0)}
            found.world.set_image("shop", "checkout", "registry.example/app:v2", env)
            if rate is None:
                await found.reaches("Judging")
                assert found.engine is not None
                await found.engine.killer.kill("all", actor="p", reason="", wait_seconds=10.0)
            await found.ended(outcome)
            _told(found, log)

    with capture_logs() as log:
        clock.run(story())


@pytest.mark.slow
def test_what_is_done_for_a_lost_run_has_its_record_in_the_log() -> None:
    """There is no journal any more: the log alone tells who took the weight away."""

    async def story() -> None:
        async with house() as found:
            found.world.set_image("shop", "checkout", "registry.example/app:v2")
            await found.reaches("Judging")
            await found.crash()
            found.world.delete("configmaps", NAMESPACE, found.documents()[-1]["metadata"]["name"])
            log.clear()
            await found.start()
            await found.ended("promoted")
            _told(found, log)
            done = [entry for entry in log if entry["event"] == "effect without a run"]
            assert [entry for entry in done if entry["about"]["effect"] == "ZeroWeight"]

    with capture_logs() as log:
        clock.run(story())


@pytest.mark.slow
def test_weight_0_in_the_place_of_what_would_break_a_promise_has_its_record() -> None:
    """What stands under our canary's name has become a stranger's before the step began."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            found.wire.sent.clear()
            log.clear()

            def forge(event: Event) -> None:
                name = event.obj["metadata"]["name"]
                if event.type == "ADDED" and name == "checkout-canary" and not forged:
                    forged.append(name)
                    asyncio.get_running_loop().call_soon(_forge, found)

            forged: list[str] = []
            end = world.store.subscribe(forge)
            world.set_image("shop", "checkout", "registry.example/app:v2")
            await found.until(lambda: bool(found.runs()) and "broken" in _kinds(found))
            end()
            zero = found.journal()[_kinds(found).index("broken") - 1]["body"]
            assert zero["effect"] == "ZeroWeight"
            assert found.runs()[-1]["granted"] == 0
            world.delete("deployments", "shop", "checkout-canary")
            await found.ended("promoted")
            _told(found, log)

    with capture_logs() as log:
        clock.run(story())


def test_a_canary_that_lost_our_label_ends_the_run() -> None:
    """Nobody may delete its pods but its owner: until then the Service keeps away from them."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            world.set_image("shop", "checkout", "registry.example/app:v2")
            await found.reaches("Judging")
            _changed(found, lambda item: item["metadata"]["labels"].pop(MANAGED_BY_LABEL))
            await found.until(lambda: found.runs()[-1]["phase"] == "Cleaning")
            await asyncio.sleep(120)
            assert len(world.pods(version="v2")) == 1
            selector = world.get("services", "shop", "checkout")["spec"]["selector"]
            assert "pod-template-hash" in selector
            weights = world.weights("checkout")
            assert weights.get("checkout-canary", 0) == 0
            world.delete("deployments", "shop", "checkout-canary")
            await found.ended("inconclusive")
            found.at_rest(paused=True)

    clock.run(story())


def _kinds(found: House) -> list[str]:
    return [record["kind"] for record in found.journal()]


def _changed(found: House, change: Callable[[Any], object]) -> None:
    """Change our canary by another hand."""
    found.world.edit("deployments", "shop", "checkout-canary", change)


def _forge(found: House) -> None:
    """Take our label and our template off the canary."""

    def change(item: dict[str, Any]) -> None:
        del item["metadata"]["labels"][MANAGED_BY_LABEL]
        item["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/other:v1"

    _changed(found, change)
