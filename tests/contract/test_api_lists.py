# SPDX-License-Identifier: Apache-2.0
"""Lists: order, selectors, pages, versions and forms."""

from __future__ import annotations

import pytest

from tests.contract.samples import config_map, labelled, route
from tests.contract.worlds import contract
from tests.support.api import Answer
from tests.support.world import World

MARK = "suite=lists"


async def _five(world: World) -> None:
    for index in range(5):
        await world.made("configmaps", labelled(f"c{index}", n=str(index), suite="lists"))


@contract
async def test_a_list_is_sorted_by_name_and_has_one_version(world: World) -> None:
    for name in ("b", "c", "a"):
        await world.made("configmaps", labelled(name, suite="lists"))
    answer = await world.get("configmaps", labelSelector=MARK)
    assert answer.json["kind"] == "ConfigMapList"
    assert [item["metadata"]["name"] for item in answer.json["items"]] == ["a", "b", "c"]
    assert int(answer.version) >= max(
        int(item["metadata"]["resourceVersion"]) for item in answer.json["items"]
    )


@contract
async def test_items_of_built_in_kinds_do_not_repeat_their_kind(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    await world.made("httproutes", route("r"))
    assert "kind" not in (await world.get("configmaps")).json["items"][0]
    assert (await world.get("httproutes")).json["items"][0]["kind"] == "HTTPRoute"


SELECTORS = {
    "n in (1,2)": ["c1", "c2"],
    "n notin (1,2)": ["c0", "c3", "c4"],
    "n!=1": ["c0", "c2", "c3", "c4"],
    "n==1": ["c1"],
    "n=1,suite": ["c1"],
    "n>3": ["c4"],
    "n<1": ["c0"],
    "!n": [],
    "n=": [],
}


@contract
async def test_label_selectors(world: World) -> None:
    await _five(world)
    for selector, expected in SELECTORS.items():
        found = await world.names("configmaps", labelSelector=f"{MARK},{selector}")
        assert found == expected, selector


@contract
async def test_a_label_selector_that_cannot_be_read_is_a_400(world: World) -> None:
    for selector in ("a in (b", "a b=c"):
        answer = await world.get("configmaps", labelSelector=selector)
        assert (answer.status, answer.json["reason"]) == (400, "BadRequest"), selector


@contract
async def test_field_selectors_by_name_and_namespace(world: World) -> None:
    await _five(world)
    assert await world.names("configmaps", fieldSelector="metadata.name=c1") == ["c1"]
    others = await world.names("configmaps", labelSelector=MARK, fieldSelector="metadata.name!=c1")
    assert others == ["c0", "c2", "c3", "c4"]
    space = f"metadata.namespace={world.namespace},metadata.name=c2"
    answer = await world.send("GET", "/api/v1/configmaps", fieldSelector=space)
    assert [item["metadata"]["name"] for item in answer.json["items"]] == ["c2"]


@contract
async def test_an_unknown_field_selector_is_a_400(world: World) -> None:
    assert (await world.get("deployments", fieldSelector="spec.replicas=1")).status == 400


@contract
async def test_pages_go_on_where_the_last_one_ended(world: World) -> None:
    await _five(world)
    first = await world.get("configmaps", limit="2", labelSelector=MARK)
    token = first.json["metadata"]["continue"]
    assert [item["metadata"]["name"] for item in first.json["items"]] == ["c0", "c1"]
    second = await world.get("configmaps", limit="2", labelSelector=MARK, **{"continue": token})
    assert [item["metadata"]["name"] for item in second.json["items"]] == ["c2", "c3"]
    token = second.json["metadata"]["continue"]
    last = await world.get("configmaps", limit="2", labelSelector=MARK, **{"continue": token})
    assert [item["metadata"]["name"] for item in last.json["items"]] == ["c4"]
    assert "continue" not in last.json["metadata"]


@contract
async def test_pages_say_how_much_is_left_unless_a_selector_hides_it(world: World) -> None:
    await _five(world)
    everything = len((await world.get("configmaps")).json["items"])
    plain = await world.get("configmaps", limit="2")
    assert plain.json["metadata"]["remainingItemCount"] == everything - 2
    chosen = await world.get("configmaps", limit="2", labelSelector=MARK)
    assert "remainingItemCount" not in chosen.json["metadata"]


@contract
async def test_later_pages_show_the_version_of_the_first(world: World) -> None:
    await _five(world)
    first = await world.get("configmaps", limit="2", labelSelector=MARK)
    await world.patch("configmaps", "c3", {"data": {"a": "changed"}})
    await world.delete("configmaps", "c4")
    await world.made("configmaps", labelled("c35", suite="lists"))
    token = first.json["metadata"]["continue"]
    rest = await world.get("configmaps", labelSelector=MARK, **{"continue": token})
    assert rest.version == first.version
    assert {item["metadata"]["name"]: item["data"]["a"] for item in rest.json["items"]} == {
        "c2": "1",
        "c3": "1",
        "c4": "1",
    }


@contract
async def test_a_token_from_before_what_was_forgotten_is_a_410_with_another_one(
    world: World,
) -> None:
    await _five(world)
    first = await world.get("configmaps", limit="2", labelSelector=MARK)
    await world.delete("configmaps", "c3")
    await world.forget()
    old = {"continue": first.json["metadata"]["continue"]}
    last: list[Answer] = []

    async def refused() -> bool:
        """A real server looks every few seconds whether the store was compacted."""
        last[:] = [await world.get("configmaps", limit="2", labelSelector=MARK, **old)]
        return last[0].status != 200

    await world.eventually(refused)
    assert (last[0].status, last[0].json["reason"]) == (410, "Expired")
    other = {"continue": last[0].json["metadata"]["continue"]}
    rest = await world.get("configmaps", limit="2", labelSelector=MARK, **other)
    assert [item["metadata"]["name"] for item in rest.json["items"]] == ["c2", "c4"]
    assert int(rest.version) > int(first.version)


@contract
async def test_a_token_that_cannot_be_read_is_a_400(world: World) -> None:
    assert (await world.get("configmaps", limit="2", **{"continue": "zzz"})).status == 400


@contract
async def test_a_token_and_a_version_together_are_a_400(world: World) -> None:
    await _five(world)
    first = await world.get("configmaps", limit="2")
    token = first.json["metadata"]["continue"]
    both = {"continue": token, "resourceVersion": first.version}
    assert (await world.get("configmaps", **both)).status == 400


@contract
async def test_bad_numbers_are_a_400(world: World) -> None:
    assert (await world.get("configmaps", limit="x")).status == 400
    assert (await world.get("configmaps", resourceVersion="x")).status == 400


@contract
async def test_a_version_to_come_is_a_504_with_its_cause(world: World) -> None:
    answer = await world.get("configmaps", resourceVersion="99999999999")
    assert (answer.status, answer.json["reason"]) == (504, "Timeout")
    assert answer.causes[0][0] == "ResourceVersionTooLarge"
    assert answer.headers["retry-after"] == "1"


@contract
async def test_an_exact_version_that_is_gone_is_a_410(world: World) -> None:
    last: list[Answer] = []

    async def refused() -> bool:
        """A real server forgets a second after the store was compacted."""
        answer = await world.get("configmaps", resourceVersion="1", resourceVersionMatch="Exact")
        last[:] = [answer]
        return answer.status != 200

    await world.eventually(refused)
    assert (last[0].status, last[0].json["reason"]) == (410, "Expired")


@contract
async def test_an_exact_version_shows_what_was_then(world: World) -> None:
    await world.made("configmaps", labelled("a", suite="lists"))
    then = (await world.get("configmaps")).version
    await world.made("configmaps", labelled("b", suite="lists"))
    now = {"labelSelector": MARK}
    past = {**now, "resourceVersion": then, "resourceVersionMatch": "Exact"}
    assert await world.names("configmaps", **past) == ["a"]
    assert await world.names("configmaps", **now) == ["a", "b"]


@contract
async def test_a_match_without_a_version_is_a_422(world: World) -> None:
    assert (await world.get("configmaps", resourceVersionMatch="Exact")).status == 422


@contract
async def test_tables_for_people(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    form = "application/json;as=Table;v=v1;g=meta.k8s.io"
    answer = await world.send("GET", world.path("configmaps", "a"), accept=form)
    assert answer.json["kind"] == "Table"
    assert [column["name"] for column in answer.json["columnDefinitions"]] == [
        "Name",
        "Data",
        "Age",
    ]
    assert answer.json["rows"][0]["cells"][:2] == ["a", 1]


@contract
async def test_metadata_alone(world: World) -> None:
    await world.made("configmaps", config_map("a"))
    form = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    answer = await world.send("GET", world.path("configmaps", "a"), accept=form)
    assert answer.json["kind"] == "PartialObjectMetadata"
    assert "data" not in answer.json
    listed = form.replace("Metadata;", "MetadataList;")
    everything = await world.send("GET", world.path("configmaps"), accept=listed)
    assert everything.json["kind"] == "PartialObjectMetadataList"
    assert all("data" not in item for item in everything.json["items"])


@pytest.mark.parametrize("text", ["a=b", "a in (b,c),d", "!x"])
def test_commas_in_brackets_do_not_separate(text: str) -> None:
    from controller.sim.apiserver.selectors import label_selector

    assert label_selector(text) is not None
