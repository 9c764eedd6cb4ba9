# SPDX-License-Identifier: Apache-2.0
"""The kill latch: one ConfigMap whose keys are the scopes that are stopped.

It can be written by hand in a hurry, so whatever cannot be understood stops everything: a document
without data, an unknown key. The command line writes it with the caller's own rights.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from controller.adapters.kube import paths
from controller.adapters.kube.calls import MERGE_PATCH, AlreadyExists, Calls
from controller.core.errors import Conflict, Missing
from controller.core.values import MANAGED_BY, MANAGED_BY_LABEL

NAME: Final = "switchgear-kill"
ALL: Final = "all"
TRIES: Final = 6
"""Create and patch may chase each other only while others create and delete the document."""


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
    path = paths.core(namespace, "configmaps", NAME)
    last: Conflict | Missing | None = None
    for _ in range(TRIES):
        try:
            live = await calls.get(path)
            data = live.get("data") or {}
            # An empty document, made by hand, stops everything: a narrower scope written into
            # it must not turn that into less.
            added = {scope: text} if data else {ALL: text, scope: text}
            if scope not in data:
                await calls.patch(path, {"data": added}, kind=MERGE_PATCH)
        except Missing as error:
            last = error
            try:
                await calls.post(paths.core(namespace, "configmaps"), _body(namespace, scope, text))
            except AlreadyExists as taken:
                last = taken
            else:
                return
        except Conflict as error:
            last = error
        else:
            return
    raise Conflict(f"ConfigMap {NAME} kept coming and going") from last


def _body(namespace: str, scope: str, text: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
        },
        "data": {scope: text},
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
