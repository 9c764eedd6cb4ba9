# SPDX-License-Identifier: Apache-2.0
"""Lists: selectors, pages, and the state at an earlier version.

A page token names the version of its first page; later pages show that version, rebuilt from the
history, as the real server reads old revisions from etcd. When the history is gone: 410, with a
token that goes on with what is there by then.
"""

from __future__ import annotations

import asyncio
import base64
import json

from controller.sim.apiserver import errors
from controller.sim.apiserver.errors import ApiError, JsonObject
from controller.sim.apiserver.request import Request
from controller.sim.apiserver.resources import Resource
from controller.sim.apiserver.selectors import Predicate
from controller.sim.apiserver.store import EventType, Store
from controller.sim.apiserver.watch import FRESHNESS_SECONDS, check_options, too_large

Key = tuple[str, str]

_NOW = -1
"""The version in a token that shows whatever is there when it is used."""


def _key(obj: JsonObject) -> Key:
    meta = obj["metadata"]
    return (str(meta.get("namespace", "")), str(meta["name"]))


def state_at(store: Store, served: Resource, version: int) -> dict[Key, JsonObject]:
    """Return all objects of a kind as they were at a version. Raises ApiError 410."""
    objects = {_key(obj): obj for obj in store.scan(served)}
    for event in reversed(store.events_since(served, version)):
        if event.type is EventType.ADDED:
            objects.pop(_key(event.obj), None)
        elif event.previous is not None:
            objects[_key(event.obj)] = event.previous
    return dict(sorted(objects.items()))


def _token(version: int, after: Key) -> str:
    content = {"v": "meta.k8s.io/v1", "rv": version, "start": "/".join(after)}
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _read_token(text: str) -> tuple[int, Key]:
    try:
        padded = text + "=" * (-len(text) % 4)
        content = json.loads(base64.urlsafe_b64decode(padded))
        namespace, _, name = content["start"].partition("/")
        return int(content["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError) as error:
        raise errors.bad_request(f"invalid continue token: {error}") from error


def _asked_version(request: Request) -> int:
    text = request.param("resourceVersion")
    if not text:
        return 0
    if not text.isdigit():
        why = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}"'
        raise errors.bad_request(f"invalid resource version: {why}: invalid syntax")
    return int(text)


async def _wanted_version(store: Store, request: Request) -> int:
    """Return the version that a list shows, once it has been reached."""
    asked = _asked_version(request)
    if asked > store.version:
        await asyncio.sleep(FRESHNESS_SECONDS)
        if asked > store.version:
            raise too_large(asked, store.version)
    exact = request.param("resourceVersionMatch") == "Exact"
    return asked if exact else store.version


async def list_objects(
    store: Store,
    request: Request,
    served: Resource,
    namespace: str,
    matches: Predicate | None,
) -> tuple[JsonObject, list[JsonObject]]:
    """Return the list's metadata and its objects (shared with the store, not to be changed).

    Raises ApiError: 400 for parameters, 410 for versions that are gone, 504 for versions to come.
    """
    check_options(request, watching=False)
    limit = request.number("limit")
    start: Key = ("", "")
    token = request.param("continue")
    if token:
        if _asked_version(request):
            text = "specifying resource version is not allowed when using continue"
            raise errors.bad_request(text)
        version, start = _read_token(token)
        version = store.version if version == _NOW else version
    else:
        version = await _wanted_version(store, request)
    objects = _at(store, served, version, start if token else None)
    if start != ("", ""):
        objects = [obj for obj in objects if _key(obj) > start]
    if namespace:
        objects = [obj for obj in objects if obj["metadata"].get("namespace") == namespace]
    if matches is not None:
        objects = [obj for obj in objects if matches(obj)]
    meta: JsonObject = {"resourceVersion": str(version)}
    if limit and len(objects) > limit:
        meta["continue"] = _token(version, _key(objects[limit - 1]))
        if matches is None:
            meta["remainingItemCount"] = len(objects) - limit
        objects = objects[:limit]
    return meta, objects


def _at(store: Store, served: Resource, version: int, start: Key | None) -> list[JsonObject]:
    if version == store.version:
        return list(store.scan(served))
    try:
        return list(state_at(store, served, version).values())
    except ApiError as error:
        if start is None:
            text = "The resourceVersion for the provided list is too old."
            raise errors.expired(text) from error
        text = (
            "The provided continue parameter is too old to display a consistent list result. You"
            " can start a new list without the continue parameter, or use the continue token in"
            " this response to retrieve the remainder of the results. Continuing with the provided"
            " token results in an inconsistent list - objects that were created, modified, or"
            " deleted between the time the first chunk was returned and now may show up in the"
            " list."
        )
        raise errors.expired(text, _token(_NOW, start)) from error
