# SPDX-License-Identifier: Apache-2.0
"""The kill latch: one ConfigMap whose keys are the scopes that are stopped.

It can be written by hand in a hurry, so whatever cannot be understood stops everything: a document
without data, an unknown key. The command line writes it with the caller's own rights.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, Final

from controller.adapters.kube import paths
from controller.adapters.kube.calls import MERGE_PATCH, Calls
from controller.core.errors import Conflict, Missing, SwitchgearError, Unavailable
from controller.core.values import MANAGED_BY, MANAGED_BY_LABEL

NAME: Final = "switchgear-kill"
ALL: Final = "all"
TRIES: Final = 6
"""Create and patch may chase each other only while others create and delete the document."""

PAUSE_SECONDS: Final = 0.1
"""Before the second try to make a document again; doubled each time, three seconds in all."""

_replacing: Final[set[asyncio.Task[None]]] = set()
"""Tasks that nobody may wait for any more; the event loop alone would not keep them."""


class _Immutable(Exception):
    """The document has to be written and cannot be changed."""


def scopes(data: Mapping[str, str] | None) -> tuple[str, ...]:
    """What is stopped. None: no document, nothing."""
    if data is None:
        return ()
    if not data or not all(readable(key) for key in data):
        return tuple(sorted({ALL, *data}))
    return tuple(sorted(data))


def readable(scope: str) -> bool:
    """Whether a key is a scope: `all`, `namespace.<ns>` or `target.<ns>.<name>`."""
    kind, _, rest = scope.partition(".")
    match kind:
        case "all":
            return scope == ALL
        case "namespace":
            return bool(rest) and "." not in rest
        case "target":
            # A namespace has no dots; a Deployment's name may have some.
            namespace, _, name = rest.partition(".")
            return bool(namespace and name)
        case _:
            return False


def entry(*, at: str, actor: str, reason: str) -> str:
    """What stands under a scope."""
    return json.dumps({"at": at, "actor": actor, "reason": reason}, ensure_ascii=False)


async def engage(calls: Calls, namespace: str, scope: str, text: str) -> None:
    """Persist a scope. Nobody else's write can make this fail, short of endless deletion.

    A scope that is engaged keeps its first entry: who stopped it first is what people look for.
    """
    try:
        await _persist(calls, namespace, {scope: text}, replace=False)
    except _Immutable:
        # Whoever waits for this may give up after the deletion; the scopes must not go with him.
        task = asyncio.create_task(_persist(calls, namespace, {scope: text}, replace=True))
        _replacing.add(task)
        task.add_done_callback(_replacing.discard)
        await asyncio.shield(task)


async def _persist(calls: Calls, namespace: str, owed: dict[str, str], *, replace: bool) -> None:
    """Have the entries `owed` stand in the document, beside all that stand there.

    A document that is immutable is deleted and made again, with what it said, if `replace`: for a
    moment nothing is latched then. Once it is deleted no error ends this before its last try.
    """
    collection = paths.core(namespace, "configmaps")
    path = paths.core(namespace, "configmaps", NAME)
    last: SwitchgearError | None = None
    gone = False
    for attempt in range(TRIES):
        try:
            live = await _live(calls, path)
            if live is None:
                await calls.post(collection, _body(namespace, owed))
                return
            data: dict[str, str] = live.get("data") or {}
            lacking = _lacking(data, owed)
            if lacking and live.get("immutable"):
                if not replace:
                    raise _Immutable
                owed = {**data, **lacking}
                await _delete(calls, path, live)
                gone = True
            elif lacking:
                await calls.patch(path, {"data": lacking}, kind=MERGE_PATCH)
                return
            else:
                return
        except SwitchgearError as error:
            if not gone and not isinstance(error, Conflict | Missing):
                raise
            last = error
            if gone:
                await calls.clock.sleep(PAUSE_SECONDS * 2**attempt)
    if gone:
        raise Unavailable(
            f"ConfigMap {NAME} was immutable, was deleted, and could not be made again",
            advice=f"Engage the kill again, for: {', '.join(sorted(owed))}",
        ) from last
    raise Conflict(f"ConfigMap {NAME} kept coming and going") from last


async def _live(calls: Calls, path: str) -> dict[str, Any] | None:
    try:
        return await calls.get(path)
    except Missing:
        return None


async def _delete(calls: Calls, path: str, live: dict[str, Any]) -> None:
    """Delete this very document. Without an answer it may have happened: as if it had."""
    meta = live["metadata"]
    with contextlib.suppress(Missing, Unavailable):
        await calls.delete(path, uid=meta["uid"], version=meta["resourceVersion"])


def _lacking(data: Mapping[str, str], owed: Mapping[str, str]) -> dict[str, str]:
    """What has to be added to `data`.

    An empty document, made by hand, stops everything: a narrower scope written into it must not
    turn that into less.
    """
    lacking = {scope: text for scope, text in owed.items() if scope not in data}
    if lacking and not data:
        return {ALL: next(iter(lacking.values())), **lacking}
    return lacking


def _body(namespace: str, data: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
        },
        "data": data,
    }


async def release(calls: Calls, namespace: str, scope: str) -> None:
    """Take one scope out, against the version read; delete the document with the last one.

    Releasing `all` also takes out every key that cannot be read, since those mean the same.
    Raises `Missing` if the scope is not engaged, and `Conflict` if somebody else wrote meanwhile.
    """
    path = paths.core(namespace, "configmaps", NAME)
    live = await calls.get(path)
    data: dict[str, str] = live.get("data") or {}
    if scope not in scopes(data):
        raise Missing(f"the kill latch is not engaged for {scope}")
    left = {
        key: value
        for key, value in data.items()
        if key != scope and (scope != ALL or readable(key))
    }
    version = live["metadata"]["resourceVersion"]
    if not left:
        await calls.delete(path, version=version)
        return
    patch = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "replace", "path": "/data", "value": left},
    ]
    await calls.patch(path, patch)
