# SPDX-License-Identifier: Apache-2.0
"""Watches: what is told, from where on, and how a watch ends."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.contract.samples import config_map, labelled, route
from tests.contract.worlds import contract
from tests.support.world import World

MARK = "suite=watch"
# The end of the beginning may take a second or two on a real server that has nothing else to do;
# the tests stop reading as soon as it has come.
WATCH_LIST = {
    "timeoutSeconds": "10",
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
}


def _told(frames: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(frame["type"], frame["object"]["metadata"].get("name", "")) for frame in frames]


@contract
async def test_a_watch_from_a_list_tells_everything_after_it(world: World) -> None:
    await world.made("configmaps", labelled("a", suite="watch"))
    version = (await world.get("configmaps")).version
    await world.patch("configmaps", "a", {"data": {"a": "2"}})
    await world.made("configmaps", labelled("b", suite="watch"))
    await world.delete("configmaps", "a")
    path = world.path("configmaps")
    frames = await world.watched(path, 3, resourceVersion=version, labelSelector=MARK)
    assert _told(frames) == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]
    versions = [int(frame["object"]["metadata"]["resourceVersion"]) for frame in frames]
    assert versions == sorted(set(versions))
    assert versions[0] > int(version)


@contract
async def test_a_deletion_tells_the_last_form_at_a_new_version(world: World) -> None:
    made = await world.made("configmaps", labelled("a", suite="watch"))
    version = made["metadata"]["resourceVersion"]
    await world.delete("configmaps", "a")
    (frame,) = await world.watched(
        world.path("configmaps"), 1, resourceVersion=version, labelSelector=MARK
    )
    last = frame["object"]
    assert frame["type"] == "DELETED"
    assert last["data"] == made["data"]
    assert "deletionTimestamp" not in last["metadata"]
    assert int(last["metadata"]["resourceVersion"]) > int(version)


@contract
async def test_a_watch_without_a_version_begins_with_what_is_there(world: World) -> None:
    for name in ("a", "b"):
        await world.made("configmaps", labelled(name, suite="watch"))
    for version in ({}, {"resourceVersion": "0"}):
        frames = await world.watched(world.path("configmaps"), 2, labelSelector=MARK, **version)
        assert _told(frames) == [("ADDED", "a"), ("ADDED", "b")]


@contract
async def test_watch_list_ends_its_beginning_with_a_bookmark(world: World) -> None:
    made = await world.made("configmaps", labelled("a", suite="watch"))
    frames = await world.watched(world.path("configmaps"), 2, labelSelector=MARK, **WATCH_LIST)
    assert [frame["type"] for frame in frames] == ["ADDED", "BOOKMARK"]
    mark = frames[1]["object"]
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert (mark["kind"], mark["apiVersion"]) == ("ConfigMap", "v1")
    assert int(mark["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])


@contract
async def test_watch_list_of_nothing_is_a_bookmark_alone(world: World) -> None:
    frames = await world.watched(world.path("httproutes"), 1, **WATCH_LIST)
    assert [frame["type"] for frame in frames] == ["BOOKMARK"]


@contract
async def test_watch_list_goes_on_with_what_happens(world: World) -> None:
    frames = await world.watched(world.path("httproutes"), 1, **WATCH_LIST)
    version = frames[0]["object"]["metadata"]["resourceVersion"]
    await world.made("httproutes", route("r"))
    frames = await world.watched(world.path("httproutes"), 1, resourceVersion=version)
    assert _told(frames) == [("ADDED", "r")]


@contract
async def test_watch_list_without_bookmarks_sends_none(world: World) -> None:
    await world.made("configmaps", labelled("a", suite="watch"))
    quiet = {**WATCH_LIST, "allowWatchBookmarks": "false", "timeoutSeconds": "1"}
    frames = await world.watched(world.path("configmaps"), 1_000, labelSelector=MARK, **quiet)
    assert _told(frames) == [("ADDED", "a")]


@contract
async def test_a_label_that_goes_is_a_deletion_for_who_selected_it(world: World) -> None:
    made = await world.made("configmaps", labelled("a", suite="watch"))
    version = made["metadata"]["resourceVersion"]
    await world.patch("configmaps", "a", {"metadata": {"labels": {"suite": "other"}}})
    changed = await world.patch("configmaps", "a", {"metadata": {"labels": {"suite": "watch"}}})
    frames = await world.watched(
        world.path("configmaps"), 2, resourceVersion=version, labelSelector=MARK
    )
    assert _told(frames) == [("DELETED", "a"), ("ADDED", "a")]
    gone = frames[0]["object"]
    assert gone["metadata"]["labels"] == {"suite": "watch"}
    assert int(version) < int(gone["metadata"]["resourceVersion"]) < int(changed.version)


@contract
async def test_one_object_is_watched_by_field_selector(world: World) -> None:
    version = (await world.get("configmaps")).version
    for name in ("a", "b"):
        await world.made("configmaps", config_map(name))
    frames = await world.watched(
        world.path("configmaps"), 1, resourceVersion=version, fieldSelector="metadata.name=b"
    )
    assert _told(frames) == [("ADDED", "b")]


@contract
async def test_a_watch_over_all_namespaces_says_where(world: World) -> None:
    version = (await world.get("httproutes")).version
    await world.made("httproutes", route("r"))
    path = "/apis/gateway.networking.k8s.io/v1/httproutes"
    frames = await world.watched(path, 1, resourceVersion=version)
    assert frames[0]["object"]["metadata"]["namespace"] == world.namespace


@contract
async def test_a_watch_ends_by_itself_when_its_time_is_over(world: World) -> None:
    version = (await world.get("httproutes")).version
    frames = await world.watched(
        world.path("httproutes"), resourceVersion=version, timeoutSeconds="1"
    )
    assert frames == []


@contract
async def test_a_quiet_watch_tells_at_its_end_how_far_it_has_come(world: World) -> None:
    """As it does once a minute, two seconds before its time is over."""
    version = (await world.get("configmaps")).version

    async def watched(**query: str) -> list[dict[str, Any]]:
        answer = world.watched(
            world.path("configmaps"),
            resourceVersion=version,
            labelSelector=MARK,
            timeoutSeconds="5",
            **query,  # type: ignore[arg-type]
        )
        return await answer

    async def elsewhere() -> int:
        await asyncio.sleep(1.0)
        made = await world.made("configmaps", labelled("a", suite="other"))
        return int(made["metadata"]["resourceVersion"])

    told, untold, written = await asyncio.gather(
        watched(allowWatchBookmarks="true"), watched(), elsewhere()
    )
    assert untold == [], "nobody asked for any"
    # A real server may say so again in its last second.
    assert {frame["type"] for frame in told} == {"BOOKMARK"}
    mark = told[-1]
    assert mark["object"].keys() == {"kind", "apiVersion", "metadata"}
    assert int(mark["object"]["metadata"]["resourceVersion"]) >= written


@contract
async def test_a_version_that_is_gone_is_a_410_inside_the_watch(world: World) -> None:
    frames = await world.watched(world.path("httproutes"), resourceVersion="1")
    assert [frame["type"] for frame in frames] == ["ERROR"]
    status = frames[0]["object"]
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")


@contract
async def test_watch_list_from_a_version_to_come_ends_with_an_error(world: World) -> None:
    frames = await world.watched(
        world.path("configmaps"),
        1_000,
        resourceVersion="99999999999",
        **WATCH_LIST,
    )
    assert [frame["type"] for frame in frames] == ["ERROR"]
    assert frames[0]["object"]["code"] == 504


@contract
async def test_initial_events_need_their_match(world: World) -> None:
    path = world.path("configmaps")
    without = await world.send("GET", path, watch="1", sendInitialEvents="true")
    assert (without.status, without.causes) == (
        422,
        [("FieldValueForbidden", "resourceVersionMatch")],
    )
    alone = await world.send("GET", path, watch="1", resourceVersionMatch="NotOlderThan")
    assert alone.status == 422


@contract
async def test_a_write_that_changes_nothing_is_not_told(world: World) -> None:
    made = await world.made("configmaps", labelled("a", suite="watch"))
    version = made["metadata"]["resourceVersion"]
    same = await world.patch("configmaps", "a", {"data": {"a": "1"}})
    assert same.version == version
    await world.patch("configmaps", "a", {"data": {"a": "2"}})
    frames = await world.watched(
        world.path("configmaps"), 1, resourceVersion=version, labelSelector=MARK
    )
    assert frames[0]["object"]["data"] == {"a": "2"}


@contract
async def test_status_writes_are_told_too(world: World) -> None:
    made = await world.made("httproutes", route("r"))
    version = made["metadata"]["resourceVersion"]
    await world.patch("httproutes", "r", {"status": {"parents": []}}, sub="status")
    frames = await world.watched(world.path("httproutes"), 1, resourceVersion=version)
    assert (frames[0]["type"], frames[0]["object"]["status"]) == ("MODIFIED", {"parents": []})


@contract
async def test_a_get_of_one_object_ignores_watch(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    answer = await world.get("configmaps", "a", watch="true")
    assert answer.json["kind"] == "ConfigMap"
