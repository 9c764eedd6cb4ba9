# SPDX-License-Identifier: Apache-2.0
"""What the daemon wrote down: its run documents and their journals."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from controller.core.journal import chain
from controller.core.values import WHOLE_BP
from controller.engine.ledger import read_head
from tests.cluster.lab.application import until
from tests.support.api import Port

Object = dict[str, Any]

RUN_SECONDS = 180.0
"""Deadline of a whole run with short steps; it takes less than a minute on an idle machine."""

AT_REST = {"Held", "Ended"}


async def documents(api: Port, namespace: str) -> list[Object]:
    """Every run document in the daemon's namespace, oldest run first."""
    answer = await api.request("GET", f"/api/v1/namespaces/{namespace}/configmaps", {}, {}, b"")
    assert answer.status == 200, answer.content
    found = [item for item in answer.json["items"] if "journal" in (item.get("data") or {})]
    return sorted(found, key=lambda item: str(records_of(item)[0]["at"]))


async def runs(api: Port, namespace: str) -> list[Object]:
    """The durable state of every run, oldest first."""
    return [json.loads(item["data"]["state"]) for item in await documents(api, namespace)]


async def journal(api: Port, namespace: str) -> list[Object]:
    """The records of the newest run, whose chain must hold."""
    newest = (await documents(api, namespace))[-1]
    lines = chain.lines_of(newest["data"]["journal"])
    assert chain.verify(lines, read_head(newest["data"])) == []
    return records_of(newest)


async def decisions(api: Port, namespace: str) -> list[Object]:
    """What the newest run decided, oldest first."""
    return [
        record["body"] for record in await journal(api, namespace) if record["kind"] == "decision"
    ]


async def went_to(api: Port, namespace: str, phase: str) -> float:
    """When the newest run decided to go to a phase, the last time, as seconds since 1970."""
    found = [body for body in await decisions(api, namespace) if body["to"] == phase]
    return datetime.fromisoformat(found[-1]["decided_at"]).timestamp()


async def ended(
    api: Port,
    namespace: str,
    outcome: str,
    log: Callable[[], str] = str,
    within: float = RUN_SECONDS,
) -> Object:
    """Wait until the newest run rests with this outcome, and return its state.

    A run that ended otherwise fails at once; `log` tells why in either case.
    """
    found: list[Object] = []

    async def look() -> bool:
        found[:] = await runs(api, namespace)
        rests = bool(found) and found[-1]["phase"] in AT_REST
        assert not rests or found[-1]["outcome"] == outcome, f"{found[-1]}: {log()}"
        return rests

    await until(look, within, lambda: f"{outcome}: {log()}", every=0.2)
    return found[-1]


async def tripped_in(
    api: Port, namespace: str, phase: str, log: Callable[[], str] = str, *, most_bp: int = WHOLE_BP
) -> None:
    """The newest run was ended by the breaker, in this phase, and held.

    It never had more than `most_bp` of the requests, in hundredths of a percent.
    """
    state = await ended(api, namespace, "rolled-back", log)
    assert (state["phase"], state["tripped"]) == ("Held", True), state
    decided = await decisions(api, namespace)
    failed = [body["from"] for body in decided if body.get("verdict", {}).get("outcome") == "fail"]
    assert failed == [phase], failed
    most = max(body["weight_bp"] for body in decided)
    assert most <= most_bp, most


async def reached(
    api: Port, namespace: str, *phases: str, log: Callable[[], str] = str, within: float = 90.0
) -> Object:
    """Wait until the newest run is in one of these phases, and return its state."""
    found: list[Object] = []

    async def look() -> bool:
        found[:] = await runs(api, namespace)
        return bool(found) and found[-1]["phase"] in phases

    await until(look, within, lambda: f"{phases}: {log()}", every=0.1)
    return found[-1]


def records_of(document: Object) -> list[Object]:
    """The records of one run document."""
    return [json.loads(line) for line in chain.lines_of(document["data"]["journal"])]
