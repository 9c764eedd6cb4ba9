# SPDX-License-Identifier: Apache-2.0
"""Every write of a run goes out under the name that one record of its journal carries."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from controller.adapters.kube.calls import AUDIT_ID
from controller.adapters.kube.wire import Request
from controller.core.values import MANAGED_BY, MANAGED_BY_LABEL
from controller.sim import clock
from controller.sim.apiserver.store import Event
from tests.engine.house import POLICY, House, house


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


def _told(found: House) -> None:
    """Each write has its one record in the newest journal, and no record is made up."""
    sent = {
        request.headers.get(AUDIT_ID, "")
        for request in found.wire.writes()
        if AUDIT_ID in request.headers or not _about_itself(request)
    }
    records = _named(found)
    assert "" not in sent
    assert sent == set(records)
    assert set(records.values()) == {1}


@pytest.mark.parametrize(
    ("rate", "outcome"), [(0.0, "promoted"), (0.5, "rolled-back"), (None, "killed")]
)
def test_every_write_has_one_record_and_every_record_its_write(
    rate: float | None, outcome: str
) -> None:
    async def story() -> None:
        async with house() as found:
            found.wire.sent.clear()
            env = {"ERROR_RATE": str(rate or 0)}
            found.world.set_image("shop", "checkout", "registry.example/app:v2", env)
            if rate is None:
                await found.reaches("Judging")
                assert found.engine is not None
                await found.engine.killer.kill("all", actor="p", reason="", wait_seconds=10.0)
            await found.ended(outcome)
            _told(found)

    clock.run(story())


def test_weight_0_in_the_place_of_what_would_break_a_promise_has_its_record() -> None:
    """Our canary has lost its label, so that the step to more pods would touch a stranger's."""

    async def story() -> None:
        async with house(annotations={**POLICY, "switchgear.dev/steps": "50@20s"}) as found:
            world = found.world
            found.wire.sent.clear()
            world.set_image("shop", "checkout", "registry.example/app:v2")
            await found.reaches("Judging")
            label = {MANAGED_BY_LABEL: MANAGED_BY}
            _labelled(found, lambda labels: labels.pop(MANAGED_BY_LABEL))
            seen: list[int] = []

            def look(event: Event) -> None:
                if '"kind":"broken"' in (event.obj.get("data") or {}).get("journal", ""):
                    seen.append(world.weights("checkout")["checkout-canary"])

            end = world.store.subscribe(look)
            await found.until(lambda: bool(seen))
            end()
            assert seen[0] == 0, "what was done stands in the journal when it is still so"
            zero = found.journal()[_kinds(found).index("broken") - 1]["body"]
            assert (zero["effect"], zero["writes"]) == ("ZeroWeight", 1)
            await found.reaches("Judging")
            assert found.runs()[-1]["granted"] == 0
            _labelled(found, lambda labels: labels.update(label))
            await found.ended("promoted")
            _told(found)

    clock.run(story())


def _kinds(found: House) -> list[str]:
    return [record["kind"] for record in found.journal()]


def _labelled(found: House, change: Callable[[dict[str, str]], object]) -> None:
    """Change the labels of our canary by another hand."""
    found.world.edit(
        "deployments", "shop", "checkout-canary", lambda item: change(item["metadata"]["labels"])
    )
