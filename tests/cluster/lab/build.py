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
from typing import Any

import yaml

from controller.demo import binaries
from controller.demo.errors import DemoError
from tests.cluster.lab import pins, toolchain
from tests.cluster.lab.toolchain import Unavailable

_GATEWAY_FILES = "gateway.networking.k8s.io_*.yaml"
_SERVED_AS_WELL = {"BackendTLSPolicy": "v1alpha3", "TLSRoute": "v1alpha2"}
"""Versions that Contour asks for, and that the standard channel has but does not serve."""

SOURCE = Path(__file__).with_name("controlplane")


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Where everything is."""

    controlplane: Path
    kubectl: Path
    traefik: Path
    prometheus: Path
    contour: Path
    envoy: Path
    helm: Path
    crds: Path
    """The CRDs of the Gateway API and of Contour as one JSON list."""
    operator: Path
    """Likewise those of the Prometheus Operator that the monitoring manifests use."""


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
        "operator": lambda: _operator(make=make),
        "contour": lambda: _contour(make=make),
        "envoy": lambda: _envoy(make=make),
        "helm": lambda: _helm(make=make),
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
def _locked(output: Path) -> Iterator[None]:
    """Only one process at a time makes `output`; the others then find it made."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.with_name(f".{output.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _once(output: Path, *, make: bool, how: Callable[[], None]) -> Path:
    """`output`, which `how` makes unless it is there already."""
    if not output.exists():
        if not make:
            raise Unavailable("not built yet; `make test-cluster` builds it")
        with _locked(output):
            if not output.exists():
                how()
    return output


def controlplane() -> Path:
    """Where the control plane is once it is built."""
    digest = hashlib.sha256()
    for path in sorted(SOURCE.glob("*")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return toolchain.cache() / f"controlplane-{pins.KUBERNETES}-{digest.hexdigest()[:12]}"


def definitions() -> Path:
    """Where the CRDs of the Gateway API and of Contour are once they are fetched."""
    return toolchain.cache() / f"definitions-{pins.GATEWAY_API[1]}-{pins.CONTOUR[1]}.json"


def _controlplane(*, make: bool) -> Path:
    output = controlplane()
    stamp = "k8s.io/component-base/version."
    flags = (
        f"-s -w -X {stamp}gitVersion=v{pins.KUBERNETES} "
        f"-X {stamp}gitMajor=1 -X {stamp}gitMinor={pins.KUBERNETES.split('.')[1]}"
    )

    def build() -> None:
        toolchain.build(toolchain.go(), SOURCE, ".", output, flags=flags)

    return _once(output, make=make, how=build)


def _contour(*, make: bool) -> Path:
    output = toolchain.cache() / f"contour-{pins.CONTOUR[1]}"

    def build() -> None:
        go = toolchain.go()
        source = Path(toolchain.module(go, *pins.CONTOUR)["Dir"])
        toolchain.build(go, source, "./cmd/contour", output, flags="-s -w")

    # Only tests with Envoy need it, and they say so themselves when it is not there.
    return _once(output, make=make, how=build) if make else output


def _helm(*, make: bool) -> Path:
    output = toolchain.cache() / f"helm-{pins.HELM[1]}"

    def build() -> None:
        go = toolchain.go()
        source = Path(toolchain.module(go, *pins.HELM)["Dir"])
        toolchain.build(go, source, "./cmd/helm", output, flags="-s -w")

    # Only the test of the chart needs it.
    return _once(output, make=make, how=build) if make else output


def _envoy(*, make: bool) -> Path:
    folder = toolchain.wheel_folder(pins.ENVOY_WHEEL)

    def build() -> None:
        toolchain.install(pins.ENVOY_WHEEL)

    if make:
        _once(folder / "complete", make=make, how=build)
    return folder / "bin" / "envoy"


def _crds(*, make: bool) -> Path:
    output = definitions()

    def build() -> None:
        go = toolchain.go()
        gateway = Path(toolchain.module(go, *pins.GATEWAY_API)["Dir"]) / "config" / "crd"
        contour = Path(toolchain.module(go, *pins.CONTOUR)["Dir"]) / "examples" / "contour"
        # What most clusters have; besides it the kinds that only Contour asks for.
        chosen = {path.name: path for path in (gateway / "experimental").glob(_GATEWAY_FILES)}
        chosen |= {path.name: path for path in (gateway / "standard").glob(_GATEWAY_FILES)}
        _write(output, _kinds([*chosen.values(), contour / "01-crds.yaml"]))

    return _once(output, make=make, how=build)


def _operator(*, make: bool) -> Path:
    output = toolchain.cache() / f"monitoring-{pins.OPERATOR[1]}.json"

    def build() -> None:
        source = Path(toolchain.module(toolchain.go(), *pins.OPERATOR)["Dir"])
        folder = source / "example" / "prometheus-operator-crd"
        kinds = ("podmonitors", "prometheusrules")
        _write(output, _kinds([folder / f"monitoring.coreos.com_{name}.yaml" for name in kinds]))

    # Only the tests of the monitoring manifests need it.
    return _once(output, make=make, how=build) if make else output


def _write(output: Path, kinds: list[dict[str, Any]]) -> None:
    part = output.with_suffix(".part")
    part.write_text(json.dumps(kinds), encoding="utf-8")
    part.rename(output)


def _kinds(files: list[Path]) -> list[dict[str, Any]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = [
        document
        for path in files
        for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=loader)
        if document and document["kind"] == "CustomResourceDefinition"
    ]
    for crd in found:
        for version in crd["spec"]["versions"]:
            if _SERVED_AS_WELL.get(crd["spec"]["names"]["kind"]) == version["name"]:
                version["served"] = True
    return found
