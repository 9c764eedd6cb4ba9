# SPDX-License-Identifier: Apache-2.0
"""The manifests as kubectl renders them, for tests that need no cluster."""

import functools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from controller.demo import binaries
from tests.support.runbook import block

Json: TypeAlias = dict[str, Any]

Right: TypeAlias = tuple[str, str, str, str]
"""Group, resource with its subresource, verb, and a name; empty: of every object."""

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
FOLDERS = tuple(
    sorted(
        file.parent.relative_to(MANIFESTS).as_posix()
        for file in MANIFESTS.rglob("kustomization.yaml")
    )
)
"""Whatever can be rendered."""

CONTROLLER = "system:serviceaccount:switchgear:switchgear"


@functools.cache
def kustomized(folder: str) -> tuple[Json, ...]:
    """Every object of `manifests/<folder>`, as `kubectl kustomize` puts them out."""
    return rendered(MANIFESTS / folder)


def rendered(folder: Path) -> tuple[Json, ...]:
    """The same of any folder with a kustomization."""
    kubectl = binaries.beside_python("kubectl")
    assert kubectl is not None, "the extra `demo` brings kubectl along"
    done = subprocess.run(
        [str(kubectl), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return tuple(item for item in yaml.safe_load_all(done.stdout) if item)


def overlaid(folder: str, block_name: str, tmp_path: Path, **beside: str) -> tuple[Json, ...]:
    """The same of an overlay that `docs/kubernetes.md` prints over `manifests/<folder>`.

    `beside`: files without their `.yaml`, by the blocks that have them.
    """
    shown = f".../manifests/{folder}"
    printed = block(block_name, "kubernetes.md")
    assert shown in printed
    place = os.path.relpath(MANIFESTS / folder, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(printed.replace(shown, place), encoding="utf-8")
    for name, other in beside.items():
        text = block(other, "kubernetes.md")
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return rendered(tmp_path)


def of_kind(objects: tuple[Json, ...], *kinds: str) -> list[Json]:
    """The objects of these kinds."""
    return [item for item in objects if item["kind"] in kinds]


def key(item: Json) -> tuple[str, str, str, str]:
    """What tells one object from all others."""
    meta = item["metadata"]
    return item["apiVersion"], item["kind"], meta.get("namespace", ""), meta["name"]


def pod_specs(objects: tuple[Json, ...]) -> Iterator[Json]:
    """The pod spec of every workload."""
    for item in of_kind(objects, "Deployment"):
        yield item["spec"]["template"]["spec"]


def own_containers(spec: Json) -> list[Json]:
    """Containers that run Switchgear."""
    every = [*(spec.get("initContainers") or ()), *spec["containers"]]
    return [item for item in every if item["name"] == "switchgear"]


def rules_of(objects: tuple[Json, ...], name: str) -> list[Json]:
    """The rules of every Role and ClusterRole of that name."""
    roles = of_kind(objects, "Role", "ClusterRole")
    return [rule for role in roles if role["metadata"]["name"] == name for rule in role["rules"]]


def pairs_of(rules: list[Json]) -> set[tuple[str, str]]:
    """Group and resource, as RBAC counts them."""
    return {
        (group, name) for rule in rules for group in rule["apiGroups"] for name in rule["resources"]
    }


def rights_of(rules: list[Json]) -> set[Right]:
    """Every single right in these rules."""
    return {
        (group, resource, verb, name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }
