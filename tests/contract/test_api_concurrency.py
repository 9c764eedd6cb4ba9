# SPDX-License-Identifier: Apache-2.0
"""Compare-and-set: the ground that leases, run documents and weights stand on."""

from __future__ import annotations

import asyncio

from tests.contract.samples import config_map, deployment, lease, route, service
from tests.contract.worlds import contract
from tests.support.world import World

OBJECTS = {
    "configmaps": config_map("x"),
    "httproutes": route("x"),
    "leases": lease("x"),
    "services": service("x"),
    "deployments": deployment("x", paused=True),
}


@contract
async def test_a_stale_put_is_a_409(world: World) -> None:
    for plural, obj in OBJECTS.items():
        made = await world.made(plural, obj)
        await world.patch(plural, "x", {"metadata": {"annotations": {"moved": "1"}}})
        made["metadata"]["annotations"] = {"mine": "1"}
        answer = await world.put(plural, made)
        assert (answer.status, answer.json["reason"]) == (409, "Conflict"), plural


@contract
async def test_a_stale_merge_patch_is_a_409(world: World) -> None:
    for plural, obj in OBJECTS.items():
        made = await world.made(plural, obj)
        version = made["metadata"]["resourceVersion"]
        await world.patch(plural, "x", {"metadata": {"annotations": {"moved": "1"}}})
        patch = {"metadata": {"resourceVersion": version, "annotations": {"mine": "1"}}}
        answer = await world.patch(plural, "x", patch)
        assert (answer.status, answer.json["reason"]) == (409, "Conflict"), plural
        assert "the object has been modified" in answer.json["message"]


@contract
async def test_a_stale_strategic_patch_is_a_409(world: World) -> None:
    made = await world.made("services", service("s"))
    await world.patch("services", "s", {"metadata": {"labels": {"moved": "1"}}})
    version = made["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version, "labels": {"mine": "1"}}}
    assert (await world.patch("services", "s", patch, "strategic")).status == 409


@contract
async def test_the_version_just_read_is_accepted(world: World) -> None:
    for plural, obj in OBJECTS.items():
        await world.made(plural, obj)
        patch = {"metadata": {"annotations": {"mine": "1"}}}
        answer = None
        # A cluster's own controllers may write in between; then the version is read again.
        for _ in range(5):
            version = (await world.read(plural, "x"))["metadata"]["resourceVersion"]
            patch["metadata"]["resourceVersion"] = version
            answer = await world.patch(plural, "x", patch)
            if answer.status == 200:
                break
        assert answer is not None
        assert answer.status == 200
        assert int(answer.version) > int(version)


@contract
async def test_put_without_a_version_overwrites_a_config_map_silently(world: World) -> None:
    await world.made("configmaps", config_map("a", x="1"))
    await world.patch("configmaps", "a", {"data": {"y": "2"}})
    answer = await world.put("configmaps", config_map("a", z="3"))
    assert (answer.status, answer.json["data"]) == (200, {"z": "3"})


@contract
async def test_put_without_a_version_is_a_422_where_versions_are_demanded(world: World) -> None:
    for plural, obj in (("httproutes", route("a")), ("leases", lease("a"))):
        await world.made(plural, obj)
        answer = await world.put(plural, obj)
        assert answer.status == 422, plural
        assert answer.causes == [("FieldValueInvalid", "metadata.resourceVersion")]


@contract
async def test_put_with_another_uid_is_a_409(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    other = config_map("a")
    other["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    assert (await world.put("configmaps", other)).status == 409


@contract
async def test_a_put_that_changes_nothing_moves_no_version(world: World) -> None:
    for plural in ("configmaps", "httproutes", "leases"):
        made = await world.made(plural, OBJECTS[plural])
        answer = await world.put(plural, made)
        assert answer.version == made["metadata"]["resourceVersion"], plural


@contract
async def test_a_patch_that_changes_nothing_moves_no_version(world: World) -> None:
    made = await world.made("httproutes", route("r"))
    operations = [{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 1}]
    answer = await world.patch("httproutes", "r", operations, "json")
    assert answer.version == made["metadata"]["resourceVersion"]
    assert answer.json["metadata"]["generation"] == 1


@contract
async def test_of_many_who_take_a_lease_one_succeeds(world: World) -> None:
    made = await world.made("leases", lease("l", holder=""))

    async def take(holder: str) -> int:
        mine = lease("l", holder=holder)
        mine["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
        return (await world.put("leases", mine)).status

    results = await asyncio.gather(*(take(f"candidate-{index}") for index in range(8)))
    assert sorted(results) == [200] + [409] * 7


@contract
async def test_a_merge_patch_renews_a_lease_and_leaves_what_others_noted(world: World) -> None:
    """Whether or not anything was noted before; null where nothing is removes nothing."""
    made = await world.made("leases", lease("l"))
    version = made["metadata"]["resourceVersion"]
    for wanted, expected in (
        ({"ours": "1"}, {"ours": "1", "theirs": "a"}),
        ({"ours": "2"}, {"ours": "2", "theirs": "a"}),
        ({"ours": None}, {"theirs": "a"}),
        ({"ours": None}, {"theirs": "a"}),
    ):
        meta = {"resourceVersion": version, "annotations": wanted}
        renewed = {"metadata": meta, "spec": {"holderIdentity": "b"}}
        assert (await world.patch("leases", "l", renewed)).status == 200
        noted = await world.patch("leases", "l", {"metadata": {"annotations": {"theirs": "a"}}})
        assert noted.json["metadata"]["annotations"] == expected
        version = noted.version
    given_back = {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": None}}
    answer = await world.patch("leases", "l", given_back)
    assert "holderIdentity" not in answer.json["spec"]
    assert answer.json["metadata"]["annotations"] == {"theirs": "a"}


@contract
async def test_of_many_counters_none_is_lost(world: World) -> None:
    await world.made("configmaps", config_map("a", n="0"))

    async def count() -> None:
        while True:
            obj = await world.read("configmaps", "a")
            obj["data"]["n"] = str(int(obj["data"]["n"]) + 1)
            answer = await world.put("configmaps", obj)
            if answer.status == 200:
                return
            assert answer.status == 409

    await asyncio.gather(*(count() for _ in range(6)))
    assert (await world.read("configmaps", "a"))["data"] == {"n": "6"}


@contract
async def test_versions_rise_with_every_write(world: World) -> None:
    made = await world.made("configmaps", config_map("a"))
    versions = [int(made["metadata"]["resourceVersion"])]
    for value in ("2", "3", "4"):
        answer = await world.patch("configmaps", "a", {"data": {"a": value}})
        versions.append(int(answer.version))
    assert versions == sorted(set(versions))


@contract
async def test_a_name_used_again_has_another_uid(world: World) -> None:
    first = await world.made("configmaps", config_map("a"))
    await world.delete("configmaps", "a")
    second = await world.made("configmaps", config_map("a"))
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    stale = first
    stale["data"] = {"a": "9"}
    assert (await world.put("configmaps", stale)).status == 409
