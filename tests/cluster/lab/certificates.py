# SPDX-License-Identifier: Apache-2.0
"""Certificates and kubeconfigs, signed by the lab's own authority."""

import json
from pathlib import Path

from tests.cluster.lab import toolchain
from tests.cluster.lab.api import SERVER

SIGN_SECONDS = 30.0
ADDRESSES = ("localhost", "kubernetes.default.svc", "127.0.0.1", "10.77.0.1", "10.96.0.1")
"""Where the API server and whatever is aggregated with it are reached."""


def make(controlplane: Path, folder: Path) -> None:
    """The authority and what the lab's own parts need."""
    folder.mkdir(parents=True, exist_ok=True)
    toolchain.run(controlplane, "pki", folder, seconds=SIGN_SECONDS)
    servers = [f"@{address}" for address in ADDRESSES]
    sign(controlplane, folder, "apiserver", "kube-apiserver", *servers)
    sign(controlplane, folder, "aggregator", "aggregator")
    sign(controlplane, folder, "controllers", "system:kube-controller-manager")
    sign(controlplane, folder, "admin", "admin", "system:masters")
    for name in ("admin", "controllers"):
        kubeconfig(folder, name)


def sign(controlplane: Path, folder: Path, name: str, user: str, *more: str) -> None:
    """`name.crt` and `name.key` for a user, with its groups and `@addresses`."""
    toolchain.run(controlplane, "certificate", folder, name, user, *more, seconds=SIGN_SECONDS)


def kubeconfig(folder: Path, name: str, *, token: str = "") -> Path:
    """`name.kubeconfig` with the certificate of that name, or with a token instead."""
    user = (
        {"token": token}
        if token
        else {
            "client-certificate": str(folder / f"{name}.crt"),
            "client-key": str(folder / f"{name}.key"),
        }
    )
    cluster = {"server": SERVER, "certificate-authority": str(folder / "ca.crt")}
    path = folder / f"{name}.kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": name}}],
        "current-context": "lab",
    }
    # JSON is YAML, and needs no library that is slow to load.
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
