# SPDX-License-Identifier: Apache-2.0
"""Two daemons as processes of their own, over real HTTP, in real time: one acts at a time.

Each has a token of its own, so that the simulated API server can tell their writes apart.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from controller.sim.apiserver.request import Request, Response
from controller.sim.apiserver.serve import kubeconfig, serving
from controller.sim.world import World
from tests.engine.house import House
from tests.support.realtime import RUN, Daemon, plain, prometheus_serving, real_world, until

pytestmark = pytest.mark.slow

V2 = "registry.example/app:v2"
POLICY = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/warm-up": "1s",
    "switchgear.dev/steps": "5@6s,25@6s",
    "switchgear.dev/bake": "2s",
}


@dataclass
class Two:
    """Two daemons and the world that they share."""

    world: World
    daemons: dict[str, Daemon]
    writes: dict[str, list[str]] = field(default_factory=dict)
    """What each of them has written with success, leases aside, as `PATCH /path body`."""

    async def note(self, request: Request, response: Response) -> None:
        """See a write."""
        if request.method == "GET" or response.status >= 300 or "/leases" in request.path:
            return
        who = request.headers.get("authorization", "").removeprefix("Bearer ")
        line = f"{request.method} {request.path} {bytes(request.body).decode()}"
        self.writes.setdefault(who, []).append(line)

    async def leads(self, name: str) -> bool:
        """Whether a daemon says of itself that it acts."""
        async with plain(seconds=2.0) as http:
            with contextlib.suppress(httpx.HTTPError):
                text = (await http.get(f"{self.daemons[name].url}/metrics")).text
                return "switchgear_leader 1.0" in text
        return False

    async def leading(self, name: str, within: float) -> float:
        """Poll until it acts; returns how long that took."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        while not await self.leads(name):
            assert loop.time() - begin < within, self.daemons[name].log()
            await asyncio.sleep(0.05)
        return loop.time() - begin

    def share(self) -> int:
        """The weight of the canary in the route."""
        return self.world.weights("checkout").get("checkout-canary", 0)

    async def stopped(self, number: signal.Signals) -> asyncio.subprocess.Process:
        """Give the leader a signal in mid-run; returns its process."""
        self.world.set_image("shop", "checkout", V2)
        await until(lambda: self.share() > 0, 30.0, self.daemons["a"].log())
        process = self.daemons["a"].process
        assert process is not None
        os.kill(process.pid, number)
        return process


@contextlib.asynccontextmanager
async def two(folder: Path) -> AsyncIterator[Two]:
    """Both run; `a` leads and has adopted the target."""
    async with (
        real_world() as world,
        serving(world.api) as url,
        prometheus_serving(world.prometheus) as metrics,
    ):
        daemons: dict[str, Daemon] = {}
        for name in ("a", "b"):
            place = folder / name
            place.mkdir()
            (place / "kubeconfig").write_text(kubeconfig(url, token=name))
            daemons[name] = Daemon(
                folder=place,
                kubeconfig=place / "kubeconfig",
                prometheus=metrics,
                options=(*RUN, "--leader-election=on", f"--pod-name={name}"),
            )
            daemons[name].options += (f"--advertise=127.0.0.1:{daemons[name].port}",)
        found = Two(world=world, daemons=daemons)
        world.api.after.append(found.note)
        await world.shop(rate=2000.0, annotations=POLICY, replicas=2)
        try:
            await daemons["a"].start()
            await found.leading("a", within=90.0)
            await daemons["b"].start()
            await daemons["b"].answers("/readyz", within=90.0)
            yield found
        finally:
            for daemon in daemons.values():
                await daemon.close()


async def _ends(found: Two, outcome: str, *, paused: bool = False) -> None:
    house = House(found.world)
    await until(
        lambda: house.outcome() == outcome and house.runs()[-1]["phase"] in {"Held", "Ended"},
        90.0,
        found.daemons["b"].log(),
    )
    house.at_rest(paused=paused)
    assert sum(found.world.failures.values()) == 0


@pytest.mark.deep  # As on the real control plane, where they always run.
@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("number", "within", "status"),
    [(signal.SIGKILL, 15.0, -signal.SIGKILL), (signal.SIGTERM, 5.0, 0)],
    ids=["killed", "asked-to-end"],
)
async def test_a_leader_that_ends_is_replaced(
    number: signal.Signals, within: float, status: int, tmp_path: Path
) -> None:
    """In mid-run: the other one takes the run up and ends it; a lease given back is no wait."""
    async with two(tmp_path) as found:
        await found.stopped(number)
        took = await found.leading("b", within=within)
        sys.stderr.write(f"{number.name}: the other leads after {took:.1f} s\n")
        assert await found.daemons["a"].ended() == status
        await _ends(found, "promoted")


@pytest.mark.once
@pytest.mark.deep
@pytest.mark.timeout(200)
async def test_a_stopped_leader_that_wakes_up_raises_nothing(tmp_path: Path) -> None:
    """SIGSTOP in mid-run, longer than its lease lasts; the next thing it learns is that it lost."""
    async with two(tmp_path) as found:
        process = await found.stopped(signal.SIGSTOP)
        took = await found.leading("b", within=15.0)
        sys.stderr.write(f"SIGSTOP: the other leads after {took:.1f} s\n")
        before = len(found.writes["a"])
        os.kill(process.pid, signal.SIGCONT)
        await _ends(found, "promoted")
        late = found.writes["a"][before:]
        assert [line for line in late if _raises(line)] == []
        assert not await found.leads("a")
        assert (
            await _asked(found, "a", "POST", "/v1/targets/shop/checkout/retry")
        ).status_code == 409


def _raises(line: str) -> bool:
    """A write toward risk carries its leader's epoch as a precondition."""
    return "switchgear.dev~1epoch" in line


async def _asked(found: Two, name: str, method: str, path: str) -> httpx.Response:
    async with plain() as http:
        return await http.request(method, f"{found.daemons[name].url}{path}")


@pytest.mark.timeout(200)
async def test_a_kill_on_the_one_that_stands_by(tmp_path: Path) -> None:
    """With the leader stopped in its tracks: no one else is needed."""
    async with two(tmp_path) as found:
        process = await found.stopped(signal.SIGSTOP)
        try:
            answer = await _asked(found, "b", "POST", "/v1/kill?wait=20")
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert answer.status_code == 200, answer.text
        assert found.share() == 0
        runs = (await _asked(found, "b", "GET", "/v1/runs")).json()["runs"]
        assert len(runs) == 1
        await _ends(found, "killed", paused=True)
