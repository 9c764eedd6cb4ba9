# SPDX-License-Identifier: Apache-2.0
"""What an account did, by the API server's audit log, and what its daemons say that they did.

The daemon calls each write after its journal record, and the API server keeps that name. What is
done for a target without a run has its record in the daemon's log. What was written, to which
object and by which verb, must be what the record says (`effects`). A write without a name must be
about the journal itself, elect a leader, or tell people, and stand where that belongs; the reason
for each is below.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from controller.core.journal import chain
from controller.core.values import PREFIX, canary_name
from tests.cluster.lab import effects, records
from tests.cluster.lab.worker import Cluster
from tests.manifests.rendered import Right

Object = dict[str, Any]

WRITES: Final = {"create", "update", "patch", "delete"}

DOCUMENTS: Final = {
    "configmaps": "the journal itself, the kill latch, the epoch",
    "leases": "who leads",
}
"""What a daemon writes without a record in the namespace of its documents, with the reason."""

WORDS: Final = {
    "events": "what people are told; the journal holds the same",
}
"""And what it writes so in the namespaces of targets."""

ABORT: Final = f"{PREFIX}abort"

NOTES: Final = {
    f"{PREFIX}status": "where a run stands, in words; the journal holds the decision",
    ABORT: "taken off when the run has ended for which it was meant, as the journal has",
}
"""Annotations that a target's Deployment is given so, and no other object. `managed` and whatever
else we note on it has its record, in the journal or at rest in the log."""

MOVES: Final = {"RaiseWeight", "StartCanary", "Pause", "Annotate", "Revert", "OwnCanary"}
"""What is done by a write alone, whatever stands there. Others find their object so already, as
they may a paused Deployment that somebody else unpaused, or gone."""

ENDING: Final = "NamespaceTerminating"

TOLD_SECONDS: Final = 15.0
"""How long the record of a write may come after it, and the audit log's line."""


def now() -> str:
    """The time as the API server's audit log writes it, whose clock is this machine's."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(slots=True)
class Told:
    """What a record says of the writes of its name."""

    body: Object
    """The effect."""
    writes: int = 0
    done: bool = False
    template: Object | None = None
    """Of the ReplicaSet that a way back names, while that is there."""
    may: set[effects.Write] = field(init=False)
    """What it may write."""

    def __post_init__(self) -> None:
        """A kill's objects are those of the runs in whose journals it stands."""
        self.may = set() if self.body["effect"] == "Kill" else effects.objects(self.body)


def differing(told: Told, events: Sequence[Object]) -> list[str]:
    """What was written under a record's name and is not in it, or the other way round."""
    found = []
    for event in events:
        if effects.write(event) not in told.may:
            found.append(f"{_line(event)}: {told.body} is not about it")
        elif text := effects.amiss(told.body, event, told.template):
            found.append(f"{_line(event)}: {text}")
    if told.body["effect"] in MOVES and told.done:
        missing = told.may - {effects.write(one) for one in events if not effects.claims(one)}
        found += [f"{item} was not written, though {told.body} is done" for item in missing]
    return found


@dataclass(slots=True, kw_only=True)
class Trail:
    """Of one account, from a moment on."""

    cluster: Cluster
    user: str
    system: str
    """The namespace of the daemons' documents."""
    targets: str
    """The namespace of the test's targets."""
    logs: Callable[[], Iterable[Path]]
    """Of the daemons."""
    since: str
    killed: str = ""
    """The token of a daemon that the test killed or stopped for good, as `credential` has it. What
    it wrote last may lack its record, or its number; no record may lack its write."""

    def events(self) -> list[Object]:
        """What the account asked the API server for, oldest first."""
        return self.cluster.audited(lambda _: True, since=self.since, user=self.user)

    async def holds(self, within: float = TOLD_SECONDS) -> None:
        """Each write has one record, each record its writes and no others, nothing was refused.

        Looked at again for so many seconds, since the last of it may not be told yet. Raises
        AssertionError.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while True:
            events = self.events()
            named, unnamed = writes(events)
            nameless = [_line(event) for event in unnamed if not self._about_itself(event)]
            wrong = self._wrong(named, await self.told())
            if not wrong or loop.time() > deadline:
                break
            await asyncio.sleep(0.5)
        assert events, "an account that does nothing shows nothing"
        assert wrong == [], f"name, writes that are recorded, and those that were: {wrong}"
        assert nameless == [], f"without a name: {nameless}"
        refused = [_line(event) for event in events if _refused(event)]
        assert refused == [], f"refused: {refused}"

    def _about_itself(self, event: Object) -> bool:
        """Whether a write needs no record."""
        ref = event["objectRef"]
        resource, namespace = ref["resource"], ref.get("namespace")
        if resource in DOCUMENTS:
            return bool(namespace == self.system)
        if namespace != self.targets:
            return False
        return resource in WORDS or (resource == "deployments" and _noted(event))

    def _wrong(self, named: dict[str, list[Object]], recorded: Mapping[str, Told]) -> list[object]:
        """What stands on one side alone, and what is another thing on the other."""
        found: list[object] = []
        for name in sorted(named.keys() | recorded.keys()):
            events, told = named.get(name, []), recorded.get(name)
            claimed = told.writes if told is not None else 0
            last = self.killed and {credential(event) for event in events} == {self.killed}
            if len(events) < claimed or (len(events) > claimed and not last):
                found.append((name, claimed, [_line(event) for event in events]))
            found += [(name, text) for text in (differing(told, events) if told else ())]
        return found

    async def told(self) -> dict[str, Told]:
        """What the journals and the daemons' logs say, by the names of writes."""
        found = {**await self._recorded(), **self._logged()}
        back = [one for one in found.values() if one.body["effect"] == "Revert"]
        templates = await self._templates() if back else {}
        for one in back:
            one.template = templates.get(one.body["replica_set"])
        return found

    async def _templates(self) -> dict[str, Object]:
        """What the ReplicaSets of the targets make, by their names."""
        get = ("get", "replicasets", "-n", self.targets, "-o", "json")
        listed = json.loads(await asyncio.to_thread(self.cluster.kubectl, *get))
        return {item["metadata"]["name"]: item["spec"]["template"] for item in listed["items"]}

    async def _recorded(self) -> dict[str, Told]:
        """What the journals claim for each name; no name stands in two records.

        But for a kill of several runs, which stands in the journal of each, with all its writes.
        """
        found: dict[str, Told] = {}
        listed = await asyncio.to_thread(
            self.cluster.kubectl, "get", "configmaps", "-n", self.system, "-o", "json"
        )
        for document in json.loads(listed)["items"]:
            if "journal" not in (document.get("data") or {}):
                continue
            assert chain.verify(chain.lines_of(document["data"]["journal"])) == []
            state = json.loads(document["data"]["state"])
            for name, told in _claimed(records.records_of(document)).items():
                before = found.setdefault(name, told)
                if told.body["effect"] == "Kill":
                    before.may |= effects.stopped(state, self.system)
                again = name.startswith("kill/") and before.writes == told.writes
                assert before is told or again, f"{name} stands in two records"
        return found

    def _logged(self) -> dict[str, Told]:
        """The same by the daemons' logs, of what is done for a target without a run."""
        found: dict[str, Told] = {}
        for file in self.logs():
            for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
                # The last line may be half written.
                if '"effect without a run"' in line and line.endswith("\n"):
                    entry = json.loads(line)
                    assert entry["call"] not in found, f"{entry['call']} stands in two records"
                    found[entry["call"]] = Told(entry["about"], entry["writes"], done=entry["done"])
        return found


def credential(event: Object) -> str:
    """Which token of a service account it was, as `JTI=...`; empty: none."""
    extra = event["user"].get("extra") or {}
    return str(next(iter(extra.get("authentication.kubernetes.io/credential-id", ())), ""))


def used(events: Iterable[Object], granted: set[Right]) -> set[Right]:
    """Which of these rights the events took; what takes none of them was refused, or is stray."""
    return {right for event in events for right in _asked(event) & granted}


def stray(events: Iterable[Object], granted: set[Right]) -> list[str]:
    """What none of these rights allows, of all that was asked about objects."""
    about = (event for event in events if "objectRef" in event)
    return [_line(event) for event in about if not _asked(event) & granted]


def _asked(event: Object) -> set[Right]:
    """The rights any of which allows this."""
    ref = event.get("objectRef")
    if ref is None:
        return set()
    kind = ref["resource"] + (f"/{ref['subresource']}" if ref.get("subresource") else "")
    names = {ref.get("name", ""), ""}
    return {(ref.get("apiGroup", ""), kind, event["verb"], name) for name in names}


def writes(events: Iterable[Object]) -> tuple[dict[str, list[Object]], list[Object]]:
    """Accepted writes by name, and those that have none."""
    named: dict[str, list[Object]] = {}
    unnamed = []
    for event in events:
        if event["verb"] not in WRITES or not 200 <= _code(event) < 300:
            continue
        if "/" in event["auditID"]:
            named.setdefault(event["auditID"], []).append(event)
        else:
            unnamed.append(event)
    return named, unnamed


def _noted(event: Object) -> bool:
    """Whether it tells of a run on the target's own Deployment, and does nothing else."""
    body = event.get("requestObject")
    if event["verb"] != "patch" or not isinstance(body, dict) or body.keys() != {"metadata"}:
        return False
    twin = event["objectRef"]["name"].endswith(canary_name(""))
    if twin or body["metadata"].keys() != {"uid", "annotations"}:
        return False
    notes = body["metadata"]["annotations"]
    return notes.keys() <= NOTES.keys() and notes.get(ABORT) is None


def _refused(event: Object) -> bool:
    """Whether a right was missing, or a policy or the kind itself did not allow what was written.

    A JSON patch whose `test` does not hold is a 422 as well, which tells of no object and no field:
    it was to fail where another writer was first. And in a namespace that is on its way out nobody
    may create anything.
    """
    details = event.get("responseStatus", {}).get("details") or {}
    if any(cause.get("reason") == ENDING for cause in details.get("causes") or ()):
        return False
    return _code(event) in {401, 403} or (_code(event) == 422 and bool(details))


def _code(event: Object) -> int:
    return int(event.get("responseStatus", {}).get("code", 0))


def _line(event: Object) -> str:
    told = f"{event['stageTimestamp']} {event['verb']} {event['requestURI']} {_code(event)}"
    return f"{told} {event.get('responseStatus', {}).get('message', '')}".strip()


def _claimed(journal: list[Object]) -> dict[str, Told]:
    """What one journal says of each name.

    An intent carries the name, and its outcome the number; an effect without an intent carries
    both, and what becomes of it later is told without the name and counts from its beginning.
    """
    names: dict[object, str] = {}
    found: dict[str, Told] = {}
    for record in journal:
        body = record["body"]
        key = body["intent"] if "intent" in body else _same(body)
        if body.get("call"):
            assert body["call"] not in found, f"{body['call']} stands in two records"
            names[record["seq"]] = names[key] = body["call"]
            found[body["call"]] = Told(body)
        if "writes" in body:
            told = found[names[key]]
            told.writes, told.done = body["writes"], bool(body.get("done"))
    return found


def _same(body: Object) -> str:
    """An effect, whatever became of it."""
    told = {"done", "words", "times", "writes", "call"}
    return json.dumps({name: body[name] for name in sorted(body.keys() - told)})
