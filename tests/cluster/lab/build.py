# SPDX-License-Identifier: Apache-2.0
"""Everything that the lab runs and that is not ours, made once and kept in the user's cache.

Names in the cache contain versions and a hash of our own sources, so that a change of either makes
a new one beside the old, and two checkouts never disturb each other.
"""

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from controller.demo import binaries
from controller.demo.errors import DemoError
from tests.cluster.lab import pins, toolchain
from tests.cluster.lab.toolchain import Unavailable

SOURCE = Path(__file__).with_name("controlplane")


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Where everything is."""

    controlplane: Path
    kubectl: Path
    traefik: Path
    prometheus: Path
    crds: Path
    """The CRDs of the Gateway API as one JSON list."""


def programs(*, make: bool) -> Programs:
    """Find everything, and with `make` build or fetch what is missing.

    Raises Unavailable with all that is missing at once. Without `make` nothing is downloaded, so
    that it works where no network can be reached.
    """
    missing: list[str] = []
    found: dict[str, Path] = {}
    steps: dict[str, Callable[[], Path]] = {
        "controlplane": lambda: _controlplane(make=make),
        "crds": lambda: _crds(make=make),
        "prometheus": binaries.find_prometheus,
        "traefik": lambda: _wheel("traefik"),
        "kubectl": lambda: _wheel("kubectl"),
    }
    for name, step in steps.items():
        try:
            found[name] = step()
        except (Unavailable, DemoError) as error:
            missing.append(f"{name}: {error}")
    if missing:
        raise Unavailable("\n".join(missing))
    return Programs(**found)


def _wheel(name: str) -> Path:
    program = binaries.beside_python(name)
    if program is None:
        raise Unavailable("neither in this environment nor on PATH; `make venv` installs it")
    return program


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Only one process at a time builds; the others then find it made."""
    folder = toolchain.cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _controlplane(*, make: bool) -> Path:
    digest = hashlib.sha256()
    for path in sorted(SOURCE.glob("*")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    name = f"controlplane-{pins.KUBERNETES}-{digest.hexdigest()[:12]}"
    output = toolchain.cache() / name
    if output.exists():
        return output
    _refuse_unless(make)
    with _locked():
        if not output.exists():
            _, minor, _ = pins.KUBERNETES.split(".")
            stamp = "k8s.io/component-base/version."
            flags = (
                f"-s -w -X {stamp}gitVersion=v{pins.KUBERNETES} "
                f"-X {stamp}gitMajor=1 -X {stamp}gitMinor={minor}"
            )
            toolchain.build(toolchain.go(), SOURCE, ".", output, flags=flags)
    return output


def _crds(*, make: bool) -> Path:
    module, version = pins.GATEWAY_API
    output = toolchain.cache() / f"gateway-api-{version}.json"
    if output.exists():
        return output
    _refuse_unless(make)
    with _locked():
        if not output.exists():
            folder = Path(toolchain.module(toolchain.go(), module, version)["Dir"])
            part = output.with_suffix(".part")
            part.write_text(json.dumps(_kinds(folder / "config" / "crd")), encoding="utf-8")
            part.rename(output)
    return output


def _kinds(folder: Path) -> list[object]:
    """The CRDs of the experimental channel, which has everything of the standard one."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [
        document
        for path in sorted((folder / "experimental").glob("gateway.networking.k8s.io_*.yaml"))
        for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=loader)
        if document and document["kind"] == "CustomResourceDefinition"
    ]


def _refuse_unless(make: bool) -> None:
    if not make:
        raise Unavailable("not built yet; `make test-cluster` builds it")
