# SPDX-License-Identifier: Apache-2.0
"""The demo on a cluster that is not its own: told well, and nothing of it is left."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controller.demo.existing import NAME
from tests.cluster.conftest import Lab, Space
from tests.cluster.lab.application import until
from tests.support.realtime import Daemon

IMAGE = "registry.example/switchgear:demo"

RATE = "100"
"""Requests per second: enough for the stories, and other tests run beside this one."""

STORY_SECONDS = 300.0

# Whole stories in real time, each with its namespace made and removed.
pytestmark = pytest.mark.timeout(400)

WATCHED = (
    "namespaces",
    "gatewayclasses.gateway.networking.k8s.io",
    "gateways.gateway.networking.k8s.io",
    "httproutes.gateway.networking.k8s.io",
    "deployments",
    "services",
    "configmaps",
    "leases",
    "clusterroles",
    "clusterrolebindings",
    "customresourcedefinitions",
)


@contextlib.asynccontextmanager
async def demo(
    lab: Lab, *arguments: str | Path, gateway: str = "traefik"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The demo as a process, as a user of this cluster would start it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controller", "demo", "--on-cluster"),
        *("--kubeconfig", lab.cluster.kubeconfig),
        *("--gateway", f"lab/{gateway}"),
        *("--gateway-address", getattr(lab, gateway)),
        *("--prometheus", lab.prometheus_url),
        *("--image", IMAGE),
        *("--rate", RATE),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def standing(lab: Lab) -> set[str]:
    """Kind, namespace and name of everything in the cluster that a demo might touch."""
    listed = json.loads(lab.cluster.kubectl("get", ",".join(WATCHED), "-A", "-o", "json"))
    metas = [(item["kind"], item["metadata"]) for item in listed["items"]]
    # Other tests' namespaces may still be going, and what is in them goes one by one.
    left = [(kind, meta) for kind, meta in metas if "deletionTimestamp" not in meta]
    spaces = {""} | {meta["name"] for kind, meta in left if kind == "Namespace"}
    return {
        f"{kind} {meta.get('namespace', '')}/{meta['name']}"
        for kind, meta in left
        if meta.get("namespace", "") in spaces
    }


def spaces(lab: Lab) -> list[str]:
    """Namespaces of demos."""
    names = lab.cluster.kubectl("get", "namespaces", "-o", "name").split()
    return [name for name in names if name.startswith(f"namespace/{NAME}")]


@pytest.mark.parametrize(
    ("name", "gateway"),
    [
        ("good", "traefik"),
        ("slow", "envoy"),
        pytest.param("errors", "traefik", marks=pytest.mark.deep),
        ("crash-loop", "traefik"),
        pytest.param("kill", "traefik", marks=pytest.mark.deep),
        pytest.param("no-traffic", "traefik", marks=pytest.mark.deep),
    ],
)
async def test_the_story_is_told_well_and_leaves_nothing(
    lab: Lab, name: str, gateway: str, tmp_path: Path
) -> None:
    address = getattr(lab, gateway)  # Envoy is started, with its Gateway, when it is asked for.
    assert address
    before = standing(lab)
    file = tmp_path / "report.json"
    async with demo(lab, "--story", name, "--report", file, gateway=gateway) as process:
        async with asyncio.timeout(STORY_SECONDS):
            output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    assert "https://127.0.0.1:6443" in text
    assert "through the gateway only" in text
    story: dict[str, Any]
    (story,) = json.loads(file.read_text(encoding="utf-8"))["stories"]
    assert story["outcome"] == story["expected"]
    assert story["problems"] == []
    assert story["failed_by_shifting"] == 0
    assert story["past_the_gateway"] is False
    assert story["requests"] > (20 if name == "no-traffic" else 500)
    if name in {"errors", "slow"}:
        assert story["visible_to_zero_seconds"] > 0
        assert story["bad_responses"] > 0
    if name == "crash-loop":
        assert "is crash-looping" in story["why"]
        assert story["bad_responses"] == 0
    if name == "no-traffic":
        assert "of 50 requests" in story["why"]
    if name == "kill":
        assert story["kill_to_zero_seconds"] > 0
    assert spaces(lab) == []
    assert standing(lab) == before


async def test_ctrl_c_in_mid_run_leaves_nothing(lab: Lab) -> None:
    before = standing(lab)
    async with demo(lab, "--story", "good") as process:
        assert process.stdout is not None
        async with asyncio.timeout(STORY_SECONDS):
            # A weight is on the route of the demo, and the Deployment is held.
            while b"weight 5 %" not in (line := await process.stdout.readline()):
                assert line, "the demo ended by itself"
            assert len(spaces(lab)) == 1
            process.send_signal(signal.SIGINT)
            await process.communicate()
    assert process.returncode == 130
    assert spaces(lab) == []
    assert standing(lab) == before


async def test_a_namespace_of_the_same_label_is_nobodys_business(lab: Lab) -> None:
    label = "app.kubernetes.io/managed-by=switchgear-demo"
    lab.cluster.kubectl("create", "namespace", "someone-elses-demo")
    lab.cluster.kubectl("label", "namespace", "someone-elses-demo", label)
    try:
        async with demo(lab, "--story", "errors") as process:
            assert process.stdout is not None
            told = b""
            async with asyncio.timeout(STORY_SECONDS):
                while b"errors:" not in (line := await process.stdout.readline()):
                    assert line, told.decode()
                    told += line
                process.send_signal(signal.SIGTERM)
                await process.communicate()
        assert b"someone-elses-demo" in told
        assert spaces(lab) == []
        lab.cluster.kubectl("get", "namespace", "someone-elses-demo")
    finally:
        lab.cluster.kubectl("delete", "namespace", "someone-elses-demo", "--wait=false")


async def test_a_cluster_whose_own_controller_takes_the_target_is_refused(
    lab: Lab, space: Space, tmp_path: Path
) -> None:
    everywhere = Daemon(
        folder=tmp_path,
        kubeconfig=lab.cluster.kubeconfig,
        prometheus=lab.prometheus_url,
        options=(f"--controller-namespace={space.system}",),
    )
    try:
        await everywhere.start()
        await everywhere.answers("/readyz", within=60.0)
        async with demo(lab, "--story", "good") as process:
            async with asyncio.timeout(STORY_SECONDS):
                output, _ = await process.communicate()
    finally:
        await everywhere.close()
    assert process.returncode == 1, output.decode()
    assert b"another Switchgear controller" in output
    assert spaces(lab) == []


async def test_all_that_is_missing_is_told_at_once(lab: Lab) -> None:
    nobody = lab.cluster.kubeconfig_for("nobody-in-particular")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controller", "demo"),
        *("--kubeconfig", nobody),
        *("--prometheus", "http://127.0.0.1:1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 1, text
    for missing in (
        "--image NAME",
        "--prometheus http://127.0.0.1:1",
        "Gateways cannot be read",
        "your user may not create namespaces",
    ):
        assert missing in text

    async def clean() -> bool:
        return spaces(lab) == []

    await until(clean, 5.0)
