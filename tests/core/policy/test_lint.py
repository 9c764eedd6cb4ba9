# SPDX-License-Identifier: Apache-2.0
"""Each rule finds its fault in an otherwise healthy set of manifests, and only that one."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.policy import lint, manifests
from controller.core.policy.lint import Timing
from controller.core.policy.manifests import World
from controller.core.policy.model import Problem
from controller.core.values import PREFIX

Manifests = dict[str, dict[str, Any]]

LABELS = {"app": "checkout"}


def healthy() -> Manifests:
    """A Deployment with a claim, its Service and its route, all as they should be."""
    mount = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    return {
        "deployment": {
            "kind": "Deployment",
            "metadata": {
                "name": "checkout",
                "namespace": "shop",
                "annotations": {PREFIX + "policy": "standard"},
            },
            "spec": {
                "replicas": 4,
                "template": {"metadata": {"labels": LABELS}, "spec": {"volumes": [mount]}},
            },
        },
        "service": {
            "kind": "Service",
            "metadata": {"name": "checkout", "namespace": "shop"},
            "spec": {"selector": dict(LABELS)},
        },
        "route": {
            "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"rules": [{"backendRefs": [{"name": "checkout", "port": 80}]}]},
        },
        "claim": {
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": "shop"},
            "spec": {"accessModes": ["ReadWriteOnce"]},
        },
    }


def found(
    objects: Manifests, *, complete: bool = True, timing: Timing | None = None
) -> tuple[Problem, ...]:
    world = manifests.read(objects.values(), complete=complete)
    workload = next(w for w in world.workloads if w.name == "checkout")
    return lint.lint(workload, world, timing or Timing())


def annotate(objects: Manifests, **annotations: object) -> None:
    there = objects["deployment"]["metadata"]["annotations"]
    there.update({PREFIX + key.replace("_", "-"): value for key, value in annotations.items()})


def test_healthy_manifests_have_no_problem() -> None:
    assert found(healthy()) == ()


def test_a_deployment_that_asks_for_nothing_has_no_problem() -> None:
    objects = healthy()
    objects["deployment"]["metadata"]["annotations"] = {PREFIX + "managed": "true", "other": "x"}
    del objects["service"]
    assert found(objects) == ()


def _step_of_20_seconds(objects: Manifests) -> None:
    annotate(objects, steps="5@20s,25@5m")


def _step_of_40_seconds(objects: Manifests) -> None:
    annotate(objects, steps="5@40s,25@5m")


def _bake_of_40_seconds(objects: Manifests) -> None:
    annotate(objects, bake="40s")


def _cap_of_1(objects: Manifests) -> None:
    annotate(objects, max_weight="1")


def _recreate(objects: Manifests) -> None:
    objects["deployment"]["spec"]["strategy"] = {"type": "Recreate"}


def _no_history(objects: Manifests) -> None:
    objects["deployment"]["spec"]["revisionHistoryLimit"] = 0


def _singleton(objects: Manifests) -> None:
    objects["deployment"]["spec"]["replicas"] = 1


def _singleton_by_default(objects: Manifests) -> None:
    del objects["deployment"]["spec"]["replicas"]


def _no_service(objects: Manifests) -> None:
    objects["service"]["spec"]["selector"] = {"app": "other"}


def _service_without_selector(objects: Manifests) -> None:
    annotate(objects, service="checkout")
    del objects["service"]["spec"]["selector"]


def _other_service_named(objects: Manifests) -> None:
    annotate(objects, service="basket")


def _two_services_behind_routes(objects: Manifests) -> None:
    objects["second"] = copy.deepcopy(objects["service"])
    objects["second"]["metadata"]["name"] = "basket"
    objects["route"]["spec"]["rules"][0]["backendRefs"].append({"name": "basket"})


def _shared_service(objects: Manifests) -> None:
    objects["other"] = copy.deepcopy(objects["deployment"])
    objects["other"]["metadata"] = {"name": "basket", "namespace": "shop"}


def _no_route_but_by_route(objects: Manifests) -> None:
    _no_route(objects)
    objects["deployment"]["metadata"]["annotations"][PREFIX + "traffic"] = "gateway"


def _no_route(objects: Manifests) -> None:
    del objects["route"]


def _route_elsewhere(objects: Manifests) -> None:
    annotate(objects, route="web")
    objects["route"]["spec"]["rules"][0]["backendRefs"] = [{"name": "x"}, {"kind": "Other"}]


def _route_of_another_kind(objects: Manifests) -> None:
    annotate(objects, route="GRPCRoute/web")


def _ingress(objects: Manifests) -> None:
    path = {"backend": {"service": {"name": "checkout"}}}
    objects["ingress"] = {
        "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"rules": [{"http": {"paths": [path]}}]},
    }


def _ingress_by_default(objects: Manifests) -> None:
    _ingress(objects)
    objects["ingress"]["spec"] = {"defaultBackend": {"service": {"name": "checkout"}}}


def _tcp_route(objects: Manifests) -> None:
    objects["tcp"] = copy.deepcopy(objects["route"])
    objects["tcp"]["kind"] = "TCPRoute"


def _name_of_the_canary_taken(objects: Manifests) -> None:
    objects["twin"] = {
        "kind": "Service",
        "metadata": {"name": "checkout-canary", "namespace": "shop"},
        "spec": {"selector": {"app": "other"}},
    }


def _canary_deployment_there(objects: Manifests) -> None:
    objects["twin"] = {
        "kind": "Deployment",
        "metadata": {"name": "checkout-canary", "namespace": "shop"},
    }


def _on_the_template(objects: Manifests) -> None:
    template = objects["deployment"]["spec"]["template"]["metadata"]
    template["annotations"] = {PREFIX + "steps": "5@2m", PREFIX + "hold": "x", "other": "y"}


def _not_a_text(objects: Manifests) -> None:
    annotate(objects, paused=True)


def _misspelt(objects: Manifests) -> None:
    annotate(objects, max_weigth="5")


def _policy_forgotten(objects: Manifests) -> None:
    objects["deployment"]["metadata"]["annotations"] = {PREFIX + "max-weight": "5"}


def _stateful(objects: Manifests) -> None:
    objects["deployment"]["kind"] = "StatefulSet"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_step_of_20_seconds, "StepWithoutScrapes"),
        (_step_of_40_seconds, "StepTooShort"),
        (_bake_of_40_seconds, "StepTooShort"),
        (_cap_of_1, "CapBelowFirstStep"),
        (_recreate, "StrategyNotRolling"),
        (_no_history, "NoHistory"),
        (_singleton, "SingletonVolume"),
        (_singleton_by_default, "SingletonVolume"),
        (_no_service, "NoService"),
        (_service_without_selector, "ServiceWithoutSelector"),
        (_other_service_named, "ServiceNotSelecting"),
        (_shared_service, "ServiceShared"),
        (_no_route, "StepUnreachable"),
        (_no_route_but_by_route, "NoRoute"),
        (_route_elsewhere, "RouteMissing"),
        (_route_of_another_kind, "RouteMissing"),
        (_ingress, "PathNotWeighable"),
        (_ingress_by_default, "PathNotWeighable"),
        (_tcp_route, "PathNotWeighable"),
        (_name_of_the_canary_taken, "NameTaken"),
        (_canary_deployment_there, "NameTaken"),
        (_on_the_template, "AnnotationMisplaced"),
        (_not_a_text, "AnnotationNotText"),
        (_misspelt, "KeyUnknown"),
        (_policy_forgotten, "PolicyMissing"),
        (_stateful, "KindNotSupported"),
    ],
)
def test_each_rule_finds_its_fault(change: Callable[[Manifests], None], code: str) -> None:
    objects = healthy()
    change(objects)
    (problem,) = found(objects)
    assert problem.code == code
    assert problem.hint


def test_all_problems_are_told_at_once() -> None:
    objects = healthy()
    for change in (_recreate, _singleton, _cap_of_1, _ingress, _step_of_20_seconds):
        change(objects)
    assert {problem.code for problem in found(objects)} == {
        "CapBelowFirstStep",
        "PathNotWeighable",
        "SingletonVolume",
        "StepWithoutScrapes",
        "StrategyNotRolling",
    }


def test_a_faster_scrape_makes_a_short_step_long_enough() -> None:
    objects = healthy()
    _step_of_20_seconds(objects)
    assert found(objects, timing=Timing(scrape_seconds=5)) == ()


def test_what_the_files_do_not_contain_is_no_problem_but_is_named() -> None:
    objects = healthy()
    del objects["service"], objects["route"]
    assert found(objects, complete=False) == ()
    assert lint.unchecked(manifests.read(objects.values())) == (
        "Services",
        "HTTPRoutes and GRPCRoutes",
    )
    assert lint.unchecked(World(complete=True)) == ()


def test_a_service_of_another_namespace_is_another_service() -> None:
    objects = healthy()
    objects["service"]["metadata"]["namespace"] = "elsewhere"
    assert [problem.code for problem in found(objects)] == ["NoService"]


def test_several_services_are_fine_since_every_one_is_taken() -> None:
    objects = healthy()
    _two_services_behind_routes(objects)
    assert found(objects) == ()
    annotate(objects, service="basket", route="HTTPRoute/web")
    assert found(objects) == ()


def test_a_list_of_objects_is_opened() -> None:
    world = manifests.read([{"kind": "List", "items": [*healthy().values(), None, {"kind": 3}]}])
    assert len(world.workloads) == len(world.services) == len(world.paths) == 1


def test_an_access_mode_that_is_no_text_hides_nothing() -> None:
    objects = healthy()
    _recreate(objects)
    objects["claim"]["spec"]["accessModes"] = [["ReadWriteOnce"]]
    assert [problem.code for problem in found(objects)] == ["StrategyNotRolling"]


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.data())
def test_no_manifest_makes_the_linter_raise(data: st.DataObject) -> None:
    """Whatever stands in place of any one part, the rest is still looked at."""
    objects = healthy()
    _ingress(objects)
    where: Any = objects
    for _ in range(data.draw(st.integers(0, 6))):
        if not isinstance(where, dict | list) or not where:
            break
        key = data.draw(st.sampled_from(sorted(where) if isinstance(where, dict) else [0]))
        if data.draw(st.booleans()):
            where[key] = data.draw(_JSON)
        where = where[key]
    world = manifests.read(objects.values(), complete=data.draw(st.booleans()))
    for workload in world.workloads:
        assert all(problem.message for problem in lint.lint(workload, world, Timing()))


@pytest.mark.parametrize(
    ("length", "metrics", "codes"),
    [
        (39, "application", []),
        (40, "application", ["NameTooLong"]),
        (40, "opentelemetry", ["NameTooLong"]),
        (40, "traefik", []),
        (40, "auto", []),
    ],
)
def test_pods_whose_names_kubernetes_cuts_cannot_judge(
    length: int, metrics: str, codes: list[str]
) -> None:
    objects = healthy()
    annotate(objects, metrics=metrics)
    name = objects["deployment"]["metadata"]["name"] = "c" * length
    world = manifests.read(objects.values(), complete=True)
    workload = next(found for found in world.workloads if found.name == name)
    problems = lint.lint(workload, world, Timing())
    assert [problem.code for problem in problems] == codes
    assert all("at most 39 characters" in str(problem) for problem in problems)


@pytest.mark.parametrize(
    ("length", "metric", "codes"),
    [
        (39, "orders_failed_total", []),
        (40, "orders_failed_total", ["NameTooLong"]),
        (40, "traefik_service_requests_total", []),
    ],
)
def test_a_check_of_pods_that_cannot_be_told_apart_is_refused(
    length: int, metric: str, codes: list[str]
) -> None:
    """It would never have a value, and every run would end inconclusive."""
    objects = healthy()
    annotate(objects, **{"check.orders": f"sum(rate({metric}[1m])) < 5"})
    name = objects["deployment"]["metadata"]["name"] = "c" * length
    world = manifests.read(objects.values(), complete=True)
    workload = next(found for found in world.workloads if found.name == name)
    assert [problem.code for problem in lint.lint(workload, world, Timing())] == codes
