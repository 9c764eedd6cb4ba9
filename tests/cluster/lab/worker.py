# SPDX-License-Identifier: Apache-2.0
"""One lab per test worker: the worker moves into a network of its own, and starts it there."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.lab import build, certificates, network

GARBAGE_PERCENT = 400
"""How much of its memory a program in Go may fill with garbage before it collects it. Their own 100
is for machines with more cores than memory; in tests it is the cores that are scarce."""

STOP_SECONDS = 30.0
KUBECTL_SECONDS = 90.0


class Refusal(Exception):
    """kubectl did not do it; the message is what it said."""


@dataclass(slots=True, kw_only=True)
class Cluster:
    """Where everything of a running lab is."""

    folder: Path
    seconds: float
    """How long it took to start."""
    kubeconfig: Path
    """Of an administrator."""
    controlplane: Path
    kubectl_program: Path
    prometheus_url: str
    traefik: str
    """Address of Traefik as `host:port`."""
    pids: dict[str, int]
    """Of the lab's own parts."""
    process: subprocess.Popen[bytes]
    _made: set[str] = field(default_factory=set)
    _envoy: str = ""

    @property
    def pki(self) -> Path:
        """Folder of certificates and kubeconfigs."""
        return self.folder / "pki"

    @property
    def envoy(self) -> str:
        """Address of Envoy, which is started with Contour when it is first asked for."""
        if not self._envoy:
            assert self.process.stdin is not None
            self.process.stdin.write(b"envoy\n")
            self.process.stdin.flush()
            self._envoy = str(_read(self.process, self.folder)["envoy"])
        return self._envoy

    def kubectl(self, *args: str | Path, stdin: str = "", kubeconfig: Path | None = None) -> str:
        """Run kubectl and return what it wrote; raises Refusal with its complaint."""
        done = subprocess.run(
            [
                self.kubectl_program,
                f"--kubeconfig={kubeconfig or self.kubeconfig}",
                f"--cache-dir={self.folder / 'kubectl'}",
                *args,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            check=False,
            env=_environment(),
        )
        if done.returncode:
            raise Refusal(f"kubectl {' '.join(map(str, args))}: {done.stderr.strip()}")
        return done.stdout

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """The kubeconfig of a person, known by a client certificate."""
        name = "-".join(("user", user, *groups)).replace(":", "_").replace("/", "_")
        if name not in self._made:
            certificates.sign(self.controlplane, self.pki, name, user, *groups)
            certificates.kubeconfig(self.pki, name)
            self._made.add(name)
        return self.pki / f"{name}.kubeconfig"

    def kubeconfig_for_service_account(self, namespace: str, name: str, copy: str = "") -> Path:
        """The kubeconfig of a service account that is there, with a fresh token.

        `copy`: a second file beside that of the same account.
        """
        token = self.kubectl("create", "token", name, "-n", namespace, "--duration=8h").strip()
        return certificates.kubeconfig(self.pki, f"account-{namespace}-{name}{copy}", token=token)

    def audited(
        self, wanted: Callable[[dict[str, Any]], bool], *, since: str = "", user: str = ""
    ) -> list[dict[str, Any]]:
        """The events that match, of requests received since a time in RFC 3339, oldest first.

        `user`: of this one alone. The log is long, and what others did is not parsed.
        """
        mark = f'"username":"{user}"' if user else ""
        with (self.folder / "audit.log").open(encoding="utf-8") as lines:
            # The last line may be half written.
            found = [json.loads(line) for line in lines if mark in line and line.endswith("\n")]
        return [
            event
            for event in found
            if event["requestReceivedTimestamp"] >= since
            and user in {"", event["user"].get("username")}
            and wanted(event)
        ]

    def pod_log(self, namespace: str, name: str) -> str:
        """What the containers of a pod said, those of earlier pods of that name included."""
        found = sorted((self.folder / "pods").glob(f"{namespace}_{name}_*/*.log"))
        texts = (path.read_text(encoding="utf-8", errors="replace") for path in found)
        return "".join(
            f"--- {path.name}\n{text[-3000:]}" for path, text in zip(found, texts, strict=True)
        )

    def log(self, part: str) -> str:
        """The end of a part's log."""
        path = self.folder / f"{part}.log"
        return path.read_text(encoding="utf-8", errors="replace")[-4000:]


def _environment() -> dict[str, str]:
    return {"GOGC": str(GARBAGE_PERCENT), **os.environ}


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Enter a network and start a lab in it; raises toolchain.Unavailable where that cannot be.

    The calling thread stays in that network for good.
    """
    build.programs(make=False)
    network.enter()
    with started(folder, emulates=os.environ.get("LAB_EMULATES", "")) as found:
        yield found


@contextlib.contextmanager
def started(folder: Path, *, emulates: str = "") -> Iterator[Cluster]:
    """A lab as a process, in the network in which the calling thread is.

    `emulates` is an older minor version of Kubernetes, down to three before the lab's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            (
                *(sys.executable, "-m", "tests.cluster.lab", "up", "--here"),
                *(f"--emulates={emulates}", str(folder)),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env=_environment(),
        )
    with process:
        try:
            found = _read(process, folder)
            paths = ("folder", "kubeconfig", "controlplane", "kubectl_program")
            found |= {name: Path(found[name]) for name in paths}
            yield Cluster(process=process, **found)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _read(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """The next line that the lab says; raises RuntimeError if it ended instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        message = (folder / "lab.log").read_text(encoding="utf-8")
        raise RuntimeError(f"the lab ended:\n{message}")
    found: dict[str, Any] = json.loads(line)
    return found
