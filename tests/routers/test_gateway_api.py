# SPDX-License-Identifier: Apache-2.0
"""Patches of routes, applied to any route there may be."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.kube.routes import parse_http_route
from controller.adapters.routers import gateway_api as gw
from controller.core.effects import SplitRef
from controller.core.errors import Conflict, Refused
from controller.core.observation import Backend
from controller.core.values import RouteRef

Json = dict[str, Any]
REF = RouteRef("HTTPRoute", "shop", "edge")


class TestFailed(Exception):
    """A `test` of a patch did not hold."""

    __test__ = False


def apply(document: Json, ops: list[Json]) -> Json:
    """JSON patch, as far as it is used."""
    new = copy.deepcopy(document)
    for op in ops:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in op["path"].split("/")[1:]
        ]
        place: Any = new
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        key: Any = int(last) if isinstance(place, list) else last
        if op["op"] == "test":
            if place[key] != op["value"]:
                raise TestFailed(op["path"])
        elif op["op"] == "remove":
            del place[key]
        else:
            place[key] = copy.deepcopy(op["value"])
    return new


def route(*rules: list[Json], annotations: dict[str, str] | None = None) -> Json:
    meta: Json = {"name": "edge", "namespace": "shop", "uid": "r", "resourceVersion": "7"}
    if annotations is not None:
        meta["annotations"] = annotations
    return {"metadata": meta, "spec": {"rules": [{"backendRefs": refs} for refs in rules]}}


def split(service: str = "a", *, seen: tuple[Backend, ...] = ()) -> SplitRef:
    return SplitRef(route=REF, uid="r", service=service, canary=f"{service}-canary", seen=seen)


def ref(name: str, weight: int | None = None, **more: Any) -> Json:
    found: Json = {"name": name, "port": 80, **more}
    if weight is not None:
        found["weight"] = weight
    return found


def weights(document: Json, rule: int = 0) -> list[tuple[str, int | None]]:
    refs = document["spec"]["rules"][rule]["backendRefs"]
    return [(item["name"], item.get("weight")) for item in refs]


names = st.sampled_from(["a", "b", "c", "d"])
refs = st.lists(
    st.builds(
        ref,
        names,
        st.none() | st.integers(0, 100),
        filters=st.lists(st.fixed_dictionaries({"type": st.just("RequestMirror")}), max_size=1),
    ),
    max_size=4,
)
routes = st.builds(
    lambda rules, notes: route(*rules, annotations=notes),
    st.lists(refs, min_size=1, max_size=4),
    st.none() | st.dictionaries(st.sampled_from(["x", "y"]), st.text(), min_size=1, max_size=2),
)


@given(routes, st.permutations(["a", "b"]), st.integers(0, 10_000))
def test_what_is_attached_and_weighed_is_detached_without_a_trace(
    live: Json, services: list[str], weight_bp: int
) -> None:
    present = [
        name
        for name in services
        if any(
            item["name"] == name for rule in live["spec"]["rules"] for item in rule["backendRefs"]
        )
    ]
    found = live
    for name in present:
        found = apply(found, gw.attach(found, split(name)))
        assert gw.attach(found, split(name)) == []
    for name in present:
        found = apply(found, gw.set_live(found, split(name), weight_bp, lower_only=False))
    for name in present:
        found = apply(found, gw.zero(split(name), gw.backends(found)))
        found = apply(found, gw.detach(found, split(name), ()))
        assert gw.detach(found, split(name), ()) == []
    assert found == live


@given(routes, st.integers(1, 10_000))
def test_shares_of_all_others_stay_and_the_canary_gets_exactly_its_part(
    live: Json, weight_bp: int
) -> None:
    if not any(
        item["name"] == "a" for rule in live["spec"]["rules"] for item in rule["backendRefs"]
    ):
        with pytest.raises(Conflict):
            gw.attach(live, split())
        return
    attached = apply(live, gw.attach(live, split()))
    held = parse_http_route(json.dumps(attached).encode(), None).value.reduced(["a"], "shop")
    assert held is not None
    raised = apply(attached, gw.raise_to(held, [split()], weight_bp))
    for before, after in zip(live["spec"]["rules"], raised["spec"]["rules"], strict=True):
        old = {
            n: sum(i.get("weight", 1) for i in before["backendRefs"] if i["name"] == n)
            for n in "abcd"
        }
        new = {item["name"]: 0 for item in after["backendRefs"]}
        for item in after["backendRefs"]:
            new[item["name"]] += item.get("weight", 1)
        total_old, total_new = sum(old.values()), sum(new.values())
        if not any(item["name"] == "a" for item in before["backendRefs"]):
            assert after == before
            continue
        assert all(item["weight"] <= 1_000_000 for item in after["backendRefs"])
        for name in "bcd":
            assert new.get(name, 0) * total_old == old[name] * total_new
        whole = new["a"] + new["a-canary"]
        assert new["a-canary"] * 10_000 == whole * weight_bp
        assert whole * total_old == old["a"] * total_new


def test_who_answers_for_the_parents_is_told() -> None:
    """By it one knows whether the gateway counts anything that a judge could read."""
    names = ("example.org/two", "example.org/one", "example.org/two")
    parents = [{"parentRef": {"name": f"gw-{n}"}, "controllerName": x} for n, x in enumerate(names)]
    live = {**route([ref("a")]), "status": {"parents": parents}}
    held = parse_http_route(json.dumps(live).encode(), None).value.reduced(["a"], "shop")
    assert held is not None
    assert held.controllers == ("example.org/one", "example.org/two")


def test_a_patch_does_not_go_onto_other_backends() -> None:
    live = route([ref("b"), ref("a")])
    attached = apply(live, gw.attach(live, split()))
    seen = gw.backends(attached)
    moved = route([ref("a"), ref("b"), ref("a-canary", 3)])
    with pytest.raises(TestFailed):
        apply(moved, gw.zero(split(), seen))
    with pytest.raises(TestFailed):
        apply(moved, gw.detach(attached, split(), ()))


def test_zero_from_100_percent_gives_stable_everything_back() -> None:
    entries = (
        Backend(rule=0, index=0, service="a", weight=0),
        Backend(rule=0, index=1, service="a-canary", weight=10_000),
    )
    live = route([ref("a", 0), ref("a-canary", 10_000)])
    assert weights(apply(live, gw.zero(split(), entries))) == [("a", 10_000), ("a-canary", 0)]


def test_zero_without_a_canary_writes_nothing() -> None:
    assert gw.zero(split(), (Backend(rule=0, index=0, service="a", weight=1),)) == []


def test_large_weights_with_a_common_divisor_fit_and_others_are_refused() -> None:
    live = route([ref("a", 900), ref("b", 100)])
    assert weights(apply(live, gw.attach(live, split()))) == [
        ("a", 90_000),
        ("a-canary", 0),
        ("b", 10_000),
    ]
    with pytest.raises(Refused, match="997"):
        gw.attach(route([ref("a", 997), ref("b", 100)]), split())


def test_a_weight_that_somebody_changed_meanwhile_is_left_to_him() -> None:
    live = route([ref("a", 3), ref("b", 2)])
    attached = apply(live, gw.attach(live, split()))
    attached["spec"]["rules"][0]["backendRefs"][2]["weight"] = 77
    assert weights(apply(attached, gw.detach(attached, split(), ()))) == [("a", 3), ("b", 77)]


def test_an_apply_that_took_the_canary_out_is_attached_anew() -> None:
    live = route([ref("a", 3), ref("b", 2)])
    attached = apply(live, gw.attach(live, split()))
    note = attached["metadata"]["annotations"]
    reset = route([ref("a", 4), ref("b", 2)], annotations=note)
    again = apply(reset, gw.attach(reset, split()))
    assert weights(again) == [("a", 20_000), ("a-canary", 0), ("b", 10_000)]
    assert weights(apply(again, gw.detach(again, split(), ()))) == [("a", 4), ("b", 2)]


def test_a_note_that_is_gone_is_replaced_by_memory() -> None:
    live = route([ref("a", 3), ref("b", 2)])
    attached = apply(live, gw.attach(live, split()))
    del attached["metadata"]["annotations"]
    undone = apply(attached, gw.detach(attached, split(), gw.backends(live)))
    assert weights(undone) == [("a", 3), ("b", 2)]


def test_lowering_never_raises() -> None:
    live = route([ref("a", 9_900), ref("a-canary", 100)])
    assert gw.set_live(live, split(), 5_000, lower_only=True) == []
    lowered = apply(live, gw.set_live(live, split(), 50, lower_only=True))
    assert weights(lowered) == [("a", 9_950), ("a-canary", 50)]


def test_a_raise_needs_the_canary_in_every_rule_of_its_service() -> None:
    live = route([ref("a")], [ref("a")])
    attached = apply(live, gw.attach(live, split()))
    attached["spec"]["rules"][1]["backendRefs"] = [ref("a")]
    held = parse_http_route(json.dumps(attached).encode(), None).value.reduced(["a"], "shop")
    assert held is not None
    with pytest.raises(Conflict):
        gw.raise_to(held, [split()], 100)
