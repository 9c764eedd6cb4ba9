# SPDX-License-Identifier: Apache-2.0
"""The controller as pods of the lab: installed by the commands that `docs/kubernetes.md` prints.

They are typed in a copy of `manifests/` that differs in two words: the lab resolves no names of
Services, and all its pods share one network.
"""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster.installed import SYSTEM, obeyed, taken_off
from tests.cluster.lab import build
from tests.cluster.lab.application import until
from tests.cluster.lab.worker import Cluster, Refusal
from tests.cluster.pipelines import helm
from tests.manifests.rendered import MANIFESTS, kustomized
from tests.support.runbook import block, typed

Object = dict[str, Any]

PAGE: Final = "kubernetes.md"
IMAGE: Final = "registry.example/switchgear"
"""What the page itself takes for an example, and the lab's kubelet for this checkout."""

PROMETHEUS: Final = "http://prometheus.monitoring:9090"
READY_SECONDS: Final = 60.0
TYPING_SECONDS: Final = 120.0


def pods(cluster: Cluster) -> list[Object]:
    """The pods of the controller's namespace."""
    told = cluster.kubectl("get", "pods", "-n", SYSTEM, "-o", "json")
    return list(json.loads(told)["items"])


def log(cluster: Cluster) -> str:
    """What the pods of the controller said last."""
    return cluster.pod_log(SYSTEM, "switchgear-*")


def leader(cluster: Cluster) -> str:
    """Name of the pod that leads, or nothing."""
    try:
        told = cluster.kubectl("get", "lease", "switchgear", "-n", SYSTEM, "-o", "json")
    except Refusal:
        return ""
    holder = json.loads(told)["spec"].get("holderIdentity") or ""
    return str(holder).rpartition("_")[0]


async def available(cluster: Cluster, replicas: int = 2, within: float = READY_SECONDS) -> None:
    """Wait until so many replicas of the controller are available."""

    async def look() -> bool:
        told = cluster.kubectl("get", "deployment", "switchgear", "-n", SYSTEM, "-o", "json")
        return bool(json.loads(told)["status"].get("availableReplicas") == replicas)

    await until(look, within, lambda: f"{replicas} replicas are available: {log(cluster)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """Where an administrator types what the page prints."""

    cluster: Cluster
    folder: Path
    programs: Path

    async def types(self, name: str) -> None:
        """A block of the page, which must succeed to its last command."""
        commands = block(name, PAGE).replace(PROMETHEUS, self.cluster.prometheus_url)
        await typed(
            commands,
            self.cluster.kubeconfig,
            {"IMAGE": IMAGE},
            TYPING_SECONDS,
            folder=self.folder,
            programs=self.programs,
        )


def _checkout(cluster: Cluster, folder: Path) -> Checkout:
    checkout, programs = folder / "checkout", folder / "programs"
    shutil.copytree(MANIFESTS, checkout / "manifests", symlinks=True)
    for name in ("base/deployment.yaml", "chart/values.yaml"):
        path = checkout / "manifests" / name
        text = path.read_text(encoding="utf-8")
        text = text.replace(PROMETHEUS, cluster.prometheus_url)
        path.write_text(text.replace("0.0.0.0:8340", "$(POD_IP):8340"), encoding="utf-8")
    programs.mkdir()
    (programs / "helm").symlink_to(build.programs(make=False).helm)
    return Checkout(cluster=cluster, folder=checkout, programs=programs)


@contextlib.asynccontextmanager
async def printed(cluster: Cluster, folder: Path, block_name: str) -> AsyncIterator[Checkout]:
    """Install by a block of the page, and wait until both replicas are there and one leads.

    The token is made by its own, and what the page then has looked at is there. Whatever is left of
    it is taken off afterwards.
    """
    found = _checkout(cluster, folder)
    await _nothing(cluster)
    try:
        await found.types(block_name)
        await found.types("doors")
        await available(cluster)
        await obeyed(cluster, mutating=True)
        await until(lambda: _led(cluster), READY_SECONDS, lambda: log(cluster))
        await found.types("check")
        yield found
    finally:
        await _nothing(cluster)


async def _led(cluster: Cluster) -> bool:
    return leader(cluster) in {pod["metadata"]["name"] for pod in pods(cluster)}


async def _nothing(cluster: Cluster) -> None:
    """Nothing of ours is there, however it came; the lab itself begins with the namespace."""
    gone = ("uninstall", "switchgear", "--ignore-not-found", f"--namespace={SYSTEM}")
    await asyncio.to_thread(helm, cluster, *gone)
    await taken_off(cluster, kustomized("overlays/central"))
