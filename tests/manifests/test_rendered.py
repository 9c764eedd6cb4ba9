# SPDX-License-Identifier: Apache-2.0
"""What can be said of the manifests without a cluster."""

import re
from collections.abc import Iterator

import pytest
import yaml

import controller
from controller.core.policy.keys import POLICY_KEYS, REQUEST_KEYS, STATUS_KEYS
from controller.core.values import HELD_BY_ADMISSION, HELD_FOR_OWNER, PREFIX
from controller.settings import TABLE
from tests.manifests.rendered import (
    CONTROLLER,
    FOLDERS,
    MANIFESTS,
    Json,
    kustomized,
    of_kind,
    own_containers,
    pairs_of,
    pod_specs,
    rules_of,
)

SHAPES = ("overlays/central", "overlays/sidecar")
MOST_PAIRS = 20


def test_each_folder_is_looked_at() -> None:
    assert {"base", "admission", "monitoring", *SHAPES} < set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_renders(folder: str) -> None:
    objects = kustomized(folder)
    assert objects
    names = [
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])
        for item in objects
    ]
    assert len(set(names)) == len(names)


def test_every_file_is_yaml() -> None:
    for path in sorted(MANIFESTS.rglob("*.yaml")):
        if "templates" not in path.parts:
            assert list(yaml.safe_load_all(path.read_text())), path


@pytest.mark.parametrize("folder", SHAPES)
def test_no_wildcard_and_no_secret(folder: str) -> None:
    for role in of_kind(kustomized(folder), "Role", "ClusterRole"):
        for rule in role["rules"]:
            told = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "*" not in told, role["metadata"]["name"]
            assert "nonResourceURLs" not in rule
            assert not {"secrets", "serviceaccounts", "roles", "clusterroles"} & set(told)
            assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"])


def test_the_controller_needs_at_most_20_pairs() -> None:
    pairs = pairs_of(rules_of(kustomized("overlays/central"), "switchgear"))
    assert len(pairs) <= MOST_PAIRS, sorted(pairs)


def test_a_sidecar_writes_what_is_named_and_little_else() -> None:
    """Unnamed are: reading, creating, and what has a generated name."""
    generated = {("apps", "replicasets"), ("", "pods"), ("", "configmaps")}
    for rule in rules_of(kustomized("overlays/sidecar"), "switchgear-checkout"):
        changing = set(rule["verbs"]) & {"patch", "update", "delete"}
        if changing and not rule.get("resourceNames"):
            assert pairs_of([rule]) <= generated
        for name in rule.get("resourceNames") or ():
            assert "checkout" in name or name == "switchgear-kill"
    roles = of_kind(kustomized("overlays/sidecar"), "ClusterRole", "ClusterRoleBinding")
    assert roles == [], "nothing of a sidecar needs rights on the cluster"


def test_no_placeholder_is_left() -> None:
    assert "TARGET" not in yaml.safe_dump_all(kustomized("overlays/sidecar"))


def test_every_rule_says_each_thing_once() -> None:
    """Two rules for one pair, unless one of them names objects, would hide what is granted."""
    seen: list[tuple[str, str, str, tuple[str, ...]]] = []
    for rule in rules_of(kustomized("overlays/central"), "switchgear"):
        names = tuple(rule.get("resourceNames") or ())
        for group, resource in pairs_of([rule]):
            seen.extend((group, resource, verb, names) for verb in rule["verbs"])
    assert len(seen) == len(set(seen))


def test_the_flow_schema_covers_what_the_roles_grant() -> None:
    """A call outside of it would wait in the queue of all service accounts."""
    objects = kustomized("overlays/central")
    (flow,) = of_kind(objects, "FlowSchema")
    granted: set[tuple[str, str, str]] = set()
    for rule in rules_of(objects, "switchgear"):
        granted |= {(*pair, verb) for pair in pairs_of([rule]) for verb in rule["verbs"]}
    served: set[tuple[str, str, str]] = set()
    for part in flow["spec"]["rules"]:
        for rule in part["resourceRules"]:
            served |= {(*pair, verb) for pair in pairs_of([rule]) for verb in rule["verbs"]}
            assert rule["clusterScope"], "lists of all namespaces name none"
    assert granted <= served


@pytest.mark.parametrize("folder", SHAPES)
def test_flags_are_settings(folder: str) -> None:
    flags = {row.flag for row in TABLE}
    for spec in pod_specs(kustomized(folder)):
        for container in own_containers(spec):
            command, *given = container["args"]
            assert command == "run"
            for arg in given:
                assert arg.split("=")[0] in flags, arg


def test_versions_agree() -> None:
    """One version: the package's, the image's and the chart's."""
    version = controller.__version__
    chart = yaml.safe_load((MANIFESTS / "chart/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version
    for folder in SHAPES:
        for spec in pod_specs(kustomized(folder)):
            for container in own_containers(spec):
                assert container["image"].rpartition(":")[2] == version


@pytest.mark.parametrize("folder", SHAPES)
def test_our_containers_are_restricted(folder: str) -> None:
    """Pod Security `restricted`, and a root file system that nobody writes to."""
    for spec in pod_specs(kustomized(folder)):
        for container in own_containers(spec):
            context = {**(spec.get("securityContext") or {}), **container["securityContext"]}
            assert context["runAsNonRoot"]
            assert context["runAsUser"] == 65532
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert "cpu" not in container["resources"]["limits"]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def _policies() -> list[Json]:
    return of_kind(kustomized("admission"), "MutatingAdmissionPolicy", "ValidatingAdmissionPolicy")


def test_every_policy_has_a_binding_and_exempts_the_controller() -> None:
    bound = {
        item["spec"]["policyName"]
        for item in of_kind(
            kustomized("admission"),
            "MutatingAdmissionPolicyBinding",
            "ValidatingAdmissionPolicyBinding",
        )
    }
    assert bound == {item["metadata"]["name"] for item in _policies()}
    for policy in _policies():
        conditions = [item["expression"] for item in policy["spec"]["matchConditions"]]
        assert f"request.userInfo.username != '{CONTROLLER}'" in conditions


def test_only_what_tells_may_fail_open() -> None:
    """A guard that is skipped when it fails is none; a warning that fails must stop nobody."""
    for policy in _policies():
        wanted = "Ignore" if policy["metadata"]["name"] == "switchgear-tell" else "Fail"
        assert policy["spec"]["failurePolicy"] == wanted


OLD_CEL = {
    *("all", "exists", "filter", "map", "has", "size", "startsWith", "endsWith", "orValue"),
    *("group", "resource", "subresource", "namespace", "name", "check", "allowed"),
}
"""What the validating policies call; API servers compile these since Kubernetes 1.28."""


def test_validating_policies_call_nothing_that_old_servers_do_not_know() -> None:
    """They are for clusters from 1.31 on, which refuse a policy for one unknown function."""
    for policy in of_kind(kustomized("admission/validating"), "ValidatingAdmissionPolicy"):
        spec = policy["spec"]
        for item in (*spec["matchConditions"], *spec.get("variables", ()), *spec["validations"]):
            expression = item["expression"] + " " + item.get("messageExpression", "")
            called = set(re.findall(r"([A-Za-z_]+)\(", re.sub(r"'[^']*'", "''", expression)))
            assert called <= OLD_CEL, (policy["metadata"]["name"], called - OLD_CEL)


def test_policies_speak_of_keys_that_exist() -> None:
    """An annotation renamed in the product must not leave its guard behind."""
    # On other objects than Deployments: a namespace, a Service, a pod.
    known = STATUS_KEYS | REQUEST_KEYS | set(POLICY_KEYS) | {"shape", "stable", "target", "track"}
    for policy in _policies():
        for text in _texts(policy["spec"]):
            plain = text.replace("~1", "/")
            for found in re.findall(re.escape(PREFIX) + r"([a-z-]+)", plain):
                assert found in known, (policy["metadata"]["name"], found)


def test_the_hold_is_spelled_as_the_controller_reads_it() -> None:
    (hold,) = [item for item in _policies() if item["metadata"]["name"] == "switchgear-hold"]
    texts = " ".join(_texts(hold["spec"]))
    assert f"'{HELD_BY_ADMISSION}'" in texts
    assert f"'{HELD_FOR_OWNER}'" in texts


def test_names_in_the_disruption_budget_and_the_network_policy_find_the_pods() -> None:
    objects = kustomized("overlays/central")
    (deployment,) = of_kind(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [
        item["spec"]["selector"]["matchLabels"] for item in of_kind(objects, "PodDisruptionBudget")
    ]
    selectors += [
        item["spec"]["podSelector"]["matchLabels"] for item in of_kind(objects, "NetworkPolicy")
    ]
    selectors += [item["spec"]["selector"] for item in of_kind(objects, "Service")]
    for selector in selectors:
        assert selector.items() <= labels.items()
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]


TWINS = (
    ("switchgear-hold", "switchgear-guard-deployment"),
    ("switchgear-pin", "switchgear-guard-service"),
    ("switchgear-share", "switchgear-guard-route"),
)
"""What puts back, and the refusal behind it."""


def _variables(name: str) -> dict[str, str]:
    (policy,) = [item for item in _policies() if item["metadata"]["name"] == name]
    return {item["name"]: item["expression"] for item in policy["spec"]["variables"]}


@pytest.mark.parametrize(("puts", "guards"), TWINS)
def test_both_tiers_let_the_same_people_through(puts: str, guards: str) -> None:
    """Letter by letter: who is let go past one of them and not the other has his change undone."""
    one, other = _variables(puts), _variables(guards)
    for name in ("entitled", "overridden"):
        assert one[name] == other[name], name


def test_what_an_override_is_has_one_wording() -> None:
    """But for `entitled`, which names another Deployment in each pair."""
    every = [_variables(name) for pair in TWINS for name in pair]
    for name in ("now", "person", "reason", "status", "overridden"):
        assert len({variables[name] for variables in every}) == 1, name


def test_the_right_is_asked_for_in_one_place_of_a_policy() -> None:
    """A copy elsewhere would be out of sight of the two above."""
    for pair in TWINS:
        for name in pair:
            (policy,) = [item for item in _policies() if item["metadata"]["name"] == name]
            asking = [text for text in _texts(policy["spec"]) if "authorizer" in text]
            assert asking == [_variables(name)["entitled"]]
