# SPDX-License-Identifier: Apache-2.0
"""What contract tests of controllers do again and again, and how they look at the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.contract import samples
from tests.support.world import World

Object = dict[str, Any]
HASH = "pod-template-hash"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"

NEVER_READY = [{"name": "NEVER_READY", "value": "1"}]


def image_patch(image: str, env: list[Object] | None = None) -> Object:
    """A strategic patch that gives the only container another image (and environment)."""
    container: Object = {"name": "app", "image": image}
    if env is not None:
        container["env"] = env
    return {"spec": {"template": {"spec": {"containers": [container]}}}}


async def change(world: World, name: str, body: Object, plural: str = "deployments") -> Object:
    """Patch an object that must accept it."""
    answer = await world.patch(plural, name, body, "strategic")
    assert answer.status == 200, answer.content
    return dict(answer.json)


async def roll(world: World, name: str, image: str, *, ready: bool = True) -> None:
    """Change the image; with ``ready=False`` to a version that never becomes ready."""
    await change(world, name, image_patch(image, None if ready else NEVER_READY))


async def started(world: World, name: str, replicas: int = 2, **spec: Any) -> Object:
    """Create a Deployment and wait until it is complete."""
    await world.made("deployments", samples.deployment(name, replicas=replicas, **spec))
    return await complete(world, name)


async def complete(world: World, name: str) -> Object:
    """Wait until every pod of a Deployment is new and available, and return it."""
    found: Object = {}

    async def look() -> bool:
        found.clear()
        found.update(await world.read("deployments", name))
        wanted, status = found["spec"]["replicas"], found.get("status", {})
        counts = [status.get(n, 0) for n in ("replicas", "updatedReplicas", "availableReplicas")]
        seen = status.get("observedGeneration") == found["metadata"]["generation"]
        return seen and counts == [wanted] * 3

    await world.eventually(look, what=f"{name} is complete")
    return found


async def sets(world: World, prefix: str = "") -> list[Object]:
    """The ReplicaSets of the namespace whose names begin so, oldest revision first."""
    answer = await world.get("replicasets")
    found = [rs for rs in answer.json["items"] if rs["metadata"]["name"].startswith(prefix)]
    return sorted(found, key=lambda rs: int(rs["metadata"]["annotations"].get(REVISION, 0)))


async def sizes(world: World, prefix: str = "") -> dict[str, int]:
    """How many replicas each ReplicaSet asks for, by the image of its template."""
    return {image_of(rs): rs["spec"]["replicas"] for rs in await sets(world, prefix)}


async def sized(world: World, **wanted: int) -> None:
    """Wait until the ReplicaSets of images ``lab/pause:<key>`` ask for that many replicas."""
    expected = {f"lab/pause:{key.lstrip('v')}": value for key, value in wanted.items()}
    last: dict[str, int] = {}

    async def look() -> bool:
        last.clear()
        last.update(await sizes(world))
        return last == expected

    await world.eventually(look, what=f"{expected}, seen {last}")


async def stays(world: World, **wanted: int) -> None:
    """Make sure that sizes are reached, and the same half a dozen looks later."""
    await sized(world, **wanted)
    looks = iter(range(12))

    async def enough() -> bool:
        return next(looks, None) is None

    before = await sizes(world)
    await world.eventually(enough)
    assert await sizes(world) == before


def image_of(obj: Object) -> str:
    """The image of the first container of a template."""
    return str(obj["spec"]["template"]["spec"]["containers"][0]["image"])


def reason(obj: Object, kind: str) -> str:
    """The reason of a condition, empty if the condition is not there."""
    listed = obj.get("status", {}).get("conditions", [])
    return next((item["reason"] for item in listed if item["type"] == kind), "")


async def reasoned(world: World, name: str, kind: str, wanted: str) -> Object:
    """Wait until a Deployment has a condition with a reason, and return the Deployment."""
    found: Object = {}

    async def look() -> bool:
        found.clear()
        found.update(await world.read("deployments", name))
        return reason(found, kind) == wanted

    await world.eventually(look, what=f"{kind} because of {wanted}")
    return found


async def pods(world: World, labels: Mapping[str, str] | None = None) -> list[Object]:
    """The pods of the namespace that carry ``labels`` and are not being deleted."""
    answer = await world.get("pods")
    wanted = (labels or {}).items()
    return [
        pod
        for pod in answer.json["items"]
        if wanted <= pod["metadata"].get("labels", {}).items()
        and "deletionTimestamp" not in pod["metadata"]
    ]


async def gone(world: World, plural: str, name: str = "") -> None:
    """Wait until an object is gone, or all of a kind."""

    async def look() -> bool:
        if name:
            return (await world.get(plural, name)).status == 404
        return not await world.names(plural)

    await world.eventually(look, what=f"{plural} {name} gone")
