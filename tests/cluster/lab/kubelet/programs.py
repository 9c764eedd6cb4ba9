# SPDX-License-Identifier: Apache-2.0
"""What an image's name stands for: a program of this machine, or none.

The last part of the name decides, its tag is the version. `pause` has no process at all, `python`,
`kubectl` and `switchgear` run what they are called after, and everything else is the application.
A tag that begins with `missing` is one that no registry has.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.demo import binaries, workload
from tests.cluster.lab.api import Object

ROOT = Path(__file__).resolve().parents[4]


class NoSuchImage(Exception):
    """The image cannot be pulled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How a container is run."""

    command: tuple[str, ...]
    """Empty where nothing runs."""
    env: Mapping[str, str]
    files: bool
    """Whether it reads the pod's volumes; whoever does not is started without mounting them."""


def name_and_tag(image: str) -> tuple[str, str]:
    """`registry.example/app:v2` is `app` at `v2`."""
    name, _, tag = image.rpartition("/")[2].partition("@")[0].partition(":")
    return name, tag or "latest"


def program(container: Object) -> Program:
    """What to run for a container; raises NoSuchImage."""
    name, tag = name_and_tag(container["image"])
    if tag.startswith("missing"):
        raise NoSuchImage(container["image"])
    given = (*container.get("command", ()), *container.get("args", ()))
    if name == "pause":
        return Program(command=(), env={}, files=False)
    if name in _TOOLS:
        entry = () if container.get("command") else _TOOLS[name]
        return Program(command=(*entry, *map(str, given)), env={}, files=True)
    # Nothing but the standard library is imported, so that it starts in a twentieth of a second.
    command = (sys.executable, "-I", "-S", workload.__file__)
    return Program(command=command, env={"VERSION": tag}, files=False)


def _tools() -> Mapping[str, Sequence[str]]:
    kubectl = binaries.beside_python("kubectl")
    return {
        "switchgear": (sys.executable, "-m", "controller"),
        "python": (sys.executable,),
        "kubectl": (str(kubectl or "kubectl"),),
    }


_TOOLS = _tools()


def surroundings() -> dict[str, str]:
    """The environment that every container has, whatever its manifest says."""
    return {
        # Programs of this environment come first: `command: [switchgear, run]` finds ours.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        # Nothing translates addresses of Services, so the port is the server's own.
        "KUBERNETES_SERVICE_PORT": "6443",
    }
