# SPDX-License-Identifier: Apache-2.0
"""Plays one story: deploys the change, watches what becomes of it, and takes the figures."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from controller.demo import manifests, measure
from controller.demo.api import Object
from controller.demo.counts import Seen
from controller.demo.errors import DemoError
from controller.demo.ground import Ground
from controller.demo.measure import Weights
from controller.demo.report import Result
from controller.demo.stage import Stage
from controller.demo.stories import SECOND, Story

LOOK_SECONDS = 0.2
"""How often the daemon is asked for its run, and the screen redrawn."""

BASELINE_SECONDS = 3.0
"""Stable is observed so long before the change: three scrapes."""

LATE_SECONDS = 1.0
"""Answers and scrapes that are under way when the run ends are waited for."""

KILL_SECONDS = 10.0
AFTERMATH_SECONDS = 5.0
"""A cluster's own controllers may need a moment to say that everything is as it was."""


@dataclass(slots=True, kw_only=True)
class Scene:
    """What is known while the story goes on; the view draws it."""

    story: Story
    seen: Seen
    weights: Weights
    run: dict[str, Any] = field(default_factory=dict)
    """The daemon's facts of the run; empty before it begins."""
    started: float | None = None
    """When the change was deployed."""
    killed: float | None = None
    """When the kill was sent."""

    @property
    def journal(self) -> list[dict[str, Any]]:
        """The run's records so far."""
        return list(self.run.get("journal") or ())


class View(Protocol):
    """Shows a scene."""

    def draw(self, scene: Scene) -> None:
        """Show it as it stands now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The team's objects before the change, to compare with afterwards."""

    route: Object
    service: Object

    @classmethod
    async def read(cls, ground: Ground) -> "Before":
        """Read them now."""
        where = ground.team.namespace, manifests.APP
        return cls(
            route=(await ground.api.get("HTTPRoute", *where))["spec"],
            service=(await ground.api.get("Service", *where))["spec"],
        )


async def play(story: Story, stage: Stage, view: View) -> Result:
    """Play `story` on a stage that has just come up; raises DemoError if the daemon is lost."""
    if stage.daemon is None:
        raise DemoError("a story needs the daemon")
    scene = Scene(story=story, seen=stage.seen, weights=Weights())
    watch = asyncio.ensure_future(scene.weights.follow(stage.api, stage.team.namespace))
    async with _client(stage.daemon) as daemon:
        try:
            await _adopted(daemon)
            await _pass(BASELINE_SECONDS, scene, view)
            before = await Before.read(stage.ground)
            scene.started = time.time()
            change = manifests.new_version(SECOND, story.env, stage.team)
            await stage.api.patch("Deployment", stage.team.namespace, manifests.APP, change)
            await _follow(scene, daemon, view, stage.story_seconds)
            ended = time.time()
            await _pass(LATE_SECONDS, scene, view)
        finally:
            watch.cancel()
            await asyncio.wait([watch])
    if not watch.cancelled():
        raise DemoError(f"the watch on the route broke: {watch.exception()!r}")
    problems = await _settled(stage.ground, before, story)
    return await _figures(scene, stage, ended, problems)


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=KILL_SECONDS, trust_env=False)


async def _adopted(daemon: httpx.AsyncClient) -> None:
    """Wait until the daemon knows the target."""
    deadline = time.monotonic() + KILL_SECONDS
    while not (await daemon.get("/v1/targets")).json().get("targets"):
        if time.monotonic() > deadline:
            raise DemoError(f"the daemon did not take up the target within {KILL_SECONDS:g} s")
        await asyncio.sleep(LOOK_SECONDS)


async def _pass(seconds: float, scene: Scene, view: View) -> None:
    """Let time pass, drawn."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        view.draw(scene)
        await asyncio.sleep(LOOK_SECONDS)


async def _follow(scene: Scene, daemon: httpx.AsyncClient, view: View, seconds: float) -> None:
    """Until the run has ended or the story's `seconds` are over."""
    assert scene.started is not None  # noqa: S101 - the change was deployed before
    killing: asyncio.Task[None] | None = None
    while time.time() - scene.started < seconds:
        scene.run = await _facts(daemon)
        view.draw(scene)
        if scene.run.get("outcome"):
            break
        if scene.story.kill and killing is None and scene.run.get("phase") == "Judging":
            scene.killed = time.time()
            killing = asyncio.ensure_future(_kill(daemon))
        await asyncio.sleep(LOOK_SECONDS)
    if killing is not None:
        await killing


async def _facts(daemon: httpx.AsyncClient) -> dict[str, Any]:
    """The newest run with its journal; empty if there is none yet."""
    try:
        runs = (await daemon.get("/v1/runs")).raise_for_status().json()["runs"]
        if not runs:
            return {}
        response = await daemon.get(f"/v1/runs/{runs[-1]['name']}")
        facts: dict[str, Any] = response.raise_for_status().json()
    except httpx.HTTPError as error:
        raise DemoError(f"the daemon does not answer: {error!r}") from error
    return facts


async def _kill(daemon: httpx.AsyncClient) -> None:
    """Pull the kill switch, and again until it says that it is in force."""
    deadline = time.monotonic() + KILL_SECONDS
    while (await daemon.post("/v1/kill")).status_code != httpx.codes.OK:
        if time.monotonic() > deadline:
            raise DemoError(f"the kill was not in force within {KILL_SECONDS:g} s")
        await asyncio.sleep(LOOK_SECONDS)


async def _settled(ground: Ground, before: Before, story: Story) -> list[str]:
    """What of ours is left in the team's objects for longer than a moment, in words."""
    end = time.monotonic() + AFTERMATH_SECONDS
    while True:
        problems = await _aftermath(ground, before, story)
        if not problems or time.monotonic() > end:
            return problems
        await asyncio.sleep(LOOK_SECONDS)


async def _aftermath(ground: Ground, before: Before, story: Story) -> list[str]:
    problems: list[str] = []
    api, namespace = ground.api, ground.team.namespace
    after = await Before.read(ground)
    if after.route != before.route:
        problems.append(f"the route is not as it was: {after.route}")
    if after.service != before.service:
        problems.append(f"the Service is not as it was: {after.service}")
    deployments = await api.list("Deployment", namespace)
    problems += [
        f"Deployment {item['metadata']['name']} is left"
        for item in deployments
        if item["metadata"]["name"] != manifests.APP
    ]
    own = await api.get("Deployment", namespace, manifests.APP)
    promoted = story.outcome == "promoted"
    if bool(own["spec"].get("paused")) is promoted:
        problems.append("the Deployment is paused" if promoted else "the Deployment is not held")
    if own["status"].get("availableReplicas") != own["spec"]["replicas"]:
        problems.append(f"the Deployment is not fully available: {own['status']}")
    return problems


async def _figures(scene: Scene, stage: Stage, ended: float, problems: list[str]) -> Result:
    story, seen, weights = scene.story, scene.seen, scene.weights
    assert scene.started is not None  # noqa: S101 - the change was deployed before
    visible = await measure.first_bad(stage.ground, slow=story.slow)
    # Only what sent the run back is a reaction: a promoted one ends at weight 0 as well.
    back = None if story.outcome == "promoted" else visible
    zero = weights.zero_after(back) if back is not None else None
    killed_zero = weights.zero_after(scene.killed) if scene.killed is not None else None
    outcome = str(scene.run.get("outcome") or "unfinished")
    why = last_words(scene.run)
    if outcome != story.outcome:
        problems = [f"ended as {outcome}, not as {story.outcome}: {why}", *problems]
    if seen.failed:
        problems.append(f"{seen.failed} requests failed by shifting: {dict(seen.failures())}")
    if story.must_say and not re.search(story.must_say, why):
        problems.append(f"the last words do not match {story.must_say!r}: {why}")
    return Result(
        name=story.name,
        expected=story.outcome,
        outcome=outcome,
        seconds=round(ended - scene.started, 3),
        visible_to_zero_seconds=measure.between(back, zero),
        verdict_to_zero_seconds=measure.between(measure.verdict_at(scene.journal), zero),
        kill_to_zero_seconds=measure.between(scene.killed, killed_zero),
        kill_to_zero_proxy_seconds=measure.between(scene.killed, _last(scene)),
        bad_responses=seen.bad(slow=story.slow),
        failed_by_shifting=seen.failed,
        past_the_gateway=stage.ground.pods_reachable,
        failures=tuple(f"{what}: {count}" for what, count in seen.failures().items()),
        requests=sum(slot.sent for slot in seen.slots),
        steps=tuple(weights.steps(seen, ended)),
        journal=tuple(scene.journal),
        problems=tuple(problems),
        why=why,
    )


def _last(scene: Scene) -> float | None:
    return scene.seen.last(SECOND) if scene.killed is not None else None


def last_words(run: Mapping[str, Any]) -> str:
    """Why the run stands where it stands, with the verdict's reasons."""
    words = str(run.get("why") or "")
    for reason in (run.get("verdict") or {}).get("reasons", ()):
        if reason["message"] not in words:
            words = f"{words}; {reason['message']}"
    return words.removeprefix("; ")
