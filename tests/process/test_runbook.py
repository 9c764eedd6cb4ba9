# SPDX-License-Identifier: Apache-2.0
"""The way back by hand, typed exactly as `docs/runbook.md` prints it, with a real kubectl.

Nobody tries these commands before the night in which they are needed, so they are tried here.
"""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from controller.engine.observe import Bounds
from controller.sim.apiserver.serve import serving
from controller.sim.world import World
from tests.engine.house import House
from tests.support.realtime import ROOT, configured, real_world, until

pytestmark = pytest.mark.slow

POLICY = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/steps": "5@1s",
    "switchgear.dev/bake": "1s",
}
QUICK = Bounds(settle_seconds=0.6, drain_seconds=0.2, ready_seconds=20.0, roll_seconds=30.0)
NAMES = {"NS": "shop", "D": "checkout", "S": "checkout", "R": "checkout", "APP": "app=checkout"}
LATCH = "kubectl create configmap switchgear-kill -n switchgear --from-literal=all=by-hand"


def block(name: str) -> str:
    """A block of commands of the runbook."""
    text = (ROOT / "docs" / "runbook.md").read_text()
    found = re.search(rf"<!-- tested: {name} -->\n```bash\n(.*?)```", text, re.DOTALL)
    assert found is not None
    assert LATCH in text
    return found.group(1)


async def typed(commands: str, kubeconfig: Path) -> None:
    """Type commands into a shell."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert shutil.which("kubectl", path=path), "kubectl comes with the extra `demo`"
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", commands,
        env={**NAMES, "PATH": path, "KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 60.0)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()


async def _stopped_in(world: World, phase: str) -> House:
    """A rollout whose controller is gone for good in this phase."""
    await world.shop(rate=2000.0, direct_rate=50.0, annotations=POLICY, replicas=2)
    house = House(world, QUICK)
    await house.start()
    try:
        await until(
            lambda: (
                "switchgear.dev/managed"
                in world.get("deployments", "shop", "checkout")["metadata"]["annotations"]
            ),
            20.0,
        )
        world.set_image("shop", "checkout", "registry.example/app:v2")
        await house.reaches(phase, within=40.0)
        if phase == "Rolling":
            await until(
                lambda: not world.get("deployments", "shop", "checkout")["spec"].get("paused"), 10.0
            )
    finally:
        await house.stop()
    if phase == "Rolling":
        # The worst case: the roll goes on by itself, and no stable pod is left.
        await until(lambda: world.ready_pods("v1") == 0, 10.0)
    return house


async def _back(phase: str, name: str, folder: Path) -> None:
    async with real_world() as world, serving(world.api) as url:
        kubeconfig = configured(folder, url)
        house = await _stopped_in(world, phase)
        await typed(f"{LATCH}\n{block(name)}", kubeconfig)
        assert world.weights("checkout") == {"checkout": 1, "checkout-canary": 0}
        await until(lambda: world.in_force("checkout").get("checkout-canary") == 0, 5.0)
        assert world.ready_pods("v1") == 2
        before = world.answered()
        await until(lambda: world.answered()["v1"] > before["v1"] + 1000, 10.0)
        assert world.answered()["v2"] - before["v2"] <= 50, "a direct client has half a second"
        assert sum(world.failures.values()) == 0, world.failures
        # The daemon that comes back finds nothing left to do but tidying.
        await house.start()
        try:
            await until(
                lambda: house.outcome() == "killed" and house.runs()[-1]["phase"] == "Held", 30.0
            )
        finally:
            await house.stop()
        assert house.journal()
        house.at_rest(paused=True)
        assert world.ready_pods("v1") == 2
        assert sum(world.failures.values()) == 0, world.failures


async def test_the_way_back_by_hand(tmp_path: Path) -> None:
    """Before the commit and in both halves after it, side by side: no request fails."""
    await asyncio.gather(
        _back("Judging", "before", tmp_path / "judging"),
        _back("Rolling", "after", tmp_path / "rolling"),
        _back("HandingBack", "after", tmp_path / "handing"),
    )
