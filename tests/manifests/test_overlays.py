# SPDX-License-Identifier: Apache-2.0
"""The overlays as their readers change them: what is pointed at is what is meant."""

import copy
import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests.manifests.rendered import (
    MANIFESTS,
    Json,
    key,
    kustomized,
    of_kind,
    overlaid,
    own_containers,
    pod_specs,
    rendered,
)
from tests.support.runbook import block

SIDECAR = MANIFESTS / "overlays/sidecar"


@pytest.mark.parametrize("name", ["payments-api", "v2.example", "canary"])
def test_a_sidecar_of_another_name_has_it_wherever_target_stands(tmp_path: Path, name: str) -> None:
    """By the header's words: other objects, another target of the patch, and nothing else.

    What kustomize does by the places of rules is what replacing each TARGET would do.
    """
    folder = tmp_path / "sidecar"
    shutil.copytree(SIDECAR, folder)
    for file in ("target.yaml", "kustomization.yaml"):
        text = (folder / file).read_text(encoding="utf-8")
        assert "checkout" in text
        (folder / file).write_text(text.replace("checkout", name), encoding="utf-8")
    found = {_named(item): _bare(item) for item in rendered(folder)}
    for file in ("rbac.yaml", "people.yaml"):
        text = (SIDECAR / file).read_text(encoding="utf-8").replace("TARGET", name)
        for item in yaml.safe_load_all(text):
            assert found[_named(item)] == item
    (deployment,) = of_kind(tuple(found.values()), "Deployment")
    (container,) = own_containers(deployment["spec"]["template"]["spec"])
    assert f"--target=deployment/{name}" in container["args"]
    assert "checkout" not in yaml.safe_dump(deployment)


def test_only_some_namespaces_as_it_is_printed(tmp_path: Path) -> None:
    """The right on the cluster is gone, one in the namespace is there, and the flag with it."""
    shipped = {key(item): item for item in kustomized("overlays/central")}
    objects = overlaid("overlays/central", "some-namespaces", tmp_path, shop="one-namespace")
    found = {key(item): item for item in objects}
    rbac = "rbac.authorization.k8s.io/v1"
    cluster = shipped.pop((rbac, "ClusterRoleBinding", "", "switchgear"))
    bound = found.pop((rbac, "RoleBinding", "shop", "switchgear-targets"))
    for field in ("roleRef", "subjects"):
        assert bound[field] == cluster[field]
    assert bound["metadata"]["labels"] == cluster["metadata"]["labels"]
    deployment = found["apps/v1", "Deployment", "switchgear", "switchgear"]
    (container,) = own_containers(deployment["spec"]["template"]["spec"])
    assert container["args"].pop() == "--namespace=shop"
    assert found == shipped


def _sidecar(folder: Path) -> Json:
    """The pod's spec as the overlay in this folder renders it."""
    (spec,) = pod_specs(rendered(folder))
    return spec


def test_a_sidecar_takes_nothing_from_the_pod_but_the_token(tmp_path: Path) -> None:
    """Whatever the team's Deployment says of itself stays, be it there or left out."""
    folder = tmp_path / "sidecar"
    shutil.copytree(SIDECAR, folder)
    target = folder / "target.yaml"
    objects = list(yaml.safe_load_all(target.read_text(encoding="utf-8")))
    (own,) = pod_specs(tuple(objects))
    for links in ({}, {"enableServiceLinks": True}, {"enableServiceLinks": False}):
        own |= {"automountServiceAccountToken": True, "hostUsers": False, **links}
        target.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
        found = _sidecar(folder)
        (container,) = own_containers({"containers": found.pop("initContainers")})
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert {volume["name"] for volume in found.pop("volumes")} == mounted
        assert found.pop("automountServiceAccountToken") is False
        own.pop("automountServiceAccountToken")
        assert found == own


def test_the_line_that_is_printed_gives_the_token_back(tmp_path: Path) -> None:
    """In the patch and in the documentation it is one, and what clients look for is there."""
    printed = block("token", "kubernetes.md")
    commented = "".join(f"#   {line}\n" for line in printed.splitlines())
    assert commented in (SIDECAR / "sidecar.yaml").read_text(encoding="utf-8")
    folder = tmp_path / "sidecar"
    shutil.copytree(SIDECAR, folder)
    target = folder / "target.yaml"
    objects = list(yaml.safe_load_all(target.read_text(encoding="utf-8")))
    (own,) = pod_specs(tuple(objects))
    own["containers"][0] |= yaml.safe_load(printed)
    target.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    spec = _sidecar(folder)
    (mount,) = spec["containers"][0]["volumeMounts"]
    # Where client-go and its like look, without being told.
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    (volume,) = (item for item in spec["volumes"] if item["name"] == mount["name"])
    files: set[str] = set()
    for source in volume["projected"]["sources"]:
        (about,) = source.values()
        files |= {item["path"] for item in about.get("items", (about,))}
    assert files == {"token", "ca.crt", "namespace"}


def _named(item: Json) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _bare(item: Json) -> Json:
    """Without the namespace, which the kustomization gives to all of them."""
    found = copy.deepcopy(item)
    for place in (found["metadata"], *found.get("subjects", ())):
        place.pop("namespace", None)
    return found


def test_the_overlay_that_is_printed_changes_what_it_says_and_nothing_else(tmp_path: Path) -> None:
    """The comment of `central`: another registry, and where Prometheus is."""
    lines = (MANIFESTS / "overlays/central/kustomization.yaml").read_text().splitlines()
    printed = "\n".join(line.removeprefix("#   ") for line in lines if line.startswith("#   "))
    base = os.path.relpath(MANIFESTS, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(printed.replace(".../manifests", base))
    objects = rendered(tmp_path)
    (spec,) = pod_specs(objects)
    (container,) = own_containers(spec)
    (shipped,) = own_containers(next(pod_specs(kustomized("overlays/central"))))
    assert container["image"] == f"registry.example/{shipped['image']}"
    other = [env for env in container["env"] if env not in shipped["env"]]
    url = "http://prometheus.observability:9090"
    assert other == [{"name": "SWITCHGEAR_PROMETHEUS", "value": url}]
    assert len(container["env"]) == len(shipped["env"])
    assert {**container, "image": "", "env": []} == {**shipped, "image": "", "env": []}
    rest = {key(item): item for item in objects if item["kind"] != "Deployment"}
    assert rest == {
        key(item): item for item in kustomized("overlays/central") if item["kind"] != "Deployment"
    }
