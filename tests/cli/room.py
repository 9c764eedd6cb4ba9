# SPDX-License-Identifier: Apache-2.0
"""Commands typed against a cluster in which a rollout has come to a stand and no daemon runs.

The rollout is played in virtual time; then the world is stopped and its API server answers over
real HTTP, from a thread of its own, since each command brings an event loop of its own.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from controller.adapters.kube.cache import Only
from controller.cli import main
from controller.sim import clock
from controller.sim.apiserver.serve import serving
from controller.sim.world import World
from tests.engine.house import House, house
from tests.support.realtime import configured

V2 = "registry.example/app:v2"
START_SECONDS = 10.0

Serving = Callable[[], AbstractAsyncContextManager[str]]


def standing(phase: str = "", *, outcome: str = "", only: Only | None = None, **env: str) -> World:
    """A world in which a new version has come to a phase, or to an outcome, and nothing moves.

    With `only` the controller is a sidecar, whose documents are beside its target.
    """

    async def story() -> World:
        async with house(direct_rate=10.0, only=only) as found:
            if phase or outcome:
                found.world.set_image("shop", "checkout", V2, env or None)
            if phase:
                await found.reaches(phase)
            if outcome:
                await found.ended(outcome)
            await found.stop()
            return found.world

    return clock.run(story())


@contextlib.contextmanager
def thread_serving(served: Serving) -> Iterator[str]:
    """Serve from a thread as long as the block lasts; yields the address."""
    ready = threading.Event()
    told: list[str] = []
    over: list[Callable[[], object]] = []

    async def live() -> None:
        leave = asyncio.Event()
        loop = asyncio.get_running_loop()
        over.append(lambda: loop.call_soon_threadsafe(leave.set))
        async with served() as url:
            told.append(url)
            ready.set()
            await leave.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
    thread.start()
    assert ready.wait(START_SECONDS)
    try:
        yield told[0]
    finally:
        over[0]()
        thread.join(START_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A cluster at a stand, and a person with a kubeconfig."""

    world: World
    kubeconfig: Path

    def type(self, *words: str) -> Result:
        """One command with the person's kubeconfig."""
        return typed(
            *words,
            SWITCHGEAR_KUBECONFIG=str(self.kubeconfig),
            SWITCHGEAR_SETTLE_SECONDS="0.05",  # Nothing stands behind the route here.
        )

    def told(self, *words: str) -> Any:
        """What a command says with `-o json`, when it ends well."""
        result = self.type(*words, "-o", "json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def share(self) -> int:
        """The weight that the route asks for the canary."""
        return self.world.weights("checkout").get("checkout-canary", 0)

    def selector(self) -> dict[str, str]:
        """What the Service selects."""
        return dict(self.world.get("services", "shop", "checkout")["spec"]["selector"])

    def latched(self) -> dict[str, str]:
        """The kill latch."""
        found = self.world.store.get("configmaps", "switchgear", "switchgear-kill")
        return dict((found or {}).get("data") or {})

    def house(self) -> House:
        """What became of the runs."""
        return House(self.world)


def typed(*words: str, **environment: str) -> Result:
    """One command with this environment and no other settings."""
    blank = dict.fromkeys(
        (
            "SWITCHGEAR_KUBECONFIG",
            "SWITCHGEAR_CONTEXT",
            "SWITCHGEAR_SERVER",
            "SWITCHGEAR_TOKEN_FILE",
        )
    )
    return CliRunner().invoke(main, list(words), env={**blank, **environment})


@contextlib.contextmanager
def room(world: World, folder: Path) -> Iterator[Room]:
    """Let the world's API server answer over HTTP."""

    @contextlib.asynccontextmanager
    async def served() -> AsyncIterator[str]:
        async with serving(world.api) as url:
            yield url

    with thread_serving(served) as url:
        yield Room(world=world, kubeconfig=configured(folder, url))
