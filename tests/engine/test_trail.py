# SPDX-License-Identifier: Apache-2.0
"""Every write of a run goes out under the name that one record of its journal carries."""

import json
from collections import Counter
from typing import Any

import pytest

from controller.adapters.kube.calls import AUDIT_ID
from controller.adapters.kube.wire import Request
from controller.sim import clock
from tests.engine.house import House, house


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
            sent = {
                request.headers.get(AUDIT_ID, "")
                for request in found.wire.writes()
                if AUDIT_ID in request.headers or not _about_itself(request)
            }
            records = _named(found)
            assert "" not in sent
            assert sent == set(records)
            assert set(records.values()) == {1}

    clock.run(story())
