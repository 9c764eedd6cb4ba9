# SPDX-License-Identifier: Apache-2.0
"""Everything up, in order, and down again in the opposite order whatever happens in between."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from controller.demo import manifests, measure, parts
from controller.demo.api import Api
from controller.demo.counts import Seen, decode
from controller.demo.errors import DemoError
from controller.demo.ground import Ground, Opening
from controller.demo.manifests import Team
from controller.demo.process import Child

POLL_SECONDS = 0.05

SEEN_SECONDS = 0.5
"""How often Prometheus is asked whether it has the first samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A cluster with a gateway, metrics and clients, ready for a rollout."""

    folder: Path
    """Logs and data."""
    ground: Ground
    daemon: str | None
    """URL of the daemon; None if the stage was asked for without it."""
    pids: Mapping[str, int]
    seen: Seen
    """What clients have seen so far; it grows by itself."""
    scrape_seconds: float
    """Between two samples of one series."""

    @property
    def api(self) -> Api:
        """The API server."""
        return self.ground.api

    @property
    def team(self) -> Team:
        """Whose objects these are."""
        return self.ground.team

    @property
    def story_seconds(self) -> float:
        """How long a story may take."""
        patience = self.ground.patience
        return patience.story + patience.per_scrape * self.scrape_seconds


@contextlib.asynccontextmanager
async def stage(
    opening: Opening,
    folder: Path,
    *,
    annotations: Mapping[str, str],
    rate: float,
    with_daemon: bool = True,
) -> AsyncIterator[Stage]:
    """Bring everything up with version v1 serving; raises DemoError when a part does not come."""
    async with contextlib.AsyncExitStack() as down:
        ground = await down.enter_async_context(opening)
        await _team(ground, annotations)
        await _serving(ground)
        load = await parts.load(ground, rate, folder)
        down.push_async_callback(load.stop)
        seen = Seen()
        reader = asyncio.ensure_future(_collect(load, seen))
        down.callback(reader.cancel)
        scrape_seconds = await _counted(ground)
        children = dict(ground.children)
        url = None
        if with_daemon:
            await _alone(ground)
            part = await parts.daemon(ground, folder)
            down.push_async_callback(part.child.stop)
            children["daemon"], url = part.child, part.url
        yield Stage(
            folder=folder,
            ground=ground,
            daemon=url,
            pids={name: child.pid for name, child in children.items()},
            seen=seen,
            scrape_seconds=scrape_seconds,
        )


async def _team(ground: Ground, annotations: Mapping[str, str]) -> None:
    """Create what the team has in git, as one `kubectl apply` would."""
    for manifest in (
        manifests.service(ground.team),
        manifests.deployment("v1", {}, annotations, team=ground.team),
        manifests.route(ground.team),
    ):
        await ground.api.create(manifest)


async def _serving(ground: Ground) -> None:
    """Wait until the application answers through the gateway."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ground.patience.serving
    url = f"http://{ground.address}/"
    headers = {"Host": ground.team.host} if ground.team.host else {}
    async with httpx.AsyncClient(timeout=1.0, trust_env=False) as http:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await http.get(url, headers=headers)
                # Whoever else is behind this gateway does not name its version.
                if answer.status_code == httpx.codes.OK and "x-version" in answer.headers:
                    return
            if loop.time() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
    host = f" for the host {ground.team.host}" if ground.team.host else ""
    raise DemoError(f"no answer from the application at {url}{host}\n{await ground.why()}".strip())


async def _counted(ground: Ground) -> float:
    """Wait until Prometheus counts the requests of stable; returns the seconds between scrapes."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ground.patience.metrics
    while True:
        found = await measure.scrape_seconds(ground, manifests.APP)
        if found is not None:
            return found
        if loop.time() > deadline:
            break
        await asyncio.sleep(SEEN_SECONDS)
    selector = ground.signals.selector(ground.team.namespace, manifests.APP)
    raise DemoError(
        f"Prometheus at {ground.prometheus} does not count the demo's requests after "
        f"{ground.patience.metrics:g} s: {ground.signals.requests}{{{selector}}} has not two "
        "samples. Does it scrape the gateway, and does the gateway count by Service?"
    )


async def _alone(ground: Ground) -> None:
    """Another controller that took the target would steer it as well; raises DemoError."""
    found = await ground.api.get("Deployment", ground.team.namespace, manifests.APP)
    taken = f"{manifests.PREFIX}managed"
    if taken in (found["metadata"].get("annotations") or {}):
        raise DemoError(
            "another Switchgear controller of this cluster has taken the demo's Deployment. The "
            "demo brings its own; keep the other one to its namespaces (--namespace) meanwhile."
        )


async def _collect(load: Child, seen: Seen) -> None:
    async for line in load.lines():
        seen.add(decode(line))
