# SPDX-License-Identifier: Apache-2.0
"""The chart renders the same objects as the kustomizations, one by one; judged by Helm itself."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.lab import build
from tests.cluster.lab.toolchain import Unavailable
from tests.manifests.rendered import MANIFESTS, Json, key, kustomized, overlaid

HELM_SECONDS = 60.0
Key = tuple[str, str, str, str]


def _helm(*args: str, version: str = "1.37.2") -> subprocess.CompletedProcess[str]:
    programs = build.programs(make=False)
    return subprocess.run(
        [str(programs.helm), *args, f"--kube-version={version}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=HELM_SECONDS,
    )


def _rendered(*settings: str, namespace: str = "switchgear") -> dict[Key, Json]:
    """What `helm template` puts out."""
    chart = str(MANIFESTS / "chart")
    done = _helm("template", "switchgear", chart, f"--namespace={namespace}", *settings)
    assert done.returncode == 0, done.stderr
    objects = [item for item in yaml.safe_load_all(done.stdout) if item]
    found = {key(item): item for item in objects}
    assert len(found) == len(objects), "an object is rendered twice"
    return found


def test_the_lab_has_helm() -> None:
    """Its absence would leave the chart untested."""
    try:
        program: Path = build.programs(make=False).helm
    except Unavailable as error:
        raise AssertionError(error) from error
    assert program.exists(), "`python -m tests.cluster.lab build` makes it"


@pytest.mark.parametrize(
    ("settings", "folders"),
    [
        ((), ("overlays/central",)),
        (("--set=monitoring.enabled=true",), ("overlays/central", "monitoring")),
        (("--set=admission.mutating=false",), ("overlays/before-1.36",)),
        (("--set=admission.mutating=false,admission.validating=false",), ("base",)),
    ],
)
def test_the_same_objects(settings: tuple[str, ...], folders: tuple[str, ...]) -> None:
    expected = {key(item): item for folder in folders for item in kustomized(folder)}
    found = _rendered("--set=namespace.create=true", *settings)
    assert found.keys() == expected.keys()
    notes = found["v1", "Namespace", "", "switchgear"]["metadata"].pop("annotations")
    assert notes == {"helm.sh/resource-policy": "keep"}, "the journals outlive the release"
    for name, item in expected.items():
        assert found[name] == item, name


def test_monitoring_has_the_labels_that_its_prometheus_asks_for(tmp_path: Path) -> None:
    """As the kustomization that is printed puts them on, and nothing else has them."""
    found = _rendered("--set=monitoring.enabled=true,monitoring.labels.release=prometheus")
    printed = overlaid("monitoring", "monitoring-labels", tmp_path)
    assert {item["metadata"]["labels"]["release"] for item in printed} == {"prometheus"}
    for item in printed:
        assert found[key(item)] == item
    others = _rendered()
    assert {name: found[name] for name in others} == others
    assert len(found) == len(others) + len(printed)


def test_only_some_namespaces_are_those_of_the_overlay_that_is_printed(tmp_path: Path) -> None:
    printed = overlaid("overlays/central", "some-namespaces", tmp_path, shop="one-namespace")
    found = _rendered("--set=namespaces={shop}", "--set=namespace.create=true")
    assert found.keys() == {key(item) for item in printed}
    for item in printed:
        if item["kind"] != "Namespace":
            assert found[key(item)] == item


def test_each_namespace_has_its_binding_and_its_flag() -> None:
    """To the account of the release, wherever that is; its own namespace may be one of them."""
    spaces = ["delivery", "shop"]
    found = _rendered(f"--set=namespaces={{{','.join(spaces)}}}", namespace="delivery")
    bindings = [item for name, item in found.items() if name[1] == "RoleBinding"]
    bound = [item for item in bindings if item["roleRef"]["kind"] == "ClusterRole"]
    assert sorted(item["metadata"]["namespace"] for item in bound) == spaces
    account = {"kind": "ServiceAccount", "name": "switchgear", "namespace": "delivery"}
    assert all(item["subjects"] == [account] for item in bindings)
    assert not [name for name in found if name[1] == "ClusterRoleBinding"]
    daemon = found["apps/v1", "Deployment", "delivery", "switchgear"]
    (container,) = daemon["spec"]["template"]["spec"]["containers"]
    flags = [arg for arg in container["args"] if arg.startswith("--namespace=")]
    assert flags == [f"--namespace={name}" for name in spaces]


def test_a_single_replica_keeps_no_node_from_being_drained() -> None:
    budget = ("policy/v1", "PodDisruptionBudget", "switchgear", "switchgear")
    found = _rendered()
    assert _rendered("--set=replicas=1").keys() == found.keys() - {budget}
    assert budget in found


def test_another_namespace_is_meant_everywhere() -> None:
    """Policies exempt the release's own account, and guard documents where they are."""
    settings = ("--set=monitoring.enabled=true", "--set=namespace.create=true")
    found = _rendered(*settings, namespace="delivery")
    text = yaml.safe_dump_all(found.values())
    assert "system:serviceaccount:delivery:switchgear" in text
    assert "system:serviceaccount:switchgear" not in text
    assert "kubernetes.io/metadata.name: delivery" in text
    assert {name[2] for name in found} == {"", "delivery"}
    assert "--controller-namespace=delivery" in text


@pytest.mark.parametrize(
    ("prometheus", "ports"),
    [
        ("http://prometheus.monitoring:9090", [9090]),
        ("http://vmselect.monitoring:8481/select/0/prometheus", [9090, 8481]),
        ("http://prometheus.monitoring", [9090, 80]),
        ("https://prometheus.monitoring/", [9090, 443]),
        ("http://user:secret@[fd00::1]:9999", [9090, 9999]),
    ],
)
def test_the_network_policy_lets_prometheus_be_asked(prometheus: str, ports: list[int]) -> None:
    found = _rendered(f"--set=prometheus={prometheus}")
    policy = found["networking.k8s.io/v1", "NetworkPolicy", "switchgear", "switchgear"]
    (part,) = (
        one for one in policy["spec"]["egress"] if {"namespaceSelector": {}} in one.get("to", ())
    )
    assert part["ports"] == [{"port": port, "protocol": "TCP"} for port in ports]


def test_another_priority_has_its_own_quota_and_none_has_none() -> None:
    quota = ("v1", "ResourceQuota", "switchgear", "switchgear")
    scope = _rendered("--set=priorityClassName=gold")[quota]["spec"]["scopeSelector"]
    assert scope["matchExpressions"][0]["values"] == ["gold"]
    assert quota not in _rendered("--set=priorityClassName=")


def test_the_doors_listen_where_the_values_say() -> None:
    """Nothing else changes with it: IPv6 needs this one word."""
    found, plain = _rendered("--set=listen=[::]:8340"), _rendered()
    name = ("apps/v1", "Deployment", "switchgear", "switchgear")
    args = found[name]["spec"]["template"]["spec"]["containers"][0]["args"]
    args[args.index("--listen=[::]:8340")] = "--listen=0.0.0.0:8340"
    assert found == plain


def test_the_namespace_is_the_release_s_where_that_is_wanted_alone() -> None:
    """Helm 3 ends with an error where it is, and whoever makes it labels it."""
    space = ("v1", "Namespace", "", "switchgear")
    assert _rendered("--set=namespace.create=true").keys() - _rendered().keys() == {space}


def test_a_pod_is_placed_and_pulled_as_the_values_say(tmp_path: Path) -> None:
    """Nothing else of any object changes, and without the values no field is there."""
    secrets = [{"name": "registry"}]
    selector = {"node-role.kubernetes.io/infra": "true"}
    taints = [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}]
    notes = {"example.com/scrape": "false"}
    values = tmp_path / "values.yaml"
    wanted = {"nodeSelector": selector, "tolerations": taints, "imagePullSecrets": secrets}
    values.write_text(yaml.safe_dump({**wanted, "podAnnotations": notes}))
    found, plain = _rendered(f"--values={values}"), _rendered()
    name = ("apps/v1", "Deployment", "switchgear", "switchgear")
    template = found[name]["spec"]["template"]
    assert template["metadata"].pop("annotations") == notes
    assert {field: template["spec"].pop(field) for field in wanted} == wanted
    assert found == plain


def test_mutating_policies_are_refused_where_they_are_not_served() -> None:
    """With what to set instead; without them the same cluster is fine."""
    args = ("template", "switchgear", str(MANIFESTS / "chart"), "--namespace=switchgear")
    done = _helm(*args, version="1.35.4-gke.1")
    assert done.returncode != 0
    assert "set admission.mutating=false" in done.stderr
    assert _helm(*args, "--set=admission.mutating=false", version="1.31.0").returncode == 0


@pytest.mark.parametrize(
    "setting",
    [
        *("replcas=1", "prometheus=prometheus:9090", "args={oops}"),
        *("imagePullSecrets={registry}", "nodeSelector.infra=true", "podAnnotations.scrape=false"),
        *("tolerations[0].efect=NoSchedule", "monitoring.labels.release=true"),
        *("listen=0.0.0.0:8341", "listen=8340"),
        *("namespaces=shop", "namespaces={Shop}", "namespaces={shop,shop}"),
        r"monitoring.labels.app\.kubernetes\.io/component=controller",
    ],
)
def test_a_value_that_is_none_is_refused(setting: str) -> None:
    """By the chart's schema, before anything is applied."""
    done = _helm("template", "switchgear", str(MANIFESTS / "chart"), f"--set={setting}")
    assert done.returncode != 0
    assert "values" in done.stderr
