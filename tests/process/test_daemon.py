# SPDX-License-Identifier: Apache-2.0
"""The daemon as a real process, in real time, over real HTTP: it lives, is killed and ends.

`kill -9` is the one crash that no test in the same process can play. Each named write is the last
one that the process made; the next process has to find its way from what the cluster holds.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller.sim.apiserver.request import Request, Response
from controller.sim.apiserver.serve import kubeconfig, serving
from controller.sim.world import World
from tests.engine.house import House
from tests.support.realtime import (
    Daemon,
    free_port,
    plain,
    prometheus_serving,
    real_world,
    served,
    until,
)

pytestmark = pytest.mark.slow

V2 = "registry.example/app:v2"
POLICY = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/warm-up": "1s",
    "switchgear.dev/steps": "5@2s,25@2s",
    "switchgear.dev/bake": "2s",
}
STORY_SECONDS = 90.0
"""Deadline of a whole rollout; it takes some 15 s."""


async def _adopted(world: World, daemon: Daemon) -> None:
    await world.shop(rate=2000.0, annotations=POLICY, replicas=2)
    await daemon.start()
    await until(
        lambda: (
            "switchgear.dev/managed"
            in world.get("deployments", "shop", "checkout")["metadata"]["annotations"]
        ),
        20.0,
        daemon.log(),
    )


async def _ends(world: World, daemon: Daemon, outcome: str, *, paused: bool = False) -> House:
    """Wait for the end of the newest run, and look at what is left."""
    house = House(world)
    await until(
        lambda: house.outcome() == outcome and house.runs()[-1]["phase"] in {"Held", "Ended"},
        STORY_SECONDS,
        daemon.log(),
    )
    assert len(house.runs()) == 1
    assert house.journal()
    house.at_rest(paused=paused)
    return house


async def test_a_good_version_is_promoted(tmp_path: Path) -> None:
    """And SIGTERM ends the process cleanly, within seconds."""
    async with real_world() as world, served(world, tmp_path) as daemon:
        await _adopted(world, daemon)
        assert await daemon.answers("/readyz") == "ok\n"
        world.set_image("shop", "checkout", V2)
        await _ends(world, daemon, "promoted")
        await until(lambda: world.ready_pods("v2") == 2 and len(world.pods()) == 2, 10.0)
        assert sum(world.failures.values()) == 0
        runs = json.loads(await daemon.answers("/v1/runs"))["runs"]
        assert [run["outcome"] for run in runs] == ["promoted"]
        assert await daemon.terminate(within=5.0) == 0
        for line in (tmp_path / "daemon.log").read_text().splitlines():
            assert json.loads(line)["level"] in {"info", "warning"}, line


async def test_sigterm_in_mid_run_ends_it_within_seconds(tmp_path: Path) -> None:
    """With its watches open and a run under way; the next process carries on."""
    async with real_world() as world, served(world, tmp_path) as daemon:
        await _adopted(world, daemon)
        world.set_image("shop", "checkout", V2)
        await until(lambda: world.weights("checkout").get("checkout-canary", 0) > 0, 20.0)
        assert await daemon.terminate(within=5.0) == 0
        await daemon.start()
        await _ends(world, daemon, "promoted")


@dataclass
class Look:
    """What a hook on the API server has seen so far."""

    world: World
    raised: bool = False
    paused: bool = False

    def deployment(self) -> dict[str, Any]:
        """The user's Deployment."""
        return self.world.get("deployments", "shop", "checkout")

    def share(self) -> int:
        """The weight of the canary in the route."""
        return self.world.weights("checkout").get("checkout-canary", 0)

    def update(self) -> None:
        """Remember what was so before."""
        self.raised = self.raised or self.share() > 0
        self.paused = self.paused or bool(self.deployment()["spec"].get("paused"))


def _pinned(look: Look) -> bool:
    selector = look.world.get("services", "shop", "checkout")["spec"]["selector"]
    return "pod-template-hash" in selector


WRITES: dict[str, tuple[str, bool, Callable[[Look], bool]]] = {
    "pause": ("deployments/checkout", True, lambda look: look.paused),
    "pin": ("services/checkout", True, _pinned),
    "raise": ("httproutes/checkout", True, lambda look: look.raised),
    "zero": ("httproutes/checkout", False, lambda look: look.raised and look.share() == 0),
    "roll": (
        "deployments/checkout",
        True,
        lambda look: look.paused and not look.deployment()["spec"].get("paused"),
    ),
}


@pytest.mark.timeout(180)
async def test_sigkill_at_five_named_writes(tmp_path: Path) -> None:
    """Five worlds side by side; each ends as it would have without the kill."""
    await asyncio.gather(*(_killed_at(name, tmp_path / name) for name in WRITES))


async def _killed_at(name: str, folder: Path) -> None:
    path, good, reached = WRITES[name]
    async with real_world() as world, served(world, folder) as daemon:
        await _adopted(world, daemon)
        look = Look(world=world)
        dead: list[str] = []

        async def strike(request: Request, response: Response) -> None:
            ours = request.method == "PATCH" and "switchgear" in request.headers["user-agent"]
            if dead or not ours or response.status >= 300:
                return
            look.update()
            if path in request.path and reached(look):
                daemon.kill()
                dead.append(name)

        world.api.after.append(strike)
        # Ready later than a busy machine comes to the pause, or the roll takes a stable pod first.
        env = {"READY_SECONDS": "5"} if good else {"ERROR_RATE": "0.5"}
        world.set_image("shop", "checkout", V2, env)
        await until(lambda: bool(dead), STORY_SECONDS, f"{name}: {daemon.log()}")
        await daemon.ended()
        await daemon.start()
        await _ends(world, daemon, "promoted" if good else "rolled-back", paused=not good)
        serving_now = "v2" if good else "v1"
        await until(
            lambda: world.ready_pods(serving_now) == 2 and len(world.pods()) == 2, 60.0, name
        )
        assert sum(world.failures.values()) == 0, name


def _loopback() -> str:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return "[::1]"
    return "127.0.0.1"


async def test_it_waits_for_a_world_that_is_not_there_yet(tmp_path: Path) -> None:
    """Neither API server nor Prometheus listen when it starts; it says so, and then works.

    Its doors are at an address of IPv6, where this machine has one.
    """
    ports = free_port(), free_port()
    config = tmp_path / "kubeconfig"
    config.write_text(kubeconfig(f"http://127.0.0.1:{ports[0]}"))
    daemon = Daemon(
        folder=tmp_path,
        kubeconfig=config,
        prometheus=f"http://127.0.0.1:{ports[1]}",
        host=_loopback(),
    )
    try:
        await daemon.start()
        assert "caches are not filled" in await daemon.answers("/readyz", 503)
        async with real_world() as world, serving(world.api, port=ports[0]):
            await daemon.answers("/readyz", within=30.0)
            await world.shop(rate=2000.0, annotations=POLICY, replicas=2)
            world.set_image("shop", "checkout", V2)
            async with prometheus_serving(world.prometheus, port=ports[1]):
                await _ends(world, daemon, "promoted")
                async with plain() as http:
                    answer = await http.post(f"{daemon.url}/v1/kill")
                assert answer.status_code == 200
    finally:
        await daemon.close()


async def test_a_door_that_is_taken_is_one_clear_message(tmp_path: Path) -> None:
    """It does not run without its doors: nobody could stop it."""
    async with real_world() as world, served(world, tmp_path) as daemon:
        await daemon.start()
        await daemon.answers("/livez")
        second = Daemon(
            folder=tmp_path / "second",
            kubeconfig=daemon.kubeconfig,
            prometheus=daemon.prometheus,
            port=daemon.port,
        )
        second.folder.mkdir()
        await second.start()
        assert await second.ended(within=60.0) == 3
        assert "cannot be listened on" in second.log()
        assert "Traceback" not in second.log()
