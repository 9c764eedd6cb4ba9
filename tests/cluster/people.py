# SPDX-License-Identifier: Apache-2.0
"""People who write to an adopted Deployment: a developer, and one who holds our verbs as well."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.installed import Installed
from tests.cluster.lab.application import App, until
from tests.cluster.lab.worker import Cluster
from tests.support.realtime import ROOT

Object = dict[str, Any]
P = "switchgear.dev/"
V2 = "registry.example/app:v2"


@dataclass(slots=True, kw_only=True)
class Desk:
    """One adopted Deployment and the people around it."""

    app: App
    gate: Installed
    alice: Path
    """A developer: `edit` in the namespace and the right to write routes."""
    bob: Path
    """A developer who also holds the verbs `release` and `override`."""

    def kubectl(self, *args: str, stdin: str = "", user: Path | None = None) -> str:
        return self.gate.cluster.kubectl(
            "-n", self.app.namespace, *args, stdin=stdin, kubeconfig=user or self.alice
        )

    def get(self, kind: str = "deployment", name: str = "checkout") -> Object:
        found: Object = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def notes(self, kind: str = "deployment", name: str = "checkout") -> dict[str, str]:
        annotations = self.get(kind, name)["metadata"].get("annotations") or {}
        return {key.removeprefix(P): text for key, text in annotations.items() if P in key}

    def patch(self, body: Object | list[Object], *, user: Path | None = None, **more: str) -> str:
        kind, name = more.get("kind", "deployment"), more.get("name", "checkout")
        form = more.get("form", "json" if isinstance(body, list) else "merge")
        extra = (f"--subresource={more['sub']}",) if "sub" in more else ()
        return self.kubectl(
            "patch", kind, name, f"--type={form}", "-p", json.dumps(body), *extra, user=user
        )

    def as_controller(self, body: Object, kind: str = "deployment", name: str = "checkout") -> None:
        self.patch(body, user=self.gate.controller, kind=kind, name=name)

    async def seen(self) -> None:
        """The Deployment's controller has acted on what stands there now."""

        async def look() -> bool:
            found = await self.app.read("deployments")
            seen: int = found.get("status", {}).get("observedGeneration", 0)
            return bool(seen >= found["metadata"]["generation"])

        await until(look, 20.0, "the Deployment's controller has seen it")

    def sets(self) -> int:
        found = json.loads(self.kubectl("get", "replicasets", "-o", "json"))
        return len(found["items"])


def enter(cluster: Cluster, namespace: str) -> tuple[Path, Path]:
    """Give alice and bob their rights in a namespace; returns their kubeconfigs."""
    people = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "routes"},
            "rules": [
                {
                    "apiGroups": ["gateway.networking.k8s.io"],
                    "resources": ["httproutes"],
                    "verbs": ["get", "list", "create", "update", "patch", "delete"],
                },
                # What `edit` does not have: a way to annotations past the Deployment itself.
                {
                    "apiGroups": ["apps"],
                    "resources": ["deployments/status"],
                    "verbs": ["get", "update", "patch"],
                },
            ],
        },
        _binding("edit", "ClusterRole", "alice", "bob"),
        _binding("routes", "Role", "alice", "bob"),
        _binding("switchgear-releaser", "ClusterRole", "bob"),
    ]
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump_all(people))
    groups = ("devs",)
    return cluster.kubeconfig_for("alice", groups), cluster.kubeconfig_for("bob", groups)


async def adopted(gate: Installed, app: App) -> Desk:
    """Deploy the application, give people their rights, and mark it as the controller does."""
    await app.start(replicas=1, annotations={"policy": "fast"})
    alice, bob = enter(gate.cluster, app.namespace)
    found = Desk(app=app, gate=gate, alice=alice, bob=bob)
    gate.adopt(app, found.get()["metadata"]["uid"])
    return found


def _binding(role: str, kind: str, *users: str) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
            for user in users
        ],
    }


async def killed_by(kubeconfig: Path, namespace: str) -> tuple[int, str]:
    """`switchgear kill` past the daemon, whose documents are there: exit status and words."""
    return await asked_by(kubeconfig, namespace, "kill")


async def asked_by(kubeconfig: Path, namespace: str, *command: str) -> tuple[int, str]:
    """The same of any command that goes straight to the API server."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controller", *command),
        f"--kubeconfig={kubeconfig}",
        f"--controller-namespace={namespace}",
        cwd=ROOT,
        env={**os.environ, "HOME": str(kubeconfig.parent)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 120.0)
    assert process.returncode is not None
    return process.returncode, said.decode()


def template(image: str) -> Object:
    return {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}}


def of_git(desk: Desk, image: str, **spec: Any) -> str:
    """The manifest as the team has it, with another image."""
    found = desk.get()
    meta = found["metadata"]
    kept = {key: meta[key] for key in ("name", "namespace")}
    template = json.loads(json.dumps(found["spec"]["template"]))
    template["spec"]["containers"][0]["image"] = image
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**kept, "annotations": {P + "policy": "fast"}},
        "spec": {
            "replicas": 1,
            "selector": found["spec"]["selector"],
            "template": template,
            **spec,
        },
    }
    return yaml.safe_dump(body)
